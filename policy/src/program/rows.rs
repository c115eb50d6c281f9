//! Which row a class of peers has, and what a row holds.

use std::sync::Arc;

use super::bits::Bits;
use crate::peers::Class;
use crate::rule::Family;

/// Rows by class. Clones share all rows.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    /// Class and row, by open addressing; at most half of the places are used.
    places: Arc<[(u32, u32)]>,
    used: usize,
    rows: Arc<Vec<Row>>,
}

/// What holds for peers of some classes.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// For each segment the first term that looks at the peer alone; then the tests that hold and that terms with a service ask too.
    words: Arc<[u32]>,
    /// The terms that this peer will do for, among those that are looked up in sets of bits; none where there are no such.
    pub(super) further: Option<Arc<Bits>>,
}

impl Rows {
    /// Two rows for addresses of classes that are not known here, of IPv4 and IPv6.
    pub(super) fn new(others: [Row; 2]) -> Self {
        Self { places: Arc::new([(EMPTY, 0)]), used: 0, rows: Arc::new(others.into()) }
    }

    #[inline]
    pub(super) fn of(&self, class: Class, family: Family) -> &Row {
        let row = self.find(class).1;
        let other = match family {
            Family::V4 => 0,
            Family::V6 => 1,
        };
        &self.rows[if row == EMPTY { other } else { row as usize }]
    }

    /// Where the class is, or may go, and its row.
    #[inline]
    fn find(&self, class: Class) -> (usize, u32) {
        let mask = self.places.len() - 1;
        let mut at = place_of(class) & mask;
        loop {
            let (found, row) = self.places[at];
            if found == class.0 {
                return (at, row);
            }
            if found == EMPTY {
                return (at, EMPTY);
            }
            at = (at + 1) & mask;
        }
    }

    /// Gives a class a row.
    pub(super) fn set(&mut self, class: Class, row: u32) {
        let (at, before) = self.find(class);
        if before == EMPTY {
            self.used += 1;
            if self.used * 2 > self.places.len() {
                let mut wider: Arc<[_]> = vec![(EMPTY, 0); (self.places.len() * 2).max(8)].into();
                std::mem::swap(&mut wider, &mut self.places);
                for &(class, row) in wider.iter().filter(|(class, _)| *class != EMPTY) {
                    self.put(Class(class), row);
                }
            }
            self.put(class, row);
        } else {
            Arc::make_mut(&mut self.places)[at].1 = row;
        }
    }

    /// Takes a class its row.
    pub(super) fn remove(&mut self, class: Class) {
        let (mut at, row) = self.find(class);
        if row == EMPTY {
            return;
        }
        self.used -= 1;
        let mask = self.places.len() - 1;
        Arc::make_mut(&mut self.places)[at].0 = EMPTY;
        // What lies behind may have been pushed on from here.
        at = (at + 1) & mask;
        while self.places[at].0 != EMPTY {
            let (class, row) = self.places[at];
            Arc::make_mut(&mut self.places)[at].0 = EMPTY;
            self.put(Class(class), row);
            at = (at + 1) & mask;
        }
    }

    /// Puts in the place of row number `at`, or behind the last.
    pub(super) fn put_row(&mut self, at: usize, row: Row) {
        let rows = Arc::make_mut(&mut self.rows);
        if at == rows.len() {
            rows.push(row);
        } else {
            rows[at] = row;
        }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn put(&mut self, class: Class, row: u32) {
        let (at, _) = self.find(class);
        Arc::make_mut(&mut self.places)[at] = (class.0, row);
    }

    pub(super) fn bytes(&self) -> usize {
        let rows = self.rows.iter().map(|row| {
            size_of::<Row>() + size_of_val(&*row.words) + row.further.as_ref().map_or(0, |bits| bits.bytes())
        });
        size_of_val(&*self.places) + rows.sum::<usize>()
    }
}

impl Row {
    pub(super) fn new(firsts: &[u32], tests: &[u32], further: Option<Bits>) -> Self {
        Self { words: firsts.iter().chain(tests).copied().collect(), further: further.map(Arc::new) }
    }

    /// A row of no class.
    pub(super) fn unused() -> Self {
        Self::new(&[], &[], None)
    }

    /// The firsts, by segment, of terms that look at the peer alone, and the tests to look up with the service.
    #[inline]
    pub(super) fn parts(&self, segments: usize) -> (&[u32], &[u32]) {
        self.words.split_at(segments)
    }
}

#[inline]
fn place_of(class: Class) -> usize {
    class.0.wrapping_mul(MIX) as usize >> 8
}

/// No class and no row has this number.
const EMPTY: u32 = u32::MAX;
/// 2^32 divided by the golden ratio.
const MIX: u32 = 0x9e37_79b9;
