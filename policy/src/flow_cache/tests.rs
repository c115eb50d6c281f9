use std::collections::{HashMap, HashSet};

use proptest::{collection::vec, prelude::*};

use super::*;

const SEED: [u64; 2] = [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344];

fn cache(flows: usize) -> FlowCache {
    FlowCache::new(flows, SEED)
}

fn key(number: u64) -> FlowKey {
    FlowKey([number << 32 | 7, number])
}

#[test]
fn a_flow_is_found_once_it_was_inserted_with_its_newest_value() {
    let mut cache = cache(3);
    assert_eq!(cache.lookup(key(1)), None);
    cache.insert(key(1), 10);
    assert_eq!((cache.lookup(key(1)), cache.lookup(key(2))), (Some(10), None));
    cache.insert(key(1), u32::MAX);
    assert_eq!((cache.lookup(key(1)), cache.evicted()), (Some(u32::MAX), 0));
}

#[test]
fn an_empty_place_is_no_flow_of_zeroes() {
    let (mut cache, zeroes) = (cache(3), FlowKey([0; 2]));
    cache.insert(key(1), 10);
    assert_eq!(cache.lookup(zeroes), None);
    cache.insert(zeroes, 0);
    assert_eq!(cache.lookup(zeroes), Some(0));
}

#[test]
fn flows_that_differ_in_one_bit_are_told_apart_in_one_bucket() {
    for bit in 0..128 {
        let mut cache = cache(3);
        let flipped = FlowKey([key(5).0[0] ^ (1_u128 << bit) as u64, key(5).0[1] ^ (1_u128 << bit >> 64) as u64]);
        cache.insert(key(5), 1);
        assert_eq!(cache.lookup(flipped), None, "bit {bit}");
        cache.insert(flipped, 2);
        assert_eq!((cache.lookup(key(5)), cache.lookup(flipped)), (Some(1), Some(2)), "bit {bit}");
    }
}

#[test]
fn a_full_bucket_gives_up_what_was_not_used_in_this_epoch_first() {
    let mut cache = cache(3);
    (1..=3).for_each(|number| cache.insert(key(number), number as u32));
    cache.next_epoch();
    cache.lookup(key(1));
    cache.lookup(key(3));
    cache.insert(key(4), 4);
    assert_eq!([1, 2, 3, 4].map(|number| cache.lookup(key(number))), [Some(1), None, Some(3), Some(4)]);
    assert_eq!(cache.evicted(), 1);
}

#[test]
fn colliding_flows_evict_each_other_in_turn_and_are_counted() {
    let mut cache = cache(3);
    (0..100).for_each(|number| cache.insert(key(number), number as u32));
    assert_eq!(cache.evicted(), 97);
    let left: Vec<u64> = (0..100).filter(|&number| cache.lookup(key(number)).is_some()).collect();
    assert_eq!(left, [97, 98, 99]);
}

#[test]
fn a_flow_lives_through_the_epoch_after_its_last_use_and_no_longer() {
    let mut cache = cache(3);
    cache.insert(key(1), 10);
    for _ in 0..5 {
        cache.next_epoch();
        assert_eq!(cache.lookup(key(1)), Some(10));
    }
    cache.next_epoch();
    cache.next_epoch();
    assert_eq!((cache.lookup(key(1)), cache.evicted()), (None, 0));
    cache.insert(key(2), 20);
    cache.next_epoch();
    // Touching the bucket is no use of the flow.
    assert_eq!(cache.lookup(key(3)), None);
    cache.next_epoch();
    assert_eq!(cache.lookup(key(2)), None);
}

#[test]
fn all_is_forgotten_at_once() {
    let mut cache = cache(300);
    (0..100).for_each(|number| cache.insert(key(number), 1));
    cache.forget_all();
    assert!((0..100).all(|number| cache.lookup(key(number)).is_none()));
    cache.insert(key(1), 2);
    assert_eq!(cache.lookup(key(1)), Some(2));
}

#[test]
fn a_bucket_left_alone_for_all_epochs_there_are_does_not_come_back() {
    for last in [EPOCH_MAX - 1, EPOCH_MAX] {
        let mut cache = cache(3);
        cache.insert(key(1), 10);
        cache.epoch = last;
        cache.forget_all();
        assert_eq!((cache.epoch, cache.lookup(key(1))), (0, None));
    }
    let mut cache = cache(3);
    cache.epoch = EPOCH_MAX;
    cache.insert(key(1), 10);
    assert_eq!(cache.lookup(key(1)), Some(10));
    cache.next_epoch();
    assert_eq!(cache.lookup(key(1)), None);
}

#[test]
fn its_size_is_the_limit_asked_for_or_somewhat_more() {
    for (asked, limit) in [(0, 3), (1, 3), (3, 3), (4, 6), (1000, 1536)] {
        assert_eq!(cache(asked).limit(), limit, "{asked}");
    }
}

