//! From what changed to programs that are others now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::census::Census;
use super::classes::Shift;
use super::drafts::Drafting;
use super::ids::List;
use super::question::Question;
use super::{Book, Changes, Local, Made, Programs, Source, Used};
use crate::endpoint::Endpoint;
use crate::program::{Blueprint, Draft};
use crate::rule::{Direction, Policy, Rule};

/// Of sources that changed, or that other endpoints have now, how many local endpoints more have them.
type Counts = BTreeMap<Source, isize>;

impl Book {
    /// Brings programs up to all that was told, and says what that changed.
    pub fn compile(&mut self) -> Changes {
        let pending = std::mem::take(&mut self.pending);
        let (mut changes, mut stale, mut counts) = (Changes::default(), BTreeSet::new(), Counts::new());
        if pending.tiers {
            stale.extend(self.locals.keys().cloned());
        }
        for source in &pending.sources {
            counts.entry(source.clone()).or_default();
            self.select(source, &mut stale, &mut counts);
        }
        for name in pending.endpoints {
            let was_local = self.locals.contains_key(&name);
            if self.review(&name, &mut counts) {
                stale.insert(name);
            } else if was_local {
                stale.remove(&name);
                changes.gone.push(name);
            }
        }
        for (source, change) in counts {
            match self.used.get_mut(&source).filter(|_| !pending.sources.contains(&source)) {
                Some(used) if used.locals.checked_add_signed(change).is_some_and(|locals| locals > 0) => {
                    used.locals = used.locals.saturating_add_signed(change);
                }
                _ => self.hold(source, change),
            }
        }
        let (shifts, has_changed) = self.census.settle(&self.facts);
        changes.peers = has_changed;
        self.shift(&shifts);
        for name in &stale {
            self.redraft(name);
        }
        if !stale.is_empty() || !shifts.is_empty() || !changes.gone.is_empty() {
            changes.programs = self.hand_out();
        }
        changes
    }

    /// Finds the local endpoints that a changed policy or profile concerns, now or before.
    fn select(&mut self, source: &Source, stale: &mut BTreeSet<Arc<str>>, counts: &mut Counts) {
        for (name, local) in &mut self.locals {
            let policy = match source {
                Source::Profile(profile) => {
                    if local.profiles.contains(profile) {
                        stale.insert(name.clone());
                    }
                    continue;
                }
                Source::Policy(policy) => policy,
            };
            let Some(endpoint) = self.facts.endpoints.get(name) else { continue };
            let (before, after) = (local.policies.contains(policy), selects(self.facts.policies.get(policy), endpoint));
            if before || after {
                stale.insert(name.clone());
            }
            if before != after {
                *counts.entry(source.clone()).or_default() += if after { 1 } else { -1 };
                match after {
                    true => local.policies.insert(policy.clone()),
                    false => local.policies.remove(policy),
                };
            }
        }
    }

    /// Finds the policies and profiles of an endpoint that changed; true if it is local.
    fn review(&mut self, name: &Arc<str>, counts: &mut Counts) -> bool {
        let mut count = |policies: &BTreeSet<Arc<str>>, profiles: &[Arc<str>], change: isize| {
            let policies = policies.iter().cloned().map(Source::Policy);
            for source in policies.chain(profiles.iter().cloned().map(Source::Profile)) {
                *counts.entry(source).or_default() += change;
            }
        };
        if let Some(local) = self.locals.get(name) {
            count(&local.policies, &local.profiles, -1);
        }
        let Some(endpoint) = self.facts.endpoints.get(name).filter(|endpoint| endpoint.is_local) else {
            if let Some(local) = self.locals.remove(name) {
                self.leave(local.made);
            }
            return false;
        };
        let selecting = self.facts.policies.values().filter(|policy| selects(Some(policy), endpoint));
        let policies: BTreeSet<Arc<str>> = selecting.map(|policy| policy.name.clone()).collect();
        let profiles = endpoint.profiles.clone();
        count(&policies, &profiles, 1);
        let local = self.locals.entry(name.clone()).or_insert_with(Local::new);
        (local.policies, local.profiles) = (policies, profiles);
        true
    }

    /// Counts how many local endpoints have a source, and sees that what its rules ask of peers is known.
    fn hold(&mut self, source: Source, change: isize) {
        let before = self.used.remove(&source);
        let locals = before.as_ref().map_or(0, |used| used.locals).saturating_add_signed(change);
        if locals > 0 {
            let rules = self.rules_of(&source);
            for question in questions(&rules) {
                self.census.asked.hold(&question);
            }
            self.used.insert(source, Used { locals, rules });
        } else {
            for direction in DIRECTIONS {
                self.ids.remove(&match &source {
                    Source::Policy(name) => List::Policy(name.clone(), direction),
                    Source::Profile(name) => List::Profile(name.clone(), direction),
                });
            }
        }
        for question in before.iter().flat_map(|used| questions(&used.rules)) {
            self.census.asked.release(&question);
        }
    }

