//! TCP streams: how many bits per second arrive, and how much CPU time they cost.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use socket2::SockRef;

use super::{PATIENCE, Pair, Period, Window, or_nothing_arrived};
use crate::error::{Error, Result};
use crate::{interrupt, machine};

/// What streams achieved together.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// Payload that arrived, 10^9 bits per second.
    pub gbps: f64,
    /// CPU time of the whole machine, softirqs included, per 10^9 bytes that arrived.
    pub cpu_s_per_gb: f64,
}

/// Sends over `connections` at once, one thread for each end of each.
pub fn stream(pair: Pair<'_>, connections: usize, window: Window) -> Result<Throughput> {
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
    Ok(Throughput { gbps, cpu_s_per_gb: cpu_seconds / (bytes / 1e9) })
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

/// Bytes per write and per read.
const CHUNK: usize = 128 << 10;
