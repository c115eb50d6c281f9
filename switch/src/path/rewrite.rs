//! Rewrite: as what?
//!
//! The routing hop: TTL or hop limit one lower with the IPv4 checksum patched along, and both Ethernet addresses those
//! of the next link. A packet whose TTL ends here, or that the next link's MTU refuses, goes to the slow path
//! untouched. What counts against the MTU is the IP packet as it would be on the wire: a super-frame's segment, not the
//! whole.

use packet::{Burst, Exit, Offload, Punt, START_LEN, VNET_HEADER_LEN, checksum, shape};

use super::parse::ETHERNET_LEN;
use crate::lane::Lane;
use crate::world::World;

pub(super) fn rewrite(burst: &mut Burst, world: &World, lane: &mut Lane) {
    for row in burst.rows() {
        if !burst.exit[row].is_none() {
            continue;
        }
        let next = world.next(burst.adjacency[row]);
        let v6 = burst.shape[row] & shape::V6 != 0;
        let fits =
            burst.length[row] <= ETHERNET_LEN as u32 + u32::from(next.mtu) || segments_fit(burst, row, lane, next.mtu);
        let start = lane.slots.start_mut(burst.head[row]);
        let lives = start[ETHERNET_LEN + if v6 { 7 } else { 8 }] > 1;
        if fits & lives {
            hop(start, v6);
            start[..12].copy_from_slice(&next.stations);
        } else {
            burst.exit[row] = Exit::punt(match lives {
                false => Punt::TtlExceeded,
                true if !v6 && start[ETHERNET_LEN + 6] & DONT_FRAGMENT == 0 => Punt::Fragment,
                true => Punt::TooBig,
            });
        }
    }
}

/// True if the segments of a frame that is longer than `mtu` are not, or could be made so.
#[inline(never)]
fn segments_fit(burst: &Burst, row: usize, lane: &mut Lane, mtu: u16) -> bool {
    let mut on_wire = bytes_on_wire(burst, row, lane);
    if on_wire > usize::from(mtu) && has_guessed_segments(burst, row) {
        on_wire -= cut_shorter(burst, row, lane, on_wire - usize::from(mtu));
    }
    on_wire <= usize::from(mtu)
}

/// Length of the longest IP packet this row stands for.
fn bytes_on_wire(burst: &Burst, row: usize, lane: &Lane) -> usize {
    let whole = burst.length[row] as usize - ETHERNET_LEN;
    if burst.shape[row] & shape::SUPER == 0 { whole } else { segment_on_wire(burst, row, lane).min(whole) }
}

/// Length of a super-frame's longest segment.
fn segment_on_wire(burst: &Burst, row: usize, lane: &Lane) -> usize {
    let transport = usize::from(burst.transport[row]);
    let (header, _) = lane.slots.header_and_start(burst.head[row]);
    let transport_len = match burst.protocol[row] {
        super::transport_fields::TCP => {
            let head = lane.slots.head(burst.head[row], burst.length[row]);
            usize::from(head[transport + 12] >> 4) * 4
        }
        _ => UDP_LEN,
    };
    let size = Offload::parse(header).map_or(0, |offload| usize::from(offload.gso_size));
    transport - ETHERNET_LEN + transport_len + size
}

/// True for a TCP super-frame out of a tunnel: how long its sender's segments were nobody said ([`Offload::of_bare`]),
/// and they may have been shorter all along. A sender that is told of an MTU it keeps already does nothing, and its
/// stream would stand still.
#[inline]
fn has_guessed_segments(burst: &Burst, row: usize) -> bool {
    let is_super = burst.shape[row] & shape::SUPER != 0;
    is_super && burst.remote[row] != 0 && burst.protocol[row] == super::transport_fields::TCP
}

/// Takes `bytes` from each segment, where they have more; how many were taken.
fn cut_shorter(burst: &Burst, row: usize, lane: &mut Lane, bytes: usize) -> usize {
    let header = lane.slots.before_mut(burst.head[row], VNET_HEADER_LEN);
    let offload = Offload::parse((&*header).try_into().expect("a header's length was taken"));
    let shorter = |offload: &Offload| usize::from(offload.gso_size).checked_sub(bytes).filter(|size| *size > 0);
    let Some((offload, size)) = offload.ok().and_then(|offload| shorter(&offload).map(|size| (offload, size))) else {
        return 0;
    };
    header.copy_from_slice(&Offload { gso_size: size as u16, ..offload }.bytes());
    bytes
}

/// One hop less to live.
#[inline]
fn hop(start: &mut [u8; START_LEN], v6: bool) {
    if v6 {
        start[ETHERNET_LEN + 7] -= 1;
        return;
    }
    let live = start[ETHERNET_LEN + 8..].first_chunk_mut().expect("a start is longer");
    *live = checksum::one_hop_less(*live);
}

const DONT_FRAGMENT: u8 = 0x40;
const UDP_LEN: usize = 8;