    fn rules_of(&self, source: &Source) -> [Arc<[Rule]>; 2] {
        DIRECTIONS.map(|direction| {
            let rules = match source {
                Source::Policy(name) => self.facts.policies.get(name).and_then(|policy| policy.rules(direction)),
                Source::Profile(name) => self.facts.profiles.get(name).map(|profile| profile.rules(direction)),
            };
            rules.unwrap_or_default().into()
        })
    }

    /// Tells programs which classes came and went.
    fn shift(&mut self, shifts: &[Shift]) {
        for made in self.made.values_mut() {
            let mut is_other = false;
            for shift in shifts.iter().filter(|shift| shift.before.is_some()) {
                is_other |= made.blueprint.remove_class(shift.class);
            }
            for shift in shifts {
                if let Some(traits) = &shift.after {
                    is_other |= made.blueprint.add_class(shift.class, traits);
                }
            }
            if is_other {
                made.program = Arc::new(made.blueprint.program());
            }
        }
    }

    /// Gives a local endpoint the programs that its rules come to.
    fn redraft(&mut self, name: &Arc<str>) {
        let Self { facts, census, ids, locals, .. } = self;
        let endpoint = &facts.endpoints[name];
        let mut drafting = Drafting { facts, asked: &census.asked, ids };
        let policies = &locals[name].policies;
        let drafts = DIRECTIONS.map(|direction| drafting.draft(endpoint, direction, policies));
        let after = drafts.map(|draft| self.enter(draft));
        let local = self.locals.get_mut(name).expect("a stale endpoint is local");
        let before = local.made.replace(after);
        self.leave(before);
    }

    /// The number of the program of this draft, for one endpoint more.
    fn enter(&mut self, draft: Draft) -> u64 {
        if let Some(&number) = self.numbers.get(&draft) {
            self.made.get_mut(&number).expect("a number is of a program").locals += 1;
            return number;
        }
        let (draft, number) = (Arc::new(draft), self.made_so_far);
        self.made_so_far += 1;
        let blueprint = blueprint(&draft, &self.census, self.places_max);
        let program = Arc::new(blueprint.program());
        self.numbers.insert(draft.clone(), number);
        self.made.insert(number, Made { draft, blueprint, program, locals: 1 });
        number
    }

    /// Forgets programs that no endpoint has any more.
    fn leave(&mut self, numbers: Option<[u64; 2]>) {
        for number in numbers.into_iter().flatten() {
            let made = self.made.get_mut(&number).expect("a number is of a program");
            made.locals -= 1;
            if made.locals == 0 {
                self.numbers.remove(&made.draft);
                self.made.remove(&number);
            }
        }
    }

    /// The programs of those local endpoints that had others.
    fn hand_out(&mut self) -> Vec<(Arc<str>, Programs)> {
        let mut handed = Vec::new();
        for (name, local) in &mut self.locals {
            let numbers = local.made.expect("a local endpoint has programs");
            let [ingress, egress] = numbers.map(|number| self.made[&number].program.clone());
            let is_same = |had: &Programs| Arc::ptr_eq(&had.ingress, &ingress) && Arc::ptr_eq(&had.egress, &egress);
            if !local.programs.as_ref().is_some_and(is_same) {
                let programs = Programs { ingress, egress };
                local.programs = Some(programs.clone());
                handed.push((name.clone(), programs));
            }
        }
        handed
    }
}

impl Local {
    fn new() -> Self {
        Self { policies: BTreeSet::new(), profiles: Vec::new(), made: None, programs: None }
    }
}

/// A program of the draft that knows all classes.
fn blueprint(draft: &Draft, census: &Census, places_max: usize) -> Blueprint {
    let mut blueprint = Blueprint::new(draft, places_max);
    for (class, traits) in census.classes().iter() {
        blueprint.add_class(class, traits);
    }
    blueprint
}

/// What rules ask of peers; those that no peer can match ask nothing.
fn questions(rules: &[Arc<[Rule]>; 2]) -> impl Iterator<Item = Question<'_>> {
    DIRECTIONS
        .into_iter()
        .zip(rules)
        .flat_map(|(direction, rules)| rules.iter().filter_map(move |rule| Question::new(&rule.matches, direction)))
}

fn selects(policy: Option<&Policy>, endpoint: &Endpoint) -> bool {
    policy.is_some_and(|policy| policy.applies_to.matches(&endpoint.labels))
}

const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];
