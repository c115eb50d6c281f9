//! What it costs to attach pods: our CNI plugin beside the reference ones.
//!
//! A runtime starts a plugin for each pod and waits for it, for one pod or for many at once; so does this. A figure is taken
//! from the start of the plugin's process to its end. Namespaces are made before and removed after. Each contestant has a
//! node of its own; rounds go in turn.
//!
//! | contestant | what it is |
//! |---|---|
//! | ours | `podswitch-cni`, addresses of both families from the switch |
//! | `bridge` | bridge and host-local of containernetworking-plugins, IPv4 |
//! | `ptp` | ptp and host-local, IPv4 |

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use hdrhistogram::Histogram;
use host::{Namespace, TemporaryNamespace};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::error::{Error, Result};
use crate::interrupt;
use crate::machine::Machine;
use crate::report::{Better, Comparison, Report};
use crate::topology::switch::Switch;
use crate::topology::{Program, program};

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many pods come and go in each figure.
    pub pods: u16,
    /// How many at once; each number is a case.
    pub at_once: Vec<u16>,
    /// How often everything is measured.
    pub rounds: usize,
}

/// A plugin, its configuration, and the node it works on.
struct Contestant {
    name: &'static str,
    node: Node,
    plugin: std::path::PathBuf,
    configuration: Value,
}

enum Node {
    Ours(Box<Switch>),
    Bare(
        TemporaryNamespace,
        #[allow(dead_code, reason = "the addresses of host-local lie there until it is dropped")] TempDir,
    ),
}

/// What one verb took, in the order of [`METRICS`].
type Figures = [f64; 3];

/// Runs the plan; `progress` advances once per contestant and case.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    let contestants = [ours()?, reference("bridge")?, reference("ptp")?];
    progress.set_length((plan.rounds * plan.at_once.len() * contestants.len()) as u64);
    let mut results = Vec::new();
    for &at_once in &plan.at_once {
        let mut rounds: Vec<[Vec<f64>; 6]> = vec![Default::default(); contestants.len()];
        for _ in 0..plan.rounds {
            for (contestant, rounds) in contestants.iter().zip(&mut rounds) {
                interrupt::check()?;
                progress.set_message(format!("{} {at_once} at once", contestant.name));
                let figures = contestant.come_and_go(plan.pods, at_once).map_err(Error::of(contestant.name))?;
                rounds.iter_mut().zip(figures).for_each(|(all, figure)| all.push(figure));
                progress.inc(1);
            }
        }
        let compare = |(at, metric): (usize, (&str, Better))| {
            let peers = contestants.iter().zip(&rounds).skip(1).map(|(peer, figures)| (peer.name, &figures[at][..]));
            Comparison::new(metric, format!("{at_once} at once"), &rounds[0][at], &peers.collect::<Vec<_>>())
        };
        results.extend(METRICS.into_iter().enumerate().filter_map(compare));
    }
    Ok(Report::new("cni", machine, plan.rounds, results))
}

fn ours() -> Result<Contestant> {
    let switch = Switch::start(&Program::default())?;
    let configuration =
        json!({ "cniVersion": VERSION, "name": "bench", "type": "podswitch-cni", "socket": switch.socket() });
    let plugin = program("podswitch-cni")?;
    Ok(Contestant { name: "ours", node: Node::Ours(Box::new(switch)), plugin, configuration })
}

fn reference(plugin: &'static str) -> Result<Contestant> {
    let folder = TempDir::with_prefix("podswitch-bench-cni-").map_err(Error::system("make a scratch folder"))?;
    let node = TemporaryNamespace::new("bench-cni")?;
    let ipam = json!({
        "type": "host-local", "dataDir": folder.path(),
        "ranges": [[{ "subnet": "10.245.0.0/16" }]], "routes": [{ "dst": "0.0.0.0/0" }],
    });
    let configuration = json!({
        "cniVersion": VERSION, "name": "bench", "type": plugin, "bridge": "bench0", "isGateway": true, "ipam": ipam,
    });
    Ok(Contestant {
        name: plugin,
        node: Node::Bare(node, folder),
        plugin: Path::new(REFERENCE).join(plugin),
        configuration,
    })
}

