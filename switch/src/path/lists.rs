//! Which rows depart by which port: a list for each, and the shortest list first, so that who gets few packets does not wait
//! for who gets many.
//!
//! ```text
//!   place_of    by port number    its list's place, plus 1; 0 for none
//!   lists       by place          port, how many rows, the first and the last of them
//!   next        by row            the next row of its list
//! ```
//!
//! A list is in the order its rows came. Nothing is compared or moved: adding a row costs the same whether its port has a
//! list or not, and lists of one row, which most are, are not sorted at all.

use packet::BURST;

use crate::bank::PORTS_MAX;

/// The lists of one burst; the memory is used again every turn.
pub(super) struct Lists {
    place_of: Box<[u16; PORTS_MAX]>,
    lists: [List; BURST],
    count: usize,
    next: [u8; BURST],
    /// Places, those of the shortest lists first.
    order: [u8; BURST],
    /// By length, where in `order` its lists begin; zero between turns.
    starts: [u16; BURST + 1],
}

/// The rows that depart by one port, in the order they came.
#[derive(Clone, Copy, Default)]
pub(super) struct List {
    pub(super) port: u16,
    pub(super) rows: u16,
    pub(super) first: u8,
    last: u8,
}

impl Lists {
    pub(super) fn new() -> Self {
        Lists {
            place_of: Box::new([0; PORTS_MAX]),
            lists: [List::default(); BURST],
            count: 0,
            next: [0; BURST],
            order: [0; BURST],
            starts: [0; BURST + 1],
        }
    }

    /// Appends a row to its port's list.
    #[inline]
    pub(super) fn add(&mut self, port: u16, row: usize) {
        let place_of = &mut self.place_of[usize::from(port) % PORTS_MAX];
        let is_new = *place_of == 0;
        let place = if is_new { self.count } else { usize::from(*place_of) - 1 } % BURST;
        let row = row as u8;
        let List { rows, first, last, .. } = self.lists[place];
        let (rows, first, last) = if is_new { (0, row, row) } else { (rows, first, last) };
        self.next[usize::from(last)] = row;
        self.lists[place] = List { port, rows: rows + 1, first, last: row };
        *place_of = place as u16 + 1;
        self.count += usize::from(is_new);
    }

    /// Ends the adding: the lists can be taken by their number below what is returned, the shortest first.
    #[inline]
    pub(super) fn finish(&mut self) -> usize {
        let lists = &self.lists[..self.count];
        let mut alone = 0;
        let mut longest = 1;
        for (place, list) in lists.iter().enumerate() {
            self.place_of[usize::from(list.port) % PORTS_MAX] = 0;
            self.order[alone] = place as u8;
            alone += usize::from(list.rows == 1);
            longest = longest.max(list.rows);
        }
        if longest > 1 {
            self.sort_the_longer(alone, longest.into());
        }
        std::mem::take(&mut self.count)
    }

    /// By counting: behind the `alone` lists of one row come those of two, and so on.
    fn sort_the_longer(&mut self, alone: usize, longest: usize) {
        let starts = &mut self.starts[..=longest];
        let longer = |list: &&List| list.rows > 1;
        for list in self.lists[..self.count].iter().filter(longer) {
            starts[usize::from(list.rows)] += 1;
        }
        let mut start = alone as u16;
        for lists in &mut starts[2..] {
            start += std::mem::replace(lists, start);
        }
        for (place, list) in self.lists[..self.count].iter().enumerate().filter(|(_, list)| longer(list)) {
            let at = &mut starts[usize::from(list.rows)];
            self.order[usize::from(*at)] = place as u8;
            *at += 1;
        }
        starts.fill(0);
    }

    /// The list of that number, from 0.
    #[inline]
    pub(super) fn list(&self, number: usize) -> List {
        self.lists[usize::from(self.order[number])]
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_row_is_in_its_ports_list_and_lists_grow(
            bursts in prop::collection::vec(prop::collection::vec(0u16..40, 0..=BURST), 1..4)
        ) {
            let (mut lists, mut rows) = (Lists::new(), [0; BURST]);
            for ports in bursts {
                for (row, &port) in ports.iter().enumerate() {
                    lists.add(port * 100, row);
                }
                let mut seen = Vec::new();
                let mut longest = 0;
                for number in 0..lists.finish() {
                    let list = lists.list(number);
                    prop_assert!(longest <= list.rows);
                    longest = list.rows;
                    let own: Vec<usize> = (0..ports.len()).filter(|row| ports[*row] * 100 == list.port).collect();
                    let listed: Vec<usize> = lists.rows_of(&list, &mut rows).iter().map(|row| usize::from(*row)).collect();
                    prop_assert_eq!(&listed, &own);
                    prop_assert_eq!(usize::from(list.first), own[0]);
                    seen.extend(own);
                }
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..ports.len()).collect::<Vec<_>>());
            }
        }
    }
}
