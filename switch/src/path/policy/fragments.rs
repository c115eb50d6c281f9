//! What was decided about first fragments, for those that follow.
//!
//! One place for each hash: of two packets in fragments that share it, the later has it. The whole key is compared.

use packet::{Burst, Reason, shape};
use policy::RuleId;

use super::super::parse::ETHERNET_LEN;
use super::super::transport_fields;

/// A packet that was sent in fragments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    source: u128,
    destination: u128,
    id: u32,
    from: u16,
    protocol: u8,
    family: u8,
}

impl Key {
    /// Of a parsed fragment; in IPv6, the header that says so is the last before what `transport` names.
    pub(super) fn of(head: &[u8], burst: &Burst, row: usize) -> Key {
        let family = burst.shape[row] & shape::V6;
        let (source, destination) = transport_fields::addresses(head, family);
        let transport = usize::from(burst.transport[row]);
        let id = match family {
            0 => head.get(ETHERNET_LEN + 4..ETHERNET_LEN + 6).map_or(0, |id| u16::from_be_bytes([id[0], id[1]]).into()),
            _ => head[..transport.min(head.len())].last_chunk().map_or(0, |id| u32::from_be_bytes(*id)),
        };
        Key { source, destination, id, from: burst.from[row], protocol: burst.protocol[row], family }
    }
}

/// Who denied it, if anybody did.
type Denied = Option<(Reason, RuleId)>;

/// First fragments of late.
pub(super) struct Fragments {
    places: Box<[Option<(Key, Denied, u32)>]>,
    seed: u64,
}

impl Fragments {
    pub(super) fn new(seed: u64) -> Self {
        Fragments { places: vec![None; PLACES].into(), seed }
    }

    pub(super) fn find(&self, key: &Key, now_seconds: u32) -> Option<Denied> {
        let (known, denied, at) = self.places[self.place(key)]?;
        (known == *key && now_seconds.saturating_sub(at) <= SECONDS_MAX).then_some(denied)
    }

    pub(super) fn note(&mut self, key: Key, denied: Denied, now_seconds: u32) {
        self.places[self.place(&key)] = Some((key, denied, now_seconds));
    }

    pub(super) fn forget_all(&mut self) {
        self.places.fill(None);
    }

    fn place(&self, key: &Key) -> usize {
        let fold = |address: u128| address as u64 ^ (address >> 64) as u64;
        let mix = |one: u64, other: u64| {
            let product = u128::from(one ^ self.seed) * u128::from(other ^ self.seed.rotate_left(32) | 1);
            fold(product)
        };
        let hash = mix(mix(fold(key.source), fold(key.destination)), u64::from(key.id) << 8 | u64::from(key.protocol));
        hash as usize % PLACES
    }
}

const PLACES: usize = 1024;
/// As long as receivers wait for what is missing (RFC 1122, 3.3.2, has 60 and more; Linux waits for 30).
const SECONDS_MAX: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_known_by_all_of_its_key_and_for_a_while() {
        let key = Key { source: 1, destination: 2, id: 3, from: 4, protocol: 17, family: 0 };
        let mut fragments = Fragments::new(9);
        let denied = Some((Reason::PolicyIngress, RuleId(7)));
        fragments.note(key, denied, 100);
        assert_eq!([100, 130, 131].map(|now| fragments.find(&key, now)), [Some(denied), Some(denied), None]);
        let others = [
            Key { source: 5, ..key },
            Key { destination: 5, ..key },
            Key { id: 5, ..key },
            Key { from: 5, ..key },
            Key { protocol: 5, ..key },
            Key { family: 1, ..key },
        ];
        assert!(others.iter().all(|other| fragments.find(other, 100).is_none()));
        fragments.forget_all();
        assert!(fragments.find(&key, 100).is_none());
    }
}
