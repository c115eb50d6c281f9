//! Rules asked one by one, straight from the facts: slow and obvious.
//!
//! It is what programs are checked against, and what explains a verdict to people: every rule that was asked, in order, with the part
//! of it that did not hold, or with what it found. A tier is asked until a rule of it decides or passes; see [`crate::rule`] for
//! the order of things.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use packet::Prefix;

use crate::endpoint::{Endpoint, NamedPort};
use crate::facts::Facts;
use crate::labels::Labels;
use crate::rule::{Action, Direction, Icmp, Match, Ports, Protocol, Rule, Side};
use crate::selector::Selector;
use crate::tuple::{Transport, Tuple};
use crate::verdict::Cause;

/// What happens to a packet, and how that came about.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// True when it may pass.
    pub allow: bool,
    /// What decided.
    pub by: Cause,
    /// The first rule on the way there that notes what it matches.
    pub log: Option<Cause>,
    /// All that was asked, in order; the last is what decided.
    pub steps: Vec<Step>,
}

/// Something that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What.
    pub asked: Cause,
    /// What it said.
    pub outcome: Outcome,
}

/// What a rule, or the end of a tier, says of a packet.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It does not match, because of this part of it.
    Missed(Part),
    /// It matches and does this; the peer was chosen for being what stands here, or whoever it is where nothing stands.
    Did(Action, Vec<Found>),
}

/// A part of a [`Match`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named after the fields of Match and Side")]
pub enum Part {
    Family,
    Protocol,
    NotProtocol,
    Icmp,
    NotIcmp,
    Source(SidePart),
    Destination(SidePart),
}

/// A part of a [`Side`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named after the fields of Side")]
pub enum SidePart {
    Nets,
    NotNets,
    Selector,
    NotSelector,
    Ports,
    NotPorts,
}

/// Why an end of a packet was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Found {
    /// It is this endpoint, which the selector chooses.
    Endpoint(Arc<str>),
    /// It is in this network set, which the selector chooses.
    Set(Arc<str>),
    /// It is in this prefix of the rule.
    Net(Prefix),
}

/// Asks the rules for `endpoint`, in order, about a packet to it or from it.
pub fn explain(facts: &Facts, endpoint: &Endpoint, direction: Direction, tuple: &Tuple) -> Explanation {
    let mut asking = Asking { facts, endpoint, direction, tuple, log: None, steps: Vec::new() };
    let (allow, by) = asking.decide();
    Explanation { allow, by, log: asking.log, steps: asking.steps }
}

struct Asking<'a> {
    facts: &'a Facts,
    endpoint: &'a Endpoint,
    direction: Direction,
    tuple: &'a Tuple,
    log: Option<Cause>,
    steps: Vec<Step>,
}

impl Asking<'_> {
    fn decide(&mut self) -> (bool, Cause) {
        let direction = self.direction;
        for (tier, policies) in self.facts.applying(self.endpoint, direction) {
            let rules = policies.iter().flat_map(|policy| {
                let rules = policy.rules(direction).unwrap_or_default().iter().enumerate();
                let (tier, policy) = (tier.name.clone(), policy.name.clone());
                rules.map(move |(index, rule)| {
                    (Cause::Rule { tier: tier.clone(), policy: policy.clone(), direction, index }, rule)
                })
            });
            let (action, by) = self.first(rules).unwrap_or_else(|| {
                let by = Cause::Otherwise { tier: tier.name.clone() };
                self.steps.push(Step { asked: by.clone(), outcome: Outcome::Did(tier.otherwise, Vec::new()) });
                (tier.otherwise, by)
            });
            if action != Action::Pass {
                return (action == Action::Allow, by);
            }
        }
        self.ask_profiles()
    }

    fn ask_profiles(&mut self) -> (bool, Cause) {
        let direction = self.direction;
        if self.endpoint.profiles.is_empty() {
            return (true, Cause::Open);
        }
        let known = self.endpoint.profiles.iter().filter_map(|name| self.facts.profiles.get(name));
        let rules = known.flat_map(|profile| {
            let rules = profile.rules(direction).iter().enumerate();
            rules.map(move |(index, rule)| (Cause::Profile { profile: profile.name.clone(), direction, index }, rule))
        });
        match self.first(rules) {
            Some((Action::Allow, by)) => (true, by),
            Some((Action::Deny, by)) => (false, by),
            _ => (false, Cause::Undecided),
        }
    }

    /// What the first rule does that matches and does more than note it.
    fn first<'r>(&mut self, rules: impl Iterator<Item = (Cause, &'r Rule)>) -> Option<(Action, Cause)> {
        for (asked, rule) in rules {
            let outcome = match self.matches(&rule.matches) {
                Ok(found) => Outcome::Did(rule.action, found),
                Err(part) => Outcome::Missed(part),
            };
            let is_match = matches!(outcome, Outcome::Did(..));
            self.steps.push(Step { asked: asked.clone(), outcome });
            match rule.action {
                Action::Log if is_match => self.log = self.log.take().or(Some(asked)),
                action if is_match => return Some((action, asked)),
                _ => {}
            }
        }
        None
    }

    /// What the ends were found to be, or the part that does not hold.
    fn matches(&self, wanted: &Match) -> Result<Vec<Found>, Part> {
        let Tuple { addresses, protocol, transport } = *self.tuple;
        holds(wanted.family.is_none_or(|family| family == addresses.family()), Part::Family)?;
        holds(wanted.protocol.is_none_or(|wanted| wanted == protocol), Part::Protocol)?;
        holds(wanted.not_protocol.is_none_or(|unwanted| unwanted != protocol), Part::NotProtocol)?;
        holds(wanted.icmp.is_none_or(|icmp| icmp.is_of(transport) == Some(true)), Part::Icmp)?;
        holds(wanted.not_icmp.is_none_or(|icmp| icmp.is_of(transport) == Some(false)), Part::NotIcmp)?;
        let ports = match transport {
            Transport::Ports { source, destination } => [Some(source), Some(destination)],
            _ => [None; 2],
        };
        let is_own = [self.direction == Direction::Egress, self.direction == Direction::Ingress];
        let source = End::new(self, is_own[0], addresses.source(), ports[0]).matches(&wanted.source);
        let mut found = source.map_err(Part::Source)?;
        let destination = End::new(self, is_own[1], addresses.destination(), ports[1]).matches(&wanted.destination);
        found.extend(destination.map_err(Part::Destination)?);
        Ok(found)
    }
}

