//! Checksums, header layout, cutting and joining, all in warm memory.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use podswitch_packet::checksum::{Sum, ipv4_header};
use podswitch_packet::view::Layout;
use podswitch_packet::{ChecksumForm, Cut, FrameRef, Gso, HEADERS_MAX, Join, JoinKinds, Offload};
use std::hint::black_box;

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checksum");
    let bytes = vec![0x5a; 65_536];
    for length in [40, 1448, 1500, 65_536] {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(format!("sum_{length}"), |bench| {
            bench.iter(|| Sum::of(black_box(&bytes[..length])).finish());
        });
    }
    group.throughput(Throughput::Elements(1));
    let header = [0x45; 20];
    group.bench_function("ipv4_header", |bench| bench.iter(|| ipv4_header(black_box(&header))));
    group.finish();
}

fn layouts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layout");
    let (tcp, udp6) = (tcp_frame(0, 0, 100), udp6_frame());
    group.bench_function("v4", |bench| bench.iter(|| Layout::parse(black_box(&tcp))));
    group.bench_function("v6", |bench| bench.iter(|| Layout::parse(black_box(&udp6))));
    group.finish();
}

fn cuts(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cut");
    let frame = tcp_frame(0, 0, 45 * 1448);
    let (head, tail) = frame.split_at(2048);
    let offload = Offload {
        needs_csum: true,
        gso: Gso::Tcp4,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
        ..Offload::default()
    };
    group.throughput(Throughput::Elements(45));
    for (name, form) in [("complete", ChecksumForm::Complete), ("partial", ChecksumForm::Partial)] {
        group.bench_function(format!("tcp4_45x1448_{name}"), |bench| {
            let mut block = [0; HEADERS_MAX];
            bench.iter(|| {
                let mut cut = Cut::new(black_box(FrameRef { head, tail }), &offload, form).expect("a super-frame");
                while let Some(part) = cut.next(&mut block) {
                    black_box((&block, cut.payload(&part)));
                }
            });
        });
    }
    group.finish();
}

fn joins(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("join");
    group.throughput(Throughput::Elements(64));
    let one_flow = |length: usize| (0..64).map(|place| tcp_frame(0, place, length)).collect::<Vec<_>>();
    let many_flows = |length: usize| (0..64).map(|flow| tcp_frame(flow, 0, length)).collect::<Vec<_>>();
    let unfinished = Offload { needs_csum: true, csum_start: 34, csum_offset: 16, ..Offload::default() };
    for (name, frames, offload) in [
        ("one_flow_18", one_flow(18), unfinished),
        ("64_flows_18", many_flows(18), unfinished),
        ("one_flow_18_verified", one_flow(18), Offload::default()),
        ("64_flows_18_verified", many_flows(18), Offload::default()),
        ("one_flow_1000_verified", one_flow(1000), Offload::default()),
    ] {
        group.bench_function(format!("64_frames_{name}"), |bench| {
            let mut join = Join::new();
            let mut head = frames[0].clone();
            bench.iter(|| {
                join.clear(JoinKinds { tso4: true, tso6: true, uso: true });
                for (frame, index) in frames.iter().zip(0..) {
                    join.push(index, FrameRef { head: frame, tail: &[] }, &offload);
                }
                for group in join.groups() {
                    black_box(group.apply(&mut head));
                    head[..54].copy_from_slice(&frames[0][..54]);
                    for member in group.members() {
                        black_box(member);
                    }
                }
            });
        });
    }
    group.finish();
}

/// The `place`th segment of a flow.
fn tcp_frame(flow: u16, place: u32, payload: usize) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 244, 0, 2], [10, 244, 1, 3], 63)
        .tcp(1000 + flow, 80, place * payload as u32, 1000)
        .ack(5)
        .write(&mut frame, &vec![0x5a; payload])
        .expect("a frame");
    frame
}

fn udp6_frame() -> Vec<u8> {
    let mut frame = Vec::new();
    let headers = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([0xfd; 16], [0xfc; 16], 63);
    headers.udp(1, 2).write(&mut frame, &[0; 18]).expect("a frame");
    frame
}

criterion_group!(benches, checksums, layouts, cuts, joins);
criterion_main!(benches);
