//! Links: find, list, make, change, move, delete.
//!
//! A link is known by its index; [`Netlink::link`] finds it by name. [`LinkChange`] is everything that may be changed,
//! sent as one message. The kernel takes it in an order of its own: first the move to another namespace together with
//! the new name, then MAC, MTU, up or down, master, queue length and GSO limits, and address generation last. So
//! `address_generation: Some(false)` and the sysctl `accept_dad` must be set before the message that says
//! `up: Some(true)`, or the interface has its link-local address already.
//!
//! Source: rtnetlink(7), Linux `net/core/rtnetlink.c` (`do_setlink`).

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, Stats64,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use packet::Mac;

use crate::{Error, Netlink};

/// A network interface as the kernel describes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Its number in its namespace, from 1; may change when it moves.
    pub index: u32,
    /// Its name in its namespace.
    pub name: String,
    /// Its Ethernet address; [`Mac::ZERO`] where it has none.
    pub mac: Mac,
    /// Longest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Set up by its administrator.
    pub up: bool,
    /// Connected: the peer is up, the TAP is held by a process.
    pub carrier: bool,
    /// What the driver calls itself: `veth`, `bridge`, `tun`, `vxlan`; empty for hardware and loopback.
    pub kind: String,
    /// Index of the bridge it is a port of.
    pub master: Option<u32>,
    /// Packets the queue discipline holds.
    pub queue_length: u32,
    /// What holds frames back before the driver: `noqueue`, `mq`, `fq_codel`; `noop` while it was never up.
    pub queue_discipline: String,
    /// Transmit queues.
    pub transmit_queues: u32,
    /// Receive queues.
    pub receive_queues: u32,
    /// Longest super-frame in bytes the kernel makes for it.
    pub gso_max_size: u32,
    /// The same for IPv4.
    pub gso_ipv4_max_size: u32,
    /// Most segments of a super-frame.
    pub gso_max_segments: u32,
    /// What has passed, as the kernel counts it: for a TAP, `receive` is what its holder wrote.
    pub counters: LinkCounters,
}

/// The kernel's counters of a link (`IFLA_STATS64`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "the names are the kernel's, spelled out")]
pub struct LinkCounters {
    pub receive_packets: u64,
    pub receive_bytes: u64,
    pub receive_errors: u64,
    pub receive_dropped: u64,
    pub transmit_packets: u64,
    pub transmit_bytes: u64,
    pub transmit_errors: u64,
    /// For a TAP: frames lost because its holder did not read them in time.
    pub transmit_dropped: u64,
}

/// What to change of a link; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct LinkChange<'a> {
    /// Set up or down.
    pub up: Option<bool>,
    /// New name.
    pub name: Option<&'a str>,
    /// New Ethernet address.
    pub mac: Option<Mac>,
    /// New MTU in bytes.
    pub mtu: Option<u32>,
    /// Bridge to be a port of, by index; 0 to leave it.
    pub master: Option<u32>,
    /// Namespace to move to. The link is down afterwards unless `up` is asked too; with `name` it arrives renamed.
    pub namespace: Option<BorrowedFd<'a>>,
    /// Packets the queue discipline may hold.
    pub queue_length: Option<u32>,
    /// Longest super-frame in bytes.
    pub gso_max_size: Option<u32>,
    /// Longest IPv4 super-frame in bytes.
    pub gso_ipv4_max_size: Option<u32>,
    /// Most segments of a super-frame.
    pub gso_max_segments: Option<u32>,
    /// Whether the kernel makes the link-local IPv6 address itself.
    pub address_generation: Option<bool>,
}

/// A pair of Ethernet interfaces, each the other's wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct VethPair<'a> {
    /// The end in the caller's namespace.
    pub name: &'a str,
    /// The other end.
    pub peer: &'a str,
    /// Where the other end lies; in the same namespace when absent.
    pub peer_namespace: Option<BorrowedFd<'a>>,
    /// MTU of both ends in bytes; the kernel's 1500 when absent.
    pub mtu: Option<u32>,
    /// Transmit and receive queues of both ends; the kernel's choice when absent.
    pub queues: Option<u32>,
}

impl Netlink {
    /// The link of this name. ENODEV when there is none: [`Error::is_missing`].
    pub fn link(&mut self, name: &str) -> Result<Link, Error> {
        check_name(name)?;
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(request, || format!("find link {name}"))
    }

