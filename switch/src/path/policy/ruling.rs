//! What is decided about a packet: by its flow, if it is of one that was allowed, else by the rules.

use std::net::IpAddr;

use packet::Reason;
use policy::rule::Direction;
use policy::{RuleId, Tuple};

use super::seen::{Ends, Part, Seen};
use crate::connections::{Connection, Phase, Ruling, Start, Step};
use crate::enforcement::Enforcement;

/// A decision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Decision {
    /// Who denied it, if anybody did.
    pub(super) denied: Option<(Reason, RuleId)>,
    /// True when the flow's next packets of this direction will be decided likewise, as long as they neither begin nor end it.
    pub(super) is_steady: bool,
}

/// Ports by which a packet came and would go.
type Ports = (u16, u16);

impl Enforcement {
    /// Decides about a packet, and notes what it does to its flow.
    #[inline]
    pub(super) fn rule(&self, seen: &Seen, ports: Ports, now_seconds: u32) -> Decision {
        if self.guards(ports.0).is_none() && self.guards(ports.1).is_none() {
            return Decision { denied: None, is_steady: true };
        }
        let unsteady = |denied| Decision { denied, is_steady: false };
        match seen.part {
            Part::Alone => unsteady(self.ask(&seen.tuple(), ports)),
            Part::About(quoted) if self.is_allowed(&quoted, now_seconds) => unsteady(None),
            Part::About(_) => unsteady(self.ask(&seen.tuple(), ports)),
            Part::Of { may_begin, begins, ends } => {
                let (key, by_first) = seen.ends.key();
                match self.connections.find(&key, now_seconds) {
                    Some(found) => {
                        let step = Step { forth: found.by_first() == by_first, begins, ends };
                        self.go_on((seen, step), found, ports, now_seconds)
                    }
                    None => {
                        let denied = self.ask(&seen.tuple(), ports);
                        let phase = Phase::first(seen.ends.protocol);
                        if denied.is_none() && may_begin {
                            let ruling = Ruling { generation: self.generation, value: ALLOWED };
                            let start = Start { by_first, phase, icmp: seen.icmp, ruling };
                            self.connections.insert(&key, &start, now_seconds);
                        }
                        Decision { denied, is_steady: may_begin && phase.is_steady() }
                    }
                }
            }
        }
    }

    /// Decides about a packet of a known flow.
    fn go_on(&self, (seen, step): (&Seen, Step), mut found: Connection, ports: Ports, now_seconds: u32) -> Decision {
        let phase = found.phase();
        // Who begins a connection, or asks, is judged, also where it is the other end of a flow in use.
        if step.begins && (!step.forth || phase == Phase::Closing) {
            let denied = self.ask(&seen.tuple(), ports);
            if denied.is_none() && (phase == Phase::Closing || !phase.is_answered()) {
                let by_first = found.by_first() == step.forth;
                self.connections.rule(&mut found, Ruling { generation: self.generation, value: ALLOWED });
                let first = Phase::first(seen.ends.protocol);
                self.connections.renew(&mut found, (by_first, first), now_seconds);
            }
            return Decision { denied, is_steady: false };
        }
        let denied = if found.ruling().is_of(self.generation) {
            denied_of(found.ruling().value)
        } else {
            self.ask_anew(&seen.ends, (step.forth, &mut found), ports)
        };
        let next = if denied.is_none() { phase.after(step) } else { phase };
        let by_first = found.by_first();
        self.connections.renew(&mut found, (by_first, next), now_seconds);
        Decision { denied, is_steady: next.is_steady() }
    }

    /// Asks the rules about the end that began a flow, from a packet of either.
    fn ask_anew(&self, ends: &Ends, (forth, found): (bool, &mut Connection), ports: Ports) -> Option<(Reason, RuleId)> {
        let (ends, ports) = if forth { (*ends, ports) } else { (ends.reversed(), (ports.1, ports.0)) };
        let denied = self.ask(&ends.tuple(found.icmp(), true), ports);
        self.connections.rule(found, Ruling { generation: self.generation, value: value_of(denied) });
        denied
    }

    /// True where the flow is known, and allowed by these rules.
    fn is_allowed(&self, ends: &Ends, now_seconds: u32) -> bool {
        let ruling = self.connections.find(&ends.key().0, now_seconds).map(|found| found.ruling());
        ruling.is_some_and(|ruling| ruling.is_of(self.generation) && ruling.value == ALLOWED)
    }

    /// Asks the rules: those of the pod it leaves, then those of the pod it enters.
    #[inline(never)]
    fn ask(&self, tuple: &Tuple, (from, to): Ports) -> Option<(Reason, RuleId)> {
        if let Some(guards) = self.guards(from) {
            let verdict = guards.egress.decide(&self.peers, tuple);
            if !verdict.allow {
                return Some((Reason::PolicyEgress, verdict.by));
            }
        }
        let guards =
            self.guards(to).filter(|_| from != HOST || !self.is_own(tuple.addresses.own(Direction::Egress)))?;
        let verdict = guards.ingress.decide(&self.peers, tuple);
        (!verdict.allow).then_some((Reason::PolicyIngress, verdict.by))
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }
}

/// Rules' numbers have 30 bits; the highest bit says that it is denied, the next that it was on entering.
fn value_of(denied: Option<(Reason, RuleId)>) -> u32 {
    match denied {
        None => ALLOWED,
        Some((Reason::PolicyIngress, by)) => DENIED | ENTERING | by.0,
        Some((_, by)) => DENIED | by.0,
    }
}

fn denied_of(value: u32) -> Option<(Reason, RuleId)> {
    let reason = if value & ENTERING != 0 { Reason::PolicyIngress } else { Reason::PolicyEgress };
    (value & DENIED != 0).then_some((reason, RuleId(value & (RuleId::END - 1))))
}

/// The host port's number.
const HOST: u16 = 0;
const ALLOWED: u32 = 0;
const DENIED: u32 = 1 << 31;
const ENTERING: u32 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_denied_fits_a_number() {
        let last = RuleId(RuleId::END - 1);
        for denied in [None, Some((Reason::PolicyIngress, RuleId(0))), Some((Reason::PolicyEgress, last))] {
            assert_eq!(denied_of(value_of(denied)), denied);
        }
    }
}