#[test]
fn flows_of_real_addresses_spread_over_the_buckets() {
    let mut cache = cache(3 * 4096);
    let flow = |number: u32| {
        let pod = Ipv4Addr::from_bits(0x0af4_0100 + number % 64);
        FlowKey::v4((pod, 32_768 + (number / 64) as u16), (Ipv4Addr::new(10, 96, 0, 1), 443), 6, 0)
    };
    let places: HashSet<usize> = (0..4096).map(|number| cache.place(flow(number))).collect();
    // Chance alone would put as many flows as there are buckets into 1 - 1/e of them: 2 589.
    assert!(places.len() > 2400, "{}", places.len());
    (0..4096).for_each(|number| cache.insert(flow(number), number));
    assert!(cache.evicted() < 200, "{}", cache.evicted());
}

#[test]
fn each_part_of_an_ipv4_flow_tells() {
    let (one, other) = ((Ipv4Addr::new(10, 0, 0, 1), 80), (Ipv4Addr::new(10, 0, 0, 2), 81));
    let keys: HashSet<FlowKey> = [
        FlowKey::v4(one, other, 6, 0),
        FlowKey::v4(other, one, 6, 0),
        FlowKey::v4(one, other, 17, 0),
        FlowKey::v4(one, other, 6, 1),
        FlowKey::v4((one.0, 81), other, 6, 0),
        FlowKey::v4(one, (other.0, 80), 6, 0),
        FlowKey::v4((other.0, 80), other, 6, 0),
        FlowKey::v4(one, (one.0, 81), 6, 0),
    ]
    .into();
    assert_eq!(keys.len(), 8);
}

#[derive(Debug, Clone)]
enum Step {
    Insert(u64, u32),
    Lookup(u64),
    LookupBurst(Vec<u64>),
    NextEpoch,
    ForgetAll,
}

fn step() -> impl Strategy<Value = Step> {
    let flow = || 0..12_u64;
    prop_oneof![
        4 => (flow(), any::<u32>()).prop_map(|(flow, value)| Step::Insert(flow, value)),
        4 => flow().prop_map(Step::Lookup),
        2 => vec(flow(), 0..80).prop_map(Step::LookupBurst),
        2 => Just(Step::NextEpoch),
        1 => Just(Step::ForgetAll),
    ]
}

/// A map that forgets nothing but what must be forgotten: the value and the epoch of the last use.
#[derive(Default)]
struct Model {
    flows: HashMap<u64, (u32, u32)>,
    epoch: u32,
}

impl Model {
    /// What the cache may say; when it says so, that was a use.
    fn agrees(&mut self, flow: u64, found: Option<u32>) -> bool {
        let Some(found) = found else {
            self.flows.remove(&flow);
            return true;
        };
        let Some((value, used)) = self.flows.get_mut(&flow) else { return false };
        let may = found == *value && *used + 1 >= self.epoch;
        *used = self.epoch;
        may
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Twelve flows in one bucket, two or four: much is forgotten, but what is found is right, recent, and was not forgotten before.
    #[test]
    fn it_may_forget_but_never_lies(buckets in 0..3_u32, seed in any::<[u64; 2]>(), steps in vec(step(), 0..200)) {
        let (mut cache, mut model) = (FlowCache::new(WAYS << buckets, seed), Model::default());
        for step in steps {
            match step {
                Step::Insert(flow, value) => {
                    cache.insert(key(flow), value);
                    model.flows.insert(flow, (value, model.epoch));
                    prop_assert_eq!(cache.lookup(key(flow)), Some(value), "the newest flow is there");
                }
                Step::Lookup(flow) => prop_assert!(model.agrees(flow, cache.lookup(key(flow)))),
                Step::LookupBurst(flows) => {
                    let keys: Vec<FlowKey> = flows.iter().copied().map(key).collect();
                    let mut values = vec![Some(1); keys.len()];
                    cache.lookup_burst(&keys, &mut values);
                    for (flow, value) in flows.into_iter().zip(values) {
                        prop_assert!(model.agrees(flow, value));
                        prop_assert_eq!(cache.lookup(key(flow)), value, "a burst finds what a single lookup finds");
                    }
                }
                Step::NextEpoch => {
                    cache.next_epoch();
                    model.epoch += 1;
                }
                Step::ForgetAll => {
                    cache.forget_all();
                    model.flows.clear();
                    model.epoch += 2;
                }
            }
        }
    }

    /// No more flows than a bucket has room for: nothing is forgotten before its time.
    #[test]
    fn what_has_room_is_kept_until_it_is_old(steps in vec((0..3_u64, any::<bool>(), 0..3_u32), 0..100)) {
        let (mut cache, mut last_use, mut epoch) = (cache(3), [None::<u32>; 3], 0);
        for (flow, inserts, epochs) in steps {
            (0..epochs).for_each(|_| cache.next_epoch());
            epoch += epochs;
            let is_there = last_use[flow as usize].is_some_and(|used| used + 1 >= epoch);
            prop_assert_eq!(cache.lookup(key(flow)).is_some(), is_there);
            if inserts {
                cache.insert(key(flow), 1);
            }
            last_use[flow as usize] = (is_there || inserts).then_some(epoch);
        }
        prop_assert_eq!(cache.evicted(), 0);
    }
}
