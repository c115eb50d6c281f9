//! Sixteen IPv4 frames held against their doors at once, with AVX-512; [`super::plain_v4`] is the scalar twin.
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
    __m128i, __m512i, __mmask16, _mm_loadu_si128, _mm_storeu_si128, _mm256_castsi128_si256, _mm256_inserti128_si256,
    _mm256_loadu_si256, _mm512_add_epi32, _mm512_and_si512, _mm512_castsi256_si512, _mm512_cmpeq_epi32_mask,
    _mm512_cmpge_epu32_mask, _mm512_cmpgt_epu32_mask, _mm512_cmple_epu32_mask, _mm512_cmplt_epu32_mask,
    _mm512_cvtepi32_epi8, _mm512_cvtepu16_epi32, _mm512_inserti64x4, _mm512_loadu_si512, _mm512_mask_mov_epi32,
    _mm512_min_epu32, _mm512_set1_epi32, _mm512_set4_epi32, _mm512_shuffle_epi8, _mm512_srli_epi32,
    _mm512_storeu_si512, _mm512_test_epi32_mask, _mm512_testn_epi32_mask, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use packet::{SMALL_LEN, START_LEN, VNET_HEADER_LEN};

use super::{DoorV4, Tunnels, V4_LEN};

/// Sixteen rows of a burst.
pub(super) struct Sixteen<'a> {
    pub(super) heads: &'a [u32; 16],
    pub(super) from: &'a [u16; 16],
    pub(super) length: &'a mut [u32; 16],
    pub(super) protocol: &'a mut [u8; 16],
    pub(super) to_v4: &'a mut [u32; 16],
}

/// True where the processor can do it.
#[inline(always)]
pub(super) fn is_able() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

/// Says which of the frames, whose memory this is, are plain IPv4 ones, a bit for each. Of these the columns are filled; of the
/// others all but `length` mean nothing afterwards.
///
/// # Safety
/// The processor is able.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn plain_v4(rows: Sixteen<'_>, memory: &[u8], (doors, tunnels): (&[DoorV4], &Tunnels)) -> u16 {
    let Sixteen { heads, from, length, protocol, to_v4 } = rows;
    let first = number(VNET_HEADER_LEN as u32);
    let last = number(memory.len().saturating_sub(START_LEN) as u32);
    // SAFETY: sixteen numbers are as long as the vector.
    let (places, ports) =
        unsafe { (_mm512_loadu_si512(heads.as_ptr().cast()), _mm256_loadu_si256(from.as_ptr().cast())) };
    let outside = _mm512_cmplt_epu32_mask(places, first) | _mm512_cmpgt_epu32_mask(places, last);
    assert!(outside == 0, "frames lie in the memory");
    if _mm512_cmpge_epu32_mask(_mm512_cvtepu16_epi32(ports), number(doors.len() as u32)) != 0 {
        return 0;
    }
    let frame = |row: usize, at: isize| {
        // SAFETY: from its header to the end of its start a frame lies within the memory, as was asserted.
        unsafe { _mm_loadu_si128(memory.as_ptr().add(heads[row] as usize).offset(at).cast()) }
    };
    // SAFETY: there are as many doors, and a door is as long as the vector.
    let door = |row: usize| unsafe { _mm_loadu_si128(doors.as_ptr().add(from[row].into()).cast()) };
    let [flags, checksum_start, checksum_offset, station] = columns(|row| frame(row, -12));
    let [station_rest, _, ether_type, first] = columns(|row| frame(row, 2));
    let [fragment, live, source, destination] = columns(|row| frame(row, 18));
    let [own_station, own_station_rest, own, open] = columns(door);

    let to_gateway =
        _mm512_cmpeq_epi32_mask(station, own_station) & _mm512_cmpeq_epi32_mask(station_rest, own_station_rest);
    let from_own = _mm512_cmpeq_epi32_mask(source, own) | _mm512_test_epi32_mask(open, open);
    let is_v4 = _mm512_cmpeq_epi32_mask(_mm512_srli_epi32::<16>(ether_type), number(0x0008))
        & _mm512_cmpeq_epi32_mask(_mm512_and_si512(first, number(0xff)), number(0x45));
    let is_whole = _mm512_testn_epi32_mask(fragment, number(0xff3f_0000));

    let carried = _mm512_and_si512(_mm512_srli_epi32::<8>(live), number(0xff));
    let has_ports = _mm512_cmpeq_epi32_mask(carried, number(6)) | _mm512_cmpeq_epi32_mask(carried, number(17));

    let there = _mm512_add_epi32(bytes(first, [3, 2, NONE, NONE]), number(14));
    // SAFETY: sixteen numbers of 32 bits are as long as the vector.
    let received = unsafe { _mm512_loadu_si512((&raw const *length).cast()) };
    let fits = _mm512_cmpge_epu32_mask(there, number(V4_LEN)) & _mm512_cmple_epu32_mask(there, received);

    let start = _mm512_srli_epi32::<16>(checksum_start);
    let field_end = _mm512_add_epi32(_mm512_add_epi32(start, low(checksum_offset)), number(2));
    let in_head = _mm512_min_epu32(there, number(SMALL_LEN as u32));
    let inside = _mm512_cmpge_epu32_mask(start, number(V4_LEN)) & _mm512_cmple_epu32_mask(field_end, in_head);
    let is_sound =
        _mm512_testn_epi32_mask(flags, number(0xff00)) & (_mm512_testn_epi32_mask(flags, number(1)) | inside);

    let mut passes = to_gateway
        & from_own
        & is_v4
        & is_whole
        & has_ports
        & fits
        & is_sound
        & sums_to_ones([first, fragment, live, source, destination]);
    if tunnels.are_any() {
        for row in 0..16 {
            // SAFETY: as above.
            let ports = unsafe { memory.as_ptr().add(heads[row] as usize + 36).cast::<u16>().read_unaligned() };
            passes &= !(u16::from(tunnels.may_have(ports)) << row);
        }
    }
    let trimmed = _mm512_mask_mov_epi32(received, passes, there);
    let address = bytes(destination, [3, 2, 1, 0]);
    // SAFETY: each vector is as long as the sixteen numbers it is written to.
    unsafe {
        _mm512_storeu_si512((&raw mut *length).cast(), trimmed);
        _mm512_storeu_si512((&raw mut *to_v4).cast(), address);
        _mm_storeu_si128((&raw mut *protocol).cast(), _mm512_cvtepi32_epi8(carried));
    }
    passes
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
    _mm512_cmpeq_epi32_mask(fold(fold(sum)), number(0xffff))
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
