//! Numbers for rules, by which a verdict names them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::rule::Direction;
use crate::verdict::{Cause, RuleId};

/// Whose rules have which numbers: each list of rules has a row of numbers.
#[derive(Debug, Default)]
pub(super) struct Ids {
    /// By the first number, how many there are, and whose.
    lists: BTreeMap<u32, (u32, List)>,
    firsts: HashMap<List, u32>,
    next: u32,
}

/// A list of rules, or the end of a tier.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum List {
    Policy(Arc<str>, Direction),
    Profile(Arc<str>, Direction),
    Otherwise(Arc<str>),
}

impl Ids {
    /// The number of a list's first rule. A list keeps its numbers as long as it does not grow.
    pub(super) fn first(&mut self, list: List, rules: usize) -> u32 {
        let rules = rules.max(1) as u32;
        if let Some(&first) = self.firsts.get(&list) {
            if self.lists[&first].0 >= rules {
                return first;
            }
            self.remove(&list);
        }
        let first = self.room(rules);
        self.lists.insert(first, (rules, list.clone()));
        self.firsts.insert(list, first);
        first
    }

    pub(super) fn remove(&mut self, list: &List) {
        if let Some(first) = self.firsts.remove(list) {
            self.lists.remove(&first);
        }
    }

    /// Whose a number is, and the how manieth of the list.
    pub(super) fn find(&self, id: RuleId) -> Option<(&List, usize)> {
        let (first, (rules, list)) = self.lists.range(..=id.0).next_back()?;
        (id.0 - first < *rules).then_some((list, (id.0 - first) as usize))
    }

    /// Numbers that were not given lately, so that a late drop's number rather means nothing than another rule.
    fn room(&mut self, rules: u32) -> u32 {
        let mut first = self.next.max(RuleId::FIRST);
        if first > RuleId::END - rules {
            first = RuleId::FIRST;
        }
        // All rules are fewer than half of the numbers, so there is a gap.
        while let Some(end) = self.end_of_overlap(first, first + rules) {
            first = if end > RuleId::END - rules { RuleId::FIRST } else { end };
        }
        self.next = first + rules;
        first
    }

    /// The end of a list that has a number from `first` to before `end`.
    fn end_of_overlap(&self, first: u32, end: u32) -> Option<u32> {
        let (&other, &(rules, _)) = self.lists.range(..end).next_back()?;
        (other + rules > first).then_some(other + rules)
    }
}

impl List {
    pub(super) fn cause(&self, index: usize, tier_of: impl Fn(&Arc<str>) -> Option<Arc<str>>) -> Option<Cause> {
        Some(match self.clone() {
            Self::Policy(policy, direction) => Cause::Rule { tier: tier_of(&policy)?, policy, direction, index },
            Self::Profile(profile, direction) => Cause::Profile { profile, direction, index },
            Self::Otherwise(tier) => Cause::Otherwise { tier },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_numbers_until_it_grows_and_no_two_share_one() {
        let mut ids = Ids::default();
        let list = |name: &str| List::Policy(name.into(), Direction::Ingress);
        let first = ids.first(list("a"), 3);
        assert_eq!(first, RuleId::FIRST);
        let other = ids.first(list("b"), 2);
        assert_eq!((ids.first(list("a"), 2), ids.first(list("b"), 2)), (first, other));
        let grown = ids.first(list("a"), 4);
        assert!(grown >= other + 2);
        assert_eq!(ids.find(RuleId(first)), None);
        assert_eq!(ids.find(RuleId(grown + 3)), Some((&list("a"), 3)));
        assert_eq!(ids.find(RuleId(grown + 4)), None);
    }

    #[test]
    fn numbers_are_used_again_when_they_run_out() {
        let mut ids = Ids::default();
        let list = |name: &str| List::Profile(name.into(), Direction::Egress);
        let kept = ids.first(list("kept"), 10);
        ids.next = RuleId::END - 3;
        let behind = ids.first(list("last"), 3);
        assert_eq!(behind, RuleId::END - 3);
        let again = ids.first(list("again"), 5);
        assert!(again >= kept + 10 && again + 5 <= behind);
    }
}
