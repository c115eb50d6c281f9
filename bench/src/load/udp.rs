//! A flood of the smallest frames: how many arrive, and in which order.
//!
//! Each datagram carries its flow and one sequence number that runs over all flows:
//!
//! ```text
//! Ethernet 14 | IPv4 20 | UDP 8 | flow 4 | sequence 8 | zero 10      = 64 bytes
//! ```
//!
//! Both ends cost as little as they can, so that it is the path that is measured. One flow is sent by `sendmmsg`, 64
//! datagrams a call; several go in turn, one `send` each, which makes every frame another flow's than the one before.
//! No datagram is cut by the kernel (`UDP_SEGMENT`): each goes down the sender's stack alone. The receiver takes 64 a
//! call by `recvmmsg` and sleeps within it, with a receive buffer large enough to hide its own scheduling.
//!
//! A frame is *late* when its flow has already delivered a higher number. Delivered frames are distinct ones; loss is
//! counted over the whole run.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg, setsockopt, sockopt};
use rustix::net::SendFlags;

use super::{PATIENCE, Pair, Period, Window};
use crate::error::{Error, Result};
use crate::{interrupt, machine};

/// What came of a flood.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    /// Distinct datagrams delivered to the receiving socket per second of the counted window.
    pub delivered_pps: f64,
    /// Datagrams the sender's kernel accepted.
    pub sent: u64,
    /// Distinct datagrams delivered, warm-up and drain included.
    pub delivered: u64,
    /// Datagrams that arrived after a later one of their flow.
    pub late: u64,
    /// Datagrams that arrived more than once.
    pub duplicates: u64,
}

impl Flood {
    /// The share of sent datagrams that never arrived, 0 to 1.
    pub fn lost_share(&self) -> f64 {
        1.0 - self.delivered as f64 / self.sent.max(1) as f64
    }

    /// Of a million that arrived, how many did so after a later one of their flow.
    pub fn late_ppm(&self) -> f64 {
        1e6 * self.late as f64 / self.delivered.max(1) as f64
    }
}

/// How a flood is sent.
#[derive(Debug, Clone, Copy)]
pub struct Sending {
    /// Flows, in turn, each from a source port of its own.
    pub flows: usize,
    /// Datagrams per second at most; flat out without.
    pub pps_max: Option<u64>,
    /// How often a second the sender goes over to the next of its CPUs.
    pub moves_per_second: u32,
}

impl Sending {
    /// Flat out, from where it was put.
    pub fn flat_out(flows: usize) -> Self {
        Sending { flows, pps_max: None, moves_per_second: 0 }
    }
}

/// Floods `pair.to` with `flows` flows in turn, flat out.
pub fn flood(pair: Pair<'_>, flows: usize, window: Window) -> Result<Flood> {
    send_as(pair, Sending::flat_out(flows), window)
}

/// Sends `pair.to` datagrams as `sending` says, all to one port.
pub fn send_as(pair: Pair<'_>, sending: Sending, window: Window) -> Result<Flood> {
    let (flows, cpus) = (sending.flows, machine::available_cpus()?);
    machine::allow_many_open_files()?;
    let receiver = pair.to.within("open a UDP socket", || {
        let socket = UdpSocket::bind(pair.receiver_address())?;
        socket.set_read_timeout(Some(SILENCE))?;
        setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER)?;
        Ok(socket)
    })?;
    let address = receiver.local_addr().map_err(Error::system("read the receiver's port"))?;
    let senders: Vec<UdpSocket> = pair.from.within("open UDP sockets", || {
        let open = || {
            let socket = UdpSocket::bind((pair.from.address(pair.family), 0))?;
            socket.connect(address)?;
            Ok(socket)
        };
        std::iter::repeat_with(open).take(flows).collect()
    })?;
    let (period, cpus) = (window.start(), &cpus[..]);
    // Says by its end that no more is sent.
    let (sends, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let receiving =
            scope.spawn(move || pair.pin_receiver().and_then(|()| receive((&receiver, flows), period, &ended)));
        let sender = scope.spawn(move || {
            let _sends = sends;
            pair.pin_sender().and_then(|()| send(&senders, (sending, cpus), period))
        });
        let sent = sender.join().expect("a sender does not panic")?;
        let (tally, counted) = receiving.join().expect("a receiver does not panic")?;
        Ok(Flood {
            delivered_pps: counted as f64 / window.counted.as_secs_f64(),
            sent,
            delivered: tally.delivered,
            late: tally.late,
            duplicates: tally.duplicates,
        })
    })
}

