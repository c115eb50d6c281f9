//! IPv6 lookups side by side with AVX-512; [`Table::lookup`] is the scalar twin.
//!
//! A node's keys are compared at once. In each round every address that is not at a leaf goes one node further, and the next node is
//! prefetched: its lines arrive while the others go on.
//!
//! The comparison is assembly because keys may change meanwhile if the promise of `reclaim` is broken, which for a load that the
//! compiler knows of would be a data race; so it is a wrong answer.

use std::arch::asm;
use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use super::{Node, Table, begin};
use crate::NextHop;
use crate::cell::Entry;

/// Looks all up; false, and nothing is done, where there is no AVX-512.
#[inline]
pub(super) fn lookup(table: &Table, to: &[u128], hops: &mut [NextHop]) -> bool {
    let able = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("bmi2");
    if able {
        for (to, hops) in to.chunks(TOGETHER).zip(hops.chunks_mut(TOGETHER)) {
            // SAFETY: the processor has AVX-512F and BMI2, and with them BMI1 and popcnt.
            unsafe { lookup_together(table, to, hops) };
        }
    }
    able
}

/// # Safety
/// The processor has AVX-512F, BMI1, BMI2 and popcnt.
#[target_feature(enable = "avx512f,bmi1,bmi2,popcnt")]
unsafe fn lookup_together(table: &Table, to: &[u128], hops: &mut [NextHop]) {
    let mut entries = [Entry::EMPTY; TOGETHER];
    // A bit for each address that is not at a leaf yet.
    let mut going = 0_u32;
    for at in 0..to.len().min(TOGETHER) {
        entries[at] = table.root(to[at]).load();
        going |= prefetch(&table.nodes, entries[at]) << at;
    }
    while going != 0 {
        let mut round = going;
        going = 0;
        while round != 0 {
            let at = round.trailing_zeros() as usize;
            round &= round - 1;
            // SAFETY: `at` is below the number of addresses, and an entry with its bit set names a node of the table.
            unsafe {
                let (to, entry) = (to.get_unchecked(at), entries[at].0);
                let node = table.nodes.get_unchecked((entry & Entry::INDEX) as usize);
                let layer = (entry >> Entry::LAYER_SHIFT & 3) as usize;
                entries[at] = node.cells.get_unchecked(rank(node, to, layer)).load();
            }
            going |= prefetch(&table.nodes, entries[at]) << at;
        }
    }
    for (at, hop) in hops.iter_mut().enumerate() {
        *hop = table.answer(entries[at]);
    }
}

/// Asks for both lines of the node that an entry names; 0 if it is a leaf, or else 1.
#[inline(always)]
fn prefetch(nodes: &[Node], entry: Entry) -> u32 {
    let is_node = entry.0 >> 31;
    // For a leaf the first node, which is always near: an address without memory would cost a walk of the page tables.
    let index = entry.0 & Entry::INDEX & 0_u32.wrapping_sub(is_node);
    let node = nodes.as_ptr().wrapping_add(index as usize);
    // SAFETY: a prefetch may be of any address, and every x86-64 has it.
    unsafe {
        _mm_prefetch::<_MM_HINT_T0>(node.cast());
        _mm_prefetch::<_MM_HINT_T0>(node.cast::<i8>().wrapping_add(64));
    }
    is_node
}

/// How many keys are less than what the address has in that layer, below 16.
///
/// # Safety
/// The processor has AVX-512F and popcnt.
#[inline]
#[target_feature(enable = "avx512f,popcnt")]
unsafe fn rank(node: &Node, to: &u128, layer: usize) -> usize {
    // A number's last bytes come first in memory.
    let word = (&raw const *to).cast::<u8>().wrapping_add(usize::from(BYTES_BEHIND[layer]));
    let less: u32;
    // SAFETY: the word lies within the address; the sixteen keys are as long as the vector, and the last is never less.
    unsafe {
        asm!(
            "vpbroadcastd {words}, [{word}]",
            "vpcmpnleud {mask}, {words}, [{keys}]",
            "kmovw {less:e}, {mask}",
            words = out(zmm_reg) _,
            mask = out(kreg) _,
            word = in(reg) word,
            keys = in(reg) &raw const node.keys,
            less = lateout(reg) less,
            options(nostack, readonly, preserves_flags),
        );
    }
    less.count_ones() as usize
}

/// How many bytes come after those of a layer.
const BYTES_BEHIND: [u8; 4] = {
    let mut behind = [0; 4];
    let mut layer = 0;
    while layer < 4 {
        behind[layer] = ((96 - begin(layer)) / 8) as u8;
        layer += 1;
    }
    behind
};
/// Addresses that go on together.
const TOGETHER: usize = 32;
