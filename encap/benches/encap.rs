//! Stamping and stripping per frame, in bursts of 64, in warm memory and over as many templates as a big cluster has
//! nodes.

use std::hint::black_box;
use std::net::{Ipv4Addr, Ipv6Addr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use encap::{Ends, Outer, ROOM, Stamp, Template, Tunnel, VXLAN_PORT, Vtep};
use packet::{FrameRef, Mac, Vni};

const FRAMES: usize = 64;
const NODES: usize = 1000;
/// Bytes from one slot to the next, as in the switch.
const STRIDE: usize = 2048 + 128;
const LENGTH: usize = 64;

fn stamps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stamp");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let kinds: [(&str, Make); 6] = [
        ("vxlan_v4", |node| Template::vxlan_v4(&ends_v4(node), Vni::FLANNEL, VXLAN_PORT)),
        ("vxlan_v4_checksum", |node| Template::vxlan_v4(&ends_v4(node), Vni::FLANNEL, VXLAN_PORT).with_udp_checksum()),
        ("vxlan_v6", |node| Template::vxlan_v6(&ends_v6(node), Vni::FLANNEL, VXLAN_PORT)),
        ("flannel_udp", |node| Template::flannel_udp(&ends_v4(node), VXLAN_PORT)),
        ("ipip", |node| Template::ipip(&ends_v4(node))),
        ("mixed", |node| match node % 2 {
            0 => Template::vxlan_v4(&ends_v4(node), Vni::FLANNEL, VXLAN_PORT),
            _ => Template::vxlan_v6(&ends_v6(node), Vni::FLANNEL, VXLAN_PORT),
        }),
    ];
    for (name, make) in kinds {
        for nodes in [1, NODES] {
            let templates: Vec<Template> = (0..nodes).map(|node| make(node as u8)).collect();
            let mut memory = vec![0u8; FRAMES * STRIDE];
            // Any order that no prefetcher guesses.
            let order: Vec<usize> = (0..FRAMES * 16).map(|place| place * 7919 % nodes).collect();
            let hashes: Vec<u32> = (0..FRAMES as u32).map(|frame| frame.wrapping_mul(0x9e37_79b9)).collect();
            let mut turn = 0;
            group.bench_function(format!("{name}_{nodes}"), |bench| {
                bench.iter(|| {
                    turn = (turn + 1) % 16;
                    let nodes = &order[turn * FRAMES..][..FRAMES];
                    let mut stamped = 0;
                    for ((slot, node), hash) in memory.chunks_exact_mut(STRIDE).zip(nodes).zip(&hashes) {
                        let room = slot[128 - ROOM..].first_chunk_mut::<ROOM>().expect("a slot has room");
                        let stamp = Stamp { length: LENGTH, flow_hash: *hash, tos: 0, id: *hash as u16 };
                        stamped += templates[*node].stamp(room, &stamp).unwrap_or_default();
                    }
                    black_box(&mut memory);
                    stamped
                });
            });
        }
    }
    group.finish();
}

/// Makes the template towards a node.
type Make = fn(u8) -> Template;

fn strips(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("strip");
    group.throughput(Throughput::Elements(FRAMES as u64));
    let own = Mac([2, 0, 0, 0, 0, 1]);
    let mut inner = vec![0; LENGTH];
    inner[..6].copy_from_slice(&own.0);
    inner[14] = 0x45;
    inner[17] = (LENGTH - 14) as u8;
    let vxlan = Tunnel::Vxlan(Vtep::new(Vni::FLANNEL, own));
    let ipv4 = Tunnel::Ipv4;
    let end = (ends_v4(0).remote, ends_v6(0).remote);

    let frame = slots(&Template::vxlan_v4(&ends_v4(0), Vni::FLANNEL, VXLAN_PORT), &inner);
    bench_strip(&mut group, ("vxlan_datagram", &frame, 42), |datagram| vxlan.strip(datagram).is_ok());
    bench_strip(&mut group, ("vxlan_v4_packet", &frame, 14), |packet| {
        let outer = Outer::udp(packet, (end.0, VXLAN_PORT).into(), false);
        outer.and_then(|outer| vxlan.strip(outer.payload)).is_ok()
    });
    let frame = slots(&Template::vxlan_v6(&ends_v6(0), Vni::FLANNEL, VXLAN_PORT), &inner);
    bench_strip(&mut group, ("vxlan_v6_packet_vouched", &frame, 14), |packet| {
        let outer = Outer::udp(packet, (end.1, VXLAN_PORT).into(), true);
        outer.and_then(|outer| vxlan.strip(outer.payload)).is_ok()
    });
    let frame = slots(&Template::flannel_udp(&ends_v4(0), VXLAN_PORT), &inner[14..]);
    bench_strip(&mut group, ("flannel_udp_datagram", &frame, 42), |datagram| ipv4.strip(datagram).is_ok());
    let frame = slots(&Template::ipip(&ends_v4(0)), &inner[14..]);
    bench_strip(&mut group, ("ipip_packet", &frame, 14), |packet| {
        Outer::ipip(packet, end.0).and_then(|outer| ipv4.strip(outer.payload)).is_ok()
    });
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// Strips 64 copies of a frame from its `start`th byte on.
fn bench_strip(
    group: &mut Group<'_>,
    (name, (length, memory), start): (&str, &(usize, Vec<u8>), usize),
    strip: impl Fn(FrameRef<'_>) -> bool,
) {
    group.bench_function(name, |bench| {
        bench.iter(|| {
            for frame in 0..FRAMES {
                let slot = frame * STRIDE;
                let head = black_box(&memory[slot + start..slot + length]);
                assert!(strip(FrameRef { head, tail: &[] }), "a good frame");
            }
        });
    });
}

/// A frame's length, and 64 slots with a copy of it at their start.
fn slots(template: &Template, inner: &[u8]) -> (usize, Vec<u8>) {
    let mut room = [0; ROOM];
    let stamp = Stamp { length: inner.len(), flow_hash: 7, tos: 0, id: 0 };
    let count = template.stamp(&mut room, &stamp).expect("it is short");
    let frame = [&room[ROOM - count..], inner].concat();
    let mut memory = vec![0; FRAMES * STRIDE];
    memory.chunks_mut(STRIDE).for_each(|slot| slot[..frame.len()].copy_from_slice(&frame));
    (frame.len(), memory)
}

fn ends_v4(node: u8) -> Ends<Ipv4Addr> {
    let (local, remote) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, node));
    Ends { local, remote, local_mac: Mac([2, 0, 0, 0, 1, 1]), remote_mac: Mac([2, 0, 0, 0, 1, node]) }
}

fn ends_v6(node: u8) -> Ends<Ipv6Addr> {
    let ends = ends_v4(node);
    let (local, remote) = (ends.local.to_ipv6_mapped(), ends.remote.to_ipv6_mapped());
    Ends { local, remote, local_mac: ends.local_mac, remote_mac: ends.remote_mac }
}

criterion_group!(benches, stamps, strips);
criterion_main!(benches);
