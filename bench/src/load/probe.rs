//! Round trips asked for at fixed times, whatever has become of the ones before: open loop.
//!
//! A closed loop waits for its answer and so asks less when it is slow; its percentiles leave out just the slow times. Here
//! each request has its time, and its round trip is counted from then, also if it could not be sent in time:
//!
//! ```text
//!   asked     |----|----|----|----|      every 1/rate
//!   answered  |-->   |->  |--------->    each known by its number
//! ```
//!
//! The timer that wakes who asks adds some microseconds, the same for everybody.

use std::io::ErrorKind::{TimedOut, WouldBlock};
use std::net::UdpSocket;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sys::prctl;

use super::round_trip::{PAYLOAD, serve, sockets};
use super::{Pair, Period, Window};
use crate::error::{Error, Result};
use crate::interrupt;

/// Percentiles of round trips asked for at fixed times.
#[derive(Debug, Clone, Copy)]
pub struct Probe {
    /// Median, microseconds.
    pub p50_us: f64,
    /// 99th percentile, microseconds.
    pub p99_us: f64,
    /// 99.9th percentile, microseconds.
    pub p999_us: f64,
    /// Requests that got no answer; not part of the percentiles.
    pub lost: u64,
}

/// Asks `rate` times a second until the window closes.
pub fn measure(pair: Pair<'_>, rate: u32, window: Window) -> Result<Probe> {
    let (server, client) = sockets(pair)?;
    let schedule = Schedule { began: Instant::now(), step: Duration::from_secs(1) / rate, period: window.start() };
    thread::scope(|scope| {
        let (stop, stopped) = channel();
        let client = &client;
        let serving = scope.spawn(move || pair.pin_receiver().and_then(|()| serve(&server, &stopped)));
        let asking = scope.spawn(move || pair.pin_sender().and_then(|()| ask(client, schedule)));
        let hearing = scope.spawn(move || {
            let _hangs_up = stop;
            pair.pin_sender().and_then(|()| hear(client, schedule))
        });
        asking.join().expect("a client does not panic")?;
        let probe = hearing.join().expect("a client does not panic");
        serving.join().expect("a server does not panic")?;
        probe
    })
}

/// When which request is asked.
#[derive(Debug, Clone, Copy)]
struct Schedule {
    began: Instant,
    step: Duration,
    period: Period,
}

impl Schedule {
    fn due(&self, number: u32) -> Instant {
        self.began + self.step * number
    }

    /// How many requests fall into the counted window.
    fn counted(&self) -> u64 {
        let before = |end: Instant| end.saturating_duration_since(self.began).as_nanos().div_ceil(self.step.as_nanos());
        (before(self.period.closes) - before(self.period.opens)) as u64
    }
}

fn ask(socket: &UdpSocket, schedule: Schedule) -> Result<()> {
    prctl::set_timerslack(1).map_err(Error::system("ask for a precise timer"))?;
    for number in 0_u32.. {
        interrupt::check()?;
        let due = schedule.due(number);
        if schedule.period.is_over(due) {
            break;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let mut payload = [0; PAYLOAD];
        payload[..4].copy_from_slice(&number.to_le_bytes());
        // What the kernel does not take now is a request without an answer.
        let _ = socket.send(&payload);
    }
    Ok(())
}

/// Hears answers until every counted request has its own, or none has come for a while after the last.
fn hear(socket: &UdpSocket, schedule: Schedule) -> Result<Probe> {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, NANOSECONDS_MAX, 3).expect("legal bounds");
    let expected = schedule.counted();
    while histogram.len() < expected {
        interrupt::check()?;
        let mut answer = [0; PAYLOAD];
        match socket.recv(&mut answer) {
            Ok(_) => {
                let number = u32::from_le_bytes([answer[0], answer[1], answer[2], answer[3]]);
                let due = schedule.due(number);
                if schedule.period.counts(due) {
                    histogram.saturating_record(due.elapsed().as_nanos() as u64);
                }
            }
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut) => {
                if schedule.period.is_over(Instant::now()) {
                    break;
                }
            }
            Err(error) => return Err(Error::system("receive an answer to a UDP request")(error)),
        }
    }
    if histogram.is_empty() {
        let waited = schedule.period.closes - schedule.period.opens;
        return Err(Error::NothingArrived { what: "an answer to a UDP request".to_owned(), waited });
    }
    let at = |share| histogram.value_at_quantile(share) as f64 / 1e3;
    let lost = expected.saturating_sub(histogram.len());
    Ok(Probe { p50_us: at(0.5), p99_us: at(0.99), p999_us: at(0.999), lost })
}

const NANOSECONDS_MAX: u64 = 10_000_000_000;
