//! Lookups in the table of a large cluster: 5 000 pod ranges, 250 single hosts and a default route per family.
//!
//! Each case looks up the same 65 536 addresses, drawn from a fixed seed; `match` ones lie in a pod range, `miss` ones
//! reach only the default route.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use packet::Prefix;
use route_table::{Fib, NextHop, RouteTable};

const RANGES: u32 = 5_000;
const HOSTS: u32 = 250;
/// Too many for the branch predictor to learn by heart.
const ADDRESSES: usize = 65_536;
const BURST: usize = 32;
/// 10.128.0.0 and fd00:10:244::, where the pod ranges lie side by side.
const PODS_V4: u32 = 0x0a80_0000;
const PODS_V6: u128 = 0xfd00_0010_0244 << 80;

fn lookup(criterion: &mut Criterion) {
    let fib = cluster().reader();
    let mut random = Random(0x5eed);
    let pod_v4 = |random: &mut Random| PODS_V4 | random.below(RANGES) << 6 | random.below(64);
    let pod_v6 = |random: &mut Random| PODS_V6 | u128::from(random.below(RANGES)) << 64 | u128::from(random.below(64));

    let addresses = random.draw(pod_v4);
    case(criterion, "match_v4", (&fib, &addresses), Fib::lookup4, Fib::lookup4_burst);
    let addresses = random.draw(|random| 0xc000_0000 | random.below(1 << 30));
    case(criterion, "miss_v4", (&fib, &addresses), Fib::lookup4, Fib::lookup4_burst);
    let addresses = random.draw(pod_v6);
    case(criterion, "match_v6", (&fib, &addresses), Fib::lookup6, Fib::lookup6_burst);
}

fn case<A: Copy>(
    criterion: &mut Criterion,
    name: &str,
    (fib, addresses): (&Fib, &[A]),
    single: impl Fn(&Fib, A) -> NextHop,
    burst: impl Fn(&Fib, &[A], &mut [NextHop]),
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(ADDRESSES as u64));
    let mut out = [NextHop::NONE; BURST];
    group.bench_function("single", |bencher| {
        bencher.iter(|| {
            for to in addresses.chunks(BURST) {
                for (out, &to) in out.iter_mut().zip(to) {
                    *out = single(fib, to);
                }
                black_box(&mut out);
            }
        });
    });
    group.bench_function("burst", |bencher| {
        bencher.iter(|| {
            for to in addresses.chunks(BURST) {
                burst(fib, to, &mut out);
                black_box(&mut out);
            }
        });
    });
    group.finish();
}

fn update(criterion: &mut Criterion) {
    let mut table = cluster();
    let mut flap = |name: &str, prefix: &str| {
        let prefix: Prefix = prefix.parse().expect("a prefix");
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                table.insert(prefix, NextHop(9)).expect("room for one more route");
                table.remove(prefix).expect("the route just inserted");
                table.reclaim();
            });
        });
    };
    flap("update/host_v4", "10.200.1.1/32");
    flap("update/wide_v4", "10.0.0.0/8");
    flap("update/host_v6", "fd00:10:244:ffff::1/128");
}

fn cluster() -> RouteTable {
    let mut table = RouteTable::new();
    let mut insert = |address: IpAddr, length, hop: u32| {
        let prefix = Prefix::new(address, length).expect("no host bits");
        table.insert(prefix, NextHop(1 + hop as u16)).expect("room for a cluster");
    };
    for range in 0..RANGES {
        insert(Ipv4Addr::from(PODS_V4 | range << 6).into(), 26, range);
        insert(Ipv6Addr::from(PODS_V6 | u128::from(range) << 64).into(), 64, range);
    }
    for host in 0..HOSTS {
        insert(Ipv4Addr::from(PODS_V4 | (host * 20) << 6 | 5).into(), 32, RANGES + host);
        insert(Ipv6Addr::from(PODS_V6 | u128::from(host * 20) << 64 | 5).into(), 128, RANGES + host);
    }
    insert(Ipv4Addr::UNSPECIFIED.into(), 0, RANGES + HOSTS);
    insert(Ipv6Addr::UNSPECIFIED.into(), 0, RANGES + HOSTS);
    table
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same addresses in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as u32 % end
    }

    fn draw<A>(&mut self, mut next: impl FnMut(&mut Self) -> A) -> Vec<A> {
        (0..ADDRESSES).map(|_| next(self)).collect()
    }
}

criterion_group!(benches, lookup, update);
criterion_main!(benches);
