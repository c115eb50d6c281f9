//! Which rows depart by which port: a list for each, and the shortest list first, so that who gets few packets does not wait
//! for who gets many.
//!
//! Rows are chained from the last to the first, each put before those its port has already; so a list is in the order its rows
//! came, and needs to be known by its first row alone:
//!
//! ```text
//!   by_port   rows << 16 | twice << 8 | the first of them; 0 for a port without      next   by row, the row behind it
//! ```
//!
//! Nothing is compared or moved, and a row costs the same whether its port has a list or not. Most lists are *easy*: up to three
//! rows that entered by as many ports, so that there is nothing to join. Their rows depart first, in the order they came, and
//! need not be looked at as lists where the port takes them as they are. The others are met where their first row is, and sorted
//! when these have gone.

use std::sync::Arc;

use packet::{BURST, Burst};

use crate::bank::PORTS_MAX;
use crate::port::{Port, WorkerSent};
use crate::prefetch::prefetch;

/// The lists of one burst; the memory is used again every turn.
pub(super) struct Lists {
    by_port: Box<[u32; PORTS_MAX]>,
    next: [u8; BURST],
    /// The lists that are not easy, as they are met.
    longer: [List; BURST],
    sorted: [List; BURST],
    /// By length, where in `sorted` its lists begin; zero between turns.
    starts: [u16; BURST + 1],
    /// How many lists were met.
    met: usize,
}

/// The rows that depart by one port, in the order they came: the port's number, how many they are, and the first of them.
///
/// ```text
///   port << 32 | rows << 16 | twice << 8 | first
/// ```
#[derive(Clone, Copy, Default)]
pub(super) struct List(u64);

impl List {
    #[inline]
    pub(super) fn port(self) -> u16 {
        (self.0 >> 32) as u16
    }

    #[inline]
    pub(super) fn rows(self) -> usize {
        usize::from((self.0 >> 16) as u16)
    }

    #[inline]
    pub(super) fn first(self) -> usize {
        usize::from(self.0 as u8)
    }
}

impl Lists {
    pub(super) fn new() -> Self {
        Lists {
            by_port: Box::new([0; PORTS_MAX]),
            next: [0; BURST],
            longer: [List::default(); BURST],
            sorted: [List::default(); BURST],
            starts: [0; BURST + 1],
            met: 0,
        }
    }

    /// Lists the rows that have not left. What their ports will be asked for is fetched meanwhile.
    #[inline]
    pub(super) fn fill(&mut self, burst: &Burst, ports: &[Option<Arc<Port>>], sent: &WorkerSent) {
        self.met = 0;
        for row in burst.rows().rev() {
            if burst.exit[row].is_none() {
                let port = usize::from(burst.to[row]) % PORTS_MAX;
                if let Some(Some(port)) = ports.get(port) {
                    prefetch(&**port);
                }
                prefetch(&sent[port]);
                let list = self.by_port[port];
                let twice = (list != 0) & (burst.from[row] == burst.from[usize::from(list as u8)]);
                self.next[row] = list as u8;
                self.by_port[port] = ((list & !0xff) + (1 << 16 | row as u32)) | (u32::from(twice) << 8);
            }
        }
    }

    /// The easy list that a row of this port, which has not left, is the first of; for its other rows one without rows. None if
    /// the list is not easy. To be asked of each row, in order, once.
    #[inline(always)]
    pub(super) fn meet(&mut self, row: usize, port: u16) -> Option<List> {
        let list = &mut self.by_port[usize::from(port) % PORTS_MAX];
        if *list & NOT_EASY == 0 {
            return Some(List(u64::from(port) << 32 | u64::from(std::mem::take(list))));
        }
        if *list as u8 == row as u8 {
            self.longer[self.met % BURST] = List(u64::from(port) << 32 | u64::from(*list));
            self.met += 1;
        }
        None
    }

    /// Forgets and sorts the lists that are not easy, when all rows were met, and says how many they are.
    pub(super) fn sort(&mut self) -> usize {
        let count = self.met.min(BURST);
        let mut longest = 0;
        for list in &self.longer[..count] {
            self.by_port[usize::from(list.port()) % PORTS_MAX] = 0;
            longest = longest.max(list.rows());
        }
        if count > 0 {
            self.sort_by_counting(count, longest.min(BURST));
        }
        count
    }

