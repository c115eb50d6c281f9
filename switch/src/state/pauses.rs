//! Pauses, one for each origin: while there is one, no pod is attached. Endpoints that were kept are taken up all the same.

use std::collections::BTreeMap;

use control::{Code, Origin, Pause, Refusal, Why};

use super::{Effect, State};

/// Why no pod is attached, by who asked.
pub(super) type Pauses = BTreeMap<Origin, Why>;

impl State {
    /// All pauses.
    pub fn pauses(&self) -> impl ExactSizeIterator<Item = Pause> {
        self.pauses.iter().map(|(&origin, why)| Pause { why: why.clone(), origin })
    }

    /// Takes a pause that was kept.
    pub fn admit_pause(&mut self, Pause { why, origin }: Pause) {
        self.pauses.insert(origin, why);
    }

    /// Begins the pause of an origin, changes its reason, or ends it.
    pub(super) fn set_pause(&mut self, origin: Origin, after: Option<Why>) -> Effect {
        let before = match after.clone() {
            Some(why) => self.pauses.insert(origin, why),
            None => self.pauses.remove(&origin),
        };
        Effect::PauseChanged { origin, before, after }
    }

    /// Says no while there is a pause.
    pub(super) fn check_pauses(&self) -> Result<(), Refusal> {
        self.pauses.first_key_value().map_or(Ok(()), |(origin, why)| {
            let refusal = Refusal::new(Code::Unavailable, format!("no pod is attached at present: {why}"));
            Err(refusal.hint(format!("{origin} asked for it and says when it is over; try again later")))
        })
    }
}
