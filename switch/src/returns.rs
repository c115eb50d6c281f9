//! Return entries: flows that the host translated on their way in, whose replies must pass the host again.
//!
//! A pod talks to a Service address; the host rewrites the destination to a pod of this node and sends the packet back
//! by the host port, with the client pod as its source. The reply would find the client by longest prefix match and
//! arrive untranslated. So such a packet leaves an entry: its 5-tuple reversed, meaning "by the host port".
//!
//! The table is a fixed number of buckets of eight entries; a full bucket evicts the entry unused for longest, which is
//! counted. An entry unused for [`TCP_IDLE_SECONDS`] or [`OTHER_IDLE_SECONDS`] (the kernel's own defaults for connection
//! tracking, rounded up) no longer counts. A stale entry does no harm but a detour: the host routes the packet back, which
//! is a translated one's way too, so the detour lasts as long as the flow does.
//!
//! Fragments carry no ports; they use the entry of port 0, which a fragment in the other direction left.

use packet::{Burst, shape};

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

/// The table of one worker.
pub struct Returns {
    buckets: Vec<[Entry; WAYS]>,
    concerned: Vec<bool>,
    used: bool,
    /// Entries held. One that is idle too long is held until it is looked for or its place is needed.
    pub held: u64,
    /// Entries that had to go for newer ones.
    pub evicted: u64,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    flow: Flow,
    /// Second of the last use, plus one; 0 is an empty entry.
    used: u32,
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

    fn hash(&self) -> usize {
        let fold = |value: u128| (value as u64) ^ (value >> 64) as u64;
        let ports =
            u64::from(self.source_port) << 32 | u64::from(self.destination_port) << 8 | u64::from(self.protocol);
        let mixed = (fold(self.source).wrapping_mul(MIX) ^ fold(self.destination)).wrapping_mul(MIX) ^ ports;
        (mixed.wrapping_mul(MIX) >> 40) as usize
    }

    fn idle_seconds_max(&self) -> u32 {
        if self.protocol == transport_fields::TCP { TCP_IDLE_SECONDS } else { OTHER_IDLE_SECONDS }
    }
}

impl Returns {
    /// A table of `entries` entries, rounded up to a power of two; 64 bytes each, all written at once.
    pub fn new(entries: usize) -> Self {
        let buckets = entries.div_ceil(WAYS).next_power_of_two();
        Returns {
            buckets: vec![[Entry::default(); WAYS]; buckets],
            concerned: vec![false; usize::from(u16::MAX) + 1],
            used: false,
            held: 0,
            evicted: 0,
        }
    }

    /// False until the first entry: then nothing need be looked up.
    #[inline]
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// True when flows of the workload behind `port` may have entries.
    #[inline]
    pub fn concerns(&self, port: u16) -> bool {
        self.concerned[usize::from(port)]
    }

    /// True when `flow` goes back by the host port; refreshes its entry.
    pub fn find(&mut self, flow: &Flow, now_seconds: u32) -> bool {
        let bucket = self.bucket(flow);
        for entry in &mut self.buckets[bucket] {
            if entry.used != 0 && entry.flow == *flow {
                let live = now_seconds.saturating_sub(entry.used - 1) <= flow.idle_seconds_max();
                entry.used = if live { now_seconds + 1 } else { 0 };
                self.held -= u64::from(!live);
                return live;
            }
        }
        false
    }

    /// Notes that `flow`, of the workload behind `port`, goes back by the host port.
    pub fn insert(&mut self, flow: &Flow, port: u16, now_seconds: u32) {
        self.used = true;
        self.concerned[usize::from(port)] = true;
        let bucket = self.bucket(flow);
        let entries = &mut self.buckets[bucket];
        let same = entries.iter().position(|entry| entry.used != 0 && entry.flow == *flow);
        let slot = same.unwrap_or_else(|| {
            let oldest = (0..WAYS).min_by_key(|&way| entries[way].used).expect("a bucket has entries");
            let unused = now_seconds.saturating_sub(entries[oldest].used.saturating_sub(1));
            let evicts = entries[oldest].used != 0 && unused <= entries[oldest].flow.idle_seconds_max();
            self.evicted += u64::from(evicts);
            oldest
        });
        self.held += u64::from(entries[slot].used == 0);
        entries[slot] = Entry { flow: *flow, used: now_seconds + 1 };
    }

    fn bucket(&self, flow: &Flow) -> usize {
        flow.hash() & (self.buckets.len() - 1)
    }
}

/// Five days: Linux's `nf_conntrack_tcp_timeout_established`.
pub const TCP_IDLE_SECONDS: u32 = 432_000;
/// Ten minutes: Linux's `nf_conntrack_generic_timeout`, longer than those for UDP and ICMP.
pub const OTHER_IDLE_SECONDS: u32 = 600;

const WAYS: usize = 8;
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

// What the page above says of its size, and the reason why a bucket is eight cache lines.
const _: () = assert!(size_of::<Entry>() == 64);

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> Flow {
        Flow { source: 1, destination: 2, source_port: port, destination_port: 80, protocol: 17, family: 0 }
    }

    #[test]
    fn a_reply_is_found_and_a_stranger_is_not() {
        let mut returns = Returns::new(64);
        assert!(!returns.is_used());
        returns.insert(&flow(7).reversed(), 3, 100);
        assert!(returns.is_used() && returns.concerns(3) && !returns.concerns(4));
        assert!(returns.find(&flow(7).reversed(), 101));
        assert!(!returns.find(&flow(7), 101) && !returns.find(&flow(8).reversed(), 101));
    }

    #[test]
    fn an_idle_entry_ends_and_use_keeps_it() {
        let mut returns = Returns::new(64);
        returns.insert(&flow(7), 3, 0);
        assert!(returns.find(&flow(7), OTHER_IDLE_SECONDS));
        assert!(returns.find(&flow(7), 2 * OTHER_IDLE_SECONDS));
        assert_eq!(returns.held, 1);
        assert!(!returns.find(&flow(7), 3 * OTHER_IDLE_SECONDS + 1));
        assert_eq!(returns.held, 0);
    }

    #[test]
    fn a_full_bucket_evicts_the_entry_unused_for_longest() {
        let mut returns = Returns::new(WAYS);
        for port in 0..WAYS as u16 {
            returns.insert(&flow(port), 3, u32::from(port));
        }
        assert!(returns.find(&flow(0), 50));
        returns.insert(&flow(100), 3, 51);
        assert_eq!((returns.evicted, returns.held), (1, WAYS as u64));
        assert!(returns.find(&flow(0), 52) && returns.find(&flow(100), 52) && !returns.find(&flow(1), 52));
    }
}
