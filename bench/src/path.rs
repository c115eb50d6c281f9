//! The path alone: frames from pod to pod over ports in memory, on one thread or on several.
//!
//! Each pod sends one flow to the next pod: datagrams of 64 bytes, or super-frames of 64 kB. They are as a pod's kernel sends
//! them, with an unfinished UDP checksum, and every pod takes super-frames, so small ones that arrive together are joined. A
//! port costs a copy of the frame when it is received and a look at each of its cache lines when it is sent; no system call
//! is made. What is left is what a switch itself costs.
//!
//! | form | threads |
//! |---|---|
//! | ours | one: a turn receives, decides and departs |
//! | `two-stages` | receive and decide, depart |
//! | `three-stages` | receive, decide, depart: [`podswitch::pipeline`] |
//! | `two-switches` | two, each a switch of its own with pods of its own |
//!
//! The threads are bound to CPUs in turn, so where there are fewer CPUs than threads some share one; one that has nothing to
//! do yields. CPU time counts what threads spent waiting for each other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use packet::{Burst, Gso, Mac, Offload, Prefix};
use podswitch::lane::Lane;
use podswitch::limits::Limits;
use podswitch::path;
use podswitch::pipeline::pipeline;
use podswitch::port::{Abilities, Budget, Count, Link, MemoryPort, Port, PortCounters};
use podswitch::returns::{RETURNS, Returns};
use podswitch::world::{World, hop_of};
use ring::{Counter, Publisher};
use route_table::RouteTable;

use crate::cycles;
use crate::error::{Error, Result};
use crate::frame;
use crate::interrupt;
use crate::machine::{self, Machine};
use crate::report::{Better, Comparison, Report};

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many pods there are, at least two and at most 250.
    pub pods: u16,
    /// How often everything is measured.
    pub rounds: usize,
    /// How long each figure is counted.
    pub counted: Duration,
    /// Whether the other forms are measured too.
    pub pipeline: bool,
}

/// How the path is laid on threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OneThread,
    TwoStages,
    ThreeStages,
    TwoSwitches,
}

/// What the pods send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Small,
    Super,
}

/// One figure for each metric: millions of packets a second, and nanoseconds of CPU time for a packet.
type Figures = [f64; 2];

/// Runs the plan; `progress` advances once per figure.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    let forms = if plan.pipeline { &Form::ALL[..] } else { &Form::ALL[..1] };
    progress.set_length((plan.rounds * Load::ALL.len() * forms.len()) as u64);
    let mut results = Vec::new();
    for load in Load::ALL {
        let mut figures: Vec<[Vec<f64>; 2]> = vec![Default::default(); forms.len()];
        for _ in 0..plan.rounds {
            for (form, figures) in forms.iter().zip(&mut figures) {
                interrupt::check()?;
                progress.set_message(format!("{} {}", load.name(), form.name()));
                let measured = measure(*form, load, plan)?;
                figures.iter_mut().zip(measured).for_each(|(figures, figure)| figures.push(figure));
                progress.inc(1);
            }
        }
        let compare = |(at, metric): (usize, (&str, Better))| {
            let peers = forms.iter().zip(&figures).skip(1).map(|(form, figures)| (form.name(), &figures[at][..]));
            Comparison::new(metric, load.name().to_owned(), &figures[0][at], &peers.collect::<Vec<_>>())
        };
        results.extend(METRICS.into_iter().enumerate().filter_map(compare));
    }
    progress.set_message("cycles");
    results.extend(cycles::run(plan.rounds));
    Ok(Report::new("path", machine, plan.rounds, results))
}

impl Load {
    const ALL: [Load; 2] = [Load::Small, Load::Super];

    fn name(self) -> &'static str {
        match self {
            Load::Small => "64 B",
            Load::Super => "64 kB",
        }
    }

    /// Frames of a turn: of small ones a full burst, room for answers left out; of others what a batch has slots for.
    fn burst(self) -> u16 {
        match self {
            Load::Small => 224,
            Load::Super => 30,
        }
    }

    /// Bytes of a frame, and of the payload of each of its segments; none when it is no super-frame.
    fn lengths(self) -> (usize, Option<u16>) {
        match self {
            Load::Small => (64, None),
            Load::Super => (64_000, Some(1440)),
        }
    }
}

impl Form {
    const ALL: [Form; 4] = [Form::OneThread, Form::TwoStages, Form::ThreeStages, Form::TwoSwitches];

