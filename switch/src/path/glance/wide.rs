//! Sixteen frames of one family held against their doors at once, with AVX-512; [`super::plain_v4`] and [`super::plain_v6`] are
//! the scalar twins.
//!
//! Of each frame three times 16 bytes are loaded, and the 16 of its door. Sixteen such loads are turned into four columns of 32
//! bits, one value for each frame:
//!
//! ```text
//!   frame  -12       0           12  14          22             34
//!           | beside  | Ethernet  | IPv4                         |
//!           |         | to   from | type ver|tos|len  id|frag  ttl|prot|sum  source  destination
//!   loads   [----- 16 -----)  [----- 16 -----)[------- 16 ------)
//!          -12             4  2              18                 34
//! ```

use std::arch::x86_64::{
    __m128i, __m512i, __mmask16, _mm_loadu_si128, _mm_storeu_si128, _mm_xor_si128, _mm256_castsi128_si256,
    _mm256_inserti128_si256, _mm256_loadu_si256, _mm512_add_epi32, _mm512_and_si512, _mm512_castsi256_si512,
    _mm512_cmpeq_epi32_mask, _mm512_cmpge_epu32_mask, _mm512_cmpgt_epu32_mask, _mm512_cmple_epu32_mask,
    _mm512_cmplt_epu32_mask, _mm512_cvtepi32_epi8, _mm512_cvtepu16_epi32, _mm512_inserti64x4, _mm512_loadu_si512,
    _mm512_mask_mov_epi32, _mm512_min_epu32, _mm512_or_si512, _mm512_set1_epi32, _mm512_set4_epi32,
    _mm512_shuffle_epi8, _mm512_srli_epi32, _mm512_storeu_si512, _mm512_test_epi32_mask, _mm512_testn_epi32_mask,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use packet::{SMALL_LEN, START_LEN, VNET_HEADER_LEN};

use super::{DoorV4, DoorV6, Tunnels, V4_LEN, V6_LEN};
use crate::path::parse::{PROTOCOL_TCP, PROTOCOL_UDP};

/// Sixteen rows of a burst, and the memory their frames lie in.
pub(super) struct Sixteen<'a> {
    pub(super) memory: &'a [u8],
    pub(super) heads: &'a [u32; 16],
    pub(super) from: &'a [u16; 16],
    pub(super) length: &'a mut [u32; 16],
    pub(super) protocol: &'a mut [u8; 16],
}

/// True where the processor can do it.
#[inline(always)]
pub(super) fn is_able() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

/// Says which of the frames are plain IPv4 ones, a bit for each. Of these the columns are filled; of the others all but `length`
/// mean nothing afterwards.
///
/// # Safety
/// The processor is able.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn plain_v4(
    mut rows: Sixteen<'_>,
    to_v4: &mut [u32; 16],
    (doors, tunnels): (&[DoorV4], &Tunnels),
) -> u16 {
    if !rows.have(doors.len()) {
        return 0;
    }
    // SAFETY: there are as many doors, and a door is as long as the vector.
    let door = |row: usize| unsafe { _mm_loadu_si128(doors.as_ptr().add(rows.from[row].into()).cast()) };
    let beside = columns(|row| rows.load(row, -12));
    let [station_rest, _, ether_type, first] = columns(|row| rows.load(row, 2));
    let [fragment, live, source, destination] = columns(|row| rows.load(row, 18));
    let [own_station, own_station_rest, own, open] = columns(door);

    let to_gateway = equal(beside[3], own_station) & equal(station_rest, own_station_rest);
    let from_own = equal(source, own) | _mm512_test_epi32_mask(open, open);
    let is_v4 = equal(_mm512_srli_epi32::<16>(ether_type), number(0x0008))
        & equal(_mm512_and_si512(first, number(0xff)), number(0x45));
    let is_whole = _mm512_testn_epi32_mask(fragment, number(0xff3f_0000));
    let is_right = sums_to_ones([first, fragment, live, source, destination]);
    let there = _mm512_add_epi32(bytes(first, [3, 2, NONE, NONE]), number(14));
    let passes = to_gateway & from_own & is_v4 & is_whole & is_right & rows.are_sound(beside, there, V4_LEN);
    let passes = rows.settle(passes, (there, bytes(live, [1, NONE, NONE, NONE])), (36, tunnels));
    // SAFETY: the vector is as long as the sixteen numbers it is written to.
    unsafe { _mm512_storeu_si512((&raw mut *to_v4).cast(), bytes(destination, [3, 2, 1, 0])) };
    passes
}

