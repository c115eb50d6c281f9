//! TCP, UDP and ICMP.

use std::borrow::{Borrow, BorrowMut};

use super::{long, put, view, word};

/// Bytes of a TCP header without options.
pub const TCP_LEN: usize = 20;
/// Bytes of a UDP header.
pub const UDP_LEN: usize = 8;
/// Bytes of the part common to all ICMP messages.
pub const ICMP_LEN: usize = 8;

/// Bits of [`Tcp::flags`].
pub mod tcp_flag {
    /// No more from the sender.
    pub const FIN: u16 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u16 = 0x02;
    /// The connection is off.
    pub const RST: u16 = 0x04;
    /// Push to the reader.
    pub const PSH: u16 = 0x08;
    /// The acknowledgment number counts.
    pub const ACK: u16 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u16 = 0x20;
    /// ECN echo.
    pub const ECE: u16 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u16 = 0x80;
}

view!(
    /// The first 20 bytes of a TCP header (RFC 9293, section 3.1). Options follow up to [`Tcp::header_len`].
    Tcp,
    TCP_LEN,
    |header, available| {
        let header_len = usize::from(header[OFFSET_AND_FLAGS] >> 4) * 4;
        header_len >= TCP_LEN && header_len <= available
    }
);

impl<B: Borrow<[u8; TCP_LEN]>> Tcp<B> {
    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        word(&self.0, SOURCE_PORT)
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        word(&self.0, DESTINATION_PORT)
    }

    /// Sequence number of the first payload byte.
    #[inline]
    pub fn sequence(&self) -> u32 {
        long(&self.0, SEQUENCE)
    }

    /// Next sequence number expected.
    #[inline]
    pub fn acknowledgment(&self) -> u32 {
        long(&self.0, ACKNOWLEDGMENT)
    }

    /// Bytes of header and options, 20 to 60.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes()[OFFSET_AND_FLAGS] >> 4) * 4
    }

    /// The 12 bits after the data offset: [`tcp_flag`] and the reserved ones.
    #[inline]
    pub fn flags(&self) -> u16 {
        let word: u16 = word(&self.0, OFFSET_AND_FLAGS);
        word & FLAGS
    }

    /// Receive window, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        word(&self.0, WINDOW)
    }

    /// The checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        word(&self.0, TCP_CHECKSUM)
    }
}

impl<B: BorrowMut<[u8; TCP_LEN]>> Tcp<B> {
    /// Sets the sequence number.
    #[inline]
    pub fn set_sequence(&mut self, sequence: u32) {
        put(&mut self.0, SEQUENCE, sequence.to_be_bytes());
    }

    /// Sets the 12 bits after the data offset.
    #[inline]
    pub fn set_flags(&mut self, flags: u16) {
        let word: u16 = word(&self.0, OFFSET_AND_FLAGS);
        put(&mut self.0, OFFSET_AND_FLAGS, (word & !FLAGS | flags & FLAGS).to_be_bytes());
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put(&mut self.0, TCP_CHECKSUM, checksum.to_be_bytes());
    }
}

view!(
    /// A UDP header (RFC 768); a length below 8 does not parse.
    Udp,
    UDP_LEN,
    |header, _| usize::from(word(header, UDP_LENGTH)) >= UDP_LEN
);

impl<B: Borrow<[u8; UDP_LEN]>> Udp<B> {
    /// Source port; 0 means none.
    #[inline]
    pub fn source_port(&self) -> u16 {
        word(&self.0, SOURCE_PORT)
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        word(&self.0, DESTINATION_PORT)
    }

    /// Bytes of header and payload.
    #[inline]
    pub fn datagram_len(&self) -> u16 {
        word(&self.0, UDP_LENGTH)
    }

    /// The checksum as it stands; 0 means none.
    #[inline]
    pub fn checksum(&self) -> u16 {
        word(&self.0, UDP_CHECKSUM)
    }
}

impl<B: BorrowMut<[u8; UDP_LEN]>> Udp<B> {
    /// Sets both ports.
    #[inline]
    pub fn set_ports(&mut self, source: u16, destination: u16) {
        put(&mut self.0, SOURCE_PORT, source.to_be_bytes());
        put(&mut self.0, DESTINATION_PORT, destination.to_be_bytes());
    }

    /// Sets the bytes of header and payload.
    #[inline]
    pub fn set_datagram_len(&mut self, length: u16) {
        put(&mut self.0, UDP_LENGTH, length.to_be_bytes());
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put(&mut self.0, UDP_CHECKSUM, checksum.to_be_bytes());
    }
}

view!(
    /// The first 8 bytes of an ICMP message, of either family (RFC 792; RFC 4443, section 2.1).
    Icmp,
    ICMP_LEN,
    |_, _| true
);

impl<B: Borrow<[u8; ICMP_LEN]>> Icmp<B> {
    /// The message's type.
    #[inline]
    pub fn kind(&self) -> u8 {
        self.bytes()[0]
    }

    /// The message's code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.bytes()[1]
    }

    /// The checksum as it stands; only IPv6's covers a pseudo-header.
    #[inline]
    pub fn checksum(&self) -> u16 {
        word(&self.0, ICMP_CHECKSUM)
    }

    /// The four bytes whose meaning depends on the type: identifier and sequence, or MTU.
    #[inline]
    pub fn rest(&self) -> u32 {
        long(&self.0, ICMP_REST)
    }
}

impl<B: BorrowMut<[u8; ICMP_LEN]>> Icmp<B> {
    /// Sets type and code.
    #[inline]
    pub fn set_kind(&mut self, kind: u8, code: u8) {
        put(&mut self.0, 0, [kind, code]);
    }

    /// Sets the checksum.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        put(&mut self.0, ICMP_CHECKSUM, checksum.to_be_bytes());
    }

    /// Sets the four bytes whose meaning depends on the type.
    #[inline]
    pub fn set_rest(&mut self, rest: u32) {
        put(&mut self.0, ICMP_REST, rest.to_be_bytes());
    }
}

/// Where TCP and UDP both have their ports.
const SOURCE_PORT: usize = 0;
const DESTINATION_PORT: usize = 2;

const SEQUENCE: usize = 4;
const ACKNOWLEDGMENT: usize = 8;
const OFFSET_AND_FLAGS: usize = 12;
const WINDOW: usize = 14;
const TCP_CHECKSUM: usize = 16;
const FLAGS: u16 = 0x0fff;

const UDP_LENGTH: usize = 4;
const UDP_CHECKSUM: usize = 6;

const ICMP_CHECKSUM: usize = 2;
const ICMP_REST: usize = 4;