/// One end of the packet, and who that is.
struct End<'a> {
    address: IpAddr,
    protocol: Protocol,
    port: Option<u16>,
    /// The endpoint itself; else all that have the address, of which one at least is in the facts.
    endpoints: Vec<&'a Endpoint>,
    sets: Vec<(&'a Arc<str>, &'a Labels)>,
}

impl<'a> End<'a> {
    fn new(asking: &Asking<'a>, is_own: bool, address: IpAddr, port: Option<u16>) -> Self {
        let facts = asking.facts;
        let protocol = asking.tuple.protocol;
        if is_own {
            return Self { address, protocol, port, endpoints: vec![asking.endpoint], sets: Vec::new() };
        }
        let endpoints = facts.endpoints.values().filter(|endpoint| endpoint.addresses.contains(&address)).collect();
        let sets = facts.sets.values().filter(|set| set.nets.iter().any(|net| net.contains(address)));
        Self { address, protocol, port, endpoints, sets: sets.map(|set| (&set.name, &set.labels)).collect() }
    }

    fn matches(&self, side: &Side) -> Result<Vec<Found>, SidePart> {
        let mut found = Vec::new();
        if !side.nets.is_empty() {
            let net = side.nets.iter().find(|net| net.contains(self.address));
            found.push(Found::Net(*net.ok_or(SidePart::Nets)?));
        }
        holds(!side.not_nets.iter().any(|net| net.contains(self.address)), SidePart::NotNets)?;
        if let Some(selector) = &side.selector {
            found.push(self.chosen_by(selector).ok_or(SidePart::Selector)?);
        }
        let is_excluded = side.not_selector.as_ref().is_some_and(|selector| self.chosen_by(selector).is_some());
        holds(!is_excluded, SidePart::NotSelector)?;
        holds(side.ports.is_empty() || self.is_among(&side.ports) == Some(true), SidePart::Ports)?;
        holds(side.not_ports.is_empty() || self.is_among(&side.not_ports) == Some(false), SidePart::NotPorts)?;
        Ok(found)
    }

    fn chosen_by(&self, selector: &Selector) -> Option<Found> {
        let endpoint = self.endpoints.iter().find(|endpoint| selector.matches(&endpoint.labels));
        let set = || self.sets.iter().find(|(_, labels)| selector.matches(labels));
        endpoint
            .map(|endpoint| Found::Endpoint(endpoint.name.clone()))
            .or_else(|| set().map(|(name, _)| Found::Set((*name).clone())))
    }

    /// Whether the port is any of these; nothing is known of a packet that has none.
    fn is_among(&self, ports: &[Ports]) -> Option<bool> {
        let port = self.port?;
        let is_called = |named: &NamedPort, name: &Arc<str>| {
            named.name == *name && named.protocol == self.protocol && named.port == port
        };
        Some(ports.iter().any(|ports| match ports {
            Ports::Range(first, last) => (*first..=*last).contains(&port),
            Ports::Named(name) => {
                self.endpoints.iter().any(|endpoint| endpoint.ports.iter().any(|named| is_called(named, name)))
            }
        }))
    }
}

impl Icmp {
    /// Whether the packet is of this kind; nothing is known of one that is no ICMP message.
    fn is_of(self, transport: Transport) -> Option<bool> {
        match transport {
            Transport::Icmp { kind, code } => Some(kind == self.kind && self.code.is_none_or(|wanted| wanted == code)),
            _ => None,
        }
    }
}

fn holds<E>(is_so: bool, part: E) -> Result<(), E> {
    if is_so { Ok(()) } else { Err(part) }
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family => out.write_str("the address family"),
            Self::Protocol | Self::NotProtocol => out.write_str("the protocol"),
            Self::Icmp | Self::NotIcmp => out.write_str("the kind of ICMP message"),
            Self::Source(part) => write!(out, "the source's {part}"),
            Self::Destination(part) => write!(out, "the destination's {part}"),
        }
    }
}

impl fmt::Display for SidePart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Nets => "address is in none of the nets",
            Self::NotNets => "address is in a net that is excluded",
            Self::Selector => "labels are not those selected",
            Self::NotSelector => "labels are excluded",
            Self::Ports => "port is none of those named",
            Self::NotPorts => "port is excluded",
        })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(name) => write!(out, "endpoint {name}"),
            Self::Set(name) => write!(out, "network set {name}"),
            Self::Net(net) => write!(out, "net {net}"),
        }
    }
}
