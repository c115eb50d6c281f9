//! TCP streams: how many bits per second arrive, how much CPU time they cost, and what had to be sent again.
//!
//! Retransmission and reordering are read from the counters of the sender's namespace (RFC 2012 `tcpRetransSegs`, and
//! those of Linux's `TcpExt`), as nobody else speaks TCP there.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use socket2::SockRef;

use super::{PATIENCE, Pair, Period, Window, or_nothing_arrived};
use crate::error::{Error, Result};
use crate::topology::Pod;
use crate::{interrupt, machine};

/// What streams achieved together.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Payload that arrived, 10^9 bits per second.
    pub gbps: f64,
    /// CPU time of the whole machine, softirqs included, per 10^9 bytes that arrived.
    pub cpu_s_per_gb: f64,
    /// Segments sent more than once, warm-up included.
    pub resent: u64,
    /// How often the sender found its segments acknowledged out of order, warm-up included.
    pub reordered: u64,
}

/// Sends over `connections` at once, one thread for each end of each.
pub fn stream(pair: Pair<'_>, connections: usize, window: Window) -> Result<Throughput> {
    let before = Counters::of(pair.from)?;
    let sockets = connect(pair, connections)?;
    let period = window.start();
    let (bytes, cpu_seconds) = thread::scope(|scope| -> Result<_> {
        let ends: Vec<_> = sockets
            .into_iter()
            .map(|(sender, receiver)| {
                let receiving = scope.spawn(move || pair.pin_receiver().and_then(|()| receive(receiver, period)));
                let sending = scope.spawn(move || pair.pin_sender().and_then(|()| send(sender, period)));
                (sending, receiving)
            })
            .collect();
        interrupt::sleep_until(period.opens)?;
        let cpu_before = machine::busy_cpu_seconds()?;
        interrupt::sleep_until(period.closes)?;
        let cpu_seconds = machine::busy_cpu_seconds()? - cpu_before;
        let mut bytes = 0;
        for (sending, receiving) in ends {
            sending.join().expect("a sender does not panic")?;
            bytes += receiving.join().expect("a receiver does not panic")?;
        }
        Ok((bytes as f64, cpu_seconds))
    })?;
    let gbps = bytes * 8.0 / 1e9 / window.counted.as_secs_f64();
    let after = Counters::of(pair.from)?;
    Ok(Throughput {
        gbps,
        cpu_s_per_gb: cpu_seconds / (bytes / 1e9),
        resent: after.resent - before.resent,
        reordered: after.reordered - before.reordered,
    })
}

/// Opens connections from pod to pod: the sender's and the receiver's socket of each, with bounded waits.
pub(super) fn connect(pair: Pair<'_>, connections: usize) -> Result<Vec<(TcpStream, TcpStream)>> {
    let listener = pair.to.within("listen in the pod", || {
        let listener = TcpListener::bind(pair.receiver_address())?;
        SockRef::from(&listener).set_read_timeout(Some(PATIENCE))?;
        Ok(listener)
    })?;
    let address = listener.local_addr().map_err(Error::system("read the listener's address"))?;
    (0..connections)
        .map(|_| {
            interrupt::check()?;
            let sender = pair.from.within("connect", || Ok(TcpStream::connect_timeout(&address, PATIENCE)))?;
            let sender = sender.map_err(or_nothing_arrived("an answer to a TCP SYN"))?;
            let (receiver, _) = listener.accept().map_err(or_nothing_arrived("a TCP connection"))?;
            let bounded = sender.set_write_timeout(Some(PATIENCE));
            let bounded = bounded.and_then(|()| receiver.set_read_timeout(Some(PATIENCE)));
            bounded.map_err(Error::system("bound the waits of a TCP connection"))?;
            Ok((sender, receiver))
        })
        .collect()
}

fn send(mut socket: TcpStream, period: Period) -> Result<()> {
    let chunk = vec![0x5A; CHUNK];
    while !period.is_over(Instant::now()) {
        interrupt::check()?;
        let written = socket.write(&chunk);
        if period.is_over(Instant::now()) {
            // The receiver stops at the same instant and may have closed already.
            return Ok(());
        }
        written.map_err(or_nothing_arrived("an acknowledgement of TCP data"))?;
    }
    Ok(())
}

fn receive(mut socket: TcpStream, period: Period) -> Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut counted = 0;
    loop {
        let length = socket.read(&mut chunk).map_err(or_nothing_arrived("TCP data"))?;
        let now = Instant::now();
        if period.is_over(now) {
            return Ok(counted);
        }
        interrupt::check()?;
        if length == 0 {
            let early = io::Error::new(io::ErrorKind::UnexpectedEof, "the sender closed early");
            return Err(Error::system("receive TCP data")(early));
        }
        if period.counts(now) {
            counted += length as u64;
        }
    }
}

/// What all connections of a namespace have seen since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counters {
    resent: u64,
    reordered: u64,
}

impl Counters {
    fn of(pod: &Pod) -> Result<Counters> {
        // The thread's own: `/proc/net` is that of the process's first thread.
        let read = |name: &str| fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        let [snmp, netstat] = pod.within("read TCP's counters", || Ok([read("snmp")?, read("netstat")?]))?;
        Ok(Counters::parse(&snmp, &netstat))
    }

    fn parse(snmp: &str, netstat: &str) -> Counters {
        let reordered = ["TCPSACKReorder", "TCPRenoReorder", "TCPTSReorder"];
        Counters {
            resent: counter(snmp, "Tcp:", "RetransSegs"),
            reordered: reordered.iter().map(|name| counter(netstat, "TcpExt:", name)).sum(),
        }
    }
}

/// A counter of proc_pid_net(5): a line of names is followed by a line of values, both begin with the group.
fn counter(text: &str, group: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.split(' ').next() == Some(group));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let mut named = names.split(' ').zip(values.split(' '));
    named.find(|(of, _)| *of == name).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
}

/// Bytes per write and per read.
const CHUNK: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_group_and_name() {
        let snmp = "Ip: RetransSegs\nIp: 9\nTcp: ActiveOpens RetransSegs InErrs\nTcp: 1 23 4\n";
        let netstat = "TcpExt: TCPSACKReorder Other TCPTSReorder\nTcpExt: 5 100 7\nIpExt: Other\nIpExt: 1\n";
        assert_eq!(Counters::parse(snmp, netstat), Counters { resent: 23, reordered: 12 });
    }

    #[test]
    fn this_kernel_has_the_counters() {
        let read = |name| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap();
        assert!(read("snmp").contains(" RetransSegs "));
        for name in ["TCPSACKReorder", "TCPRenoReorder", "TCPTSReorder"] {
            assert!(read("netstat").contains(&format!(" {name} ")), "{name}");
        }
    }
}
