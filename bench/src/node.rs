//! What a switch costs a node that carries many pods, and what it spares them.
//!
//! | metric | question |
//! |---|---|
//! | `restart_ms` | killed with all pods attached: from the start of the new process to the first packet |
//! | `idle_cpu_percent`, `rss_mb` | what does it take while nobody speaks; how much memory, before and after a load |
//! | `compute_rate` | every CPU filled with pods' work: what is left of it beside the idle switch |
//! | `filled_cpu_s` | the same under traffic: CPU time of the switch, beside that of its `sleep` mode |
//! | `flooded_rtt_p99_us` | a pod floods: what does another's round trip pay |
//!
//! A peer is here not another switch but the state of things without what is asked about.

use std::fmt;
use std::hint::black_box;
use std::net::UdpSocket;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::ProgressBar;

use crate::error::{Error, Result};
use crate::interrupt;
use crate::load::{Case, Family, PATIENCE, Pair, Window, round_trip, tcp, udp};
use crate::machine::{self, Machine};
use crate::report::{Better, Comparison, Report};
use crate::topology::switch::Switch;
use crate::topology::{Pod, Program};

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many pods are attached; at least [`PODS_MIN`].
    pub pods: u16,
    /// What to report.
    pub metrics: Vec<Metric>,
    /// How often everything is measured.
    pub rounds: usize,
    /// How long each load is counted.
    pub counted: Duration,
}

/// A figure of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Metric {
    /// From the start of a new process to the first packet it carries.
    RestartMs,
    /// CPU time while nobody speaks, in hundredths of a core.
    IdleCpuPercent,
    /// Resident memory, before and after a load.
    RssMb,
    /// Work done by computing pods beside an idle switch.
    ComputeRate,
    /// CPU time of the switch per second, while pods fill every CPU and some speak.
    FilledCpuS,
    /// 99th percentile of the round trip while another pod floods.
    #[value(name = "flooded_rtt_p99_us")]
    FloodedRttP99Us,
}

impl fmt::Display for Metric {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.to_possible_value().expect("no metric is hidden").get_name())
    }
}

/// Runs the plan; `progress` advances once per measurement.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    progress.set_length((plan.metrics.len() * plan.rounds) as u64);
    progress.set_message("attaching pods");
    let mut node = Node::new(plan.pods, "")?;
    let mut results = Vec::new();
    for &metric in &plan.metrics {
        progress.set_message(metric.to_string());
        let figures = match metric {
            Metric::RestartMs => node.restart(plan, progress)?,
            Metric::IdleCpuPercent => node.idle(plan, progress)?,
            Metric::RssMb => node.memory(plan, progress)?,
            Metric::ComputeRate => node.compute(plan, progress)?,
            Metric::FilledCpuS => node.filled(plan, progress)?,
            Metric::FloodedRttP99Us => node.flooded(plan, progress)?,
        };
        results.extend(figures.into_iter().filter_map(|figures| figures.compare(metric)));
    }
    Ok(Report::new("node", machine, plan.rounds, results))
}

/// The figures of one case, round by round.
struct Figures {
    case: String,
    better: Better,
    ours: Vec<f64>,
    peers: Vec<(&'static str, Vec<f64>)>,
}

impl Figures {
    fn lower(case: impl Into<String>) -> Figures {
        Figures { case: case.into(), better: Better::Lower, ours: Vec::new(), peers: Vec::new() }
    }

    fn beside(self, peers: &[&'static str]) -> Figures {
        Figures { peers: peers.iter().map(|&peer| (peer, Vec::new())).collect(), ..self }
    }

    fn compare(&self, metric: Metric) -> Option<Comparison> {
        let peers: Vec<(&str, &[f64])> = self.peers.iter().map(|(name, figures)| (*name, &figures[..])).collect();
        Comparison::new((&metric.to_string(), self.better), self.case.clone(), &self.ours, &peers)
    }
}

/// A switch and its pods.
struct Node {
    // Dropped before the pods: a switch lets go of its devices, then their namespaces go.
    switch: Switch,
    pods: Vec<Pod>,
}

impl Node {
    fn new(pods: u16, configuration: &str) -> Result<Node> {
        machine::allow_many_open_files()?;
        let program = Program { configuration: configuration.to_owned(), ..Program::default() };
        let switch = Switch::start(&program)?;
        let pods = (0..pods).map(|number| Pod::new(number + 2)).collect::<Result<Vec<_>>>()?;
        for pod in &pods {
            interrupt::check()?;
            switch.attach(pod)?;
        }
        Ok(Node { switch, pods })
    }