/// The same of IPv6; [`super::plain_v6`] is the scalar twin.
///
/// # Safety
/// The processor is able.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn plain_v6(
    mut rows: Sixteen<'_>,
    to_v6: &mut [u128; 16],
    (doors, tunnels): (&[DoorV6], &Tunnels),
) -> u16 {
    if !rows.have(doors.len()) {
        return 0;
    }
    // SAFETY: there are as many doors, and a door is as long as two of the vectors.
    let door = |row: usize, half| unsafe {
        _mm_loadu_si128(doors.as_ptr().add(rows.from[row].into()).cast::<__m128i>().add(half))
    };
    let beside = columns(|row| rows.load(row, -12));
    let [station_rest, _, ether_type, first] = columns(|row| rows.load(row, 2));
    let [next, ..] = columns(|row| rows.load(row, 18));
    let [one, two, three, four] = columns(|row| _mm_xor_si128(rows.load(row, 22), door(row, 0)));
    let [own_station, own_station_rest, open, _] = columns(|row| door(row, 1));

    let to_gateway = equal(beside[3], own_station) & equal(station_rest, own_station_rest);
    let differs = _mm512_or_si512(_mm512_or_si512(one, two), _mm512_or_si512(three, four));
    let from_own = _mm512_testn_epi32_mask(differs, differs) | _mm512_test_epi32_mask(open, open);
    let is_v6 = equal(_mm512_srli_epi32::<16>(ether_type), number(0xdd86))
        & equal(_mm512_and_si512(first, number(0xf0)), number(0x60));
    let there = _mm512_add_epi32(bytes(next, [1, 0, NONE, NONE]), number(V6_LEN));
    let passes = to_gateway & from_own & is_v6 & rows.are_sound(beside, there, V6_LEN);
    let passes = rows.settle(passes, (there, bytes(next, [2, NONE, NONE, NONE])), (56, tunnels));
    for (row, to) in to_v6.iter_mut().enumerate() {
        let [low, high] = [38, 46].map(|at| {
            // SAFETY: from its header to the end of its start a frame lies within the memory.
            unsafe { rows.memory.as_ptr().add(rows.heads[row] as usize + at).cast::<u64>().read_unaligned() }
        });
        *to = u128::from(u64::from_be(low)) << 64 | u128::from(u64::from_be(high));
    }
    passes
}