impl Contestant {
    fn node(&self) -> &Namespace {
        match &self.node {
            Node::Ours(switch) => switch.node(),
            Node::Bare(node, _) => node,
        }
    }

    /// Attaches so many pods and takes them off again: the figures of ADD, then those of DEL.
    fn come_and_go(&self, pods: u16, at_once: u16) -> Result<[f64; 6]> {
        let made = (0..pods).map(|_| TemporaryNamespace::new("bench-pod"));
        let pods: Vec<TemporaryNamespace> = made.collect::<std::result::Result<_, _>>()?;
        let [a, b, c] = self.all("ADD", &pods, at_once)?;
        let [d, e, f] = self.all("DEL", &pods, at_once)?;
        Ok([a, b, c, d, e, f])
    }

    fn all(&self, verb: &str, pods: &[TemporaryNamespace], at_once: u16) -> Result<Figures> {
        let (waiting, input) = (Mutex::new(pods.iter()), self.configuration.to_string());
        let began = Instant::now();
        let one = || {
            let mut took = Vec::new();
            // The guard goes with the statement: others must not wait for the call.
            while let Some(pod) = next(&waiting) {
                took.push(self.call(verb, pod, &input)?);
            }
            Ok(took)
        };
        let took = thread::scope(|scope| {
            let started: Vec<_> = (0..at_once).map(|_| scope.spawn(|| self.node().run(one)?)).collect();
            let ended = started.into_iter().map(|thread| thread.join().expect("a panic has been told"));
            ended.collect::<Result<Vec<Vec<u64>>>>()
        })?;
        let rate = pods.len() as f64 / began.elapsed().as_secs_f64();
        let mut histogram = Histogram::<u64>::new_with_max(LONGEST_MICROSECONDS, 3).expect("3 digits are legal");
        took.into_iter().flatten().for_each(|microseconds| histogram.saturating_record(microseconds));
        let milliseconds = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Ok([milliseconds(0.5), milliseconds(0.99), rate])
    }

    /// Calls the plugin in the node, where this thread is; how many microseconds that took.
    fn call(&self, verb: &str, pod: &TemporaryNamespace, input: &str) -> Result<u64> {
        interrupt::check()?;
        let began = Instant::now();
        let mut command = Command::new(&self.plugin);
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", pod.name()).env("CNI_NETNS", pod.path());
        command.env("CNI_IFNAME", "eth0").env("CNI_PATH", REFERENCE);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let failed = || format!("run {}", self.plugin.display());
        let mut child = command.spawn().map_err(Error::system(failed()))?;
        let written = child.stdin.take().expect("its input was asked for").write_all(input.as_bytes());
        let output = child.wait_with_output().and_then(|output| written.map(|()| output));
        let output = output.map_err(Error::system(failed()))?;
        if output.status.success() {
            return Ok(began.elapsed().as_micros() as u64);
        }
        Err(Error::Program {
            command: format!("{verb} of {}", self.plugin.display()),
            status: output.status.to_string(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
        })
    }
}

fn next<'a, T>(waiting: &Mutex<std::slice::Iter<'a, T>>) -> Option<&'a T> {
    waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next()
}

const METRICS: [(&str, Better); 6] = [
    ("add_p50_ms", Better::Lower),
    ("add_p99_ms", Better::Lower),
    ("add_per_second", Better::Higher),
    ("del_p50_ms", Better::Lower),
    ("del_p99_ms", Better::Lower),
    ("del_per_second", Better::Higher),
];
/// Runtimes wait for minutes; what takes longer counts as this.
const LONGEST_MICROSECONDS: u64 = 600_000_000;
/// What Debian 12's plugins speak.
const VERSION: &str = "1.0.0";
/// Where Debian puts them.
const REFERENCE: &str = "/usr/lib/cni";
