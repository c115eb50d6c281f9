//! Verdicts of programs of 10 to 10 000 rules, in a cluster of 50 000 endpoints: one at a time, each for another peer and port.
//!
//! `pairs` is as shipped; `bits` has no tables of pairs, so that rules which look at peer and port are looked up in sets of bits; `list` asks
//! the same rules one by one, as classes and ports, without any index.

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use policy::rule::{Order, Policy};
use policy::selector::Selector;
use policy::{Book, Tuple};

mod cluster;

use cluster::{ENDPOINTS, NAMESPACES, Random};

/// Too many for the branch predictor to learn by heart.
const PACKETS: usize = 65_536;
const TO: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);

fn verdict(criterion: &mut Criterion) {
    for rules in [10, 100, 1_000, 10_000] {
        let mut group = criterion.benchmark_group(format!("{rules}_rules"));
        group.throughput(Throughput::Elements(PACKETS as u64));
        for (name, places_max) in [("pairs", policy::book::PLACES_MAX), ("bits", 0)] {
            let book = book(rules, places_max);
            let local = cluster::endpoint(0).name;
            let (peers, program) = (book.peers(), &book.programs(&local).expect("it is local").ingress);
            let mut random = Random(0x5eed);
            let packets: Vec<Tuple> = (0..PACKETS).map(|_| cluster::packet(TO, &mut random)).collect();
            let allowed = packets.iter().filter(|packet| program.decide(peers, packet).allow).count();
            eprintln!(
                "{rules} rules, {name}: {} terms, {} KiB, {} % allowed",
                program.len(),
                program.bytes() >> 10,
                100 * allowed / PACKETS
            );
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    for packet in &packets {
                        black_box(program.decide(peers, packet));
                    }
                });
            });
        }
        group.finish();
    }
}

/// One endpoint with so many rules, among all others.
fn book(rules: u32, places_max: usize) -> Book {
    let mut book = Book::with_places_max(places_max);
    let mut random = Random(7);
    for number in 0..ENDPOINTS {
        let mut endpoint = cluster::endpoint(number);
        endpoint.is_local = number == 0;
        book.set_endpoint(endpoint);
    }
    let rule = |number: u32| cluster::rule(number % NAMESPACES, true, &mut random);
    let policy = Policy {
        name: "networkpolicy/ns0/all".into(),
        tier: "default".into(),
        order: Order(None),
        applies_to: Selector::All,
        ingress: Some((0..rules).map(rule).collect()),
        egress: None,
    };
    book.set_policy(policy).expect("no range is backwards");
    book.compile();
    book
}

criterion_group!(benches, verdict);
criterion_main!(benches);
