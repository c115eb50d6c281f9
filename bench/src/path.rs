//! The path alone: frames of 64 bytes from pod to pod over ports in memory, on one thread or on several.
//!
//! Each pod sends one flow to the next pod. Its frames are as a pod's kernel sends them, with an unfinished UDP checksum, and
//! every pod takes super-frames, so what arrives together is joined. A port costs a copy of the frame when it is received and
//! a look at each of its cache lines when it is sent; no system call is made. What is left is what a switch itself costs.
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

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use packet::checksum::{self, Sum};
use packet::view::protocol::UDP;
use packet::{Burst, Gso, Mac, Offload, Prefix, UDP_CSUM_OFFSET};
use podswitch::lane::Lane;
use podswitch::path;
use podswitch::pipeline::{Receiving, pipeline};
use podswitch::port::{Abilities, Budget, Count, Link, MemoryPort, Port, PortCounters};
use podswitch::returns::{RETURNS, Returns};
use podswitch::world::{World, hop_of};
use ring::Publisher;
use route_table::RouteTable;

use crate::error::{Error, Result};
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

/// One figure for each metric: millions of packets a second, and nanoseconds of CPU time for a packet.
type Figures = [f64; 2];

/// Runs the plan; `progress` advances once per figure.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    let forms = if plan.pipeline { &Form::ALL[..] } else { &Form::ALL[..1] };
    progress.set_length((plan.rounds * forms.len()) as u64);
    let mut figures: Vec<[Vec<f64>; 2]> = vec![Default::default(); forms.len()];
    for _ in 0..plan.rounds {
        for (form, figures) in forms.iter().zip(&mut figures) {
            interrupt::check()?;
            progress.set_message(form.name());
            let measured = measure(*form, plan)?;
            figures.iter_mut().zip(measured).for_each(|(figures, figure)| figures.push(figure));
            progress.inc(1);
        }
    }
    let compare = |(at, metric): (usize, (&str, Better))| {
        let peers = forms.iter().zip(&figures).skip(1).map(|(form, figures)| (form.name(), &figures[at][..]));
        Comparison::new(metric, format!("{} pods", plan.pods), &figures[0][at], &peers.collect::<Vec<_>>())
    };
    let results = METRICS.into_iter().enumerate().filter_map(compare).collect();
    Ok(Report { bench: "path", machine, rounds: plan.rounds, results })
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
    fn set_up(self, pods: u16) -> (Vec<Switch>, Vec<Turn>) {
        match self {
            Form::OneThread => {
                let mut switch = Switch::new(pods);
                let turn = switch.turn();
                (vec![switch], vec![turn])
            }
            Form::TwoSwitches => (0..2)
                .map(|_| Switch::new(pods))
                .map(|mut switch| {
                    let turn = switch.turn();
                    (switch, turn)
                })
                .unzip(),
            Form::TwoStages => {
                let mut switch = Switch::new(pods);
                let [mut receive, mut decide, depart] = switch.stages();
                (vec![switch], vec![Box::new(move || receive() | decide()), depart])
            }
            Form::ThreeStages => {
                let mut switch = Switch::new(pods);
                let stages = switch.stages();
                (vec![switch], stages.into())
            }
        }
    }
}

/// A thread's work; false when there was none.
type Turn = Box<dyn FnMut() -> bool + Send>;

fn measure(form: Form, plan: &Plan) -> Result<Figures> {
    let (switches, turns) = form.set_up(plan.pods);
    let (cpus, stop) = (machine::available_cpus()?, AtomicBool::new(false));
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
        let after = read();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().try_for_each(|thread| thread.join().expect("a stage does not panic"))?;
        let ((began, sent, cpu), (ended, sent_then, cpu_then)) = (before?, after?);
        let packets = (sent_then - sent) as f64;
        if packets == 0.0 {
            return Err(Error::NothingArrived { what: "any packet".to_owned(), waited: plan.counted });
        }
        Ok([packets / (ended - began).as_secs_f64() / 1e6, (cpu_then - cpu) * 1e9 / packets])
    })
}

