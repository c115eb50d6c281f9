//! The plain forwarder: two TAPs without offloads, one thread, one read and one write per frame.
//!
//! It stands for what a switch reaches that treats a TAP as a file of frames. It is a process of its own (this
//! program's hidden command `forwarder`), so that it can be pinned and ended apart from the load; it ends when its
//! standard input does, so that it never outlives the bench.

use std::io::{self, BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use host::Namespace;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use tun_tap::{Iface, Mode};

use super::{Pod, kernel, program};
use crate::error::{Error, Result};
use crate::machine;

/// The running forwarder; ended on drop.
#[derive(Debug)]
pub struct Forwarder {
    child: Child,
}

impl Forwarder {
    /// Starts the forwarder on `cpu` and gives the TAPs it made the pods' addresses.
    pub(super) fn between(pods: &[Pod; 2], cpu: Option<usize>) -> Result<Self> {
        let mut command = Command::new(program("podswitch-bench")?);
        command.arg("forwarder").args(pods.iter().map(|pod| pod.namespace.path()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // On a thread of its own: a child inherits the CPUs of the thread that spawns it.
        let spawned = thread::scope(|scope| {
            let spawning = scope.spawn(|| {
                machine::pin(cpu)?;
                command.spawn().map_err(Error::system("start the plain forwarder"))
            });
            spawning.join().expect("spawning a process does not panic")
        });
        let mut forwarder = Self { child: spawned? };
        forwarder.wait_until_ready()?;
        pods.iter().try_for_each(kernel::address_on_link)?;
        Ok(forwarder)
    }

    /// The process.
    #[cfg(test)]
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the one line it prints; a forwarder that fails closes its output instead.
    fn wait_until_ready(&mut self) -> Result<()> {
        let output = self.child.stdout.take().expect("its output is a pipe");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).map_err(Error::system("read from the plain forwarder"))?;
        if line == READY {
            return Ok(());
        }
        let status = self.child.wait().map_err(Error::system("wait for the plain forwarder"))?;
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

/// The body of the command `forwarder`: makes a TAP `eth0` in each namespace and forwards until standard input ends.
pub fn run(namespaces: &[PathBuf; 2]) -> Result<()> {
    let [first, second] = namespaces;
    let taps = [open_tap(first)?, open_tap(second)?];
    print!("{READY}");
    io::Write::flush(&mut io::stdout()).map_err(Error::system("say that the forwarder is ready"))?;
    forward(&taps).map_err(Error::system("forward frames between two TAPs"))
}

fn open_tap(namespace: &Path) -> Result<Iface> {
    let namespace = Namespace::open(namespace)?;
    let opened = namespace.run(|| -> io::Result<_> {
        let tap = Iface::without_packet_info("eth0", Mode::Tap)?;
        tap.set_non_blocking()?;
        Ok(tap)
    });
    opened?.map_err(Error::system("open a TAP"))
}

fn forward(taps: &[Iface; 2]) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(4);
    for (number, fd) in [taps[0].as_raw_fd(), taps[1].as_raw_fd(), 0].into_iter().enumerate() {
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
        for from in 0..taps.len() {
            if readable[from] {
                readable[from] = forward_some(&taps[from], &taps[1 - from])?;
            }
        }
    }
}

/// Forwards up to [`FRAMES_PER_TURN`] frames; whether there may be more.
fn forward_some(from: &Iface, to: &Iface) -> io::Result<bool> {
    let mut frame = [0; FRAME_MAX];
    for _ in 0..FRAMES_PER_TURN {
        let length = match from.recv(&mut frame) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            // EIO: the interface is not up yet.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(false),
            Err(error) => return Err(error),
        };
        match to.send(&frame[..length]) {
            // EIO: the other interface is not up; the frame is lost, as on a cable that leads nowhere.
            Err(error) if error.raw_os_error() != Some(libc::EIO) => return Err(error),
            _ => {}
        }
    }
    Ok(true)
}

const READY: &str = "ready\n";
/// Of a TAP with MTU 1500: Ethernet header and one VLAN tag on top.
const FRAME_MAX: usize = 1518;
/// Turns about between both directions, so that a flood of one does not starve the other.
const FRAMES_PER_TURN: usize = 64;
