//! A cluster of 2 000 nodes with 50 000 endpoints and 1 000 policies, as one node sees it: how long the first compile takes, how long
//! changes take after it, and what it takes of memory.
//!
//! Each figure is the least and the median of several; the clock runs from the change to the programs.

use std::fs;
use std::time::{Duration, Instant};

use policy::{Book, Changes};

mod cluster;

use cluster::{ENDPOINTS, NODES, Random};

const POLICIES: u32 = 1_000;
const ROUNDS: u32 = 51;

fn main() {
    let before = resident();
    let began = Instant::now();
    let mut book = Book::new();
    let endpoints: Vec<_> = (0..ENDPOINTS).map(cluster::endpoint).collect();
    let mut random = Random(3);
    let policies: Vec<_> = (0..POLICIES).map(|number| cluster::policy(number, &mut random)).collect();
    println!(
        "drawn in {:?}, {} bytes for each endpoint as told",
        began.elapsed(),
        (resident() - before) / u64::from(ENDPOINTS)
    );
    let (before, began) = (resident(), Instant::now());
    for endpoint in endpoints {
        book.set_endpoint(endpoint);
    }
    for policy in policies {
        book.set_policy(policy).expect("no range is backwards");
    }
    let told = began.elapsed();
    let changes = book.compile();
    println!(
        "first compile: {:?}, of which {told:?} for taking it in; {} endpoints have programs",
        began.elapsed(),
        changes.programs.len()
    );
    let compiled = resident() - before;
    println!(
        "memory: {} bytes for each endpoint to compile, of which programs and classes of addresses take {} KiB in all",
        compiled / u64::from(ENDPOINTS),
        book.bytes() >> 10
    );
    figure("a remote endpoint's label changes to that of another application", |round| {
        let mut endpoint = cluster::endpoint(1 + round * 7);
        endpoint.labels.insert("app".into(), format!("app{}", round % 20).into());
        book.set_endpoint(endpoint);
        book.compile()
    });
    figure("a remote endpoint comes that is like others", |round| {
        let mut endpoint = cluster::endpoint(1 + round * 11);
        endpoint.name = format!("{}-more", endpoint.name).into();
        endpoint.addresses = vec![std::net::Ipv4Addr::from(0x0a80_0000 + round).into()];
        book.set_endpoint(endpoint);
        book.compile()
    });
    figure("a local endpoint's label changes", |round| {
        let mut endpoint = cluster::endpoint(NODES);
        endpoint.labels.insert("app".into(), format!("app{}", round % 20).into());
        book.set_endpoint(endpoint);
        book.compile()
    });
    figure("a policy that selects local endpoints changes", |round| {
        let mut random = Random(round.into());
        let mut policy = cluster::policy(0, &mut random);
        policy.applies_to = policy::selector::Selector::All;
        book.set_policy(policy).expect("no range is backwards");
        book.compile()
    });
    figure("a policy that selects none changes", |round| {
        let mut random = Random(round.into());
        book.set_policy(cluster::policy(9, &mut random)).expect("no range is backwards");
        book.compile()
    });
}

/// What a change takes, and how many programs it makes others.
fn figure(name: &str, mut change: impl FnMut(u32) -> Changes) {
    let mut programs = 0;
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let began = Instant::now();
            let changes = change(round);
            let took = began.elapsed();
            programs += changes.programs.len();
            took
        })
        .collect();
    times.sort_unstable();
    let [least, median, most] = [0, times.len() / 2, times.len() - 1].map(|at| times[at]);
    println!(
        "{name}: least {least:?}, median {median:?}, most {most:?}; {programs} endpoints with other programs in {ROUNDS} rounds"
    );
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").expect("proc is mounted");
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    resident.expect("the second number is resident pages") * 4096
}
