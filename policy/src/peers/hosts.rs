//! Single addresses and their classes, in shards of open addressing.

use std::sync::Arc;

use super::Class;

/// Classes by address.
#[derive(Debug, Clone)]
pub(super) struct Hosts<K> {
    shards: Arc<[Arc<Shard<K>>]>,
}

/// At most half of the slots are used, so a search ends soon.
#[derive(Debug, Clone)]
struct Shard<K> {
    slots: Box<[(K, u32)]>,
    used: usize,
}

/// An address as a number.
pub(super) trait Key: Copy + Eq + Ord + Default {
    /// Well mixed bits. Addresses are given by whoever runs the cluster, so a seed is not needed.
    fn hash(self) -> u64;
    /// The leading bits of an IPv4 address, by which intervals are found; 0 for IPv6, whose leading bits are much the same.
    fn leading(self) -> usize;
    /// The next address; none after the last.
    fn next(self) -> Option<Self>;
}

impl<K: Key> Hosts<K> {
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<Class> {
        let hash = key.hash();
        let slots = &self.shards[shard_of(hash)].slots;
        let mask = slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let (found, class) = slots[at];
            if class == EMPTY {
                return None;
            }
            if found == key {
                return Some(Class(class));
            }
            at = (at + 1) & mask;
        }
    }

    pub(super) fn set(&mut self, key: K, class: Option<Class>) {
        let hash = key.hash();
        let shards = Arc::make_mut(&mut self.shards);
        let shard = Arc::make_mut(&mut shards[shard_of(hash)]);
        match class {
            Some(class) => shard.insert(key, class.0),
            None => shard.remove(key),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let slots: usize = self.shards.iter().map(|shard| shard.slots.len()).sum();
        slots * size_of::<(K, u32)>() + SHARDS * (size_of::<Arc<Shard<K>>>() + size_of::<Shard<K>>())
    }
}

impl<K: Key> Default for Hosts<K> {
    fn default() -> Self {
        let empty = Arc::new(Shard { slots: Box::new([(K::default(), EMPTY)]), used: 0 });
        Self { shards: vec![empty; SHARDS].into() }
    }
}

impl<K: Key> Shard<K> {
    fn insert(&mut self, key: K, class: u32) {
        let at = self.find(key);
        if self.slots[at].1 != EMPTY {
            self.slots[at].1 = class;
            return;
        }
        if (self.used + 1) * 2 > self.slots.len() {
            self.grow();
        }
        let at = self.find(key);
        self.slots[at] = (key, class);
        self.used += 1;
    }

    fn remove(&mut self, key: K) {
        let mask = self.slots.len() - 1;
        let mut at = self.find(key);
        if self.slots[at].1 == EMPTY {
            return;
        }
        self.slots[at].1 = EMPTY;
        self.used -= 1;
        // What lies behind may have been pushed on from here.
        at = (at + 1) & mask;
        while self.slots[at].1 != EMPTY {
            let (key, class) = self.slots[at];
            self.slots[at].1 = EMPTY;
            let place = self.find(key);
            self.slots[place] = (key, class);
            at = (at + 1) & mask;
        }
    }

    fn grow(&mut self) {
        let wider = vec![(K::default(), EMPTY); (self.slots.len() * 2).max(4)].into();
        for (key, class) in std::mem::replace(&mut self.slots, wider) {
            if class != EMPTY {
                let at = self.find(key);
                self.slots[at] = (key, class);
            }
        }
    }

    /// Where the key is, or where it would go.
    fn find(&self, key: K) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = key.hash() as usize & mask;
        while self.slots[at].1 != EMPTY && self.slots[at].0 != key {
            at = (at + 1) & mask;
        }
        at
    }
}

impl Key for u32 {
    #[inline]
    fn hash(self) -> u64 {
        let product = u64::from(self).wrapping_mul(MIX);
        product ^ product >> 32
    }

    #[inline]
    fn leading(self) -> usize {
        self as usize >> 16
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

impl Key for u128 {
    #[inline]
    fn hash(self) -> u64 {
        let product =
            ((self >> 64) as u64 ^ MIX) as u128 * u128::from((self as u64).rotate_left(32) ^ MIX.rotate_left(17));
        let folded = product as u64 ^ (product >> 64) as u64;
        let mixed = folded.wrapping_mul(MIX);
        mixed ^ mixed >> 32
    }

    #[inline]
    fn leading(self) -> usize {
        0
    }

    fn next(self) -> Option<Self> {
        self.checked_add(1)
    }
}

fn shard_of(hash: u64) -> usize {
    (hash >> 56) as usize % SHARDS
}

const SHARDS: usize = 256;
/// No class has this number.
const EMPTY: u32 = u32::MAX;
/// 2^64 divided by the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn addresses_come_and_go_as_in_a_map_and_a_clone_stays_as_it_was() {
        let (mut hosts, mut map, mut state) = (Hosts::<u32>::default(), HashMap::new(), 1_u64);
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        let mut earlier = (hosts.clone(), map.clone());
        for step in 0..20_000 {
            let key = 0x0af4_0000 | (random() % 4096);
            let class = (random() % 3 > 0).then(|| Class(random() % 50));
            hosts.set(key, class);
            match class {
                Some(class) => map.insert(key, class),
                None => map.remove(&key),
            };
            if step % 1000 == 0 {
                for key in 0x0af4_0000..0x0af4_1000 {
                    assert_eq!(hosts.get(key), map.get(&key).copied());
                    assert_eq!(earlier.0.get(key), earlier.1.get(&key).copied());
                }
                earlier = (hosts.clone(), map.clone());
            }
        }
    }
}
