//! A rule as a program takes it: with the peer's parts as atoms, and what concerns the endpoint itself worked out.

use std::sync::Arc;

use packet::Prefix;

use crate::endpoint::NamedPort;
use crate::rule::{Action, Family, Protocol};
use crate::verdict::RuleId;

/// A selector or net that some rule asks of peers, by number; a class of addresses is told by its atoms.
pub(crate) type Atom = u32;

/// What a class of addresses is told by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Traits {
    pub(crate) family: Family,
    /// In rising order, each once.
    pub(crate) atoms: Box<[Atom]>,
    /// Names of ports, of those that rules ask for; in order, each once.
    pub(crate) ports: Arc<[NamedPort]>,
}

/// One rule, or the end of a tier.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    pub(crate) action: Action,
    pub(crate) by: RuleId,
    pub(crate) peer: PeerTest,
    pub(crate) service: ServiceTest,
    /// Ports that it may come from, if that matters.
    pub(crate) source_ports: Option<Ranges>,
    pub(crate) check: Option<Box<Check>>,
}

/// What is asked of the peer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct PeerTest {
    pub(crate) family: Option<Family>,
    /// One of these, unless there are none.
    pub(crate) nets: Vec<Atom>,
    pub(crate) not_nets: Vec<Atom>,
    pub(crate) selector: Option<Atom>,
    pub(crate) not_selector: Option<Atom>,
}

/// What is asked of protocol, destination port and kind of ICMP message.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ServiceTest {
    pub(crate) protocol: Option<Protocol>,
    pub(crate) not_protocol: Option<Protocol>,
    /// Which packets: those of a kind; all where it is absent.
    pub(crate) kind: Option<Kind>,
    /// Of that kind those whose key is here.
    pub(crate) keys: Ranges,
}

/// What a packet has to tell beyond its protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Ports; its key is the destination port.
    Ports,
    /// Type and code; its key is both, the type above.
    Icmp,
    /// Nothing; its key is 0.
    Opaque,
}

/// Numbers of 16 bits, as ranges from first to last, in order and apart.
pub(crate) type Ranges = Vec<(u16, u16)>;

/// What is asked packet by packet, because neither the class nor the port alone tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Check {
    /// Nets for the endpoint's own address: one of these unless there are none, and none of those.
    pub(crate) own_nets: (Vec<Prefix>, Vec<Prefix>),
    pub(crate) source: Option<NameTest>,
    pub(crate) destination: Option<NameTest>,
}

/// Ports at one end, some of them by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NameTest {
    /// The endpoint's own names, where it is at this end; else those of the peer count.
    pub(crate) own: Option<Arc<[NamedPort]>>,
    /// Any of these, unless both are empty.
    pub(crate) ranges: Ranges,
    pub(crate) names: Vec<Arc<str>>,
    /// None of these.
    pub(crate) not_ranges: Ranges,
    pub(crate) not_names: Vec<Arc<str>>,
}

impl PeerTest {
    pub(crate) fn holds(&self, traits: &Traits) -> bool {
        let has = |atom: &Atom| traits.atoms.binary_search(atom).is_ok();
        self.family.is_none_or(|family| family == traits.family)
            && (self.nets.is_empty() || self.nets.iter().any(has))
            && !self.not_nets.iter().any(has)
            && self.selector.as_ref().is_none_or(has)
            && !self.not_selector.as_ref().is_some_and(has)
    }

    pub(crate) fn atoms(&self) -> impl Iterator<Item = Atom> {
        self.nets.iter().chain(&self.not_nets).chain(&self.selector).chain(&self.not_selector).copied()
    }

    /// True when any peer will do.
    pub(crate) fn is_trivial(&self) -> bool {
        self.family.is_none() && self.atoms().next().is_none()
    }
}

impl ServiceTest {
    /// Any packet.
    pub(crate) fn any() -> Self {
        Self { protocol: None, not_protocol: None, kind: None, keys: vec![(0, u16::MAX)] }
    }

    pub(crate) fn is_trivial(&self) -> bool {
        *self == Self::any()
    }

    /// Whether packets of this protocol and kind can do, `None` standing for all protocols that no test names.
    pub(super) fn admits(&self, protocol: Option<Protocol>, kind: Kind) -> bool {
        self.protocol.is_none_or(|wanted| Some(wanted) == protocol)
            && self.not_protocol.is_none_or(|unwanted| Some(unwanted) != protocol)
            && self.kind.is_none_or(|wanted| wanted == kind)
    }
}

impl Check {
    /// Whether it asks how the peer calls its ports.
    pub(super) fn asks_peer(&self) -> bool {
        self.source.iter().chain(&self.destination).any(|test| test.own.is_none())
    }
}

impl NameTest {
    pub(super) fn holds(&self, port: u16, protocol: Protocol, peer: &[NamedPort]) -> bool {
        let ports = self.own.as_deref().unwrap_or(peer);
        let is_called = |name: &Arc<str>| {
            ports.iter().any(|named| named.port == port && named.protocol == protocol && named.name == *name)
        };
        let is_any = self.ranges.is_empty() && self.names.is_empty();
        (is_any || contains(&self.ranges, port) || self.names.iter().any(is_called))
            && !contains(&self.not_ranges, port)
            && !self.not_names.iter().any(is_called)
    }
}

/// Whether a number is in one of the ranges.
pub(crate) fn contains(ranges: &Ranges, number: u16) -> bool {
    let at = ranges.partition_point(|&(first, _)| first <= number);
    at > 0 && number <= ranges[at - 1].1
}

/// Those of `wanted` (of all numbers where there is no such list) that are not in `unwanted`.
pub(crate) fn ranges(wanted: Option<Ranges>, unwanted: Ranges) -> Ranges {
    let wanted = merged(wanted.unwrap_or_else(|| vec![(0, u16::MAX)]));
    let unwanted = merged(unwanted);
    let mut kept = Vec::new();
    for (first, last) in wanted {
        let mut next = Some(first);
        let from = unwanted.partition_point(|&(_, end)| end < first);
        for &(hole, hole_last) in unwanted[from..].iter().take_while(|(hole, _)| *hole <= last) {
            let start = next.expect("holes are apart");
            if start < hole {
                kept.push((start, hole - 1));
            }
            next = hole_last.checked_add(1);
            if next.is_none() {
                break;
            }
        }
        kept.extend(next.filter(|&next| next <= last).map(|next| (next, last)));
    }
    kept
}

/// The same numbers in order and apart.
fn merged(mut ranges: Ranges) -> Ranges {
    ranges.sort_unstable();
    let mut merged: Ranges = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lists() -> impl Strategy<Value = Ranges> {
        let port = prop_oneof![0..20_u16, 65_500..=u16::MAX, Just(80)];
        prop::collection::vec((port.clone(), port).prop_map(|(one, other)| (one.min(other), one.max(other))), 0..5)
    }

    proptest! {
        #[test]
        fn ranges_hold_what_is_wanted_and_not_unwanted(wanted in prop::option::of(lists()), unwanted in lists()) {
            let ranges = ranges(wanted.clone(), unwanted.clone());
            let within = |list: &Ranges, port| list.iter().any(|&(first, last)| (first..=last).contains(&port));
            for port in (0..30).chain(65_490..=u16::MAX) {
                let expected = wanted.as_ref().is_none_or(|wanted| within(wanted, port)) && !within(&unwanted, port);
                prop_assert_eq!(contains(&ranges, port), expected, "{} in {:?}", port, &ranges);
            }
            prop_assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