fn send(sockets: &[UdpSocket], (sending, cpus): (Sending, &[usize]), period: Period) -> Result<u64> {
    let mut sender = Sender { sockets, sequence: 0, headers: MultiHeaders::preallocate(BATCH, None) };
    let (began, mut moves) = (Instant::now(), 0);
    let at_once = if sending.pps_max.is_some() { PACED_AT_ONCE } else { BATCH };
    loop {
        interrupt::check()?;
        let now = Instant::now();
        if period.is_over(now) {
            return Ok(sender.sequence);
        }
        let elapsed = now.saturating_duration_since(began).as_secs_f64();
        if elapsed * f64::from(sending.moves_per_second) >= f64::from(moves + 1) {
            moves += 1;
            machine::pin(Some(cpus[moves as usize % cpus.len()]))?;
        }
        if sending.pps_max.is_some_and(|pps_max| sender.sequence as f64 >= elapsed * pps_max as f64) {
            std::hint::spin_loop();
            continue;
        }
        match sender.send(at_once) {
            // The sending interface is full: the datagram was not accepted and is not missed.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN)) => {
                return Err(Error::system("send UDP datagrams")(error));
            }
            _ => {}
        }
    }
}

/// The sending end of all flows.
struct Sender<'a> {
    /// One per flow, connected.
    sockets: &'a [UdpSocket],
    /// The number of the next datagram: how many the kernel has accepted.
    sequence: u64,
    headers: MultiHeaders<()>,
}

impl Sender<'_> {
    /// Sends `count` datagrams, [`BATCH`] at most, or as many as the kernel accepts; an error is of the first of them.
    fn send(&mut self, count: usize) -> io::Result<()> {
        if let [socket] = self.sockets {
            self.send_together(socket, count)
        } else {
            (0..count).try_for_each(|_| self.send_next())
        }
    }

    fn send_together(&mut self, socket: &UdpSocket, count: usize) -> io::Result<()> {
        let payloads: [_; BATCH] = std::array::from_fn(|at| payload(0, self.sequence + at as u64));
        let slices = payloads.each_ref().map(|payload| [IoSlice::new(payload)]);
        let (socket, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        let sent = sendmmsg(socket, &mut self.headers, &slices[..count], [None; BATCH], [], flags)?;
        self.sequence += sent.count() as u64;
        Ok(())
    }

    fn send_next(&mut self) -> io::Result<()> {
        let flow = (self.sequence % self.sockets.len() as u64) as usize;
        rustix::net::send(&self.sockets[flow], &payload(flow as u32, self.sequence), SendFlags::empty())?;
        self.sequence += 1;
        Ok(())
    }
}

fn payload(flow: u32, sequence: u64) -> [u8; PAYLOAD] {
    let mut payload = [0; PAYLOAD];
    payload[..4].copy_from_slice(&flow.to_le_bytes());
    payload[4..12].copy_from_slice(&sequence.to_le_bytes());
    payload
}

