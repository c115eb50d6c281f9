//! All rules and all they speak of, kept compiled.
//!
//! [`Book::set_policy`] and its like take in what changed, one by one or by the thousand; [`Book::compile`] then brings the programs of local
//! endpoints up to it, and says which of them are others now. Facts may come in any order: a rule may speak of endpoints, sets, tiers and
//! profiles that come later. What it costs follows what changed:
//!
//! ```text
//!  endpoint, any node     selectors that may choose it; its addresses; programs, only if none of its like was there
//!  policy                 local endpoints, whether it selects them; endpoints that it asks about, if no other policy did
//!  tier                   programs of all local endpoints are compared
//! ```
//!
//! Policies that select no local endpoint are kept, and cost nothing else. Programs are shared by endpoints for which the same rules apply.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

mod anchors;
mod asked;
mod census;
mod classes;
mod compile;
mod drafts;
mod ids;
mod nets;
mod question;
mod roll;

use census::Census;
use ids::Ids;

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::oracle::{self, Explanation};
use crate::peers::Peers;
use crate::program::{Blueprint, Draft, Program};
use crate::rule::{Action, Direction, NetworkSet, Policy, Ports, Profile, Rule, Tier};
use crate::tuple::Tuple;
use crate::verdict::{Cause, RuleId};

/// Rules, endpoints, and the programs of those that are local.
pub struct Book {
    facts: Facts,
    rules: usize,
    census: Census,
    ids: Ids,
    locals: BTreeMap<Arc<str>, Local>,
    /// Policies and profiles that local endpoints have, and how many do.
    used: HashMap<Source, Used>,
    /// Programs by number, and their numbers by what they were made of.
    made: BTreeMap<u64, Made>,
    numbers: HashMap<Arc<Draft>, u64>,
    made_so_far: u64,
    /// The most places of a program's table of pairs.
    places_max: usize,
    pending: Pending,
}

/// What [`Book::compile`] changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// True when some address has another class: [`Book::peers`] is to be taken along with all programs.
    pub peers: bool,
    /// Local endpoints whose programs are others now, by name; new ones included.
    pub programs: Vec<(Arc<str>, Programs)>,
    /// Endpoints that are gone, or local no more.
    pub gone: Vec<Arc<str>>,
}

/// An endpoint's programs.
#[derive(Debug, Clone)]
pub struct Programs {
    /// For packets to it.
    pub ingress: Arc<Program>,
    /// For packets from it.
    pub egress: Arc<Program>,
}

/// An endpoint of this node.
struct Local {
    /// Those that select it.
    policies: BTreeSet<Arc<str>>,
    profiles: Vec<Arc<str>>,
    /// Numbers of its programs, for packets to it and from it.
    made: Option<[u64; 2]>,
    programs: Option<Programs>,
}

/// A list of rules that is a policy's or a profile's, by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Source {
    Policy(Arc<str>),
    Profile(Arc<str>),
}

/// How many local endpoints have a source, and the rules that were asked for that, by direction.
struct Used {
    locals: usize,
    rules: [Arc<[Rule]>; 2],
}

/// A program with its blueprint, and how many endpoints have it.
struct Made {
    draft: Arc<Draft>,
    blueprint: Blueprint,
    program: Arc<Program>,
    locals: usize,
}

#[derive(Default)]
struct Pending {
    sources: BTreeSet<Source>,
    endpoints: BTreeSet<Arc<str>>,
    tiers: bool,
}

impl Book {
    /// A book without rules: every endpoint is open.
    pub fn new() -> Self {
        Self::default()
    }

    /// A book whose programs have a table of pairs of up to so many places, each 8 bytes and 4 for each tier. Where rules need more, they
    /// are looked up in sets of bits, which takes longer; so they are with 0.
    pub fn with_places_max(places_max: usize) -> Self {
        Self {
            facts: Facts::default(),
            rules: 0,
            census: Census::default(),
            ids: Ids::default(),
            locals: BTreeMap::new(),
            used: HashMap::new(),
            made: BTreeMap::new(),
            numbers: HashMap::new(),
            made_so_far: 0,
            places_max,
            pending: Pending::default(),
        }
    }

