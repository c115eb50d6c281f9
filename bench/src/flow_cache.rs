//! The flow cache beside the standard hash map and DPDK's: reference cycles per flow found.
//!
//! | contestant | what it is |
//! |---|---|
//! | ours | [`policy::FlowCache`], with a limit of twice the flows |
//! | `hash_map` | the standard hash map with the hash of `rustc-hash` (Fx) |
//! | `rte_hash` | DPDK's, in bulk, with room for twice the flows |
//!
//! All flows are inserted, then looked up in random order, 32 at once or one by one, and what is found is checked. The case is how
//! many flows there are. A cache may forget: a lookup that finds nothing counts like one that does, and how many there were is said.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use std::{collections::HashMap, thread};

use indicatif::ProgressBar;
use policy::{FlowCache, FlowKey};
use rustc_hash::FxBuildHasher;

use crate::dpdk;
use crate::error::{Error, Result};
use crate::interrupt;
use crate::machine::{self, Machine};
use crate::report::{Better, Comparison, Report};

/// What to measure, and how often.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often everything is measured.
    pub rounds: usize,
    /// About how long each figure is counted.
    pub counted: Duration,
}

/// Runs the plan; `progress` advances once per figure.
pub fn run(plan: &Plan, machine: Machine, progress: &ProgressBar) -> Result<Report> {
    let dpdk = dpdk::Program::build("flow_cache", include_str!("../dpdk/flow_cache.c"))?;
    let cpu = *machine::available_cpus()?.last().expect("this runs on some CPU");
    let mhz = machine::reference_mhz()?;
    progress.set_length((plan.rounds * FLOWS.len() * BURSTS.len() * 3) as u64);
    let (mut results, mut forgotten) = (Vec::new(), Vec::new());
    for flows in FLOWS {
        let mut tables = thread::scope(|scope| scope.spawn(|| Tables::new(flows)).join().expect("flows are inserted"));
        forgotten.push(tables.forgotten());
        for burst in BURSTS {
            let mut figures: [Vec<f64>; 3] = Default::default();
            let mut add = |who: usize, millions_a_second: f64| {
                figures[who].push(mhz / millions_a_second);
                progress.inc(1);
            };
            for _ in 0..plan.rounds {
                interrupt::check()?;
                progress.set_message(format!("{flows} flows, {burst} at once"));
                let [ours, map] = tables.measure(burst, plan.counted, cpu)?;
                add(0, ours);
                add(1, map);
                if let Some(dpdk) = &dpdk {
                    let lookups = ((ours * 1e6 * plan.counted.as_secs_f64() / 4.0) as u64).next_multiple_of(64);
                    let numbers = [cpu as u64, flows.into(), burst as u64, lookups].map(|number| number.to_string());
                    let figure = dpdk.figure(&numbers.each_ref().map(String::as_str)).map_err(Error::of("rte_hash"))?;
                    add(2, figure);
                }
            }
            let [ours, map, rte] = &figures;
            let peers: [(&str, &[f64]); 2] = [("hash_map", map), ("rte_hash", rte)];
            let metric = format!("flow_cache{burst}_cycles");
            let case = format!("{flows} flows");
            results.extend(Comparison::new(
                (&metric, Better::Lower),
                case,
                ours,
                &peers[..1 + usize::from(dpdk.is_some())],
            ));
        }
    }
    let mut report = Report::new("flow-cache", machine, plan.rounds, results);
    let dpdk = dpdk.map_or("left out: apt-get install libdpdk-dev pkg-config".to_owned(), |dpdk| dpdk.version);
    let forgotten: Vec<String> = forgotten.iter().map(|share| format!("{:.1} %", 100.0 * share)).collect();
    report.conditions = Some(format!(
        "reference cycles ({mhz} MHz) per flow looked up; flows forgotten for lack of room: {}; DPDK {dpdk}",
        forgotten.join(", ")
    ));
    Ok(report)
}

/// What is looked into, and in which order.
struct Tables {
    cache: FlowCache,
    map: HashMap<(u64, u64), u32, FxBuildHasher>,
    order: Vec<FlowKey>,
    /// Of each flow in that order, its value.
    expected: Vec<u32>,
}

impl Tables {
    fn new(flows: u32) -> Self {
        let mut state = 1;
        let expected: Vec<u32> = (0..ORDER).map(|_| (next_random(&mut state) % u64::from(flows)) as u32).collect();
        let mut cache = FlowCache::new(2 * flows as usize, [next_random(&mut state), next_random(&mut state)]);
        let mut map = HashMap::with_capacity_and_hasher(2 * flows as usize, FxBuildHasher);
        for number in 0..flows {
            let key = key_of(number);
            cache.insert(key, number);
            map.insert(key.0.into(), number);
        }
        Self { cache, map, order: expected.iter().copied().map(key_of).collect(), expected }
    }

