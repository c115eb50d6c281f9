//! IPv6 lookups side by side with AVX-512: a node's keys are compared at once, and a burst's nodes are loaded together.
//! [`Table::lookup`] is the scalar twin.
//!
//! In each round every address that is not at a leaf goes one node further, and the next node is prefetched: its lines arrive while
//! the others go on. Addresses that have arrived drop out of the list.
//!
//! The comparison is assembly because a key may change meanwhile if the promise of `reclaim` is broken, which for a load that the
//! compiler knows of would be a data race; so it is a wrong answer.

use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch, _popcnt32};

use super::{Node, Table, word};
use crate::NextHop;
use crate::cell::Entry;

/// Looks all up; false, and nothing is done, where there is no AVX-512.
#[inline]
pub(super) fn lookup(table: &Table, to: &[u128], hops: &mut [NextHop]) -> bool {
    let able = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("popcnt");
    if able {
        for (to, hops) in to.chunks(TOGETHER).zip(hops.chunks_mut(TOGETHER)) {
            // SAFETY: the processor has AVX-512F and popcnt.
            unsafe { lookup_together(table, to, hops) };
        }
    }
    able
}

/// # Safety
/// The processor has AVX-512F and popcnt.
#[target_feature(enable = "avx512f,popcnt")]
unsafe fn lookup_together(table: &Table, to: &[u128], hops: &mut [NextHop]) {
    let mut entries = [Entry::EMPTY; TOGETHER];
    let mut going = [0_u8; TOGETHER];
    let mut count = 0;
    for (at, &to) in to.iter().enumerate() {
        entries[at] = table.root(to).load();
        going[count] = at as u8;
        count += usize::from(prefetch(table, entries[at]));
    }
    while count > 0 {
        let round = count;
        count = 0;
        for turn in 0..round {
            let at = usize::from(going[turn]) % TOGETHER;
            let entry = entries[at];
            let layer = (entry.0 >> Entry::LAYER_SHIFT & 3) as usize;
            let node = &table.nodes[(entry.0 & Entry::INDEX) as usize];
            // SAFETY: the processor has AVX-512F and popcnt.
            let rank = unsafe { rank(node, word(to[at], layer)) };
            entries[at] = node.cells[rank % 16].load();
            going[count] = at as u8;
            count += usize::from(prefetch(table, entries[at]));
        }
    }
    for (hop, &entry) in hops.iter_mut().zip(&entries) {
        *hop = table.answer(entry);
    }
}

/// Asks for both lines of the node that an entry names; false if it is a leaf.
#[inline]
#[target_feature(enable = "avx512f,popcnt")]
fn prefetch(table: &Table, entry: Entry) -> bool {
    let node = table.nodes.as_ptr().wrapping_add((entry.0 & Entry::INDEX) as usize);
    _mm_prefetch::<_MM_HINT_T0>(node.cast());
    _mm_prefetch::<_MM_HINT_T0>(node.cast::<i8>().wrapping_add(64));
    entry.0 & Entry::NODE != 0
}

/// How many keys are less than `value`.
///
/// # Safety
/// The processor has AVX-512F and popcnt.
#[inline]
#[target_feature(enable = "avx512f,popcnt")]
unsafe fn rank(node: &Node, value: u32) -> usize {
    let less: u32;
    // SAFETY: the sixteen keys of a node are as long as the vector, and the node begins on a line.
    unsafe {
        asm!(
            "vpbroadcastd {values}, {value:e}",
            "vpcmpnleud {mask}, {values}, [{keys}]",
            "kmovw {less:e}, {mask}",
            values = out(zmm_reg) _,
            mask = out(kreg) _,
            value = in(reg) value,
            keys = in(reg) &raw const node.keys,
            less = lateout(reg) less,
            options(nostack, readonly, preserves_flags),
        );
    }
    _popcnt32(less as i32) as usize
}

/// Addresses that go on together.
const TOGETHER: usize = 32;
