//! What became of a punted frame.

/// Exactly one of these per punt; all but [`Outcome::Answered`] say why nothing was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// Frames were appended.
    Answered,
    /// The asker checks whether its own address is in use: silence says that it is free (RFC 5227, RFC 4862).
    AddressCheck,
    /// An ARP reply or a neighbour advertisement: nothing is learned from it.
    NothingAsked,
    /// Not what the punt says, cut short, or its ICMPv6 checksum or hop limit is wrong.
    Malformed,
    /// A fragment to the gateway, which reassembles nothing.
    GatewayFragment,
    /// To the gateway, which serves nothing but echo.
    NotServed,
    /// No ICMP error may be sent about it (RFC 1812, section 4.3.2.7; RFC 4443, section 2.4).
    NoErrorAbout,
    /// No router address of its family to send the error from.
    NoRouterAddress,
    /// The punt lacks the next hop it needs.
    NoNextHop,
    /// Cannot be brought into pieces the next hop takes.
    Unfragmentable,
    /// The port has used up its rate.
    RateLimited,
}

impl Outcome {
    /// Every value in order of its number.
    pub const ALL: &'static [Outcome] = &[
        Outcome::Answered,
        Outcome::AddressCheck,
        Outcome::NothingAsked,
        Outcome::Malformed,
        Outcome::GatewayFragment,
        Outcome::NotServed,
        Outcome::NoErrorAbout,
        Outcome::NoRouterAddress,
        Outcome::NoNextHop,
        Outcome::Unfragmentable,
        Outcome::RateLimited,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The name in metrics, JSON and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Answered => "answered",
            Outcome::AddressCheck => "address_check",
            Outcome::NothingAsked => "nothing_asked",
            Outcome::Malformed => "malformed",
            Outcome::GatewayFragment => "gateway_fragment",
            Outcome::NotServed => "not_served",
            Outcome::NoErrorAbout => "no_error_about",
            Outcome::NoRouterAddress => "no_router_address",
            Outcome::NoNextHop => "no_next_hop",
            Outcome::Unfragmentable => "unfragmentable",
            Outcome::RateLimited => "rate_limited",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_its_number_and_a_name_of_its_own() {
        let mut names = std::collections::HashSet::new();
        for (number, &outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(outcome as usize, number);
            assert!(names.insert(outcome.name()));
        }
        assert_eq!(Outcome::COUNT, Outcome::RateLimited as usize + 1);
    }
}
