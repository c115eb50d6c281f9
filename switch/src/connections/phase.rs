//! How far a flow is, and how long it may be silent then.
//!
//! ```text
//!  TCP    Begun --answer--> Answered --the first end goes on--> Established --FIN, RST--> Closing
//!  UDP    Asked --answer--> Told
//!  ICMP   Echo
//!  other  One   --answer--> Both
//! ```
//!
//! Nobody can take part in a handshake from an address where answers do not arrive, so a flood of first packets fills no place of
//! flows in use: Begun, Answered, Asked, Echo and One give theirs to newer flows.

/// A flow's phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// No flow.
    Empty,
    /// TCP: its first packet was seen.
    Begun,
    /// TCP: it was answered.
    Answered,
    /// TCP: and the answer arrived.
    Established,
    /// TCP: an end is about to leave, or has.
    Closing,
    /// UDP: not answered.
    Asked,
    /// UDP: answered.
    Told,
    /// A question by ICMP.
    Echo,
    /// Any other protocol: not answered.
    One,
    /// Any other protocol: answered.
    Both,
}

/// What a packet does to its flow's phase.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// True when it comes from the end that began the flow.
    pub forth: bool,
    /// It begins a connection of TCP, that is, it has SYN and no ACK; or it is a question by ICMP.
    pub begins: bool,
    /// TCP: it ends one, that is, it has FIN or RST.
    pub ends: bool,
}

impl Phase {
    /// The first phase of a flow of a protocol.
    pub fn first(protocol: u8) -> Phase {
        match protocol {
            6 => Phase::Begun,
            17 => Phase::Asked,
            1 | 58 => Phase::Echo,
            _ => Phase::One,
        }
    }

    /// The phase after a packet.
    #[inline]
    pub fn after(self, step: Step) -> Phase {
        match self {
            Phase::Begun | Phase::Answered | Phase::Established if step.ends => Phase::Closing,
            Phase::Begun if !step.forth => Phase::Answered,
            Phase::Answered if step.forth && !step.begins => Phase::Established,
            Phase::Asked if !step.forth => Phase::Told,
            Phase::One if !step.forth => Phase::Both,
            _ => self,
        }
    }

    /// For so long it may be silent.
    pub fn idle_seconds_max(self) -> u32 {
        match self {
            Phase::Empty => 0,
            Phase::Begun | Phase::Answered => 20,
            Phase::Established => 3_600,
            Phase::Closing => 40,
            Phase::Asked | Phase::Told => 60,
            Phase::Echo => 5,
            Phase::One | Phase::Both => 600,
        }
    }

    /// True when it keeps its place.
    pub fn is_answered(self) -> bool {
        matches!(self, Phase::Established | Phase::Closing | Phase::Told | Phase::Both)
    }

    /// True when packets that neither begin nor end anything, in either direction, leave it as it is.
    pub fn is_steady(self) -> bool {
        !matches!(self, Phase::Empty | Phase::Begun | Phase::Answered)
    }

    /// The phase in the lowest bits of an entry's life.
    pub(super) fn of(life: u64) -> Phase {
        use Phase::*;
        const ALL: [Phase; 10] = [Empty, Begun, Answered, Established, Closing, Asked, Told, Echo, One, Both];
        ALL.get((life & 0xf) as usize).copied().unwrap_or(Empty)
    }
}