    /// The link of this index.
    pub fn link_by_index(&mut self, index: u32) -> Result<Link, Error> {
        self.get_link(message(index), || format!("find link {index}"))
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let answer = self.list(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        let bodies = answer.map_err(|refusal| refusal.of("list links".to_owned()))?;
        Ok(bodies.into_iter().filter_map(Link::from_body).collect())
    }

    /// Makes a veth pair; both ends are down.
    pub fn create_veth(&mut self, pair: &VethPair<'_>) -> Result<(), Error> {
        let mut peer = pair_end(pair, pair.peer)?;
        if let Some(namespace) = pair.peer_namespace {
            peer.attributes.push(LinkAttribute::NetNsFd(namespace.as_raw_fd()));
        }
        let mut link = pair_end(pair, pair.name)?;
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.create_link(link, || format!("create veth pair {} and {}", pair.name, pair.peer))
    }

    /// Makes a bridge without ports; it is down.
    pub fn create_bridge(&mut self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.create_link(link, || format!("create bridge {name}"))
    }

    /// Changes a link, in one message; see the module page for the order in which the kernel takes it.
    pub fn change_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<(), Error> {
        let mut link = message(index);
        link.attributes = change.attributes()?;
        if let Some(up) = change.up {
            link.header.change_mask = LinkFlags::Up;
            link.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        let answer = self.ask(RouteNetlinkMessage::SetLink(link), 0);
        answer.map(drop).map_err(|refusal| refusal.of(format!("change link {index}: {}", change.words())))
    }

    /// Has frames go to the driver at once, held back by no queue discipline; also for a link of several queues. A move
    /// to another namespace takes that back, setting the link down does not. tc(8), Linux `net/sched/sch_generic.c`.
    pub fn set_no_queue(&mut self, index: u32) -> Result<(), Error> {
        // The kernel numbers links by positive ints.
        let mut discipline = TcMessage::with_index(index.cast_signed());
        discipline.header.parent = TcHandle::ROOT;
        discipline.attributes.push(TcAttribute::Kind("noqueue".to_owned()));
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        let answer = self.ask(RouteNetlinkMessage::NewQueueDiscipline(discipline), flags);
        answer.map(drop).map_err(|refusal| refusal.of(format!("set no queue discipline on link {index}")))
    }

    /// Deletes a link, and with a veth its peer.
    pub fn delete_link(&mut self, index: u32) -> Result<(), Error> {
        let answer = self.ask(RouteNetlinkMessage::DelLink(message(index)), 0);
        answer.map(drop).map_err(|refusal| refusal.of(format!("delete link {index}")))
    }

    fn get_link(&mut self, request: LinkMessage, action: impl Fn() -> String) -> Result<Link, Error> {
        let answer = self.ask(RouteNetlinkMessage::GetLink(request), 0);
        let bodies = answer.map_err(|refusal| refusal.of(action()))?;
        let link = bodies.into_iter().find_map(Link::from_body);
        link.ok_or_else(|| Error::Answer { action: action(), source: "no link in it".into() })
    }

    pub(crate) fn create_link(&mut self, link: LinkMessage, action: impl Fn() -> String) -> Result<(), Error> {
        let answer = self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL);
        answer.map(drop).map_err(|refusal| refusal.of(action()))
    }
}

impl LinkChange<'_> {
    fn attributes(&self) -> Result<Vec<LinkAttribute>, Error> {
        if let Some(name) = self.name {
            check_name(name)?;
        }
        let generation =
            self.address_generation.map(|on| if on { In6AddrGenMode::Eui64 } else { In6AddrGenMode::None });
        let parts = [
            self.name.map(|name| LinkAttribute::IfName(name.to_owned())),
            self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())),
            self.mtu.map(LinkAttribute::Mtu),
            self.master.map(LinkAttribute::Controller),
            self.namespace.map(|namespace| LinkAttribute::NetNsFd(namespace.as_raw_fd())),
            self.queue_length.map(LinkAttribute::TxQueueLen),
            self.gso_max_size.map(LinkAttribute::GsoMaxSize),
            self.gso_ipv4_max_size.map(LinkAttribute::GsoIpv4MaxSize),
            self.gso_max_segments.map(LinkAttribute::GsoMaxSegs),
            generation.map(|mode| {
                LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)])])
            }),
        ];
        Ok(parts.into_iter().flatten().collect())
    }

    /// The asked changes, for an error: "name eth0, up true".
    fn words(&self) -> String {
        let mut words = Vec::new();
        let mut say = |key: &str, value: Option<String>| words.extend(value.map(|value| format!("{key} {value}")));
        say("name", self.name.map(str::to_owned));
        say("mac", self.mac.map(|mac| mac.to_string()));
        say("up", self.up.map(|up| up.to_string()));
        say("namespace descriptor", self.namespace.map(|namespace| namespace.as_raw_fd().to_string()));
        say("address generation", self.address_generation.map(|on| on.to_string()));
        let numbers = [
            ("mtu", self.mtu),
            ("master", self.master),
            ("queue length", self.queue_length),
            ("gso_max_size", self.gso_max_size),
            ("gso_ipv4_max_size", self.gso_ipv4_max_size),
            ("gso_max_segs", self.gso_max_segments),
        ];
        for (key, number) in numbers {
            say(key, number.map(|number| number.to_string()));
        }
        words.join(", ")
    }
}

