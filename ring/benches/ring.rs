//! Rings, the snapshot and the flow table: time per burst on one thread, per burst between two threads, per turn and per flow.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use podswitch_ring::{Counters, FlowTable, Publisher, mpsc, spsc};
use std::{
    hint::{black_box, spin_loop},
    thread,
    time::{Duration, Instant},
};

const CAPACITY: usize = 1024;
const BURSTS: [usize; 3] = [1, 8, 32];

/// One burst in and out again on one thread, for a ring of either kind.
macro_rules! same_thread {
    ($bench:ident, $kind:ident) => {
        fn $bench(criterion: &mut Criterion) {
            let mut group = criterion.benchmark_group(stringify!($kind));
            let (mut producer, mut consumer) = $kind::ring::<u64>(CAPACITY);
            group.throughput(Throughput::Elements(1)).bench_function("single", |bench| {
                bench.iter(|| {
                    producer.push(black_box(7)).expect("the ring is empty");
                    black_box(consumer.pop())
                });
            });
            for burst in BURSTS {
                let mut items: Vec<u64> = (0..burst as u64).collect();
                let id = format!("burst_{burst}");
                group.throughput(Throughput::Elements(burst as u64)).bench_function(id, |bench| {
                    bench.iter(|| {
                        producer.push_burst(black_box(&mut items));
                        consumer.pop_burst(black_box(&mut items), burst)
                    });
                });
            }
            group.finish();
        }
    };
}

same_thread!(spsc_same_thread, spsc);
same_thread!(mpsc_same_thread, mpsc);

fn spsc_across_threads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spsc_across");
    for burst in BURSTS {
        group.throughput(Throughput::Elements(burst as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("burst_{burst}")), |bench| {
            bench.iter_custom(|bursts| carry(bursts, burst));
        });
    }
    group.finish();
}

/// The time in which another thread receives `bursts` bursts of `burst` items.
fn carry(bursts: u64, burst: usize) -> Duration {
    let total = bursts * burst as u64;
    let (mut producer, mut consumer) = spsc::ring::<u64>(CAPACITY);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut items = Vec::with_capacity(burst);
            let mut left = total;
            while left > 0 {
                items.resize(burst.min(left as usize), left);
                match producer.push_burst(&mut items) {
                    0 => spin_loop(),
                    pushed => left -= pushed as u64,
                }
            }
        });
        let mut items = Vec::with_capacity(burst);
        let mut left = total;
        while left > 0 {
            match consumer.pop_burst(&mut items, burst) {
                0 => spin_loop(),
                popped => left -= popped as u64,
            }
            black_box(&mut items).clear();
        }
    });
    start.elapsed()
}

fn snapshot(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot");
    let mut publisher = Publisher::new(7_u64);
    let mut reader = publisher.reader();
    group.bench_function("turn_unchanged", |bench| bench.iter(|| *reader.turn()));
    group.bench_function("turn_changed", |bench| {
        bench.iter(|| {
            publisher.barrier();
            *reader.turn()
        });
    });
    group.bench_function("turn_from_offline", |bench| {
        bench.iter(|| {
            reader.offline();
            *reader.turn()
        });
    });
    let counters = Counters::<8>::new();
    group.bench_function("counter_add", |bench| bench.iter(|| counters.add(black_box(3), black_box(32))));
    group.finish();
}

/// A table of the switch's size, half full. One flow stays in the cache; many come in an order that nothing foresees.
fn flows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flows");
    let table = FlowTable::<5>::new(65_536);
    let key = |number: u64| [number << 32, 0x0a00_0000 + number, 0x0a00_0001, 0, 0];
    (0..FLOWS).for_each(|number| table.insert(&key(number), 600, 0));
    for (name, first) in [("hit", 0), ("miss", FLOWS)] {
        group.bench_function(format!("find_{name}"), |bench| bench.iter(|| table.find(black_box(&key(first)), 1)));
        let mut number = 0;
        group.bench_function(format!("find_{name}_of_many"), |bench| {
            bench.iter(|| {
                number = (number * 5 + 1) % FLOWS;
                table.find(black_box(&key(first + number)), 1)
            });
        });
    }
    group.bench_function("insert_again", |bench| bench.iter(|| table.insert(black_box(&key(0)), 600, 1)));
    group.bench_function("live", |bench| bench.iter(|| table.live(1)));
    group.finish();
}

const FLOWS: u64 = 32_768;

criterion_group!(benches, spsc_same_thread, mpsc_same_thread, spsc_across_threads, snapshot, flows);
criterion_main!(benches);