    fn pair(&self, from: usize) -> Pair<'_> {
        Pair { from: &self.pods[from], to: &self.pods[from + 1], family: Family::V4, case: None, urgent: false }
    }

    fn restart(&mut self, plan: &Plan, progress: &ProgressBar) -> Result<Vec<Figures>> {
        let mut figures = Figures::lower(format!("{} pods", plan.pods));
        for _ in 0..plan.rounds {
            let to = self.pods[1].within("open a UDP socket", || UdpSocket::bind("0.0.0.0:0"))?;
            let address = to.local_addr().map_err(Error::system("read a port"))?;
            let target = (self.pods[1].address(Family::V4), address.port());
            let from = self.pods[0].within("open a UDP socket", || UdpSocket::bind("0.0.0.0:0"))?;
            to.set_read_timeout(Some(PATIENCE)).map_err(Error::system("bound a wait"))?;
            let began = thread::scope(|scope| {
                let _steady = Steady::new(scope, SHORTEST, move || drop(from.send_to(b"?", target)));
                await_datagram(&to)?;
                let began = self.switch.restart()?;
                drain(&to);
                await_datagram(&to)?;
                Ok::<_, Error>(began.elapsed())
            })?;
            figures.ours.push(began.as_secs_f64() * 1e3);
            self.switch.wait_until_ready()?;
            progress.inc(1);
        }
        Ok(vec![figures])
    }

    fn idle(&mut self, plan: &Plan, progress: &ProgressBar) -> Result<Vec<Figures>> {
        let mut figures = Figures::lower(format!("{} pods", plan.pods));
        for _ in 0..plan.rounds {
            // Pods that were just attached still speak of multicast for some seconds.
            interrupt::sleep_until(Instant::now() + SETTLE)?;
            let before = machine::cpu_seconds_of(self.switch.pid())?;
            interrupt::sleep_until(Instant::now() + plan.counted)?;
            let used = machine::cpu_seconds_of(self.switch.pid())? - before;
            figures.ours.push(100.0 * used / plan.counted.as_secs_f64());
            progress.inc(1);
        }
        Ok(vec![figures])
    }

    fn memory(&mut self, plan: &Plan, progress: &ProgressBar) -> Result<Vec<Figures>> {
        let mut before = Figures::lower("before a load");
        let mut after = Figures::lower("after a load");
        for _ in 0..plan.rounds {
            before.ours.push(machine::resident_megabytes_of(self.switch.pid())?);
            let window = Window::of(plan.counted, Duration::ZERO);
            tcp::stream(self.pair(0), 4, window)?;
            udp::flood(self.pair(0), 1000, window)?;
            after.ours.push(machine::resident_megabytes_of(self.switch.pid())?);
            progress.inc(1);
        }
        Ok(vec![before, after])
    }

    /// The same work without a switch is done while ours is stopped: it keeps its memory and gets no CPU.
    fn compute(&mut self, plan: &Plan, progress: &ProgressBar) -> Result<Vec<Figures>> {
        let mut figures = Figures { better: Better::Higher, ..Figures::lower("one a CPU") }.beside(&["no-switch"]);
        for _ in 0..plan.rounds {
            figures.ours.push(work(plan.counted)?);
            self.switch.pause(true)?;
            let alone = work(plan.counted);
            self.switch.pause(false)?;
            figures.peers[0].1.push(alone?);
            progress.inc(1);
        }
        Ok(vec![figures])
    }

    fn filled(&mut self, plan: &Plan, progress: &ProgressBar) -> Result<Vec<Figures>> {
        let sleeping = Node::new(PODS_MIN, "poll = \"sleep\"\n")?;
        let mut all = RATES.map(|rate| Figures::lower(format!("{rate} packets/s")).beside(&["sleep-mode"]));
        for _ in 0..plan.rounds {
            for (figures, rate) in all.iter_mut().zip(RATES) {
                figures.ours.push(self.filled_at(rate, plan.counted)?);
                figures.peers[0].1.push(sleeping.filled_at(rate, plan.counted)?);
            }
            progress.inc(1);
        }
        Ok(all.into())
    }