    fn sort_by_counting(&mut self, count: usize, longest: usize) {
        let (starts, lists) = (&mut self.starts[..=longest], &self.longer[..count]);
        for list in lists {
            starts[list.rows()] += 1;
        }
        let mut start = 0;
        for place in starts.iter_mut() {
            (*place, start) = (start, start + *place);
        }
        for list in lists {
            let place = &mut starts[list.rows()];
            self.sorted[usize::from(*place) % BURST] = *list;
            *place += 1;
        }
        starts.fill(0);
    }

    /// The list of that number, from 0, of those that are not easy: the shorter ones first.
    #[inline]
    pub(super) fn list(&self, number: usize) -> List {
        self.sorted[number]
    }

    /// Writes a list's rows out.
    #[inline]
    pub(super) fn rows_of<'a>(&self, list: &List, rows: &'a mut [u8; BURST]) -> &'a [u8] {
        let rows = &mut rows[..list.rows()];
        let mut row = list.first() as u8;
        for place in rows.iter_mut() {
            *place = row;
            row = self.next[usize::from(row)];
        }
        rows
    }
}

/// More than three rows, or two that entered by one port.
const NOT_EASY: u32 = !0 << 18 | 1 << 8;

#[cfg(test)]
mod tests {
    use packet::{Exit, NO_TAIL, Reason};
    use proptest::prelude::*;

    use super::*;
    use crate::port::Sent;

    proptest! {
        #[test]
        fn each_row_is_in_its_ports_list_and_lists_grow(
            bursts in prop::collection::vec(prop::collection::vec((0u16..40, 0..9, 1u16..5), 0..=BURST), 1..4)
        ) {
            let (mut lists, mut rows, mut burst) = (Lists::new(), [0; BURST], Burst::new());
            let sent = Sent::new(1);
            for ports in bursts {
                burst.len = 0;
                for &(port, leaves, from) in &ports {
                    burst.push(0, NO_TAIL, 60, from);
                    let row = burst.len - 1;
                    burst.to[row] = port * 100;
                    burst.exit[row] = if leaves == 0 { Exit::drop(Reason::Mld) } else { Exit::NONE };
                }
                let mut seen = Vec::new();
                let mut longest = 2;
                lists.fill(&burst, &[], sent.of(0));
                for row in burst.rows().filter(|row| burst.exit[*row].is_none()) {
                    let rows = burst.rows().filter(|other| burst.to[*other] == burst.to[row] && burst.exit[*other].is_none());
                    let from: Vec<u16> = rows.map(|row| burst.from[row]).collect();
                    let is_easy = from.len() <= 3 && from.windows(2).all(|pair| pair[0] != pair[1]);
                    let easy = lists.meet(row, burst.to[row]);
                    prop_assert_eq!(easy.is_some(), is_easy);
                    let is_first = (0..row).all(|before| burst.to[before] != burst.to[row] || !burst.exit[before].is_none());
                    let rows = easy.map_or(0, |list| list.rows());
                    prop_assert_eq!(rows, if is_easy && is_first { from.len() } else { 0 });
                    if is_easy {
                        seen.push(row);
                    }
                }
                for number in 0..lists.sort() {
                    let list = lists.list(number);
                    prop_assert!(longest <= list.rows());
                    longest = list.rows();
                    let own = |row: &usize| ports[*row].0 * 100 == list.port() && ports[*row].1 > 0;
                    let own: Vec<usize> = (0..ports.len()).filter(own).collect();
                    let listed = lists.rows_of(&list, &mut rows).iter().map(|row| usize::from(*row));
                    prop_assert_eq!(&listed.collect::<Vec<_>>(), &own);
                    prop_assert_eq!(list.first(), own[0]);
                    seen.extend(own);
                }
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..ports.len()).filter(|row| ports[*row].1 > 0).collect::<Vec<_>>());
            }
        }
    }
}