    /// Takes in a tier, in the place of one of the same name.
    pub fn set_tier(&mut self, tier: Tier) -> Result<()> {
        let action = match tier.otherwise {
            Action::Deny | Action::Pass => None,
            Action::Allow => Some("allow"),
            Action::Log => Some("log"),
        };
        if let Some(action) = action {
            return Err(Error::Otherwise { tier: tier.name, action });
        }
        self.pending.tiers = true;
        self.facts.tiers.insert(tier.name.clone(), tier);
        Ok(())
    }

    /// Takes a tier out; policies that are still of it are asked last, see [`Facts::tier`]. False if it was not there.
    pub fn remove_tier(&mut self, name: &str) -> bool {
        let is_there = self.facts.tiers.remove(name).is_some();
        self.pending.tiers |= is_there;
        is_there
    }

    /// Takes in a policy, in the place of one of the same name.
    pub fn set_policy(&mut self, policy: Policy) -> Result<()> {
        let lists = [policy.ingress.as_deref().unwrap_or_default(), policy.egress.as_deref().unwrap_or_default()];
        let before = self.facts.policies.get(&policy.name).map_or(0, Policy::len);
        self.rules = self.count_rules(&policy.name, lists, before)?;
        self.pending.sources.insert(Source::Policy(policy.name.clone()));
        self.facts.policies.insert(policy.name.clone(), policy);
        Ok(())
    }

    /// Takes a policy out. False if it was not there.
    pub fn remove_policy(&mut self, name: &str) -> bool {
        let Some(policy) = self.facts.policies.remove(name) else { return false };
        self.rules -= policy.len();
        self.pending.sources.insert(Source::Policy(policy.name));
        true
    }

    /// Takes in a profile, in the place of one of the same name.
    pub fn set_profile(&mut self, profile: Profile) -> Result<()> {
        let before = self.facts.profiles.get(&profile.name).map_or(0, Profile::len);
        self.rules = self.count_rules(&profile.name, [&profile.ingress, &profile.egress], before)?;
        self.pending.sources.insert(Source::Profile(profile.name.clone()));
        self.facts.profiles.insert(profile.name.clone(), profile);
        Ok(())
    }

    /// Takes a profile out. False if it was not there.
    pub fn remove_profile(&mut self, name: &str) -> bool {
        let Some(profile) = self.facts.profiles.remove(name) else { return false };
        self.rules -= profile.len();
        self.pending.sources.insert(Source::Profile(profile.name));
        true
    }

    /// Takes in a network set, in the place of one of the same name.
    pub fn set_network_set(&mut self, set: NetworkSet) {
        self.census.note_set(&set.name);
        self.facts.sets.insert(set.name.clone(), set);
    }

    /// Takes a network set out. False if it was not there.
    pub fn remove_network_set(&mut self, name: &str) -> bool {
        let Some(set) = self.facts.sets.remove(name) else { return false };
        self.census.note_set(&set.name);
        true
    }

    /// Takes in an endpoint, in the place of one of the same name.
    pub fn set_endpoint(&mut self, endpoint: Endpoint) {
        let before = self.facts.endpoints.get(&endpoint.name).map(|before| &before.labels);
        self.census.note_endpoint(&endpoint.name, before, Some(&endpoint.labels));
        if endpoint.is_local || self.locals.contains_key(&endpoint.name) {
            self.pending.endpoints.insert(endpoint.name.clone());
        }
        self.facts.endpoints.insert(endpoint.name.clone(), endpoint);
    }

