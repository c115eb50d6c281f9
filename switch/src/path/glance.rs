//! Glance: is it one of the many?
//!
//! Nearly all packets are whole TCP and UDP ones without options that a pod sends from its own address, or that the host or
//! another node sends, to the gateway. A glance tells these: it fills their columns as `parse` would, and leaves pods' nothing to
//! answer for in `leaving`. Everything else it leaves to these stages, untouched: the rows of [`Others`]. So a glance refuses
//! nothing, and what it lets pass both stages would let pass with the same columns.
//!
//! | held against | |
//! |---|---|
//! | the port | to its gateway's Ethernet address, from its first address of the family, no strict MAC |
//! | the headers | version, no options or extension headers, right header checksum, no fragment, TCP or UDP, length within the frame |
//! | the tunnels | not to a UDP port where a tunnel of ours ends |
//! | what came beside it | no super-frame, an unfinished checksum only behind the IP header |

use packet::{BURST, Burst, SMALL_LEN, START_LEN, Slots, VNET_HEADER_LEN, checksum, shape};

use super::leaving::{destination_v4, destination_v6};
use super::parse::{ETHERNET_LEN, ETHERTYPE_IPV6, IPV4_LEN_MIN, IPV6_LEN, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::lane::Lane;
use crate::port::{Link, Port};
use crate::world::World;

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "loads of vectors")]
mod wide;

/// The rows that a glance did not tell, for the stages that ask step by step; the memory is used again every turn.
pub struct Others {
    rows: [u8; BURST],
    count: usize,
}

impl Others {
    /// All the memory it will ever need.
    pub(crate) fn new() -> Box<Self> {
        Box::new(Others { rows: [0; BURST], count: 0 })
    }

    /// Their numbers, ascending.
    #[inline]
    pub(super) fn rows(&self) -> &[u8] {
        &self.rows[..self.count.min(BURST)]
    }

    #[inline(always)]
    fn add(&mut self, row: usize, is_other: bool) {
        self.rows[self.count % BURST] = row as u8;
        self.count += usize::from(is_other);
    }
}

pub(super) fn glance(burst: &mut Burst, world: &World, lane: &mut Lane) {
    lane.others.count = 0;
    let tunnels = Tunnels::of(world.remotes.ports());
    #[cfg(target_arch = "x86_64")]
    let is_wide = wide::is_able() && !tunnels.more;
    let mut first = 0;
    while first < burst.rows().end {
        let rows = (burst.rows().end - first).min(TOGETHER);
        let mut unknown = ALL >> (TOGETHER - rows);
        #[cfg(target_arch = "x86_64")]
        if is_wide {
            unknown &= !sixteen((burst, first, rows), (world, &tunnels), &lane.slots);
        }
        while unknown != 0 {
            let row = first + unknown.trailing_zeros() as usize;
            unknown &= unknown - 1;
            let passes = one((burst, row), (world, &tunnels), &lane.slots);
            lane.others.add(row, !passes);
        }
        first += TOGETHER;
    }
}

