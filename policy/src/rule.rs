//! The one form of rules that every policy language is read into.
//!
//! It is as rich as Calico's: what Kubernetes' own policies, their cluster-wide ones and Calico's can say, this can say, and
//! nothing below it knows which language a rule came from. A [`Match`] holds when all of its parts hold; a part that is absent
//! (`None`, or an empty list) holds always. Lists hold when any of their members does; negated lists when none does.
//!
//! Order: [`Tier`]s by order, then name; in a tier the [`Policy`]s that select the endpoint, by order, then name; in a policy its rules as
//! written. The first rule that allows or denies decides; one that passes goes on with the next tier; one that logs does nothing
//! else. A tier in which some policy selects the endpoint for the direction, and none of whose rules decides, does what its
//! `otherwise` says. When no tier has decided, the endpoint's profiles are asked in the order it names them, as one list of rules
//! in which passing is denying, then the packet is dropped. An endpoint that names no profile is then open, as if it had one that
//! allows everything, which is what Kubernetes expects; a profile that is named but not known says nothing.
//!
//! The end of a packet that is the endpoint itself is this endpoint by its labels and port names, whatever address it uses. The other
//! end is whoever has its address: endpoints, and network sets that contain it; a selector needs one of them.
//!
//! A rule that speaks of ports, be it to exclude some, matches only packets that have ports, and one that speaks of kinds of ICMP
//! only ICMP messages. So a fragment that is not the first is matched by neither.

use std::fmt;
use std::sync::Arc;

use packet::Prefix;

use crate::selector::Selector;

/// Which way a packet goes, seen from the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

/// What a rule does with what it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Lets it pass; nothing else is asked.
    Allow,
    /// Drops it.
    Deny,
    /// Notes it and goes on with the next rule.
    Log,
    /// Goes on with the next tier.
    Pass,
}

/// The place of a tier or a policy among its like: lower is earlier, none is last. Ties go by name.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Order(pub Option<f64>);

/// Policies that are asked together.
#[derive(Debug, Clone, PartialEq)]
pub struct Tier {
    /// Its name, unique.
    pub name: Arc<str>,
    /// Its place among tiers.
    pub order: Order,
    /// What happens at its end when a policy of it applies and no rule decided: [`Action::Deny`] or [`Action::Pass`].
    pub otherwise: Action,
}

/// Rules for the endpoints that `applies_to` chooses.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Its name with kind and namespace, unique, as people know it: `networkpolicy/default/web`.
    pub name: Arc<str>,
    /// The tier it is of, by name.
    pub tier: Arc<str>,
    /// Its place in the tier.
    pub order: Order,
    /// The endpoints it is for; a policy of a namespace says so by [`crate::labels::NAMESPACE`].
    pub applies_to: Selector,
    /// Rules for packets to the endpoint; `None` when the policy says nothing about them.
    pub ingress: Option<Vec<Rule>>,
    /// Rules for packets from the endpoint.
    pub egress: Option<Vec<Rule>>,
}

/// Rules of last resort, which endpoints name one by one instead of being selected.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its name, unique.
    pub name: Arc<str>,
    /// Rules for packets to the endpoint.
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint.
    pub egress: Vec<Rule>,
}

/// Addresses under a name and labels, that are no endpoint: what NetworkSets hold.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSet {
    /// Its name with kind and namespace, unique.
    pub name: Arc<str>,
    /// By which selectors of rules find it.
    pub labels: crate::labels::Labels,
    /// The addresses.
    pub nets: Vec<Prefix>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// What it does.
    pub action: Action,
    /// To what.
    pub matches: Match,
}

/// What a rule looks at. Everything absent matches everything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Match {
    /// The address family.
    pub family: Option<Family>,
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// Any protocol but this.
    pub not_protocol: Option<Protocol>,
    /// The kind of ICMP message, or ICMPv6 message: [`Match::protocol`] says which.
    pub icmp: Option<Icmp>,
    /// Any kind but this.
    pub not_icmp: Option<Icmp>,
    /// Where it comes from.
    pub source: Side,
    /// Where it goes to.
    pub destination: Side,
}

/// One end of a packet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Side {
    /// Any of these prefixes.
    pub nets: Vec<Prefix>,
    /// None of these.
    pub not_nets: Vec<Prefix>,
    /// An endpoint or network set that this chooses.
    pub selector: Option<Selector>,
    /// None that this chooses. An address nobody has is not chosen by it, so it matches.
    pub not_selector: Option<Selector>,
    /// Any of these ports.
    pub ports: Vec<Ports>,
    /// None of these.
    pub not_ports: Vec<Ports>,
}

/// Ports of TCP, UDP or SCTP.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ports {
    /// From the first to the last, both of them; first <= last.
    Range(u16, u16),
    /// The port that the endpoint at this side calls so, for the rule's protocol.
    Named(Arc<str>),
}

/// Address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The number of a protocol above IP, as in the IPv4 header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Protocol(pub u8);

/// A kind of ICMP or ICMPv6 message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code; any when absent.
    pub code: Option<u8>,
}

impl Protocol {
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMP => out.write_str("icmp"),
            Self::TCP => out.write_str("tcp"),
            Self::UDP => out.write_str("udp"),
            Self::ICMPV6 => out.write_str("icmpv6"),
            Self::SCTP => out.write_str("sctp"),
            Self(number) => write!(out, "protocol {number}"),
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}