    /// Takes an endpoint out. False if it was not there.
    pub fn remove_endpoint(&mut self, name: &str) -> bool {
        let Some(endpoint) = self.facts.endpoints.remove(name) else { return false };
        self.census.note_endpoint(&endpoint.name, Some(&endpoint.labels), None);
        self.pending.endpoints.insert(endpoint.name);
        true
    }

    /// Everything as it was told.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The class of every address, for the programs of the last [`Book::compile`].
    pub fn peers(&self) -> &Peers {
        self.census.peers()
    }

    /// The programs of a local endpoint, as of the last [`Book::compile`].
    pub fn programs(&self, endpoint: &str) -> Option<&Programs> {
        self.locals.get(endpoint)?.programs.as_ref()
    }

    /// What a number in a verdict stands for; none if the rule is gone.
    pub fn cause(&self, id: RuleId) -> Option<Cause> {
        match id {
            RuleId::OPEN => Some(Cause::Open),
            RuleId::UNDECIDED => Some(Cause::Undecided),
            id => {
                let (list, index) = self.ids.find(id)?;
                list.cause(index, |policy| self.facts.policies.get(policy).map(|policy| policy.tier.clone()))
            }
        }
    }

    /// What happens to a packet to or from an endpoint, local or not, with everything that was asked; by the facts, not by a program.
    /// None if there is no such endpoint.
    pub fn explain(&self, endpoint: &str, direction: Direction, tuple: &Tuple) -> Option<Explanation> {
        let endpoint = self.facts.endpoints.get(endpoint)?;
        Some(oracle::explain(&self.facts, endpoint, direction, tuple))
    }

    /// How many kinds of addresses the rules in force tell apart.
    pub fn classes(&self) -> usize {
        self.census.classes().iter().count()
    }

    /// How many different programs there are.
    pub fn programs_made(&self) -> usize {
        self.made.len()
    }

    /// About how many bytes programs and the classes of addresses take, not what was told nor what it takes to compile.
    pub fn bytes(&self) -> usize {
        self.peers().bytes() + self.made.values().map(|made| made.program.bytes()).sum::<usize>()
    }

    /// How many rules there are with these lists instead of `before`, or why they are refused.
    fn count_rules(&self, name: &Arc<str>, lists: [&[Rule]; 2], before: usize) -> Result<usize> {
        for rules in lists {
            let (whose, count) = (name.clone(), rules.len());
            if count > RULES_MAX {
                return Err(Error::TooManyRules { whose, count, max: RULES_MAX });
            }
            for (index, rule) in rules.iter().enumerate() {
                let sides = [&rule.matches.source, &rule.matches.destination];
                let mut ports = sides.into_iter().flat_map(|side| side.ports.iter().chain(&side.not_ports));
                let backwards = ports.find_map(|ports| match *ports {
                    Ports::Range(first, last) if first > last => Some((first, last)),
                    _ => None,
                });
                if let Some((first, last)) = backwards {
                    return Err(Error::Backwards { whose, index, first, last });
                }
            }
        }
        let count = self.rules - before + lists[0].len() + lists[1].len();
        match count <= RULES_TOTAL_MAX {
            true => Ok(count),
            false => Err(Error::Full { whose: name.clone(), count, max: RULES_TOTAL_MAX }),
        }
    }
}

impl Default for Book {
    fn default() -> Self {
        Self::with_places_max(PLACES_MAX)
    }
}

impl std::fmt::Debug for Book {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Facts { policies, endpoints, .. } = &self.facts;
        let mut out = out.debug_struct("Book");
        out.field("policies", &policies.len()).field("endpoints", &endpoints.len()).field("locals", &self.locals.len());
        out.finish_non_exhaustive()
    }
}

/// The most places of a program's table of pairs, unless said otherwise.
pub const PLACES_MAX: usize = 1 << 18;
/// The most rules of a policy or profile for one direction.
pub const RULES_MAX: usize = 1 << 16;
/// The most rules of all policies and profiles.
pub const RULES_TOTAL_MAX: usize = 1 << 21;

#[cfg(test)]
mod tests;
