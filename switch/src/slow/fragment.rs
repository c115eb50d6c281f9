//! IPv4 fragmentation: a packet without DF that is bigger than the next hop takes goes on in pieces (RFC 791).
//!
//! ```text
//!  received   | header, TTL n, offset o, MF m | payload                                  |
//!  sent       | header, n-1, o,    1          | room(first) |
//!             | copied options, n-1, o+.., 1                | room(later) |
//!             | copied options, n-1, o+.., m                              | rest         |
//! ```
//!
//! A room is the next hop's MTU less the header, rounded down to 8 bytes. Options without the copied bit go with the
//! first piece only. A super-frame is cut first and each segment that is too big is fragmented; one that fits goes on
//! whole. The transport checksum covers the whole packet, so it is finished before.

use packet::view::{ETHERNET_LEN, Ethernet, IPV4_LEN, ethertype};
use smoltcp::wire::Ipv4Packet;

use super::segments::Segments;
use super::{Answer, FRAMES_MAX, Outcome, Punted, Side};

/// Appends the pieces of the packet in `punted` on their way to the next hop, all or none.
pub(super) fn forward(punted: &Punted<'_>, out: &mut Vec<Answer>) -> Result<(), Outcome> {
    let to = punted.to.ok_or(Outcome::NoNextHop)?;
    let before = out.len();
    let result = Segments::of(punted)?.try_for_each(|segment| {
        fragment(&segment, &to, out)?;
        if out.len() - before > FRAMES_MAX { Err(Outcome::Unfragmentable) } else { Ok(()) }
    });
    if result.is_err() {
        out.truncate(before);
    }
    result
}

fn fragment(frame: &[u8], to: &Side<'_>, out: &mut Vec<Answer>) -> Result<(), Outcome> {
    let is_v4 = Ethernet::parse(frame).is_some_and(|ethernet| ethernet.ethertype() == ethertype::IPV4);
    let bytes = frame.get(ETHERNET_LEN..).filter(|_| is_v4).ok_or(Outcome::Malformed)?;
    let packet = Ipv4Packet::new_checked(bytes).map_err(|_| Outcome::Malformed)?;
    let end = usize::from(packet.frag_offset()) + packet.payload().len();
    if packet.version() != 4 || packet.hop_limit() <= 1 || end > usize::from(u16::MAX) {
        return Err(Outcome::Malformed);
    }
    let header = &bytes[..usize::from(packet.header_len())];
    let later_header = copied(header);
    let mut piece = Piece { header, offset: packet.frag_offset(), more: true, payload: &[] };
    let mut rest = packet.payload();
    loop {
        let room = usize::from(to.mtu).saturating_sub(piece.header.len());
        if rest.len() <= room {
            out.push(Piece { more: packet.more_frags(), payload: rest, ..piece }.answer(to));
            return Ok(());
        }
        if packet.dont_frag() || room < UNIT {
            return Err(Outcome::Unfragmentable);
        }
        (piece.payload, rest) = rest.split_at(room - room % UNIT);
        out.push(piece.answer(to));
        piece.offset += piece.payload.len() as u16;
        piece.header = &later_header;
    }
}

/// One fragment to be.
struct Piece<'a> {
    header: &'a [u8],
    /// In bytes.
    offset: u16,
    more: bool,
    payload: &'a [u8],
}

impl Piece<'_> {
    fn answer(&self, to: &Side<'_>) -> Answer {
        let mut answer = Answer::ethernet(to, ethertype::IPV4, &[self.header, self.payload]);
        let mut packet = Ipv4Packet::new_unchecked(&mut answer.frame[ETHERNET_LEN..]);
        packet.set_header_len(self.header.len() as u8);
        packet.set_total_len((self.header.len() + self.payload.len()) as u16);
        packet.set_frag_offset(self.offset);
        packet.set_more_frags(self.more);
        packet.set_hop_limit(packet.hop_limit() - 1);
        packet.fill_checksum();
        answer
    }
}

/// The header with only those options that every fragment carries (RFC 791, section 3.1), filled up to whole words.
fn copied(header: &[u8]) -> Vec<u8> {
    let (fixed, mut options) = header.split_at(IPV4_LEN);
    let mut kept = fixed.to_vec();
    while let [kind, ref after @ ..] = *options {
        let length = match kind {
            END_OF_OPTIONS => break,
            NO_OPERATION => 1,
            _ => after.first().map_or(0, |length| usize::from(*length)),
        };
        let Some((option, rest)) = options.split_at_checked(length).filter(|(option, _)| !option.is_empty()) else {
            break;
        };
        if kind & COPIED != 0 {
            kept.extend(option);
        }
        options = rest;
    }
    kept.resize(kept.len().next_multiple_of(4), END_OF_OPTIONS);
    kept
}

/// Fragment offsets count in units of this many bytes.
const UNIT: usize = 8;
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const COPIED: u8 = 0x80;