    /// CPU seconds of the switch per second, while one pod sends another so many packets and work fills every CPU.
    fn filled_at(&self, rate: u32, counted: Duration) -> Result<f64> {
        let to = self.pods[1].within("open a UDP socket", || UdpSocket::bind("0.0.0.0:0"))?;
        let target = (self.pods[1].address(Family::V4), to.local_addr().map_err(Error::system("read a port"))?.port());
        let from = self.pods[0].within("open a UDP socket", || UdpSocket::bind("0.0.0.0:0"))?;
        thread::scope(|scope| {
            let _steady = Steady::new(scope, Duration::from_secs(1) / rate, move || drop(from.send_to(b"?", target)));
            let working = scope.spawn(move || work(NOTICED + counted));
            interrupt::sleep_until(Instant::now() + NOTICED)?;
            let before = machine::cpu_seconds_of(self.switch.pid())?;
            let began = Instant::now();
            working.join().expect("work does not panic")?;
            Ok((machine::cpu_seconds_of(self.switch.pid())? - before) / began.elapsed().as_secs_f64())
        })
    }

    /// Beside the quiet node, and beside a flood that stays within the flooder's own namespace: that one takes as much CPU
    /// time, and nothing from the switch. Who asks and who answers run before the flooder, on its own CPU.
    fn flooded(&mut self, plan: &Plan, progress: &ProgressBar) -> Result<Vec<Figures>> {
        let first = *machine::available_cpus()?.first().expect("this runs on a CPU");
        let case = Some(Case { sender: first, receiver: first });
        let mut figures = Figures::lower(format!("{first}|{first}")).beside(&["quiet", "flood-elsewhere"]);
        let window = Window::of(plan.counted, Duration::from_millis(200));
        let longer = Window::of(plan.counted + Duration::from_millis(300), Duration::ZERO);
        let asking = Pair { case, urgent: true, ..self.pair(0) };
        let p99 = |flood: Option<Pair<'_>>| {
            thread::scope(|scope| {
                let flooding = flood.map(|pair| scope.spawn(move || udp::flood(pair, 1, longer)));
                let measured = round_trip::measure(asking, window)?;
                if let Some(flooding) = flooding {
                    flooding.join().expect("a flood does not panic")?;
                }
                Ok::<_, Error>(measured.p99_us)
            })
        };
        let elsewhere = Pair { to: &self.pods[2], ..self.pair(2) };
        for _ in 0..plan.rounds {
            figures.ours.push(p99(Some(self.pair(2)))?);
            figures.peers[0].1.push(p99(None)?);
            figures.peers[1].1.push(p99(Some(elsewhere))?);
            progress.inc(1);
        }
        Ok(vec![figures])
    }
}

/// A thread that does something over and over, in fixed steps of time, as long as this lives.
struct Steady {
    _stop: Sender<()>,
}

impl Steady {
    fn new<'a>(scope: &'a thread::Scope<'a, '_>, step: Duration, mut act: impl FnMut() + Send + 'a) -> Steady {
        let (stop, stopped) = channel::<()>();
        scope.spawn(move || {
            let mut next = Instant::now();
            while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                act();
                next += step;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        Steady { _stop: stop }
    }
}

/// Fills every CPU with work; how much was done per second, in a unit of its own.
fn work(counted: Duration) -> Result<f64> {
    let end = Instant::now() + counted;
    let done: u64 = thread::scope(|scope| {
        let worker = |cpu| {
            scope.spawn(move || {
                machine::pin(Some(cpu))?;
                let (mut rounds, mut value) = (0_u64, 1_u64);
                while Instant::now() < end {
                    for _ in 0..10_000 {
                        value = black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                    }
                    rounds += 1;
                }
                Ok::<_, Error>(rounds)
            })
        };
        let workers: Vec<_> = machine::available_cpus()?.into_iter().map(worker).collect();
        workers.into_iter().map(|worker| worker.join().expect("work does not panic")).sum::<Result<u64>>()
    })?;
    interrupt::check()?;
    Ok(done as f64 / counted.as_secs_f64())
}

fn await_datagram(socket: &UdpSocket) -> Result<()> {
    socket.recv(&mut [0; 8]).map(drop).map_err(|_| {
        let what = "a datagram between two pods".to_owned();
        Error::NothingArrived { what, waited: PATIENCE }
    })
}

/// What the old process had delivered.
fn drain(socket: &UdpSocket) {
    let _ = socket.set_nonblocking(true);
    while socket.recv(&mut [0; 8]).is_ok() {}
    let _ = socket.set_nonblocking(false);
}

/// Pods that the loads need.
pub const PODS_MIN: u16 = 4;
/// Steps of the probe that looks for the first packet.
const SHORTEST: Duration = Duration::from_millis(1);
/// Time in which the switch notices that it is no longer alone.
const NOTICED: Duration = Duration::from_secs(1);
const SETTLE: Duration = Duration::from_secs(5);
/// Packets per second while the CPUs are filled.
const RATES: [u32; 3] = [1_000, 5_000, 20_000];
