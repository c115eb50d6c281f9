//! All that was told, as it was told: rules, and whom they speak of.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::endpoint::Endpoint;
use crate::rule::{Action, Direction, NetworkSet, Order, Policy, Profile, Rule, Tier};

/// Tiers, policies, profiles, network sets and endpoints, each by its name.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "the fields are what they are called")]
pub struct Facts {
    pub tiers: BTreeMap<Arc<str>, Tier>,
    pub policies: BTreeMap<Arc<str>, Policy>,
    pub profiles: BTreeMap<Arc<str>, Profile>,
    pub sets: BTreeMap<Arc<str>, NetworkSet>,
    pub endpoints: BTreeMap<Arc<str>, Endpoint>,
}

impl Facts {
    /// The tier of this name. One that nobody told of is the last, and closed, so that policies which arrive before their tier
    /// open nothing.
    pub fn tier(&self, name: &Arc<str>) -> Tier {
        let unknown = || Tier { name: name.clone(), order: Order(None), otherwise: Action::Deny };
        self.tiers.get(name).cloned().unwrap_or_else(unknown)
    }

    /// The policies that select the endpoint for a direction, in the order they are asked, by their tiers.
    pub fn applying(&self, endpoint: &Endpoint, direction: Direction) -> Vec<(Tier, Vec<&Policy>)> {
        let selects =
            |policy: &&Policy| policy.rules(direction).is_some() && policy.applies_to.matches(&endpoint.labels);
        let mut by_tier: BTreeMap<&Arc<str>, Vec<&Policy>> = BTreeMap::new();
        for policy in self.policies.values().filter(selects) {
            by_tier.entry(&policy.tier).or_default().push(policy);
        }
        let mut tiers: Vec<_> = by_tier.into_iter().map(|(name, policies)| (self.tier(name), policies)).collect();
        tiers.sort_by(|(one, _), (other, _)| one.order.precedes(&one.name, (&other.order, &other.name)));
        for (_, policies) in &mut tiers {
            policies.sort_by(|one, other| one.order.precedes(&one.name, (&other.order, &other.name)));
        }
        tiers
    }
}

impl Policy {
    /// Its rules for a direction, if it says anything about it.
    pub fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }

    /// How many rules it has.
    #[allow(clippy::len_without_is_empty, reason = "a policy without rules is not empty: it closes")]
    pub fn len(&self) -> usize {
        self.ingress.iter().chain(&self.egress).map(Vec::len).sum()
    }
}

impl Profile {
    /// Its rules for a direction.
    pub fn rules(&self, direction: Direction) -> &[Rule] {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// How many rules it has.
    #[allow(clippy::len_without_is_empty, reason = "a profile without rules is not empty: it closes")]
    pub fn len(&self) -> usize {
        self.ingress.len() + self.egress.len()
    }
}

impl Order {
    /// By order, none being last, then by name.
    pub fn precedes(&self, name: &str, (order, other): (&Order, &str)) -> Ordering {
        let place = |order: &Order| order.0.map_or((true, 0.0), |order| (false, order + 0.0));
        let ((last, at), (other_last, other_at)) = (place(self), place(order));
        last.cmp(&other_last).then(at.total_cmp(&other_at)).then_with(|| name.cmp(other))
    }
}
