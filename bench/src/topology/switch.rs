//! Our switch between the pods: `podswitch run` in a node's namespace of its own, spoken to as any client does.
//!
//! This file alone knows the switch's command line and configuration. Log, socket and store lie in a scratch folder;
//! on drop the switch purges what it made, is given a moment to end, and everything is removed.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use control::{
    Attach, Bandwidth, ChangeNeighbors, Client, DropsView, InterfaceName, Name, Neighbor, NetnsPath, Origin, PodAddress,
};
use host::TemporaryNamespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Pod, Program, RANGES, program};
use crate::error::{Error, Result};
use crate::load::{Family, PATIENCE};
use crate::{interrupt, machine};

/// The running switch and its node; ended and removed on drop.
#[derive(Debug)]
pub struct Switch {
    child: Child,
    client: Client,
    folder: TempDir,
    node: TemporaryNamespace,
    cpu: Option<usize>,
}

impl Switch {
    /// Starts the switch and attaches both pods.
    pub(super) fn between(pods: &[Pod; 2], program: &Program) -> Result<Self> {
        let switch = Self::start(program)?;
        pods.iter().try_for_each(|pod| switch.attach(pod))?;
        Ok(switch)
    }

    /// Starts a switch of a new node.
    pub fn start(program: &Program) -> Result<Self> {
        Self::start_in(TemporaryNamespace::new("bench-node")?, &RANGES.map(str::to_owned), program)
    }

    /// Starts the switch of a node, whose pods have their addresses from `ranges`.
    pub(super) fn start_in(node: TemporaryNamespace, ranges: &[String], program: &Program) -> Result<Self> {
        let folder = TempDir::with_prefix("podswitch-bench-").map_err(Error::system("make a scratch folder"))?;
        let text = configure(&folder, ranges) + &program.configuration;
        fs::write(folder.path().join(CONFIGURATION), text).map_err(Error::system("write the configuration"))?;
        let child = spawn(&node, &folder, program.cpu)?;
        let client = Client::new(folder.path().join(SOCKET)).timeout(PATIENCE);
        let mut switch = Self { child, client, folder, node, cpu: program.cpu };
        switch.wait_until_ready()?;
        Ok(switch)
    }

    /// Kills the switch and starts it anew; when the new process began. It may not be ready yet.
    pub fn restart(&mut self) -> Result<Instant> {
        self.child.kill().and_then(|()| self.child.wait()).map_err(Error::system("kill podswitch"))?;
        let began = Instant::now();
        self.child = spawn(&self.node, &self.folder, self.cpu)?;
        Ok(began)
    }

    /// Keeps the switch from running, or lets it run again.
    pub fn pause(&self, on: bool) -> Result<()> {
        let signal = if on { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(Pid::from_raw(self.child.id() as i32), signal).map_err(Error::system("signal podswitch"))
    }

    /// Where it runs.
    pub fn node(&self) -> &TemporaryNamespace {
        &self.node
    }

    /// Where it listens.
    pub fn socket(&self) -> &std::path::Path {
        self.client.socket()
    }

    /// The switch's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where every packet went. Asked again for a moment while the sum does not hold, as packets may be on their way.
    pub fn drops(&self) -> Result<DropsView> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let drops = self.client.drops()?;
            if drops.conserved || Instant::now() > deadline {
                return Ok(drops);
            }
            interrupt::sleep_until(Instant::now() + NAP)?;
        }
    }

    /// Joins a pod.
    pub fn attach(&self, pod: &Pod) -> Result<()> {
        attach(&self.client, pod, &[Family::V4, Family::V6])
    }

    /// Tells of other nodes.
    pub(super) fn add_neighbors(&self, add: Vec<Neighbor>) -> Result<()> {
        self.client.change_neighbors(ChangeNeighbors { add, ..ChangeNeighbors::default() })?;
        Ok(())
    }

    /// Waits until the switch answers.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            interrupt::check()?;
            let Err(silent) = self.client.status() else { return Ok(()) };
            let ended = self.child.try_wait().map_err(Error::system("look after podswitch"))?;
            if let Some(status) = ended {
                let command = "podswitch run".to_owned();
                return Err(Error::Program { command, status: status.to_string(), output: self.end_of_log() });
            }
            if Instant::now() > deadline {
                return Err(silent.into());
            }
            thread::sleep(NAP);
        }
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // A switch that is dead or deaf is killed below; its devices go with their namespaces.
        let _ = self.client.purge();
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended() && Instant::now() < deadline {
            thread::sleep(NAP);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has the switch that `client` speaks to join a pod with its addresses of these families.
pub(super) fn attach(client: &Client, pod: &Pod, families: &[Family]) -> Result<()> {
    let name = pod.namespace.name();
    let address = |&family| PodAddress::try_from(pod.address(family)).expect("a pod's address is routable");
    client.attach(Attach {
        name: name.parse::<Name>().expect("its namespace's name is a legal name"),
        netns: name.parse::<NetnsPath>().expect("a name of ip-netns"),
        interface: InterfaceName::default(),
        addresses: families.iter().map(address).collect(),
        assign: None,
        mtu: None,
        mac: None,
        network: None,
        bandwidth: Bandwidth::default(),
        origin: Origin::Cli,
    })?;
    Ok(())
}

/// The thread ends with this call; the child keeps its namespace and its CPUs.
fn spawn(node: &TemporaryNamespace, folder: &TempDir, cpu: Option<usize>) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.path().join(LOG));
    let log = log.map_err(Error::system("make the switch's log"))?;
    let errors = log.try_clone().map_err(Error::system("share the switch's log"))?;
    let mut command = Command::new(program("podswitch")?);
    command.arg("run").arg("--config").arg(folder.path().join(CONFIGURATION));
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    node.run(|| {
        machine::pin(cpu)?;
        command.spawn().map_err(Error::system("start podswitch"))
    })?
}

/// The configuration the switch needs; its socket lies in the state directory.
fn configure(folder: &TempDir, ranges: &[String]) -> String {
    let state_dir = folder.path().display();
    format!("pod_ranges = {ranges:?}\nstate_dir = \"{state_dir}\"\n")
}

const CONFIGURATION: &str = "podswitch.toml";
const SOCKET: &str = "control.sock";
const LOG: &str = "log";
const NAP: Duration = Duration::from_millis(20);
