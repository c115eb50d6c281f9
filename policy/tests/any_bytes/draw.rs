//! Rules, endpoints and packets drawn from bytes: few values, so that things meet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use packet::Prefix;
use policy::labels::Labels;
use policy::rule::{
    Action, Family, Icmp, Match, NetworkSet, Order, Policy, Ports, Profile, Protocol, Rule, Side, Tier,
};
use policy::selector::Selector;
use policy::{Addresses, Endpoint, NamedPort, Transport, Tuple};

/// Values from bytes; zeros behind their end.
pub(crate) struct Draw<'a>(pub(crate) &'a [u8]);

impl Draw<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn below(&mut self, end: u8) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte % end
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: u8) -> bool {
        self.below(times) == 1
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.below(of.len() as u8))]
    }

    fn some<T>(&mut self, most: u8, mut draw: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(most + 1)).map(|_| draw(self)).collect()
    }

    fn maybe<T>(&mut self, times: u8, draw: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.once_in(times).then(|| draw(self))
    }

    pub(crate) fn name(&mut self, of: &str, count: u8) -> Arc<str> {
        format!("{of}{}", self.below(count)).into()
    }

    fn key(&mut self) -> Arc<str> {
        self.one(&["app", "role", policy::labels::NAMESPACE]).into()
    }

    fn value(&mut self) -> Arc<str> {
        self.one(&["x", "y", "xyz"]).into()
    }

    pub(crate) fn labels(&mut self) -> Labels {
        self.some(3, |draw| (draw.key(), draw.value())).into_iter().collect()
    }

    pub(crate) fn selector(&mut self, depth: u8) -> Selector {
        match self.below(if depth == 0 { 8 } else { 11 }) {
            0 => Selector::All,
            1 => Selector::Has(self.key()),
            2 | 3 => Selector::Equals(self.key(), self.value()),
            4 => Selector::In(self.key(), self.some(3, Self::value)),
            5 => Selector::Contains(self.key(), "y".into()),
            6 => Selector::StartsWith(self.key(), "xy".into()),
            7 => Selector::EndsWith(self.key(), "z".into()),
            8 => Selector::Not(Box::new(self.selector(depth - 1))),
            9 => Selector::And(self.some(3, |draw| draw.selector(depth - 1))),
            _ => Selector::Or(self.some(3, |draw| draw.selector(depth - 1))),
        }
    }

    fn net(&mut self) -> Prefix {
        let texts = [
            "10.0.0.0/28",
            "10.0.0.4/30",
            "10.0.0.8/29",
            "10.0.0.5/32",
            "0.0.0.0/0",
            "192.168.0.0/16",
            "192.168.7.0/24",
            "fd00::/64",
            "fd00::4/126",
            "fd00::5/128",
            "::/0",
            "2001:db8::/32",
            "128.0.0.0/1",
            "255.255.255.255/32",
        ];
        self.one(&texts).parse().expect("a prefix")
    }

    pub(crate) fn address(&mut self, family: Family) -> IpAddr {
        let low = self.below(12);
        match (family, self.once_in(5)) {
            (Family::V4, false) => Ipv4Addr::new(10, 0, 0, low).into(),
            (Family::V4, true) => [Ipv4Addr::new(192, 168, 7, low), Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED]
                [usize::from(low) % 3]
                .into(),
            (Family::V6, false) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, low.into()).into(),
            (Family::V6, true) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, low.into()).into(),
        }
    }

    fn family(&mut self) -> Family {
        self.one(&[Family::V4, Family::V6])
    }

    fn protocol(&mut self) -> Protocol {
        self.one(&[Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::ICMP, Protocol::ICMPV6, Protocol(4)])
    }

    fn port(&mut self) -> u16 {
        self.one(&[80, 81, 0, u16::MAX, 53, 255, 256, 8080])
    }

    fn ports(&mut self) -> Ports {
        let (one, other) = (self.port(), self.port());
        match self.below(4) {
            0 => Ports::Range(one.min(other), one.max(other)),
            1 => Ports::Named(self.name("port", 2)),
            _ => Ports::Range(one, one),
        }
    }

    fn icmp(&mut self) -> Icmp {
        Icmp { kind: self.one(&[0, 8, 255, 128]), code: self.maybe(2, |draw| draw.one(&[0, 1, 255])) }
    }

    fn side(&mut self) -> Side {
        let mut side = Side::default();
        if self.once_in(4) {
            side.nets = self.some(3, Self::net);
        }
        if self.once_in(6) {
            side.not_nets = self.some(2, Self::net);
        }
        side.selector = self.maybe(4, |draw| draw.selector(2));
        side.not_selector = self.maybe(8, |draw| draw.selector(1));
        if self.once_in(4) {
            side.ports = self.some(3, Self::ports);
        }
        if self.once_in(8) {
            side.not_ports = self.some(2, Self::ports);
        }
        side
    }

    fn rule(&mut self) -> Rule {
        let action = self.one(&[Action::Allow, Action::Allow, Action::Deny, Action::Pass, Action::Log]);
        let mut matches = Match { source: self.side(), destination: self.side(), ..Match::default() };
        matches.family = self.maybe(8, Self::family);
        matches.protocol = self.maybe(3, Self::protocol);
        matches.not_protocol = self.maybe(8, Self::protocol);
        matches.icmp = self.maybe(10, Self::icmp);
        matches.not_icmp = self.maybe(10, Self::icmp);
        Rule { action, matches }
    }

    fn order(&mut self) -> Order {
        Order(self.maybe(3, |draw| draw.one(&[0.0, -0.0, 10.0, -5.0, f64::INFINITY, f64::NAN])))
    }

    pub(crate) fn tier(&mut self) -> Tier {
        let otherwise = self.one(&[Action::Deny, Action::Pass]);
        Tier { name: self.name("tier", 3), order: self.order(), otherwise }
    }

    pub(crate) fn policy(&mut self) -> Policy {
        Policy {
            name: self.name("policy", 8),
            tier: self.name("tier", 4),
            order: self.order(),
            applies_to: self.selector(1),
            ingress: (!self.once_in(3)).then(|| self.some(4, Self::rule)),
            egress: (!self.once_in(3)).then(|| self.some(4, Self::rule)),
        }
    }

    pub(crate) fn profile(&mut self) -> Profile {
        Profile { name: self.name("profile", 2), ingress: self.some(2, Self::rule), egress: self.some(2, Self::rule) }
    }

    pub(crate) fn set(&mut self) -> NetworkSet {
        NetworkSet { name: self.name("set", 3), labels: self.labels(), nets: self.some(4, Self::net) }
    }

    pub(crate) fn endpoint(&mut self) -> Endpoint {
        let port = |draw: &mut Self| NamedPort {
            name: draw.name("port", 2),
            protocol: draw.one(&[Protocol::TCP, Protocol::UDP]),
            port: draw.port(),
        };
        Endpoint {
            name: self.name("pod", 8),
            labels: self.labels(),
            profiles: self.some(2, |draw| draw.name("profile", 3)),
            addresses: self.some(3, |draw| {
                let family = draw.family();
                draw.address(family)
            }),
            ports: self.some(3, port),
            is_local: !self.once_in(3),
        }
    }

    pub(crate) fn tuple(&mut self) -> Tuple {
        let family = self.family();
        let [source, destination] = [self.address(family), self.address(family)];
        let (protocol, transport) = match self.below(8) {
            0 => (Protocol::ICMP, Transport::Icmp { kind: self.one(&[0, 8, 255, 3]), code: self.one(&[0, 1, 255]) }),
            1 => (Protocol::ICMPV6, Transport::Icmp { kind: self.one(&[128, 8]), code: self.below(3) }),
            2 => (self.protocol(), Transport::Opaque),
            3 => (Protocol(99), Transport::Ports { source: self.port(), destination: self.port() }),
            _ => {
                let protocol = self.one(&[Protocol::TCP, Protocol::UDP, Protocol::SCTP]);
                (protocol, Transport::Ports { source: self.port(), destination: self.port() })
            }
        };
        let addresses = Addresses::new(source, destination).expect("both of one family");
        Tuple { addresses, protocol, transport }
    }
}
