//! Return entries: flows that the host translated on their way in, whose replies must pass the host again.
//!
//! A pod talks to a Service address; the host rewrites the destination to a pod of this node and sends the packet back
//! by the host port, with the client pod as its source. The reply would find the client by longest prefix match and
//! arrive untranslated. So such a packet leaves an entry: its 5-tuple reversed, meaning "by the host port".
//!
//! There is one table, which all workers share ([`ring::FlowTable`]), since the reply need not enter by the worker that
//! carried the packet: the entry is there before that packet departs. A full bucket evicts the entry unused for
//! longest, which is counted. An entry unused for [`TCP_IDLE_SECONDS`] or [`OTHER_IDLE_SECONDS`] (the kernel's own
//! defaults for connection tracking, rounded up) no longer counts. A stale entry does no harm but a detour: the host
//! routes the packet back, which is a translated one's way too, so the detour lasts as long as the flow does.
//!
//! A port whose workload has had entries stays marked, also when its number goes to another workload: that one's
//! packets are looked for in vain until the switch ends, which costs time and nothing else.
//!
//! Fragments carry no ports; they use the entry of port 0, which a fragment in the other direction left.

use packet::{Burst, shape};
use ring::{Flags, FlowTable};

use crate::bank::PORTS_MAX;
use crate::path::transport_fields;

/// A flow in one direction. IPv4 addresses stand in the low 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flow {
    source: u128,
    destination: u128,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
    family: u8,
}

/// The table that all workers share.
#[derive(Debug)]
pub struct Returns {
    flows: FlowTable<5>,
    /// Ports whose workloads have had entries.
    concerned: Flags,
}

impl Flow {
    /// The flow of a parsed packet.
    #[inline]
    pub fn of(head: &[u8], burst: &Burst, row: usize) -> Flow {
        let bits = burst.shape[row];
        let (source, destination) = transport_fields::addresses(head, bits);
        let transport = if bits & shape::FRAGMENT == 0 { head.get(usize::from(burst.transport[row])..) } else { None };
        let protocol = burst.protocol[row];
        let (source_port, destination_port) = transport_fields::ports(protocol, transport.unwrap_or_default());
        Flow { source, destination, source_port, destination_port, protocol, family: bits & shape::V6 }
    }

    /// The same flow in the other direction.
    pub fn reversed(&self) -> Flow {
        Flow {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..*self
        }
    }

    /// What differs most comes first.
    fn key(&self) -> [u64; 5] {
        let halves = |address: u128| [address as u64, (address >> u64::BITS) as u64];
        let ([source, source_high], [destination, destination_high]) = (halves(self.source), halves(self.destination));
        let [ports, kind] = [(self.source_port, self.destination_port), (self.protocol.into(), self.family.into())]
            .map(|(high, low): (u16, u16)| u64::from(high) << 16 | u64::from(low));
        [ports << 32 | kind, source, destination, source_high, destination_high]
    }

    fn idle_seconds_max(&self) -> u32 {
        if self.protocol == transport_fields::TCP { TCP_IDLE_SECONDS } else { OTHER_IDLE_SECONDS }
    }
}

impl Returns {
    /// A table of `entries` entries, 64 bytes each.
    pub fn new(entries: usize) -> Self {
        Returns { flows: FlowTable::new(entries), concerned: Flags::new(PORTS_MAX) }
    }

    /// False until the first entry: then nothing need be looked up.
    #[inline]
    pub fn is_used(&self) -> bool {
        self.concerned.any()
    }

    /// True when flows of the workload behind `port` may have entries.
    #[inline]
    pub fn concerns(&self, port: u16) -> bool {
        self.concerned.is_raised(usize::from(port))
    }

    /// True when `flow` goes back by the host port; refreshes its entry.
    #[inline]
    pub fn find(&self, flow: &Flow, now_seconds: u32) -> bool {
        self.flows.find(&flow.key(), now_seconds)
    }

    /// Notes that `flow`, of the workload behind `port`, goes back by the host port.
    pub fn insert(&self, flow: &Flow, port: u16, now_seconds: u32) {
        self.concerned.raise(usize::from(port));
        self.flows.insert(&flow.key(), flow.idle_seconds_max(), now_seconds);
    }

    /// Counts the entries in use, by a look at every one where there may be any.
    pub fn in_use(&self, now_seconds: u32) -> usize {
        if self.is_used() { self.flows.live(now_seconds) } else { 0 }
    }

    /// As many entries as there is room for.
    pub fn limit(&self) -> usize {
        self.flows.limit()
    }

    /// Entries in use that had to go for newer ones, or found no place.
    pub fn evicted(&self) -> u64 {
        self.flows.evicted()
    }
}

/// Entries of a switch.
pub const RETURNS: usize = 65_536;
/// Five days: Linux's `nf_conntrack_tcp_timeout_established`.
pub const TCP_IDLE_SECONDS: u32 = 432_000;
/// Ten minutes: Linux's `nf_conntrack_generic_timeout`, longer than those for UDP and ICMP.
pub const OTHER_IDLE_SECONDS: u32 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        Flow { source: 1, destination: 2, source_port: port, destination_port: 80, protocol: 17, family: 0 }
    }

    #[test]
    fn a_reply_is_found_and_a_stranger_is_not() {
        let returns = Returns::new(64);
        assert!(!returns.is_used());
        returns.insert(&flow(7).reversed(), 3, 100);
        assert!(returns.is_used() && returns.concerns(3) && !returns.concerns(4));
        assert!(returns.find(&flow(7).reversed(), 101));
        assert!(!returns.find(&flow(7), 101) && !returns.find(&flow(8).reversed(), 101));
        assert_eq!((returns.in_use(101), returns.limit(), returns.evicted()), (1, 64, 0));
    }

    #[test]
    fn flows_that_differ_in_anything_have_different_keys() {
        let high = 1 << 64;
        let others = [
            Flow { source: 3, ..flow(7) },
            Flow { source: 1 | high, ..flow(7) },
            Flow { destination: 3, ..flow(7) },
            Flow { destination: 2 | high, ..flow(7) },
            Flow { source_port: 8, ..flow(7) },
            Flow { destination_port: 81, ..flow(7) },
            Flow { protocol: 6, ..flow(7) },
            Flow { family: 1, ..flow(7) },
            flow(7).reversed(),
        ];
        for other in others {
            assert_ne!(other.key(), flow(7).key(), "{other:?}");
        }
    }

    #[test]
    fn an_idle_entry_is_no_longer_in_use() {
        let returns = Returns::new(64);
        returns.insert(&flow(7), 3, 0);
        returns.insert(&Flow { protocol: transport_fields::TCP, ..flow(7) }, 3, 0);
        assert_eq!([0, OTHER_IDLE_SECONDS, OTHER_IDLE_SECONDS + 1].map(|now| returns.in_use(now)), [2, 2, 1]);
        assert_eq!(returns.in_use(TCP_IDLE_SECONDS + 1), 0);
    }
}
