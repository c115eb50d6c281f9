//! The rules for one endpoint and direction, in order, as terms for a program.
//!
//! What a rule asks of the endpoint itself is answered here, where the answer does not depend on the packet: a rule that never matches is
//! left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::asked::Asked;
use super::ids::{Ids, List};
use super::question::Question;
use crate::endpoint::{Endpoint, NamedPort};
use crate::facts::Facts;
use crate::program::Draft;
use crate::program::term::{Check, Kind, NameTest, PeerTest, Ranges, ServiceTest, Term, ranges};
use crate::rule::{Action, Direction, Icmp, Match, Policy, Ports, Protocol, Rule, Side};
use crate::verdict::RuleId;

/// What drafts are made from.
pub(super) struct Drafting<'a> {
    pub(super) facts: &'a Facts,
    pub(super) asked: &'a Asked,
    pub(super) ids: &'a mut Ids,
}

impl Drafting<'_> {
    /// The terms for an endpoint that these policies select.
    pub(super) fn draft(&mut self, endpoint: &Endpoint, direction: Direction, policies: &BTreeSet<Arc<str>>) -> Draft {
        let facts = self.facts;
        let mut by_tier: BTreeMap<&Arc<str>, Vec<&Policy>> = BTreeMap::new();
        for policy in policies.iter().map(|name| &facts.policies[name]) {
            if policy.rules(direction).is_some() {
                by_tier.entry(&policy.tier).or_default().push(policy);
            }
        }
        let mut tiers: Vec<_> = by_tier.into_iter().map(|(name, policies)| (facts.tier(name), policies)).collect();
        tiers.sort_by(|(one, _), (other, _)| one.order.precedes(&one.name, (&other.order, &other.name)));
        let asking = Asking { asked: self.asked, endpoint, direction };
        let mut drafts = Vec::new();
        for (tier, mut policies) in tiers {
            policies.sort_by(|one, other| one.order.precedes(&one.name, (&other.order, &other.name)));
            let mut terms = Vec::new();
            for policy in policies {
                let rules = policy.rules(direction).unwrap_or_default();
                let first = self.ids.first(List::Policy(policy.name.clone(), direction), rules.len());
                terms.extend((first..).zip(rules).filter_map(|(id, rule)| asking.term(rule, RuleId(id))));
            }
            let id = self.ids.first(List::Otherwise(tier.name.clone()), 1);
            terms.push(everything(tier.otherwise, RuleId(id)));
            drafts.push(terms);
        }
        let mut terms = Vec::new();
        for profile in endpoint.profiles.iter().filter_map(|name| facts.profiles.get(name)) {
            let rules = profile.rules(direction);
            let first = self.ids.first(List::Profile(profile.name.clone(), direction), rules.len());
            terms.extend((first..).zip(rules).filter_map(|(id, rule)| asking.term(rule, RuleId(id))));
        }
        for term in terms.iter_mut().filter(|term| term.action == Action::Pass) {
            (term.action, term.by) = (Action::Deny, RuleId::UNDECIDED);
        }
        terms.push(match endpoint.profiles.is_empty() {
            true => everything(Action::Allow, RuleId::OPEN),
            false => everything(Action::Deny, RuleId::UNDECIDED),
        });
        drafts.push(terms);
        Draft { direction, tiers: drafts }
    }
}

struct Asking<'a> {
    asked: &'a Asked,
    endpoint: &'a Endpoint,
    direction: Direction,
}

