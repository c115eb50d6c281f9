//! The kernel's own drops at the ports: frames of a pod that its TAP's queue had no room for.
//!
//! The kernel tells only who asks in the interface's own namespace, which costs a thread and a socket for each port. A
//! socket kept open there would keep the namespace from dying. So whoever wants them for all ports asks
//! [`KernelDrops`], which asks the kernel anew when what it knows is older than [`KEPT_FOR`], on the caller's thread:
//! never the control thread or a worker.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use control::{InterfaceName, NetnsPath};
use host::{Namespace, Netlink};

use crate::engine::netns_id;
use crate::state::NetnsId;

/// Where a port's interface is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// The pod's namespace, by path and by what it was when the pod was attached; none for the node's.
    pub netns: Option<(NetnsPath, NetnsId)>,
    /// Its name there.
    pub interface: InterfaceName,
}

impl Place {
    /// Frames dropped there since the interface was made; none where the kernel does not say, or the namespace is gone.
    pub fn kernel_dropped(&self) -> Option<u64> {
        let mut netlink = match &self.netns {
            None => Netlink::open(),
            Some((path, id)) => {
                let namespace = Namespace::open(path.as_path()).ok()?;
                if !netns_id(&namespace).is(*id) {
                    return None;
                }
                Netlink::open_in(&namespace)
            }
        }
        .ok()?;
        Some(netlink.link(self.interface.as_str()).ok()?.counters.transmit_dropped)
    }
}

/// What the kernel said last.
#[derive(Debug, Default)]
pub struct KernelDrops {
    since: Option<Instant>,
    dropped: HashMap<Place, Option<u64>>,
}

impl KernelDrops {
    /// The drops at each of `places`, none where there is no interface, as of [`KEPT_FOR`] before `now` at the
    /// earliest; `ask` tells what is not known.
    pub fn at<'a>(
        &mut self,
        places: impl Iterator<Item = Option<&'a Place>>,
        now: Instant,
        ask: impl Fn(&Place) -> Option<u64>,
    ) -> Vec<Option<u64>> {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= KEPT_FOR) {
            self.since = Some(now);
            self.dropped.clear();
        }
        let mut dropped = |place: &Place| *self.dropped.entry(place.clone()).or_insert_with(|| ask(place));
        places.map(|place| place.and_then(&mut dropped)).collect()
    }
}

/// How long what the kernel said is good enough, so that it is not asked as often as a client likes.
pub const KEPT_FOR: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_asked_again_only_when_the_answer_is_old() {
        let place = Place { netns: None, interface: InterfaceName::default() };
        let (mut drops, start) = (KernelDrops::default(), Instant::now());
        for (later, says, told) in [
            (Duration::ZERO, Some(1), Some(1)),
            (KEPT_FOR - Duration::from_nanos(1), Some(2), Some(1)),
            (KEPT_FOR, Some(3), Some(3)),
            (KEPT_FOR * 2, None, None),
        ] {
            assert_eq!(drops.at([Some(&place), None].into_iter(), start + later, |_| says), [told, None], "{later:?}");
        }
        let newcomer = Place { interface: "eth1".parse().unwrap(), ..place.clone() };
        let both = drops.at([Some(&place), Some(&newcomer)].into_iter(), start + KEPT_FOR * 2, |_| Some(4));
        assert_eq!(both, [None, Some(4)]);
    }

    #[test]
    fn an_interface_that_is_not_there_has_no_drops() {
        let nowhere = Place { netns: None, interface: "psw-nowhere".parse().unwrap() };
        assert_eq!(nowhere.kernel_dropped(), None);
        let loopback = Place { netns: None, interface: "lo".parse().unwrap() };
        assert!(loopback.kernel_dropped().is_some());
        let id = NetnsId { device: 0, inode: 0, cookie: None };
        let other = Place { netns: Some(("/proc/self/ns/net".parse().unwrap(), id)), ..loopback };
        assert_eq!(other.kernel_dropped(), None, "the path names another namespace than it did");
    }
}