/// Fills the columns of the plain rows among the next ones that are of the first one's family, and says which these are.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "a call of what only some processors can do")]
#[inline]
fn sixteen(
    (burst, first, rows): (&mut Burst, usize, usize),
    (world, tunnels): (&World, &Tunnels),
    slots: &Slots,
) -> u16 {
    let (head, from) = (sixteen_of(&mut burst.head, first), sixteen_of(&mut burst.from, first));
    // Places behind the last row stand for the first.
    let (first_head, first_from) = (head[0], from[0]);
    head[rows..].fill(first_head);
    from[rows..].fill(first_from);
    let is_v6 = slots.start(first_head)[12] == ETHERTYPE_IPV6[0];
    let columns = wide::Sixteen {
        memory: slots.heads(),
        heads: head,
        from,
        length: sixteen_of(&mut burst.length, first),
        protocol: sixteen_of(&mut burst.protocol, first),
    };
    let transport = sixteen_of(&mut burst.transport, first);
    if !is_v6 {
        transport.fill(V4_LEN as u16);
        // SAFETY: the processor was asked whether it is able.
        return unsafe { wide::plain_v4(columns, sixteen_of(&mut burst.to_v4, first), (&world.doors().v4, tunnels)) };
    }
    transport.fill(V6_LEN as u16);
    // SAFETY: as above.
    let known = unsafe { wide::plain_v6(columns, sixteen_of(&mut burst.to_v6, first), (&world.doors().v6, tunnels)) };
    for (row, shape) in sixteen_of(&mut burst.shape, first).iter_mut().enumerate() {
        *shape |= shape::V6 * (known >> row & 1) as u8;
    }
    known
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn sixteen_of<T>(column: &mut [T; BURST], first: usize) -> &mut [T; TOGETHER] {
    column[first..].first_chunk_mut().expect("a burst is a multiple of sixteen")
}

/// Fills the columns of one row, if it is plain.
#[inline]
fn one((burst, row): (&mut Burst, usize), (world, tunnels): (&World, &Tunnels), slots: &Slots) -> bool {
    let from = burst.from[row];
    let (header, start) = slots.header_and_start(burst.head[row]);
    let length = burst.length[row];
    if start[12] == ETHERTYPE_IPV6[0] {
        let plain = plain_v6(start, world.doors().v6(from), tunnels);
        let passes = (plain.length <= length) & plain.holds & is_sound(header, V6_LEN, plain.length);
        if passes {
            plain.write(burst, row, (V6_LEN, shape::V6));
            burst.to_v6[row] = destination_v6(start);
        }
        passes
    } else {
        let plain = plain_v4(start, world.doors().v4(from), tunnels);
        let passes = (plain.length <= length) & plain.holds & is_sound(header, V4_LEN, plain.length);
        if passes {
            plain.write(burst, row, (V4_LEN, 0));
            burst.to_v4[row] = destination_v4(start);
        }
        passes
    }
}

/// What frames are held against, by port, compiled with the world.
#[derive(Clone, Default, Debug)]
pub struct Doors {
    v4: Vec<DoorV4>,
    v6: Vec<DoorV6>,
}

/// What IPv4 frames of a port are held against.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(16))]
struct DoorV4 {
    station: [u32; 2],
    /// Whom they are from, as it stands in memory.
    own: u32,
    /// Not 0 if they may be from anybody.
    open: u32,
}

/// What IPv6 frames of a port are held against.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
struct DoorV6 {
    own: u128,
    station: [u32; 2],
    open: u32,
}

impl Doors {
    /// Makes the door of the port of that number, or shuts it.
    pub(crate) fn set(&mut self, number: u16, port: Option<&Port>) {
        let is_open = |port: &Port| port.host || matches!(port.link, Link::Uplink(_));
        let door = port.filter(|port| is_open(port) || !port.strict_mac);
        let station =
            |own: bool| door.filter(|port| own || is_open(port)).map_or(NOBODY, |port| station(&port.gateway.0));
        let own_v4 = door.and_then(|port| port.sources_v4.first());
        let own_v6 = door.and_then(|port| port.sources_v6.first());
        let is_open = door.is_some_and(is_open);
        let (at, count) = (usize::from(number), self.v4.len().max(usize::from(number) + 1));
        self.v4.resize(count, DoorV4::SHUT);
        self.v6.resize(count, DoorV6::SHUT);
        let (station_v4, station_v6) = (station(own_v4.is_some()), station(own_v6.is_some()));
        self.v4[at] = DoorV4 { station: station_v4, own: own_v4.map_or(0, |own| own.to_be()), open: is_open.into() };
        self.v6[at] = DoorV6 { own: own_v6.map_or(0, |own| own.to_be()), station: station_v6, open: is_open.into() };
    }

    #[inline(always)]
    fn v4(&self, port: u16) -> &DoorV4 {
        self.v4.get(usize::from(port)).unwrap_or(&DoorV4::SHUT)
    }

    #[inline(always)]
    fn v6(&self, port: u16) -> &DoorV6 {
        self.v6.get(usize::from(port)).unwrap_or(&DoorV6::SHUT)
    }
}

impl DoorV4 {
    /// Nothing passes.
    const SHUT: DoorV4 = DoorV4 { station: NOBODY, own: 0, open: 0 };
}

impl DoorV6 {
    const SHUT: DoorV6 = DoorV6 { own: 0, station: NOBODY, open: 0 };
}

/// UDP ports where tunnels of ours end.
struct Tunnels {
    /// As they stand in memory; 0 for none.
    ports: u64,
    /// There are more than these.
    more: bool,
}

impl Tunnels {
    fn of(ports: &[u16]) -> Tunnels {
        let joined = ports.iter().take(4).fold(0, |joined, port| joined << 16 | u64::from(port.to_be()));
        Tunnels { ports: joined, more: ports.len() > 4 }
    }

    #[inline(always)]
    fn are_any(&self) -> bool {
        self.ports != 0
    }

    /// True if a packet to `port`, as it stands in memory, may be for one of them.
    #[inline(always)]
    fn may_have(&self, port: u16) -> bool {
        // Which 16 bits are zero (Anderson, Bit Twiddling Hacks).
        let differences = self.ports ^ (u64::from(port) * LOWEST);
        self.are_any() & (self.more | (differences.wrapping_sub(LOWEST) & !differences & LOWEST << 15 != 0))
    }
}

/// What was found of a packet: all but its length agrees, and how long its frame must be.
struct Plain {
    holds: bool,
    length: u32,
    protocol: u8,
}

impl Plain {
    #[inline(always)]
    fn write(&self, burst: &mut Burst, row: usize, (transport, shape): (u32, u8)) {
        burst.transport[row] = transport as u16;
        burst.protocol[row] = self.protocol;
        burst.shape[row] = shape;
        burst.length[row] = self.length;
    }
}

#[inline(always)]
fn plain_v4(start: &[u8; START_LEN], door: &DoorV4, tunnels: &Tunnels) -> Plain {
    let ip = start[ETHERNET_LEN..].first_chunk::<IPV4_LEN_MIN>().expect("a start is longer");
    let length = ETHERNET_LEN as u32 + u32::from(u16::from_be_bytes([ip[2], ip[3]]));
    let own = u32::from_ne_bytes([ip[12], ip[13], ip[14], ip[15]]) == door.own;
    let holds = (station(start) == door.station)
        & (start[12..15] == PLAIN_IPV4)
        & (own | (door.open != 0))
        & (length >= V4_LEN)
        & (u16::from_ne_bytes([ip[6], ip[7]]) & u16::from_ne_bytes([0x3f, 0xff]) == 0)
        & has_ports(ip[9])
        & !tunnels.may_have(u16::from_ne_bytes([start[36], start[37]]))
        & checksum::ipv4_header_is_right(ip);
    Plain { holds, length, protocol: ip[9] }
}

#[inline(always)]
fn plain_v6(start: &[u8; START_LEN], door: &DoorV6, tunnels: &Tunnels) -> Plain {
    let ip = start[ETHERNET_LEN..].first_chunk::<IPV6_LEN>().expect("a start is longer");
    let length = V6_LEN + u32::from(u16::from_be_bytes([ip[4], ip[5]]));
    let own = u128::from_ne_bytes(*ip[8..].first_chunk().expect("a header is longer")) == door.own;
    let holds = (station(start) == door.station)
        & (start[12..14] == ETHERTYPE_IPV6)
        & (ip[0] >> 4 == 6)
        & (own | (door.open != 0))
        & has_ports(ip[6])
        & !tunnels.may_have(u16::from_ne_bytes([start[56], start[57]]));
    Plain { holds, length, protocol: ip[6] }
}

#[inline(always)]
fn has_ports(protocol: u8) -> bool {
    (protocol == PROTOCOL_TCP) | (protocol == PROTOCOL_UDP)
}

/// True of what comes beside most frames: no super-frame, and the place of an unfinished checksum behind the IP header.
#[inline(always)]
fn is_sound(header: &[u8; VNET_HEADER_LEN], transport: u32, length: u32) -> bool {
    let word = |at: usize| u32::from(u16::from_le_bytes([header[at], header[at + 1]]));
    let (start, field_end) = (word(6), word(6) + word(8) + 2);
    let finished = header[0] & 1 == 0;
    let inside = (start >= transport) & (field_end <= length.min(SMALL_LEN as u32));
    (header[1] == 0) & (finished | inside)
}

/// The station that a frame begins with: the first four bytes and the last four.
#[inline(always)]
fn station(start: &[u8]) -> [u32; 2] {
    [0, 2].map(|at| u32::from_le_bytes(*start[at..].first_chunk().expect("a station has six bytes")))
}

/// Bytes before the transport header.
const V4_LEN: u32 = (ETHERNET_LEN + IPV4_LEN_MIN) as u32;
const V6_LEN: u32 = (ETHERNET_LEN + IPV6_LEN) as u32;
/// EtherType, version and header length of a packet without options.
const PLAIN_IPV4: [u8; 3] = [0x08, 0x00, 0x45];
/// No station is this: its first four bytes and its last four have two in common.
const NOBODY: [u32; 2] = [0, u32::MAX];
/// The lowest of each 16 bits.
const LOWEST: u64 = 0x0001_0001_0001_0001;
/// Rows that are looked at together.
const TOGETHER: usize = 16;
const ALL: u16 = u16::MAX;

#[cfg(test)]
mod tests;
