//! UDP ping-pong with one datagram outstanding and blocking sockets at both ends.
//!
//! What is measured is what a request pays: two system calls, two wake-ups and two passes of the path. Closed loop:
//! nothing queues, so the percentiles say nothing about latency under load.

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::net::UdpSocket;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{Pair, Window};
use crate::error::{Error, Result};
use crate::interrupt;

/// Percentiles of the round trip.
#[derive(Debug, Clone, Copy)]
pub struct RoundTrip {
    /// Median, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// Requests that got no answer within 200 ms; not part of the percentiles.
    pub lost: u64,
}

/// Asks until the window closes or 20 000 rounds are recorded.
pub fn measure(pair: Pair<'_>, window: Window) -> Result<RoundTrip> {
    let (server, client) = sockets(pair)?;
    thread::scope(|scope| {
        let (stop, stopped) = channel();
        let serving = scope.spawn(move || pair.pin_receiver().and_then(|()| serve(&server, &stopped)));
        let asking = scope.spawn(move || pair.pin_sender().and_then(|()| ask(&client, window, stop)));
        let measured = asking.join().expect("a client does not panic");
        serving.join().expect("a server does not panic")?;
        measured
    })
}

/// A socket that answers, and one that is connected to it; both wait for [`ANSWER`] at most.
pub(super) fn sockets(pair: Pair<'_>) -> Result<(UdpSocket, UdpSocket)> {
    let server = pair.to.within("open a UDP socket", || UdpSocket::bind(pair.receiver_address()))?;
    let address = server.local_addr().map_err(Error::system("read the server's port"))?;
    let client = pair.from.within("open a UDP socket", || {
        let socket = UdpSocket::bind((pair.from.address(pair.family), 0))?;
        socket.connect(address)?;
        Ok(socket)
    })?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(ANSWER)).map_err(Error::system("bound the wait for a datagram"))?;
    }
    Ok((server, client))
}

/// Answers until the client has hung up.
pub(super) fn serve(socket: &UdpSocket, stopped: &Receiver<()>) -> Result<()> {
    let mut payload = [0; PAYLOAD];
    loop {
        match socket.recv_from(&mut payload) {
            Ok((length, from)) => {
                socket.send_to(&payload[..length], from).map_err(Error::system("answer a UDP request"))?;
            }
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
                if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                    return Ok(());
                }
            }
            Err(error) => return Err(Error::system("receive a UDP request")(error)),
        }
    }
}

fn ask(socket: &UdpSocket, window: Window, _hangs_up: Sender<()>) -> Result<RoundTrip> {
    let nanoseconds_max = 2 * ANSWER.as_nanos() as u64;
    let mut histogram = Histogram::<u64>::new_with_bounds(1, nanoseconds_max, 3).expect("legal bounds");
    let period = window.start();
    let mut lost = 0;
    let mut lost_in_a_row = 0;
    for number in 0_u64.. {
        interrupt::check()?;
        let asked = Instant::now();
        if period.is_over(asked) || histogram.len() >= ROUNDS_MAX {
            break;
        }
        if !exchange(socket, number)? {
            lost += 1;
            lost_in_a_row += 1;
            if lost_in_a_row == LOST_IN_A_ROW_MAX {
                let what = "an answer to a UDP request".to_owned();
                return Err(Error::NothingArrived { what, waited: ANSWER * LOST_IN_A_ROW_MAX });
            }
            continue;
        }
        lost_in_a_row = 0;
        if period.counts(asked) {
            histogram.saturating_record(asked.elapsed().as_nanos() as u64);
        }
    }
    if histogram.is_empty() {
        return Err(Error::NothingArrived { what: "an answer to a UDP request".to_owned(), waited: window.counted });
    }
    let at = |share| histogram.value_at_quantile(share) as f64 / 1e3;
    Ok(RoundTrip { p50_us: at(0.5), p99_us: at(0.99), lost })
}

/// One request; whether its own answer came, older ones being passed over.
fn exchange(socket: &UdpSocket, number: u64) -> Result<bool> {
    let mut payload = [0; PAYLOAD];
    payload[..8].copy_from_slice(&number.to_le_bytes());
    socket.send(&payload).map_err(Error::system("send a UDP request"))?;
    loop {
        let mut answer = [0; PAYLOAD];
        match socket.recv(&mut answer) {
            Ok(_) if answer == payload => return Ok(true),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => return Ok(false),
            Err(error) => return Err(Error::system("receive an answer to a UDP request")(error)),
        }
    }
}

pub(super) const PAYLOAD: usize = 22;
pub(super) const ANSWER: Duration = Duration::from_millis(200);
const ROUNDS_MAX: u64 = 20_000;
const LOST_IN_A_ROW_MAX: u32 = 10;