    fn name(self) -> &'static str {
        match self {
            Form::OneThread => "one-thread",
            Form::TwoStages => "two-stages",
            Form::ThreeStages => "three-stages",
            Form::TwoSwitches => "two-switches",
        }
    }

    /// The switches, and what their threads do turn by turn.
    fn set_up(self, load: Load, pods: u16) -> (Vec<Switch>, Vec<Turn>) {
        match self {
            Form::OneThread => {
                let mut switch = Switch::new(load, pods);
                let turn = switch.turn();
                (vec![switch], vec![turn])
            }
            Form::TwoSwitches => (0..2)
                .map(|_| Switch::new(load, pods))
                .map(|mut switch| {
                    let turn = switch.turn();
                    (switch, turn)
                })
                .unzip(),
            Form::TwoStages => {
                let mut switch = Switch::new(load, pods);
                let [mut receive, mut decide, depart] = switch.stages();
                (vec![switch], vec![Box::new(move || receive() | decide()), depart])
            }
            Form::ThreeStages => {
                let mut switch = Switch::new(load, pods);
                let stages = switch.stages();
                (vec![switch], stages.into())
            }
        }
    }
}

/// A thread's work; false when there was none.
type Turn = Box<dyn FnMut() -> bool + Send>;

fn measure(form: Form, load: Load, plan: &Plan) -> Result<Figures> {
    let (switches, turns) = form.set_up(load, plan.pods);
    let (cpus, stop) = (machine::available_cpus()?, Counter::new());
    let sent = || switches.iter().map(Switch::sent).sum::<u64>();
    thread::scope(|scope| {
        let threads: Vec<_> = turns
            .into_iter()
            .zip(cpus.iter().cycle())
            .map(|(turn, &cpu)| {
                scope.spawn({
                    let stop = &stop;
                    move || work(turn, cpu, stop)
                })
            })
            .collect();
        thread::sleep(WARM_UP);
        let read = || Result::Ok((Instant::now(), sent(), machine::cpu_seconds_of(std::process::id())?));
        let before = read();
        thread::sleep(plan.counted);
        // Whoever shares the CPUs may have had all of that time.
        while before.as_ref().is_ok_and(|&(began, then, _)| sent() == then && began.elapsed() < PATIENCE) {
            thread::sleep(WARM_UP);
        }
        let after = read();
        stop.set(1);
        threads.into_iter().try_for_each(|thread| thread.join().expect("a stage does not panic"))?;
        let ((began, sent, cpu), (ended, sent_then, cpu_then)) = (before?, after?);
        let packets = (sent_then - sent) as f64;
        if packets == 0.0 {
            return Err(Error::NothingArrived { what: "a packet over ports in memory".to_owned(), waited: PATIENCE });
        }
        Ok([packets / (ended - began).as_secs_f64() / 1e6, (cpu_then - cpu) * 1e9 / packets])
    })
}

/// Turns on one CPU until told to stop.
fn work(mut turn: Turn, cpu: usize, stop: &Counter) -> Result<()> {
    machine::pin(Some(cpu))?;
    let mut empty = 0;
    while stop.get() == 0 {
        empty = if turn() { 0 } else { empty + 1 };
        if empty > EMPTY_TURNS_MAX {
            thread::yield_now();
        } else if empty > 0 {
            std::hint::spin_loop();
        }
    }
    Ok(())
}

/// A switch whose ports are in memory: the host port, which is silent, and the pods'.
struct Switch {
    worlds: Publisher<World>,
    returns: Arc<Returns>,
    load: Load,
    pods: u16,
    /// Written no more, but read.
    _routes: RouteTable,
}

impl Switch {
    fn new(load: Load, pods: u16) -> Switch {
        let mut routes = RouteTable::new();
        let mut world = World::new(port(0, load, pods), routes.reader());
        for number in 1..=pods {
            world.add(port(number, load, pods));
            let address = Prefix::host(IpAddr::V4(address(number)));
            routes.insert(address, hop_of(number)).expect("the table has room for some pods");
        }
        Switch { worlds: Publisher::new(world), returns: Arc::new(Returns::new(RETURNS)), load, pods, _routes: routes }
    }

    /// What each pod gives in a turn.
    fn budget(&self) -> Budget {
        Budget { frames: (self.load.burst() / self.pods).clamp(1, 64).into(), bytes: usize::MAX }
    }

    fn turn(&mut self) -> Turn {
        let (mut worlds, (mut lane, _)) = (self.worlds.reader(), Lane::new(0, Arc::clone(&self.returns)));
        let (mut burst, budget) = (Burst::new(), self.budget());
        Box::new(move || {
            let world = worlds.turn();
            receive((&mut burst, world, &mut lane), budget);
            path::carry(&mut burst, world, &mut lane);
            true
        })
    }

