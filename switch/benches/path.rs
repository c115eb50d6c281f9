//! A turn over wires in memory: 64 datagrams from one pod to another, received, carried and written, without a trace and
//! with one.

#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use packet::Offload;
use packet::view::Family;

use rig::{PLAIN, Rig, udp};

#[allow(dead_code, reason = "the path tests use more of it")]
#[path = "../tests/path/frames.rs"]
mod frames;
#[allow(dead_code, reason = "the path tests use more of it")]
#[path = "../tests/path/rig.rs"]
mod rig;

const FRAMES: usize = 64;

fn turns(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    group.throughput(Throughput::Elements(FRAMES as u64));
    for family in [Family::V4, Family::V6] {
        let name = if family == Family::V4 { "v4" } else { "v6" };
        bench(&mut group, (name, "untraced"), family, |_| {});
        bench(&mut group, (name, "traced_no_match"), family, |rig| rig.trace(None, Some("tcp port 99"), false));
        bench(&mut group, (name, "traced"), family, |rig| rig.trace(None, None, false));
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn bench(group: &mut Group<'_>, (family, what): (&str, &str), of: Family, trace: impl Fn(&mut Rig)) {
    let mut rig = Rig::new(&[PLAIN, PLAIN]);
    trace(&mut rig);
    let frame = udp(of, 1, 2, 18).frame();
    let rig = std::cell::RefCell::new(rig);
    let refill = || {
        let rig = &mut *rig.borrow_mut();
        rig.drain(2, |_, _| {});
        while rig.traced().is_some() {}
        (0..FRAMES).for_each(|_| rig.send(1, &Offload::default(), &frame));
    };
    group.bench_function(format!("{family}_{what}"), |bench| {
        bench.iter_batched(refill, |()| rig.borrow_mut().path_turn(), BatchSize::PerIteration);
    });
}

criterion_group!(benches, turns);
criterion_main!(benches);
