//! A trace: what each stage of the path saw of a packet and decided.

use std::net::IpAddr;

use packet::Mac;
use serde::{Deserialize, Serialize};

use crate::Filter;
use crate::text::words;

/// The wish to see packets; what is left out limits nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StartTrace {
    /// Name or number of the port they enter or depart by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Which of them, as they came in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Only those that are dropped.
    pub dropped: bool,
    /// How many; the trace then ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// How long the trace may last; never longer than the switch allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// A trace began.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TraceStarted {
    /// By which it is asked for packets and ended. Who stops asking has ended it too.
    pub id: u64,
}

/// What a trace has seen since it was last asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TraceView {
    /// The packets, in the order they left the path.
    pub packets: Vec<TracedPacket>,
    /// Packets that were meant, since the trace began.
    pub matched: u64,
    /// Those of them that came faster than they were asked for, and are not shown.
    pub missed: u64,
    /// More packets wait: ask again at once.
    pub more: bool,
    /// Why the trace is over, once it is; it need not be stopped then.
    pub ended: Option<TraceEnd>,
}

words! {
    /// Why a trace is over.
    TraceEnd, "end of a trace" {
        /// It showed as many packets as were asked for.
        Count => "count",
        /// Its time was up.
        Time => "time",
        /// It was stopped.
        Stopped => "stopped",
        /// The port it was of has left.
        PortGone => "port-gone",
    }
}

/// One packet's way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TracedPacket {
    /// When its turn began: nanoseconds since the trace began.
    pub time_ns: u64,
    /// Where it entered; none for an answer of the slow path.
    pub from: Option<PortLabel>,
    /// Where it was to depart, as far as that was decided.
    pub to: Option<PortLabel>,
    /// Bytes of the frame.
    pub length: u32,
    /// What it stands for, if it is a super-frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub super_frame: Option<SuperFrame>,
    /// True when the transport checksum is left to whoever puts it on a wire.
    pub checksum_unfinished: bool,
    /// Its headers as it came in.
    pub headers: Headers,
    /// What the stages decided, up to the one that let it go.
    pub stages: Vec<StageTrace>,
    /// The first bytes of the frame as it came in, in hexadecimal.
    pub bytes: String,
}

/// A port by number and name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PortLabel {
    /// Its index; 0 is the host port.
    pub index: u16,
    /// Its name, or its index where it is gone.
    pub name: String,
}

/// What a super-frame stands for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SuperFrame {
    /// `tcp4`, `tcp6` or `udp`.
    pub kind: String,
    /// Payload bytes of each segment but the last.
    pub segment_size: u16,
}

/// The headers within the first bytes of a frame, as far as they make sense.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields of the headers by their names")]
pub struct Headers {
    pub destination_mac: Mac,
    pub source_mac: Mac,
    pub ethertype: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<IpAddr>,
    /// TTL or hop limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// Of the transport, behind extension headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// A part of a packet, the first part too.
    pub fragment: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    /// Letters as tcpdump(8) has them: `S`, `F`, `R`, `P`, `.` for ACK, `U`, `E`, `W`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_flags: Option<String>,
    /// Type and code of ICMP, of either family.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp: Option<(u8, u8)>,
    /// Operation of ARP: 1 request, 2 reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arp_operation: Option<u16>,
}

words! {
    /// The stages of the path.
    Stage, "stage" {
        /// What is it?
        Parse => "parse",
        /// May it leave its workload?
        Leaving => "leaving",
        /// Where to?
        Route => "route",
        /// May it leave its pod, and enter the next?
        Policy => "policy",
        /// As what?
        Rewrite => "rewrite",
        /// By which port, in which form?
        Depart => "depart",
    }
}

/// What one stage decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StageTrace {
    /// Which.
    pub stage: Stage,
    /// What.
    #[serde(flatten)]
    pub decision: Decision,
}

/// A stage's decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are what their names say")]
pub enum Decision {
    /// Headers are in order; `transport` is the offset of the transport header, `length` the frame's without padding.
    Parsed { protocol: u8, transport: u16, length: u32, fragment: bool },
    /// It has an address of its own; whatever enters by the host port may.
    Allowed { host: bool },
    /// Goes to this next hop, as the route table says, or back through the host as a return entry does.
    Routed { adjacency: u16, port: PortLabel, return_entry: bool },
    /// What the next link will see.
    Rewritten { ttl: u8, source_mac: Mac, destination_mac: Mac },
    /// Written to the port.
    Sent { port: PortLabel, form: Form, frames: u32 },
    /// Dropped, for a reason of `podswitch show drops`; by route, as this adjacency says.
    Dropped {
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        adjacency: Option<u16>,
    },
    /// Handed to the slow path; by route, as this adjacency says.
    Punted {
        why: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        adjacency: Option<u16>,
    },
}

words! {
    /// In which form a packet departed.
    Form, "form" {
        /// As it was.
        Whole => "whole",
        /// Joined with others: `frames` together became one super-frame.
        Joined => "joined",
        /// Cut into `frames` segments.
        Cut => "cut",
        /// With its checksum completed.
        Completed => "completed",
    }
}