    /// The share of the flows in order that the cache has no more.
    fn forgotten(&mut self) -> f64 {
        let gone = self.order.iter().filter(|&&key| self.cache.lookup(key).is_none()).count();
        gone as f64 / ORDER as f64
    }

    /// Millions of lookups a second on a CPU: of the cache, of the map.
    fn measure(&mut self, burst: usize, counted: Duration, cpu: usize) -> Result<[f64; 2]> {
        thread::scope(|scope| {
            let measuring = scope.spawn(|| machine::pin(Some(cpu)).map(|()| self.rates(burst, counted)));
            measuring.join().expect("what is found is right")
        })
    }

    fn rates(&mut self, burst: usize, counted: Duration) -> [f64; 2] {
        let Self { cache, map, order, expected } = self;
        let find = |key: FlowKey| map.get(&key.0.into()).copied();
        if burst == 1 {
            [
                rate(counted, &mut || one_by_one(order, expected, |key| cache.lookup(key))),
                rate(counted, &mut || one_by_one(order, expected, find)),
            ]
        } else {
            let fill = |keys: &[FlowKey], values: &mut [Option<u32>]| {
                values.iter_mut().zip(keys).for_each(|(value, &key)| *value = find(key));
            };
            [
                rate(counted, &mut || in_bursts(order, expected, |keys, values| cache.lookup_burst(keys, values))),
                rate(counted, &mut || in_bursts(order, expected, fill)),
            ]
        }
    }
}

/// Passes over the whole order until the time is up: millions of lookups a second. A pass returns 0 if all it found was right.
fn rate(counted: Duration, pass: &mut dyn FnMut() -> u32) -> f64 {
    let mut difference = pass();
    let (began, mut passes) = (Instant::now(), 0);
    while began.elapsed() < counted {
        difference |= pass();
        passes += 1;
    }
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(difference, 0, "another value was found than was put in");
    f64::from(passes) * ORDER as f64 / seconds / 1e6
}

fn one_by_one(order: &[FlowKey], expected: &[u32], mut lookup: impl FnMut(FlowKey) -> Option<u32>) -> u32 {
    order.iter().zip(expected).fold(0, |all, (&key, &expected)| all | differ(lookup(key), expected))
}

fn in_bursts(order: &[FlowKey], expected: &[u32], mut lookup: impl FnMut(&[FlowKey], &mut [Option<u32>])) -> u32 {
    let (mut values, mut difference) = ([None; BURST], 0);
    for (keys, expected) in order.chunks_exact(BURST).zip(expected.chunks_exact(BURST)) {
        lookup(keys, &mut values);
        difference |= values.iter().zip(expected).fold(0, |all, (&value, &expected)| all | differ(value, expected));
    }
    difference
}

/// Not 0 if another value was found than was put in; to have forgotten is right.
#[inline(always)]
fn differ(value: Option<u32>, expected: u32) -> u32 {
    value.unwrap_or(expected) ^ expected
}

/// As in `bench/dpdk/flow_cache.c`.
fn key_of(number: u32) -> FlowKey {
    let from = (Ipv4Addr::from_bits(0x0af4_0000 + number % 4096), 1024 + (number / 4096) as u16);
    FlowKey::v4(from, (Ipv4Addr::new(10, 96, 0, 1), 443), 6, 0)
}

/// splitmix64, as in `bench/dpdk/flow_cache.c`.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

const FLOWS: [u32; 3] = [1_000, 16_000, 1_000_000];
const BURST: usize = 32;
const BURSTS: [usize; 2] = [BURST, 1];
/// Lookups of a pass.
const ORDER: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_found_by_all_and_few_are_forgotten() {
        let mut tables = Tables::new(1_000);
        assert!(tables.forgotten() < 0.05);
        for burst in BURSTS {
            let figures =
                tables.measure(burst, Duration::from_millis(1), machine::available_cpus().unwrap()[0]).unwrap();
            assert!(figures.iter().all(|&figure| figure > 0.0));
        }
        tables.cache.forget_all();
        assert_eq!(tables.forgotten(), 1.0);
    }

    #[test]
    #[should_panic(expected = "what is found is right")]
    fn a_wrong_value_is_noticed() {
        let mut tables = Tables::new(1_000);
        tables.expected[7] += 1;
        let _ = tables.measure(32, Duration::from_millis(1), machine::available_cpus().unwrap()[0]);
    }
}