impl Link {
    fn from_body(body: RouteNetlinkMessage) -> Option<Self> {
        let RouteNetlinkMessage::NewLink(message) = body else { return None };
        let flags = message.header.flags;
        let mut link = Link {
            index: message.header.index,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            ..Link::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().map(Mac).unwrap_or(Mac::ZERO),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Controller(master) => link.master = Some(master),
                LinkAttribute::TxQueueLen(packets) => link.queue_length = packets,
                LinkAttribute::Qdisc(name) => link.queue_discipline = name,
                LinkAttribute::NumTxQueues(count) => link.transmit_queues = count,
                LinkAttribute::NumRxQueues(count) => link.receive_queues = count,
                LinkAttribute::GsoMaxSize(bytes) => link.gso_max_size = bytes,
                LinkAttribute::GsoIpv4MaxSize(bytes) => link.gso_ipv4_max_size = bytes,
                LinkAttribute::GsoMaxSegs(count) => link.gso_max_segments = count,
                LinkAttribute::Stats64(stats) => link.counters = LinkCounters::from(stats),
                LinkAttribute::LinkInfo(parts) => link.kind = kind(&parts),
                _ => {}
            }
        }
        Some(link)
    }
}

impl From<Stats64> for LinkCounters {
    fn from(stats: Stats64) -> Self {
        LinkCounters {
            receive_packets: stats.rx_packets,
            receive_bytes: stats.rx_bytes,
            receive_errors: stats.rx_errors,
            receive_dropped: stats.rx_dropped,
            transmit_packets: stats.tx_packets,
            transmit_bytes: stats.tx_bytes,
            transmit_errors: stats.tx_errors,
            transmit_dropped: stats.tx_dropped,
        }
    }
}

/// Refuses what the kernel would refuse, and `%`, which would make it choose a name by itself.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let dots = name == "." || name == "..";
    let strange = name.bytes().any(|byte| matches!(byte, b'/' | b':' | b'%' | 0) || byte.is_ascii_whitespace());
    let rule = "1 to 15 bytes without spaces, slashes, colons or percent signs";
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || dots || strange {
        return Err(Error::Illegal { what: "link name", value: name.to_owned(), rule });
    }
    Ok(())
}

fn message(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Unspec;
    message.header.index = index;
    message
}

fn pair_end(pair: &VethPair<'_>, name: &str) -> Result<LinkMessage, Error> {
    check_name(name)?;
    let mut end = LinkMessage::default();
    end.attributes.push(LinkAttribute::IfName(name.to_owned()));
    end.attributes.extend(pair.mtu.map(LinkAttribute::Mtu));
    end.attributes.extend(pair.queues.map(LinkAttribute::NumTxQueues));
    end.attributes.extend(pair.queues.map(LinkAttribute::NumRxQueues));
    Ok(end)
}

fn kind(parts: &[LinkInfo]) -> String {
    let kind =
        parts.iter().find_map(|part| if let LinkInfo::Kind(kind) = part { Some(kind.to_string()) } else { None });
    kind.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_would_refuse_or_change_are_refused() {
        for name in ["", ".", "..", "a/b", "a b", "a:b", "tap%d", "sixteen-bytes-xx"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        for name in ["lo", "eth0.100", "calic440f455693", "fifteen-bytes-x"] {
            assert!(check_name(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn a_change_says_in_words_what_was_asked() {
        let change = LinkChange { up: Some(true), mtu: Some(1400), name: Some("eth0"), ..LinkChange::default() };
        assert_eq!(change.words(), "name eth0, up true, mtu 1400");
    }
}
