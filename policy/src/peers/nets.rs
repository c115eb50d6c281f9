//! Nested prefixes as intervals that do not overlap.

use super::Class;
use super::hosts::Key;

/// A class for each address, constant between starts.
#[derive(Debug)]
pub(super) struct Intervals<K> {
    /// Where intervals start, in order; the first starts at 0.
    starts: Box<[K]>,
    classes: Box<[Class]>,
    /// Of the leading bits of an address, the interval that holds the first address with these; one more at the end. Empty
    /// where there are few intervals.
    leads: Box<[u32]>,
}

impl<K: Key> Intervals<K> {
    /// Of prefixes with first and last address, of which two are nested or apart. Inner ones have the say.
    pub(super) fn new(outside: Class, mut nets: Vec<(K, K, Class)>) -> Self {
        nets.sort_unstable_by(|(first, last, _), (other, other_last, _)| first.cmp(other).then(other_last.cmp(last)));
        let mut bounds = vec![(K::default(), outside)];
        // What is open, from the outermost: where each ends, and its class.
        let mut open: Vec<(K, Class)> = Vec::new();
        let close = |bounds: &mut Vec<(K, Class)>, open: &mut Vec<(K, Class)>, before: Option<K>| {
            while let Some(&(last, _)) = open.last().filter(|(last, _)| before.is_none_or(|before| *last < before)) {
                open.pop();
                let around = open.last().map_or(outside, |&(_, class)| class);
                bounds.extend(last.next().map(|next| (next, around)));
            }
        };
        for (first, last, class) in nets {
            close(&mut bounds, &mut open, Some(first));
            bounds.push((first, class));
            open.push((last, class));
        }
        close(&mut bounds, &mut open, None);
        Self::of_bounds(&bounds)
    }

    /// Of starts in order, of which the last of equal ones counts.
    fn of_bounds(bounds: &[(K, Class)]) -> Self {
        let mut kept: Vec<(K, Class)> = Vec::with_capacity(bounds.len());
        for &(start, class) in bounds {
            while kept.last().is_some_and(|&(before, _)| before == start) {
                kept.pop();
            }
            if kept.last().is_none_or(|&(_, before)| before != class) {
                kept.push((start, class));
            }
        }
        let leads = if kept.len() > FEW && kept.last().is_some_and(|(start, _)| start.leading() > 0) {
            let mut at = 0;
            let leads = (0..=LEADS).map(|lead| {
                while at < kept.len() && kept[at].0.leading() < lead {
                    at += 1;
                }
                at as u32
            });
            leads.collect()
        } else {
            Vec::new()
        };
        let (starts, classes): (Vec<K>, Vec<Class>) = kept.into_iter().unzip();
        Self { starts: starts.into(), classes: classes.into(), leads: leads.into() }
    }

    #[inline]
    pub(super) fn get(&self, key: K) -> Class {
        let (from, to) = match self.leads.get(key.leading()..) {
            Some(&[from, to, ..]) => (from as usize, to as usize),
            _ => (0, self.starts.len()),
        };
        let at = from + self.starts[from..to].partition_point(|start| *start <= key);
        self.classes[at - 1]
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.classes) + size_of_val(&*self.leads)
    }
}

/// Up to so many intervals a search through all is as quick.
const FEW: usize = 64;
const LEADS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_prefix_has_the_say() {
        let mut state = 7_u64;
        let mut random = |end: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32 % end
        };
        for count in [0, 1, 3, 30, 400] {
            let mut nets: Vec<(u32, u32, Class)> = Vec::new();
            for number in 0..count {
                let length = random(33);
                let mask = (u64::from(u32::MAX) << (32 - length)) as u32;
                let spots = [0, 0xffff_ffff, 0x0a00_0000 + random(1 << 20), random(1 << 31) * 2];
                let first = spots[random(4) as usize] & mask;
                if nets.iter().all(|&(other, last, _)| (other, last) != (first, first | !mask)) {
                    nets.push((first, first | !mask, Class(number + 2)));
                }
            }
            let intervals = Intervals::new(Class(0), nets.clone());
            let ends =
                nets.iter().flat_map(|&(first, last, _)| [first, last, first.wrapping_sub(1), last.wrapping_add(1)]);
            for key in ends.chain([0, u32::MAX, 0x0a00_0001]).collect::<Vec<_>>() {
                let around = nets.iter().filter(|(first, last, _)| (*first..=*last).contains(&key));
                let expected =
                    around.min_by_key(|(first, last, _)| last - first).map_or(Class(0), |&(.., class)| class);
                assert_eq!(intervals.get(key), expected, "{key:#x} among {count}");
            }
        }
    }
}