/// The tally of the whole run, and how many of it fell into the counted window. A sender that was kept from its CPU may go on
/// after the period: what counts is that it has ended, and a silence after that.
fn receive((socket, flows): (&UdpSocket, usize), period: Period, ended: &Receiver<()>) -> Result<(Tally, u64)> {
    let mut tally = Tally::new(flows);
    let mut before = 0;
    let mut until_close = 0;
    let mut buffers = [[0; PAYLOAD]; BATCH];
    let mut headers = MultiHeaders::<()>::preallocate(BATCH, None);
    loop {
        interrupt::check()?;
        let mut slices = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        // Waits for a full batch; after a silence it returns what there is.
        let received = match recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, MsgFlags::empty(), None) {
            Ok(messages) => messages.count(),
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(error) => return Err(Error::system("receive UDP datagrams")(error)),
        };
        let now = Instant::now();
        for payload in &buffers[..received] {
            tally.take(payload);
        }
        if now < period.opens {
            before = tally.delivered;
        } else if !period.is_over(now) {
            until_close = tally.delivered;
        } else if (received == 0 && ended.try_recv() == Err(TryRecvError::Disconnected))
            || now > period.closes + PATIENCE
        {
            break;
        }
    }
    if tally.delivered == 0 {
        let waited = period.closes + SILENCE - period.opens;
        return Err(Error::NothingArrived { what: "any UDP datagram of a flood".to_owned(), waited });
    }
    Ok((tally, until_close.saturating_sub(before)))
}

/// Which sequence numbers have arrived, and in which order.
struct Tally {
    delivered: u64,
    late: u64,
    duplicates: u64,
    /// A bit per sequence number.
    seen: Vec<u64>,
    /// Per flow, the highest number seen plus one.
    next: Vec<u64>,
}

impl Tally {
    fn new(flows: usize) -> Self {
        Self { delivered: 0, late: 0, duplicates: 0, seen: Vec::new(), next: vec![0; flows] }
    }

    fn take(&mut self, payload: &[u8; PAYLOAD]) {
        let (flow, sequence) = payload[..12].split_at(4);
        let flow = u32::from_le_bytes(flow.try_into().expect("4 bytes")) as usize;
        let sequence = u64::from_le_bytes(sequence.try_into().expect("8 bytes"));
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if word >= self.seen.len() {
            self.seen.resize(2 * word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicates += 1;
            return;
        }
        self.seen[word] |= bit;
        self.delivered += 1;
        let next = &mut self.next[flow];
        self.late += u64::from(sequence < *next);
        *next = (*next).max(sequence + 1);
    }
}

/// 64 bytes less the headers of Ethernet, IPv4 and UDP.
const PAYLOAD: usize = 64 - 14 - 20 - 8;
/// Datagrams per system call, and sends per look at the clock.
const BATCH: usize = 64;
const RECEIVE_BUFFER: usize = 16 << 20;
/// Datagrams sent at once where the rate is bounded: short enough not to be a flood of its own.
const PACED_AT_ONCE: usize = 4;
/// After the end, this long without a datagram means that none is left on its way.
const SILENCE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn tally_of(datagrams: &[(u32, u64)]) -> Tally {
        let mut tally = Tally::new(2);
        for (flow, sequence) in datagrams {
            tally.take(&payload(*flow, *sequence));
        }
        tally
    }

    #[test]
    fn order_is_judged_within_a_flow() {
        let tally = tally_of(&[(0, 0), (0, 2), (1, 1), (1, 3)]);
        assert_eq!((tally.delivered, tally.late, tally.duplicates), (4, 0, 0));
    }

    #[test]
    fn a_frame_behind_a_later_one_of_its_flow_is_late_but_delivered() {
        let tally = tally_of(&[(0, 0), (0, 400), (0, 2), (0, 398), (0, 402)]);
        assert_eq!((tally.delivered, tally.late, tally.duplicates), (5, 2, 0));
    }

    #[test]
    fn a_repeated_frame_is_delivered_once() {
        let tally = tally_of(&[(0, 0), (0, 2), (0, 0), (0, 2), (0, 2)]);
        assert_eq!((tally.delivered, tally.late, tally.duplicates), (2, 0, 3));
    }

    #[test]
    fn the_share_lost_is_of_what_was_sent_and_the_share_late_of_what_came() {
        let flood = Flood { delivered_pps: 0.0, sent: 8, delivered: 6, late: 3, duplicates: 0 };
        assert_eq!((flood.lost_share(), flood.late_ppm()), (0.25, 500_000.0));
    }
}