impl Sixteen<'_> {
    /// False if one came by a port that has no door. Panics if a frame does not lie in the memory.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn have(&self, doors: usize) -> bool {
        let first = number(VNET_HEADER_LEN as u32);
        let last = number(self.memory.len().saturating_sub(START_LEN) as u32);
        // SAFETY: sixteen numbers are as long as the vector.
        let (places, ports) =
            unsafe { (_mm512_loadu_si512(self.heads.as_ptr().cast()), _mm256_loadu_si256(self.from.as_ptr().cast())) };
        let outside = _mm512_cmplt_epu32_mask(places, first) | _mm512_cmpgt_epu32_mask(places, last);
        assert!(outside == 0, "frames lie in the memory");
        _mm512_cmpge_epu32_mask(_mm512_cvtepu16_epi32(ports), number(doors as u32)) == 0
    }

    /// The 16 bytes of a row's frame at a place no further than its start; asked after [`Sixteen::have`].
    #[inline(always)]
    fn load(&self, row: usize, at: isize) -> __m128i {
        // SAFETY: from its header to the end of its start a frame lies within the memory, as was asserted.
        unsafe { _mm_loadu_si128(self.memory.as_ptr().add(self.heads[row] as usize).offset(at).cast()) }
    }

    /// Those with nothing beside them, or an unfinished checksum between the IP header and the end, which was received.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn are_sound(&self, beside: [__m512i; 4], there: __m512i, transport: u32) -> __mmask16 {
        let [flags, checksum_start, checksum_offset, _] = beside;
        let start = _mm512_srli_epi32::<16>(checksum_start);
        let field_end = _mm512_add_epi32(_mm512_add_epi32(start, low(checksum_offset)), number(2));
        let in_head = _mm512_min_epu32(there, number(SMALL_LEN as u32));
        let inside = _mm512_cmpge_epu32_mask(start, number(transport)) & _mm512_cmple_epu32_mask(field_end, in_head);
        // SAFETY: sixteen numbers of 32 bits are as long as the vector.
        let received = unsafe { _mm512_loadu_si512(self.length.as_ptr().cast()) };
        _mm512_cmpge_epu32_mask(there, number(transport))
            & _mm512_cmple_epu32_mask(there, received)
            & _mm512_testn_epi32_mask(flags, number(0xff00))
            & (_mm512_testn_epi32_mask(flags, number(1)) | inside)
    }

    /// Lets pass only TCP and UDP, and that not to a tunnel's port, which is at `port` of a frame. Fills the columns.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn settle(
        &mut self,
        mut passes: __mmask16,
        (there, carried): (__m512i, __m512i),
        (port, tunnels): (usize, &Tunnels),
    ) -> __mmask16 {
        passes &= equal(carried, number(PROTOCOL_TCP.into())) | equal(carried, number(PROTOCOL_UDP.into()));
        if tunnels.are_any() {
            for row in 0..16 {
                let at = self.heads[row] as usize + port;
                // SAFETY: from its header to the end of its start a frame lies within the memory.
                let to = unsafe { self.memory.as_ptr().add(at).cast::<u16>().read_unaligned() };
                passes &= !(u16::from(tunnels.may_have(to)) << row);
            }
        }
        // SAFETY: each vector is as long as the sixteen numbers it is read from or written to.
        unsafe {
            let received = _mm512_loadu_si512(self.length.as_ptr().cast());
            _mm512_storeu_si512(self.length.as_mut_ptr().cast(), _mm512_mask_mov_epi32(received, passes, there));
            _mm_storeu_si128(self.protocol.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(carried));
        }
        passes
    }
}

/// The four numbers of each row's 16 bytes, as columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn columns(row: impl Fn(usize) -> __m128i) -> [__m512i; 4] {
    // The rows a fourth apart, so that unpacking leaves them in order.
    let four = |first: usize| {
        let near = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(row(first)), row(first + 4));
        let far = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(row(first + 8)), row(first + 12));
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(near), far)
    };
    let rows = [four(0), four(1), four(2), four(3)];
    let low = [_mm512_unpacklo_epi32(rows[0], rows[1]), _mm512_unpacklo_epi32(rows[2], rows[3])];
    let high = [_mm512_unpackhi_epi32(rows[0], rows[1]), _mm512_unpackhi_epi32(rows[2], rows[3])];
    [
        _mm512_unpacklo_epi64(low[0], low[1]),
        _mm512_unpackhi_epi64(low[0], low[1]),
        _mm512_unpacklo_epi64(high[0], high[1]),
        _mm512_unpackhi_epi64(high[0], high[1]),
    ]
}

/// The header checksum: all 16-bit words together are all ones.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn sums_to_ones(words: [__m512i; 5]) -> __mmask16 {
    let halves = words.map(|word| _mm512_add_epi32(low(word), _mm512_srli_epi32::<16>(word)));
    let [one, two, three, four, five] = halves;
    let sum = _mm512_add_epi32(_mm512_add_epi32(_mm512_add_epi32(one, two), _mm512_add_epi32(three, four)), five);
    let fold = |sum| _mm512_add_epi32(low(sum), _mm512_srli_epi32::<16>(sum));
    equal(fold(fold(sum)), number(0xffff))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn equal(one: __m512i, other: __m512i) -> __mmask16 {
    _mm512_cmpeq_epi32_mask(one, other)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn number(number: u32) -> __m512i {
    _mm512_set1_epi32(number as i32)
}

/// The lower 16 bits of each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn low(words: __m512i) -> __m512i {
    _mm512_and_si512(words, number(0xffff))
}

/// These four bytes of each number; [`NONE`] for a zero.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn bytes(words: __m512i, chosen: [u8; 4]) -> __m512i {
    let of = |word: i32| i32::from_le_bytes(chosen.map(|byte| if byte == NONE { NONE } else { byte + 4 * word as u8 }));
    _mm512_shuffle_epi8(words, _mm512_set4_epi32(of(3), of(2), of(1), of(0)))
}

const NONE: u8 = 0x80;
