//! The plain forwarders: one thread, one read and one write per frame, no offloads.
//!
//! They stand for what a program reaches that treats a TAP or TUN as a file of frames. [`run`] forwards between two
//! pods' TAPs, or as a wire between nodes that changes the order of some frames ([`wire`]); [`udp::run`] between the
//! TUN of a node and another node. Each is a process of its own (a hidden command of this program), so that it can be
//! pinned and ended apart from the load; it ends when its standard input does, so that it never outlives the bench.

use std::io::{self, BufRead, BufReader};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use host::{Namespace, TemporaryNamespace};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use tun_tap::{Iface, Mode};

use super::{Pod, kernel, program};
use crate::error::{Error, Result};
use crate::machine;

pub mod udp;
pub mod wire;

/// A running forwarder; ended on drop.
#[derive(Debug)]
pub struct Forwarder {
    child: Child,
}

impl Forwarder {
    /// Starts the forwarder of one node on `cpu` and gives the TAPs it made the pods' addresses.
    pub(super) fn between(pods: &[Pod; 2], cpu: Option<usize>) -> Result<Self> {
        let mut command = Command::new(program("podswitch-bench")?);
        command.arg("forwarder").args(pods.iter().map(|pod| pod.namespace.path()));
        let forwarder = Self::start(&Namespace::current()?, command, cpu)?;
        pods.iter().try_for_each(kernel::address_on_link)?;
        Ok(forwarder)
    }

    /// Starts a wire between two nodes by TAPs `eth0`, which changes the order of so many of a hundred frames.
    pub(super) fn wire(nodes: &[TemporaryNamespace; 2], reorder_percent: u8) -> Result<Self> {
        let mut command = Command::new(program("podswitch-bench")?);
        command.arg("forwarder").args(nodes.iter().map(|node| node.path()));
        command.args(["--reorder", &reorder_percent.to_string()]);
        Self::start(&Namespace::current()?, command, None)
    }

    /// Starts the forwarder of `node`, from its own address to that of the other; its TUN is down.
    pub(super) fn to_node(node: &Namespace, [own, peer]: [IpAddr; 2], cpu: Option<usize>) -> Result<Self> {
        let mut command = Command::new(program("podswitch-bench")?);
        command.arg("udp-forwarder").args([own.to_string(), peer.to_string()]);
        Self::start(node, command, cpu)
    }

    /// The process.
    #[cfg(test)]
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process keeps the namespace and the CPUs of the thread that starts it, which ends with this call.
    fn start(namespace: &Namespace, mut command: Command, cpu: Option<usize>) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = namespace.run(|| {
            machine::pin(cpu)?;
            command.spawn().map_err(Error::system("start a plain forwarder"))
        })??;
        let mut forwarder = Self { child };
        forwarder.wait_until_ready()?;
        Ok(forwarder)
    }

    /// Waits for the one line it prints; a forwarder that fails closes its output instead.
    fn wait_until_ready(&mut self) -> Result<()> {
        let output = self.child.stdout.take().expect("its output is a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(Error::system("read from a plain forwarder"))?;
        if line == READY {
            return Ok(());
        }
        let status = self.child.wait().map_err(Error::system("wait for a plain forwarder"))?;
        let command = "podswitch-bench forwarder".to_owned();
        Err(Error::Program { command, status: status.to_string(), output: line })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of the command `forwarder`: makes a TAP `eth0` in each namespace and forwards until standard input ends, of
/// a hundred frames `reorder_percent` after later ones.
pub fn run(namespaces: &[PathBuf; 2], reorder_percent: u8) -> Result<()> {
    let [first, second] = namespaces;
    let taps = [open_tap(first)?, open_tap(second)?];
    say_ready()?;
    let descriptors = taps.each_ref().map(Iface::as_raw_fd);
    let mut wires = [1, 2].map(|seed| wire::Wire::new(reorder_percent, seed));
    let forwarded = forward(descriptors, |from| wires[from].carry(&taps[from], &taps[1 - from]));
    forwarded.map_err(Error::system("forward frames between two TAPs"))
}

fn open_tap(namespace: &Path) -> Result<Iface> {
    let namespace = Namespace::open(namespace)?;
    namespace.run(|| open("eth0", Mode::Tap))?.map_err(Error::system("open a TAP"))
}

fn open(name: &str, mode: Mode) -> io::Result<Iface> {
    let device = Iface::without_packet_info(name, mode)?;
    device.set_non_blocking()?;
    Ok(device)
}

fn say_ready() -> Result<()> {
    print!("{READY}");
    io::Write::flush(&mut io::stdout()).map_err(Error::system("say that the forwarder is ready"))
}

/// Calls `step` with the number of a descriptor while that may be read, until standard input ends. A step forwards one
/// frame; it fails with `WouldBlock` when there is none.
fn forward(descriptors: [RawFd; 2], mut step: impl FnMut(usize) -> io::Result<()>) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(4);
    for (number, fd) in descriptors.into_iter().chain([0]).enumerate() {
        poll.registry().register(&mut SourceFd(&fd), Token(number), Interest::READABLE)?;
    }
    let mut readable = [false; 2];
    loop {
        if readable == [false; 2] {
            match poll.poll(&mut events, None) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
        }
        for event in events.iter() {
            match readable.get_mut(event.token().0) {
                Some(readable) => *readable = true,
                None => return Ok(()),
            }
        }
        events.clear();
        for (from, readable) in readable.iter_mut().enumerate().filter(|(_, readable)| **readable) {
            match (0..FRAMES_PER_TURN).try_for_each(|_| step(from)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => *readable = false,
                forwarded => forwarded?,
            }
        }
    }
}

/// Reads a frame; an interface that is not up yet (EIO) has none.
fn read(from: &Iface, frame: &mut [u8]) -> io::Result<usize> {
    from.recv(frame).map_err(|error| match error.raw_os_error() {
        Some(libc::EIO) => io::ErrorKind::WouldBlock.into(),
        _ => error,
    })
}

/// Writes a frame; an interface that is not up (EIO) loses it, as a cable does that leads nowhere.
fn write(to: &Iface, frame: &[u8]) -> io::Result<()> {
    match to.send(frame) {
        Err(error) if error.raw_os_error() != Some(libc::EIO) => Err(error),
        _ => Ok(()),
    }
}

const READY: &str = "ready\n";
/// Turns about between both directions, so that a flood of one does not starve the other.
const FRAMES_PER_TURN: usize = 64;
