//! The path of a frame: the product, as an ordered list of calls.
//!
//! | stage | asks | lets go |
//! |---|---|---|
//! | `glance` | is it one of the many? | nothing: it only spares plain frames the next two |
//! | `parse` | what is it? | malformed frames; ARP, ND and what the switch consumes |
//! | `leaving` | may it leave its workload? | spoofed sources |
//! | `route` | where to? | no route, blackholes, packets for the gateway itself |
//! | `policy` | may it leave its pod, and enter the next? | what rules deny |
//! | `rewrite` | as what? | TTL used up, too big |
//! | `depart` | by which port, in which form? | everything: each row is settled here, once |
//!
//! A stage is one plain loop over the burst's columns, `fn(&mut Burst, &World, &mut Lane)`. A packet that leaves early
//! gets its exit written and is skipped by the stages after; nothing is moved. The slow path's answers join right
//! before the departure, since they are complete frames for a known port.
//!
//! The tracer looks on between the stages: one test each while there is no trace.
//!
//! Nothing here allocates, logs, locks, makes a string or, but for a trace or a limited pod, reads a clock.

mod depart;
mod glance;
mod leaving;
mod lists;
mod parse;
mod policy;
mod readdress;
mod rewrite;
mod route;
pub(crate) mod transport_fields;
mod wrap;

use control::Stage;
use packet::Burst;

pub use depart::Departures;
pub use glance::{Doors, Others};
pub use policy::Verdicts;
pub(crate) use readdress::readdress;
pub use route::Lookups;

use crate::lane::Lane;
use crate::world::World;

/// Carries a received burst to its departures. Afterwards every slot is free again and the burst is empty.
pub fn carry(burst: &mut Burst, world: &World, lane: &mut Lane) {
    decide(burst, world, lane);
    depart(burst, world, lane);
}

/// The first half: says of every packet where it goes and what it looks like then, or why not.
#[inline]
pub fn decide(burst: &mut Burst, world: &World, lane: &mut Lane) {
    lane.tracer.begin(burst, world, &lane.slots);
    glance::glance(burst, world, lane);
    parse::parse(burst, world, lane);
    lane.tracer.saw(Stage::Parse, burst, world);
    leaving::leaving(burst, world, lane);
    lane.tracer.saw(Stage::Leaving, burst, world);
    route::route(burst, world, lane);
    lane.tracer.saw(Stage::Route, burst, world);
    policy::policy(burst, world, lane);
    lane.tracer.saw(Stage::Policy, burst, world);
    rewrite::rewrite(burst, world, lane);
    lane.tracer.saw(Stage::Rewrite, burst, world);
}

/// The second half: settles every packet, and what the slow path answers. Another thread may do it, in the same world
/// and with the slots that the first half had: see [`crate::pipeline`].
#[inline]
pub fn depart(burst: &mut Burst, world: &World, lane: &mut Lane) {
    lane.take_answers(burst, world);
    lane.tracer.begin_answers(burst, world, &lane.slots);
    depart::depart(burst, world, lane);
    lane.tracer.end(burst, world, &lane.slots);
    burst.settle(&mut lane.slots);
}