    fn stages(&mut self) -> [Turn; 3] {
        let budget = self.budget();
        let (stages, _) = pipeline(Arc::clone(&self.returns), || self.worlds.reader());
        let (mut receiving, mut deciding, mut departing) = stages;
        [
            Box::new(move || receiving.turn(|burst, world, lane| receive((burst, world, lane), budget))),
            Box::new(move || deciding.turn(0)),
            Box::new(move || departing.turn()),
        ]
    }

    fn sent(&self) -> u64 {
        self.worlds.current().ports.iter().flatten().map(|port| port.counters.get(Count::Sent)).sum()
    }
}

fn receive((burst, world, lane): (&mut Burst, &World, &mut Lane), budget: Budget) {
    for port in world.ports.iter().flatten().skip(1) {
        port.receive(0, burst, (world, lane), budget);
    }
}

fn port(number: u16, load: Load, pods: u16) -> Port {
    let (header, frame) = datagram((number, number % pods + 1), load);
    Port {
        number,
        name: format!("port-{number}"),
        host: number == 0,
        mac: mac(number),
        gateway: Mac::GATEWAY,
        mtu: 1500,
        sources_v4: vec![address(number).into()],
        sources_v6: vec![],
        strict_mac: false,
        abilities: Abilities::ALL,
        link: Link::Memory(MemoryPort::endless(&header.bytes(), &frame)),
        steering: None,
        limits: Limits::default(),
        counters: PortCounters::new(2),
    }
}

/// What a pod sends: a frame of the load's kind, and what comes beside it.
fn datagram((from, to): (u16, u16), load: Load) -> (Offload, Vec<u8>) {
    let (length, segment) = load.lengths();
    let ends = [(from, 4000), (to, 53)].map(|(pod, port)| SocketAddr::from((address(pod), port)));
    let (offload, frame) = frame::datagram(mac(from), ends, length);
    let gso = if segment.is_some() { Gso::Udp } else { Gso::None };
    (Offload { gso, gso_size: segment.unwrap_or(0), header_len: HEADERS_LEN, ..offload }, frame)
}

fn mac(port: u16) -> Mac {
    Mac([2, 0, 0, 0, 0, port as u8])
}

fn address(port: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, port as u8)
}

const METRICS: [(&str, Better); 2] = [("mpps", Better::Higher), ("cpu_ns_per_packet", Better::Lower)];
const WARM_UP: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(10);
/// So often a thread looks for work before it lets another run.
const EMPTY_TURNS_MAX: u32 = 100;
const HEADERS_LEN: u16 = 42;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_carries_every_packet_and_joins_small_ones() {
        for (form, (load, frames, joined)) in
            Form::ALL.into_iter().flat_map(|form| [(Load::Small, 44, 20), (Load::Super, 6, 0)].map(|load| (form, load)))
        {
            let (switches, mut turns) = form.set_up(load, 5);
            for _ in 0..20 {
                turns.iter_mut().for_each(|turn| _ = turn());
            }
            for switch in switches {
                let world = switch.worlds.current();
                let count = |number, what| world.port(number).unwrap().counters.get(what);
                for number in 1..=5 {
                    assert_eq!(count(number, Count::Received), 20 * frames, "{load:?}, {form:?}");
                    assert_eq!((count(number, Count::Sent), count(number, Count::Joined)), (20 * frames, joined));
                }
                assert_eq!(switch.sent(), 20 * 5 * frames);
            }
        }
    }

    #[test]
    fn without_a_pipeline_there_is_nobody_to_compare_with() {
        let machine = Machine::describe(false).unwrap();
        let plan = |pipeline| Plan { pods: 2, rounds: 1, counted: Duration::from_millis(50), pipeline };
        for (pipeline, peers) in [(false, 0), (true, 3)] {
            let report = run(&plan(pipeline), machine.clone(), &ProgressBar::hidden()).unwrap();
            let (cycles, results): (Vec<_>, Vec<_>) =
                report.results.iter().partition(|result| result.metric.ends_with("_cycles"));
            assert_eq!(results.len(), METRICS.len() * Load::ALL.len());
            assert!(results.iter().all(|result| result.peers.len() == peers));
            assert!(!cycles.is_empty() && cycles.iter().all(|result| result.ours.median > 0.0));
            let rates: Vec<_> = report.results.iter().filter(|result| result.metric == "mpps").collect();
            assert!(rates.len() == Load::ALL.len() && rates.iter().all(|rate| rate.ours.median > 0.0));
        }
    }
}