/// Turns on one CPU until told to stop.
fn work(mut turn: Turn, cpu: usize, stop: &AtomicBool) -> Result<()> {
    machine::pin(Some(cpu))?;
    let mut empty = 0;
    while !stop.load(Ordering::Relaxed) {
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
    pods: u16,
    /// Written no more, but read.
    _routes: RouteTable,
}

impl Switch {
    fn new(pods: u16) -> Switch {
        let mut routes = RouteTable::new();
        let mut world = World::new(port(0, pods), routes.reader());
        for number in 1..=pods {
            world.add(port(number, pods));
            let address = Prefix::host(IpAddr::V4(address(number)));
            routes.insert(address, hop_of(number)).expect("the table has room for some pods");
        }
        Switch { worlds: Publisher::new(world), returns: Arc::new(Returns::new(RETURNS)), pods, _routes: routes }
    }

    /// What each pod gives in a turn, so that all together are a burst with room for answers.
    fn budget(&self) -> Budget {
        Budget { frames: (BURST_WANTED / usize::from(self.pods)).clamp(1, 64), bytes: usize::MAX }
    }

    fn turn(&mut self) -> Turn {
        let (mut worlds, (mut lane, _)) = (self.worlds.reader(), Lane::new(Arc::clone(&self.returns)));
        let (mut burst, pods, budget) = (Burst::new(), self.pods, self.budget());
        Box::new(move || {
            let world = worlds.turn();
            for port in (1..=pods).filter_map(|number| world.port(number)) {
                port.receive(&mut burst, &mut lane.slots, &mut lane.spare, budget);
            }
            path::carry(&mut burst, world, &mut lane);
            true
        })
    }

    fn stages(&mut self) -> [Turn; 3] {
        let (pods, budget) = (self.pods, self.budget());
        let (stages, _) = pipeline(Arc::clone(&self.returns), || self.worlds.reader());
        let (mut receiving, mut deciding, mut departing) = stages;
        [
            Box::new(move || receive(&mut receiving, pods, budget)),
            Box::new(move || deciding.turn(0)),
            Box::new(move || departing.turn()),
        ]
    }

    fn sent(&self) -> u64 {
        self.worlds.current().ports.iter().flatten().map(|port| port.counters.get(Count::Sent)).sum()
    }
}

fn receive(receiving: &mut Receiving, pods: u16, budget: Budget) -> bool {
    let Some(batch) = receiving.begin() else { return false };
    (1..=pods).for_each(|number| _ = batch.receive(number, budget));
    receiving.pass()
}

fn port(number: u16, pods: u16) -> Port {
    let (header, frame) = datagram(number, number % pods + 1);
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
        counters: PortCounters::default(),
    }
}

/// 64 bytes from one pod to another, with its checksum left to whoever must have it, as a pod's kernel hands it over.
fn datagram(from: u16, to: u16) -> (Offload, [u8; FRAME_LEN]) {
    let mut frame = [0; FRAME_LEN];
    frame[..6].copy_from_slice(&Mac::GATEWAY.0);
    frame[6..12].copy_from_slice(&mac(from).0);
    frame[12..14].copy_from_slice(&[8, 0]);
    let (udp_len, total_len) = ((FRAME_LEN - UDP_AT) as u16, (FRAME_LEN - IP_AT) as u16);
    // Version and length, don't fragment, TTL, UDP.
    let (ip, datagram) = frame[IP_AT..].split_at_mut(UDP_AT - IP_AT);
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&total_len.to_be_bytes());
    (ip[6], ip[8], ip[9]) = (0x40, 64, UDP);
    ip[12..16].copy_from_slice(&address(from).octets());
    ip[16..20].copy_from_slice(&address(to).octets());
    let sum = Sum::of(ip).finish();
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    datagram[..2].copy_from_slice(&4000_u16.to_be_bytes());
    datagram[2..4].copy_from_slice(&53_u16.to_be_bytes());
    datagram[4..6].copy_from_slice(&udp_len.to_be_bytes());
    let unfinished = checksum::pseudo_v4(address(from), address(to), UDP, udp_len).fold();
    datagram[6..8].copy_from_slice(&unfinished.to_be_bytes());
    let (csum_start, csum_offset) = (UDP_AT as u16, UDP_CSUM_OFFSET);
    (Offload { needs_csum: true, gso: Gso::None, csum_start, csum_offset, ..Offload::default() }, frame)
}

fn mac(port: u16) -> Mac {
    Mac([2, 0, 0, 0, 0, port as u8])
}

fn address(port: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, port as u8)
}

const METRICS: [(&str, Better); 2] = [("mpps", Better::Higher), ("cpu_ns_per_packet", Better::Lower)];
const WARM_UP: Duration = Duration::from_millis(50);
/// Rows of a full burst, room for answers left out.
const BURST_WANTED: usize = 224;
/// So often a thread looks for work before it lets another run.
const EMPTY_TURNS_MAX: u32 = 100;
const FRAME_LEN: usize = 64;
const IP_AT: usize = 14;
const UDP_AT: usize = 34;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_carries_every_packet_and_joins() {
        for form in Form::ALL {
            let (switches, mut turns) = form.set_up(5);
            for _ in 0..20 {
                turns.iter_mut().for_each(|turn| _ = turn());
            }
            for switch in switches {
                let world = switch.worlds.current();
                let count = |number, what| world.port(number).unwrap().counters.get(what);
                for number in 1..=5 {
                    assert_eq!(count(number, Count::Received), 20 * 44, "{}", form.name());
                    assert_eq!((count(number, Count::Sent), count(number, Count::Joined)), (20 * 44, 20));
                }
                assert_eq!(switch.sent(), 20 * 220);
            }
        }
    }

    #[test]
    fn without_a_pipeline_there_is_nobody_to_compare_with() {
        let machine = Machine::describe(false).unwrap();
        let plan = |pipeline| Plan { pods: 2, rounds: 1, counted: Duration::from_millis(50), pipeline };
        for (pipeline, peers) in [(false, 0), (true, 3)] {
            let report = run(&plan(pipeline), machine.clone(), &ProgressBar::hidden()).unwrap();
            assert_eq!(report.results.len(), METRICS.len());
            assert!(report.results.iter().all(|result| result.peers.len() == peers && result.ours.median > 0.0));
        }
    }
}