impl Asking<'_> {
    /// None if it never matches.
    fn term(&self, rule: &Rule, by: RuleId) -> Option<Term> {
        let wanted = &rule.matches;
        if wanted.protocol.is_some() && wanted.protocol == wanted.not_protocol {
            return None;
        }
        let peer = self.peer(&Question::new(wanted, self.direction)?);
        let own = match self.direction {
            Direction::Ingress => &wanted.destination,
            Direction::Egress => &wanted.source,
        };
        let labels = &self.endpoint.labels;
        let is_chosen = own.selector.as_ref().is_none_or(|selector| selector.matches(labels));
        if !is_chosen || own.not_selector.as_ref().is_some_and(|selector| selector.matches(labels)) {
            return None;
        }
        let mut check = Check { own_nets: (own.nets.clone(), own.not_nets.clone()), ..Check::default() };
        let source = self.ports(&wanted.source, self.direction == Direction::Egress, wanted.protocol);
        let destination = self.ports(&wanted.destination, self.direction == Direction::Ingress, wanted.protocol);
        let mut asks_ports = false;
        let mut source_ports = None;
        match source {
            AskedPorts::Any => {}
            AskedPorts::These(ranges) => source_ports = Some(ranges),
            AskedPorts::Named(test) => check.source = Some(test),
        }
        asks_ports |= source_ports.is_some() || check.source.is_some();
        let mut keys = vec![(0, u16::MAX)];
        match destination {
            AskedPorts::Any => {}
            AskedPorts::These(ranges) => (keys, asks_ports) = (ranges, true),
            AskedPorts::Named(test) => (check.destination, asks_ports) = (Some(test), true),
        }
        let mut kind = asks_ports.then_some(Kind::Ports);
        if wanted.icmp.is_some() || wanted.not_icmp.is_some() {
            if asks_ports {
                return None;
            }
            (kind, keys) = (Some(Kind::Icmp), kinds(wanted));
        }
        if keys.is_empty() || source_ports.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        let service = ServiceTest { protocol: wanted.protocol, not_protocol: wanted.not_protocol, kind, keys };
        let check = (check != Check::default()).then(|| Box::new(check));
        Some(Term { action: rule.action, by, peer, service, source_ports, check })
    }

    fn peer(&self, question: &Question<'_>) -> PeerTest {
        let atoms = |nets: &[packet::Prefix]| -> Vec<u32> { nets.iter().map(|&net| self.asked.net(net)).collect() };
        PeerTest {
            family: question.family,
            nets: atoms(&question.nets),
            not_nets: atoms(&question.not_nets),
            selector: question.selector().map(|selector| self.asked.selector(selector)),
            not_selector: question.not_selector().map(|selector| self.asked.selector(selector)),
        }
    }

    fn ports(&self, side: &Side, is_own: bool, protocol: Option<Protocol>) -> AskedPorts {
        if side.ports.is_empty() && side.not_ports.is_empty() {
            return AskedPorts::Any;
        }
        let [wanted, unwanted] = [&side.ports, &side.not_ports].map(|ports| Split::of(ports));
        if wanted.names.is_empty() && unwanted.names.is_empty() {
            return AskedPorts::These(ranges((!side.ports.is_empty()).then_some(wanted.ranges), unwanted.ranges));
        }
        let Some(protocol) = protocol.filter(|_| is_own) else {
            let own = is_own.then(|| self.endpoint.ports.clone().into());
            return AskedPorts::Named(NameTest {
                own,
                ranges: ranges(Some(wanted.ranges), Vec::new()),
                names: wanted.names,
                not_ranges: ranges(Some(unwanted.ranges), Vec::new()),
                not_names: unwanted.names,
            });
        };
        let called = |split: Split| -> Ranges {
            let is_so = |port: &&NamedPort| port.protocol == protocol && split.names.contains(&port.name);
            let named = self.endpoint.ports.iter().filter(is_so).map(|port| (port.port, port.port));
            named.chain(split.ranges.iter().copied()).collect()
        };
        let (is_any, wanted, unwanted) = (side.ports.is_empty(), called(wanted), called(unwanted));
        AskedPorts::These(ranges((!is_any).then_some(wanted), unwanted))
    }
}

/// What a side asks of its port.
enum AskedPorts {
    Any,
    These(Ranges),
    /// Something that the number alone does not tell.
    Named(NameTest),
}

struct Split {
    ranges: Ranges,
    names: Vec<Arc<str>>,
}

impl Split {
    fn of(ports: &[Ports]) -> Self {
        let mut split = Self { ranges: Vec::new(), names: Vec::new() };
        for ports in ports {
            match ports {
                Ports::Range(first, last) => split.ranges.push((*first, *last)),
                Ports::Named(name) => split.names.push(name.clone()),
            }
        }
        split
    }
}

/// Types and codes as keys of a service.
fn kinds(wanted: &Match) -> Ranges {
    let keys = |icmp: Icmp| match icmp.code {
        Some(code) => [icmp.kind; 2].map(|kind| u16::from(kind) << 8 | u16::from(code)).into(),
        None => (u16::from(icmp.kind) << 8, u16::from(icmp.kind) << 8 | 0xff),
    };
    ranges(wanted.icmp.map(|icmp| vec![keys(icmp)]), wanted.not_icmp.map(keys).into_iter().collect())
}

fn everything(action: Action, by: RuleId) -> Term {
    Term { action, by, peer: PeerTest::default(), service: ServiceTest::any(), source_ports: None, check: None }
}
