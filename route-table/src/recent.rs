//! One reader's recent IPv6 lookups.
//!
//! A lookup of a host route among clusters' prefixes goes through half a dozen nodes, each after the other; the same addresses
//! come again and again. Here an address is found by one look at one place:
//!
//! ```text
//!   address --hash--> entry | address 16 | epoch 4 | hop 2 |      right if the address and the epoch are
//! ```
//!
//! An epoch ends with any change of the table: an answer is the one before or the one after a change, as without. Under a storm
//! of changes nearly every lookup is one of the table. What two addresses share a place for, the later has. (For IPv4 this
//! would lose: its lookup is two loads.)

use std::sync::Arc;

use crate::{Fib, NextHop, v6};

/// What one reader has looked up last.
pub struct Recent {
    entries: Box<[Entry; ENTRIES]>,
    epoch: u32,
    /// Of this table, after so many changes.
    of: Option<(Arc<v6::Table>, u64)>,
    missed: Missed,
}

#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Entry {
    to: u128,
    epoch: u32,
    hop: NextHop,
}

/// Addresses that are not found, until they are looked up together.
struct Missed {
    to: [u128; TOGETHER],
    at: [u16; TOGETHER],
    hops: [NextHop; TOGETHER],
}

impl Recent {
    /// Nothing yet; all the memory it will ever need.
    pub fn new() -> Self {
        let entries = vec![Entry { to: 0, epoch: 0, hop: NextHop::NONE }; ENTRIES].into_boxed_slice();
        Recent {
            entries: entries.try_into().unwrap_or_else(|_| unreachable!("as many as were made")),
            epoch: 1,
            of: None,
            missed: Missed { to: [0; TOGETHER], at: [0; TOGETHER], hops: [NextHop::NONE; TOGETHER] },
        }
    }

    /// [`Fib::lookup6_burst`], with what is remembered. Panics when `out` is not as long as `to`.
    #[inline]
    pub fn lookup6_burst(&mut self, fib: &Fib, to: &[u128], out: &mut [NextHop]) {
        assert_eq!(to.len(), out.len(), "as many answers as addresses");
        self.keep_up(fib);
        for (to, out) in to.chunks(TOGETHER).zip(out.chunks_mut(TOGETHER)) {
            let mut count = 0;
            for (at, (&to, out)) in to.iter().zip(out.iter_mut()).enumerate() {
                let entry = &self.entries[place(to)];
                *out = entry.hop;
                (self.missed.to[count % TOGETHER], self.missed.at[count % TOGETHER]) = (to, at as u16);
                count += usize::from((entry.to != to) | (entry.epoch != self.epoch));
            }
            if count > 0 {
                self.look_up(fib, count.min(TOGETHER), out);
            }
        }
    }

    #[inline(never)]
    fn look_up(&mut self, fib: &Fib, count: usize, out: &mut [NextHop]) {
        let Missed { to, at, hops } = &mut self.missed;
        fib.lookup6_burst(&to[..count], &mut hops[..count]);
        for ((&to, &at), &hop) in to.iter().zip(&*at).zip(&*hops).take(count) {
            out[usize::from(at)] = hop;
            self.entries[place(to)] = Entry { to, epoch: self.epoch, hop };
        }
    }

    /// Forgets everything if the table is another or has changed. What is looked up afterwards may be newer, never older.
    #[inline]
    fn keep_up(&mut self, fib: &Fib) {
        let changes = fib.v6.changes.load();
        if !self.of.as_ref().is_some_and(|(table, seen)| Arc::ptr_eq(table, &fib.v6) && *seen == changes) {
            self.forget(fib, changes);
        }
    }

    fn forget(&mut self, fib: &Fib, changes: u64) {
        match &mut self.of {
            Some((table, seen)) if Arc::ptr_eq(table, &fib.v6) => *seen = changes,
            of => *of = Some((Arc::clone(&fib.v6), changes)),
        }
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.entries.iter_mut().for_each(|entry| entry.epoch = 0);
            self.epoch = 1;
        }
    }
}

impl Default for Recent {
    fn default() -> Self {
        Recent::new()
    }
}

/// Where an address is remembered. Its halves are mixed by one multiplication.
#[inline]
fn place(to: u128) -> usize {
    let folded = (to as u64).wrapping_add(((to >> 64) as u64).rotate_left(29));
    (folded.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - ENTRIES.ilog2())) as usize
}

/// Of 32 bytes.
const ENTRIES: usize = 1 << 12;
const TOGETHER: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RouteTable;

    proptest! {
        /// Two tables in turn, changed in between, and more addresses than there are places for.
        #[test]
        fn answers_are_the_tables(steps in prop::collection::vec((0usize..2, 0u8..40, 0u8..3, 1u16..9), 1..60)) {
            let mut tables = [RouteTable::new(), RouteTable::new()];
            let mut recent = Recent::new();
            let base = 0xfd00_u128 << 112;
            for (which, at, what, hop) in steps {
                let table = &mut tables[which];
                let length = [128, 126, 64][usize::from(at) % 3];
                let prefix = format!("{}/{length}", std::net::Ipv6Addr::from_bits(base | u128::from(at & !3))).parse();
                if length > 64 || at == 0 {
                    let prefix = prefix.unwrap();
                    match what {
                        0 => _ = table.insert(prefix, NextHop(hop)).unwrap(),
                        1 => _ = table.remove(prefix),
                        _ => {}
                    }
                }
                let fib = table.reader();
                let to: Vec<u128> = (0..50).map(|low| base | low << (u32::from(hop) % 3)).collect();
                let (mut found, mut right) = (vec![NextHop::NONE; 50], vec![NextHop::NONE; 50]);
                recent.lookup6_burst(&fib, &to, &mut found);
                fib.lookup6_burst(&to, &mut right);
                prop_assert_eq!(&found, &right);
                recent.lookup6_burst(&fib, &to, &mut found);
                prop_assert_eq!(&found, &right);
            }
        }
    }

    #[test]
    fn an_epoch_that_wraps_around_remembers_nothing() {
        let mut table = RouteTable::new();
        let (mut recent, fib) = (Recent::new(), table.reader());
        let mut out = [NextHop::NONE];
        recent.lookup6_burst(&fib, &[1], &mut out);
        recent.epoch = u32::MAX;
        table.insert("::1/128".parse().unwrap(), NextHop(5)).unwrap();
        recent.lookup6_burst(&fib, &[1], &mut out);
        assert_eq!((out[0], recent.epoch), (NextHop(5), 1));
    }
}
