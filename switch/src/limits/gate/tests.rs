use std::sync::Arc;
use std::thread;
use std::time::Duration;

use packet::Offload;

use super::*;
use crate::lane::Lane;
use crate::limits::Limits;
use crate::port::Wire;
use crate::returns::Returns;
use crate::worker;

const KEEPER: u16 = 0;

/// A port whose pod may receive so much, and its keeper's lane.
fn gated(rate: &str, writers: usize) -> (Port, Wire, Lane) {
    let (lane, ends) = Lane::new(KEEPER, Arc::new(Returns::new(64)));
    let keeper = Keeper::new(&ends.calls, &(Arc::new(|| Ok(())) as crate::limits::Wake));
    let limit = RateLimit { rate: rate.parse().unwrap(), burst: None };
    let entering = Some(Box::new(Gate::new(limit, 1, keeper, Instant::now())));
    let (port, wire) = worker::tests::port(1, writers);
    (Port { limits: Limits { entering, leaving: None }, ..port }, wire, lane)
}

fn write(port: &Port, worker: u16, frame: &[u8]) -> Result<(), Reason> {
    port.write(worker, &[IoSlice::new(&Offload::default().bytes()), IoSlice::new(frame)])
}

fn gate(port: &Port) -> &Gate {
    port.limits.entering.as_deref().unwrap()
}

#[test]
fn what_is_over_the_limit_waits_and_comes_in_order_when_its_time_has_come() {
    let (port, wire, _lane) = gated("8M", 1);
    let frame = |number: u8| vec![number; 5014];
    let began = Instant::now();
    // The burst is 10 000 bytes, and the third frame is paid for by a debt.
    (0..8).for_each(|number| write(&port, KEEPER, &frame(number)).unwrap());
    let passed = || std::iter::from_fn(|| wire.receive(|_, bytes| bytes[0])).collect::<Vec<_>>();
    let mut seen = passed();
    assert_eq!(seen, [0, 1, 2][..seen.len()]);
    assert!((2..=3).contains(&seen.len()) && port.counters.get(Count::Held) == 8 - seen.len() as u64);
    while let Some(next) = gate(&port).open(&port) {
        seen.extend(passed());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    seen.extend(passed());
    assert_eq!(seen, [0, 1, 2, 3, 4, 5, 6, 7]);
    // 8 frames are 40 ms, less the burst of 10 and the last one's 5.
    assert!(began.elapsed() >= Duration::from_millis(24), "{:?}", began.elapsed());
}

#[test]
fn no_more_waits_than_may_and_all_buffers_come_back() {
    let (port, wire, _lane) = gated("1G", 2);
    let limit = gate(&port).bytes_max;
    for length in [60, 1500, 9000, 65_000] {
        let free = || gate(&port).buffers.iter().map(ArrayQueue::len).sum::<usize>();
        let (before, mut held, mut refused) = (free(), 0, 0);
        // Another than the keeper always leaves it at the gate.
        while refused == 0 {
            match write(&port, KEEPER + 1, &vec![0; length]) {
                Ok(()) => held += 1,
                Err(reason) => refused += usize::from(reason == Reason::OverLimit),
            }
        }
        assert!(held * length <= limit && held > 0, "{length}: {held}");
        while let Some(next) = gate(&port).open(&port) {
            while wire.receive(|_, _| ()).is_some() {}
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        while wire.receive(|_, _| ()).is_some() {}
        assert_eq!((free(), gate(&port).bytes.load(Ordering::Relaxed)), (before, 0), "{length}");
    }
}

/// Frames of every worker come in its order, none twice, none lost but those that were refused; and the keeper is always called.
#[test]
fn workers_that_write_at_once_keep_their_order_and_none_is_forgotten() {
    const EACH: u32 = 5_000;
    let (port, wire, mut lane) = gated("100G", 4);
    let mut world = crate::world::World::new(worker::tests::port(0, 4).0, route_table::RouteTable::new().reader());
    world.add(port);
    let port = world.port(1).unwrap();
    let mut seen = [0; 4];
    let deadline = Instant::now() + Duration::from_secs(60);
    let patience = || assert!(Instant::now() < deadline, "somebody waits in vain");
    thread::scope(|scope| {
        let writers: Vec<_> = (1..4)
            .map(|worker| {
                scope.spawn(move || {
                    let mut frame = vec![worker as u8; 2000];
                    for number in 1..=EACH {
                        frame[1..5].copy_from_slice(&number.to_be_bytes());
                        while write(port, worker, &frame).is_err() {
                            patience();
                            thread::yield_now();
                        }
                    }
                })
            })
            .collect();
        let mut take = || {
            wire.receive(|_, bytes| {
                let number = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
                let last = &mut seen[usize::from(bytes[0])];
                assert!(number == *last + 1, "{number} after {last}");
                *last = number;
            })
        };
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) || lane.gates.next().is_some() {
            // Opening writes fewer than the wire has room for.
            lane.gates.open(&world);
            while take().is_some() {}
            patience();
        }
    });
    assert_eq!(seen, [0, EACH, EACH, EACH]);
}
