//! What one rule asks of the peer.

use std::sync::Arc;

use packet::Prefix;

use crate::rule::{Direction, Family, Match, Ports, Side};
use crate::selector::Selector;

/// The peer's side of a rule. Nets that are all of a family are said as the family.
#[derive(Debug)]
pub(super) struct Question<'r> {
    pub(super) family: Option<Family>,
    pub(super) nets: Vec<Prefix>,
    pub(super) not_nets: Vec<Prefix>,
    side: &'r Side,
}

impl<'r> Question<'r> {
    /// None if no peer can be the one.
    pub(super) fn new(wanted: &'r Match, direction: Direction) -> Option<Self> {
        let side = match direction {
            Direction::Ingress => &wanted.source,
            Direction::Egress => &wanted.destination,
        };
        let mut families = [Family::V4, Family::V6].map(|family| wanted.family.is_none_or(|only| only == family));
        let mut nets = Vec::new();
        if !side.nets.is_empty() {
            for (family, is_possible) in [Family::V4, Family::V6].into_iter().zip(&mut families) {
                let of_family: Vec<Prefix> =
                    side.nets.iter().copied().filter(|net| *is_possible && family_of(*net) == family).collect();
                *is_possible &= !of_family.is_empty();
                nets.extend(of_family);
            }
        }
        for net in side.not_nets.iter().filter(|net| net.length() == 0) {
            families[family_of(*net) as usize] = false;
        }
        let is_possible = |net: &Prefix| families[family_of(*net) as usize];
        nets.retain(is_possible);
        let is_all = |family| nets.iter().any(|net| net.length() == 0 && family_of(*net) == family);
        if (!families[0] || is_all(Family::V4)) && (!families[1] || is_all(Family::V6)) {
            nets.clear();
        }
        let family = match families {
            [true, true] => None,
            [true, false] => Some(Family::V4),
            [false, true] => Some(Family::V6),
            [false, false] => return None,
        };
        let not_nets = side.not_nets.iter().copied().filter(is_possible).collect();
        Some(Self { family, nets, not_nets, side })
    }

    pub(super) fn selector(&self) -> Option<&'r Selector> {
        self.side.selector.as_ref()
    }

    pub(super) fn not_selector(&self) -> Option<&'r Selector> {
        self.side.not_selector.as_ref()
    }

    pub(super) fn selectors(&self) -> impl Iterator<Item = &'r Selector> {
        self.selector().into_iter().chain(self.not_selector())
    }

    /// All nets, wanted or not.
    pub(super) fn nets(&self) -> impl Iterator<Item = Prefix> {
        self.nets.iter().chain(&self.not_nets).copied()
    }

    /// Names of the peer's ports.
    pub(super) fn names(&self) -> impl Iterator<Item = &'r Arc<str>> {
        self.side.ports.iter().chain(&self.side.not_ports).filter_map(|ports| match ports {
            Ports::Named(name) => Some(name),
            Ports::Range(..) => None,
        })
    }
}

fn family_of(net: Prefix) -> Family {
    if net.address().is_ipv4() { Family::V4 } else { Family::V6 }
}
