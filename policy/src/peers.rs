//! Who an address belongs to, as far as rules can tell.
//!
//! Every address has a [`Class`]: addresses of one class are in the same nets and chosen by the same selectors of all rules in force,
//! and have the same names for ports. A program knows classes instead of addresses, so that endpoints may come and go by the
//! thousand without any program being touched, as long as they are like others.
//!
//! ```text
//!  address --> hosts: addresses of endpoints, by hash --found--> class
//!                 | not found
//!                 +--> nets: intervals between the ends of all prefixes ------> class
//! ```
//!
//! Hosts lie in 256 shards. A change copies the shard it is in, so an earlier clone, which workers read, stays as it is, and both
//! share all other shards.

use std::net::IpAddr;
use std::sync::Arc;

mod hosts;
mod nets;

use hosts::Hosts;
use nets::Intervals;

use crate::rule::Family;

/// The class of every address. Clones share what they have in common.
#[derive(Debug, Clone)]
pub struct Peers {
    v4: Hosts<u32>,
    v6: Hosts<u128>,
    nets_v4: Arc<Intervals<u32>>,
    nets_v6: Arc<Intervals<u128>>,
}

/// A number for addresses that no rule tells apart. Numbers are used again when the last address of a class is gone, so they are
/// only good for programs of the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class(pub u32);

impl Class {
    /// Addresses that are in no net and chosen by no selector.
    pub const fn nobody(family: Family) -> Self {
        match family {
            Family::V4 => Self(0),
            Family::V6 => Self(1),
        }
    }
}

impl Default for Peers {
    fn default() -> Self {
        let [nets_v4, nets_v6] = [Family::V4, Family::V6].map(Class::nobody);
        Self {
            v4: Hosts::default(),
            v6: Hosts::default(),
            nets_v4: Arc::new(Intervals::new(nets_v4, Vec::new())),
            nets_v6: Arc::new(Intervals::new(nets_v6, Vec::new())),
        }
    }
}

impl Peers {
    /// The class of an address.
    #[inline]
    pub fn class(&self, address: IpAddr) -> Class {
        match address {
            IpAddr::V4(address) => {
                let key = address.to_bits();
                self.v4.get(key).unwrap_or_else(|| self.nets_v4.get(key))
            }
            IpAddr::V6(address) => {
                let key = address.to_bits();
                self.v6.get(key).unwrap_or_else(|| self.nets_v6.get(key))
            }
        }
    }

    /// How many bytes it takes, what clones share included.
    pub fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes() + self.nets_v4.bytes() + self.nets_v6.bytes()
    }

    /// Gives an address of endpoints its class, or takes it away.
    pub(crate) fn set_host(&mut self, address: IpAddr, class: Option<Class>) {
        match address {
            IpAddr::V4(address) => self.v4.set(address.to_bits(), class),
            IpAddr::V6(address) => self.v6.set(address.to_bits(), class),
        }
    }

    /// Replaces the classes of nets; each net's is that of its addresses which are in no longer one.
    pub(crate) fn set_nets(&mut self, nets: impl Iterator<Item = (packet::Prefix, Class)>) {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (net, class) in nets {
            match (net.address(), net.net().broadcast()) {
                (IpAddr::V4(first), IpAddr::V4(last)) => v4.push((first.to_bits(), last.to_bits(), class)),
                (IpAddr::V6(first), IpAddr::V6(last)) => v6.push((first.to_bits(), last.to_bits(), class)),
                _ => unreachable!("a prefix has one family"),
            }
        }
        self.nets_v4 = Arc::new(Intervals::new(Class::nobody(Family::V4), v4));
        self.nets_v6 = Arc::new(Intervals::new(Class::nobody(Family::V6), v6));
    }
}
