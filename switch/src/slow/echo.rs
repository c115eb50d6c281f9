//! Echo: the gateway answers a ping (RFC 792; RFC 4443, section 4.2).

use std::net::IpAddr;

use packet::view::Fragment;
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet};

use super::answer::{HOP_LIMIT, Icmp};
use super::datagram::Datagram;
use super::{Answer, Outcome, Punted};

/// The reply to the ICMP message in `datagram`, from the address it was sent to.
pub(super) fn reply(datagram: &Datagram<'_>, punted: &Punted<'_>) -> Result<Answer, Outcome> {
    if datagram.fragment != Fragment::Whole {
        return Err(Outcome::GatewayFragment);
    }
    if !datagram.is_between_hosts() {
        return Err(Outcome::Malformed);
    }
    let answer = answer_type(datagram)?;
    let mut message = datagram.transport.to_vec();
    message[0] = answer;
    let icmp = Icmp { source: datagram.destination, destination: datagram.source, hop_limit: HOP_LIMIT, message };
    Ok(Answer::icmp(&punted.from, icmp))
}

/// The type that answers an echo request whose checksum holds.
fn answer_type(datagram: &Datagram<'_>) -> Result<u8, Outcome> {
    let (sound, asked, answer) = match (datagram.source, datagram.destination) {
        (IpAddr::V4(_), _) => {
            let message = Icmpv4Packet::new_checked(datagram.transport).map_err(|_| Outcome::Malformed)?;
            let asked = message.msg_type() == Icmpv4Message::EchoRequest;
            (message.verify_checksum(), asked, Icmpv4Message::EchoReply.into())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let message = Icmpv6Packet::new_checked(datagram.transport).map_err(|_| Outcome::Malformed)?;
            let asked = message.msg_type() == Icmpv6Message::EchoRequest;
            (message.verify_checksum(&source, &destination), asked, Icmpv6Message::EchoReply.into())
        }
        _ => return Err(Outcome::Malformed),
    };
    match (sound, asked) {
        (true, true) => Ok(answer),
        (true, false) => Err(Outcome::NotServed),
        (false, _) => Err(Outcome::Malformed),
    }
}
