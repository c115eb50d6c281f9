//! Which rows depart by which port: a list for each, and the shortest list first, so that who gets few packets does not wait
//! for who gets many.
//!
//! Rows are taken from the last to the first, each put before those its port has already; so a list is in the order its rows
//! came, and needs to be known by its first row alone:
//!
//! ```text
//!   by_port   rows << 16 | the first of them; 0 for a port without      next   by row, the row behind it
//! ```
//!
//! Nothing is compared or moved, and a row costs the same whether its port has a list or not. Lists of one row, which most
//! are, are not sorted either.

use packet::{BURST, Burst};

use crate::bank::PORTS_MAX;

/// The lists of one burst; the memory is used again every turn.
pub(super) struct Lists {
    by_port: Box<[u32; PORTS_MAX]>,
    next: [u8; BURST],
    /// Ports that have a list, as they are met.
    ports: [u16; BURST],
    /// Those of several rows, before they are sorted.
    longer: [List; BURST],
    sorted: [List; BURST],
    /// By length, where in `sorted` its lists begin; zero between turns.
    starts: [u16; BURST + 1],
}

/// The rows that depart by one port, in the order they came.
#[derive(Clone, Copy, Default)]
pub(super) struct List {
    pub(super) port: u16,
    pub(super) rows: u16,
    pub(super) first: u8,
}

impl Lists {
    pub(super) fn new() -> Self {
        Lists {
            by_port: Box::new([0; PORTS_MAX]),
            next: [0; BURST],
            ports: [0; BURST],
            longer: [List::default(); BURST],
            sorted: [List::default(); BURST],
            starts: [0; BURST + 1],
        }
    }

    /// Lists the rows that have not left, and says how many lists that makes.
    #[inline]
    pub(super) fn fill(&mut self, burst: &Burst) -> usize {
        let mut count = 0;
        for row in burst.rows().rev() {
            if burst.exit[row].is_none() {
                let port = burst.to[row] % PORTS_MAX as u16;
                let list = &mut self.by_port[usize::from(port)];
                self.next[row] = *list as u8;
                self.ports[count % BURST] = port;
                count += usize::from(*list == 0);
                *list = (*list & !0xffff) + (1 << 16 | row as u32);
            }
        }
        let (mut alone, mut longer, mut longest) = (0, 0, 1);
        for &port in self.ports[..count].iter().rev() {
            let list = std::mem::take(&mut self.by_port[usize::from(port) % PORTS_MAX]);
            let list = List { port, rows: (list >> 16) as u16, first: list as u8 };
            (self.sorted[alone % BURST], self.longer[longer % BURST]) = (list, list);
            alone += usize::from(list.rows == 1);
            longer += usize::from(list.rows > 1);
            longest = longest.max(usize::from(list.rows));
        }
        if longer > 0 {
            self.sort_the_longer(alone, longer, longest.min(BURST));
        }
        count
    }

    /// By counting: behind the `alone` lists of one row come those of two, and so on.
    fn sort_the_longer(&mut self, alone: usize, longer: usize, longest: usize) {
        let (starts, lists) = (&mut self.starts[..=longest], &self.longer[..longer]);
        for list in lists {
            starts[usize::from(list.rows)] += 1;
        }
        let mut start = alone as u16;
        for lists in &mut starts[2..] {
            start += std::mem::replace(lists, start);
        }
        for list in lists {
            let at = &mut starts[usize::from(list.rows)];
            self.sorted[usize::from(*at)] = *list;
            *at += 1;
        }
        starts.fill(0);
    }

    /// The list of that number, from 0: the shorter ones first.
    #[inline]
    pub(super) fn list(&self, number: usize) -> List {
        self.sorted[number]
    }

    /// Writes a list's rows out.
    #[inline]
    pub(super) fn rows_of<'a>(&self, list: &List, rows: &'a mut [u8; BURST]) -> &'a [u8] {
        let rows = &mut rows[..list.rows.into()];
        let mut row = list.first;
        for place in rows.iter_mut() {
            *place = row;
            row = self.next[usize::from(row)];
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use packet::{Exit, NO_TAIL, Reason};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_row_is_in_its_ports_list_and_lists_grow(
            bursts in prop::collection::vec(prop::collection::vec((0u16..40, 0..9), 0..=BURST), 1..4)
        ) {
            let (mut lists, mut rows, mut burst) = (Lists::new(), [0; BURST], Burst::new());
            for ports in bursts {
                burst.len = 0;
                for &(port, leaves) in &ports {
                    burst.push(0, NO_TAIL, 60, 1);
                    let row = burst.len - 1;
                    burst.to[row] = port * 100;
                    burst.exit[row] = if leaves == 0 { Exit::drop(Reason::Mld) } else { Exit::NONE };
                }
                let mut seen = Vec::new();
                let mut longest = 0;
                for number in 0..lists.fill(&burst) {
                    let list = lists.list(number);
                    prop_assert!(longest <= list.rows);
                    longest = list.rows;
                    let own = |row: &usize| ports[*row].0 * 100 == list.port && ports[*row].1 > 0;
                    let own: Vec<usize> = (0..ports.len()).filter(own).collect();
                    let listed = lists.rows_of(&list, &mut rows).iter().map(|row| usize::from(*row));
                    prop_assert_eq!(&listed.collect::<Vec<_>>(), &own);
                    prop_assert_eq!(usize::from(list.first), own[0]);
                    seen.extend(own);
                }
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..ports.len()).filter(|row| ports[*row].1 > 0).collect::<Vec<_>>());
            }
        }
    }
}
