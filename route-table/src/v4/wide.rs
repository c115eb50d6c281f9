//! Sixteen IPv4 lookups at once with AVX-512; [`Table::lookup`] is the scalar twin.
//!
//! A gather loads words of 32 bits, so two neighbouring cells come at once and a shift chooses. The words are aligned: a load of one
//! is atomic, and both of its cells lie in the table.
//!
//! The gather is assembly because its words may change meanwhile, which for a load that the compiler knows of would be a data race.
//! For the processor it is none: like any aligned load of x86 it sees each word as some store left it, and in order.

use std::arch::asm;
use std::arch::x86_64::{
    __m512i, __mmask16, _mm256_storeu_si256, _mm512_and_si512, _mm512_cmplt_epi32_mask, _mm512_cvtepi32_epi16,
    _mm512_loadu_si512, _mm512_mask_mov_epi32, _mm512_mask_srli_epi32, _mm512_or_si512, _mm512_rorv_epi32,
    _mm512_set1_epi32, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_srli_epi32, _mm512_sub_epi32,
    _mm512_test_epi32_mask, _mm512_testn_epi32_mask,
};

use super::{COARSE, FINE_FROM, GROUPED, Table};
use crate::NextHop;
use crate::cell::Hop;

/// Looks up as many as come in whole sixteens, and returns the rest; all of them where there is no AVX-512.
#[inline]
pub(super) fn lookup<'a, 'b>(table: &Table, to: &'a [u32], hops: &'b mut [NextHop]) -> (&'a [u32], &'b mut [NextHop]) {
    if !is_x86_feature_detected!("avx512f") {
        return (to, hops);
    }
    let (to, to_rest) = to.as_chunks();
    let (hops, hops_rest) = hops.as_chunks_mut();
    // SAFETY: the processor has AVX-512F.
    unsafe { lookup_sixteens(table, to, hops) };
    (to_rest, hops_rest)
}

/// # Safety
/// The processor has AVX-512F.
#[target_feature(enable = "avx512f")]
unsafe fn lookup_sixteens(table: &Table, to: &[[u32; 16]], hops: &mut [[NextHop; 16]]) {
    let default_route = _mm512_set1_epi32(table.default_route.load().into());
    let grouped_bit = _mm512_set1_epi32(GROUPED.into());
    for (to, hops) in to.iter().zip(hops) {
        // SAFETY: sixteen numbers of 32 bits are as long as the vector.
        let to = unsafe { _mm512_loadu_si512(to.as_ptr().cast()) };
        // SAFETY: 24 bits index a block.
        let mut entries = unsafe { cells(&table.blocks, _mm512_srli_epi32::<8>(to), ALL) };
        let grouped = _mm512_test_epi32_mask(entries, grouped_bit);
        if grouped != 0 {
            // SAFETY: 15 bits name a group.
            let refined = unsafe { cells(&table.groups, cell(entries, to), grouped) };
            entries = _mm512_mask_mov_epi32(entries, grouped, refined);
        }
        let empty = _mm512_testn_epi32_mask(entries, _mm512_set1_epi32(0xffff));
        let answers = _mm512_cvtepi32_epi16(_mm512_mask_mov_epi32(entries, empty, default_route));
        // SAFETY: sixteen next hops, each of which is a number of 16 bits, are as long as the vector.
        unsafe { _mm256_storeu_si256(hops.as_mut_ptr().cast(), answers) };
    }
}

/// As [`super::cell`].
#[inline]
#[target_feature(enable = "avx512f")]
fn cell(entries: __m512i, to: __m512i) -> __m512i {
    let number = |number: usize| _mm512_set1_epi32(number as i32);
    let group = _mm512_and_si512(_mm512_slli_epi32::<8>(entries), number(usize::from(!GROUPED) << 8));
    let cell = _mm512_or_si512(group, _mm512_and_si512(to, number(0xff)));
    let coarse = _mm512_cmplt_epi32_mask(cell, number(usize::from(COARSE) << 8));
    _mm512_mask_srli_epi32::<4>(_mm512_sub_epi32(cell, number(FINE_FROM)), coarse, cell)
}

/// The cells at sixteen indexes, of those that `wanted` names; above the 16 bits of a cell stands something else.
///
/// # Safety
/// The indexes named lie below the length of `all`, which is even, and the processor has AVX-512F.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn cells(all: &[Hop], at: __m512i, wanted: __mmask16) -> __m512i {
    let pair = _mm512_srli_epi32::<1>(at);
    let mut words = _mm512_setzero_si512();
    // SAFETY: each word named is a pair of cells at an even index of `all`, which begins on a page.
    unsafe {
        asm!(
            "vpgatherdd {words}{{{wanted}}}, [{all} + {pair} * 4]",
            words = inout(zmm_reg) words,
            wanted = inout(kreg) wanted => _,
            all = in(reg) all.as_ptr(),
            pair = in(zmm_reg) pair,
            options(nostack, readonly, preserves_flags),
        );
    }
    // Of a rotation five bits count: by 16 for the upper cell.
    _mm512_rorv_epi32(words, _mm512_slli_epi32::<4>(at))
}

const ALL: __mmask16 = u16::MAX;
