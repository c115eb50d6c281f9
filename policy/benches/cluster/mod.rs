//! A cluster drawn from a fixed seed: nodes, namespaces, pods and policies as Kubernetes has them.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use packet::Prefix;
use policy::labels::{KUBERNETES, Labels, NAMESPACE, ORCHESTRATOR};
use policy::rule::{Action, Match, Order, Policy, Ports, Protocol, Rule, Side};
use policy::selector::Selector;
use policy::{Addresses, Endpoint, NamedPort, Transport, Tuple};

pub(crate) const ENDPOINTS: u32 = 50_000;
pub(crate) const NODES: u32 = 2_000;
/// Each has 20 applications of 10 pods.
pub(crate) const NAMESPACES: u32 = 250;
const APPS: u32 = 20;

/// SplitMix64 (Steele, Lea, Flood 2014): the same cluster in every run.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % u64::from(end)) as u32
    }
}

/// Pod `number`; those of node 0 are local.
pub(crate) fn endpoint(number: u32) -> Endpoint {
    let (namespace, app, node) = (number % NAMESPACES, number / NAMESPACES % APPS, number % NODES);
    let text = |key: &str, value: String| (Arc::from(key), Arc::from(value));
    let labels: Labels = [
        text(ORCHESTRATOR, KUBERNETES.to_owned()),
        text(NAMESPACE, format!("ns{namespace}")),
        text("pcns.team", format!("team{}", namespace % 10)),
        text("pcns.kubernetes.io/metadata.name", format!("ns{namespace}")),
        text("app", format!("app{app}")),
        text("tier", format!("tier{}", app % 3)),
        text("pod-template-hash", format!("{:08x}", namespace * 31 + app)),
        text("statefulset.kubernetes.io/pod-name", format!("app{app}-{number}")),
    ]
    .into();
    let addresses = vec![
        IpAddr::from(Ipv4Addr::from(0x0a40_0000 + (node << 8) + number / NODES + 2)),
        Ipv6Addr::from((0xfd00_u128 << 112) + (u128::from(node) << 64) + u128::from(number / NODES + 2)).into(),
    ];
    let ports = vec![NamedPort { name: "http".into(), protocol: Protocol::TCP, port: 8080 }];
    let name = format!("ns{namespace}/app{app}-{number}").into();
    Endpoint { name, labels, profiles: Vec::new(), addresses, ports, is_local: node == 0 }
}

/// The pods with a label of an application, in a namespace.
pub(crate) fn app(namespace: u32, app: u32) -> Selector {
    let namespace = Selector::equals(NAMESPACE, format!("ns{namespace}"));
    Selector::and([pods(), namespace, Selector::equals("app", format!("app{app}"))])
}

/// All pods, as selectors of Kubernetes' policies begin.
fn pods() -> Selector {
    Selector::equals(ORCHESTRATOR, KUBERNETES)
}

/// Policy `number`, of a namespace, for one of its applications: what a network policy of Kubernetes comes to.
pub(crate) fn policy(number: u32, random: &mut Random) -> Policy {
    let namespace = number % NAMESPACES;
    let rules = |random: &mut Random, is_ingress: bool| (0..4).map(|_| rule(namespace, is_ingress, random)).collect();
    Policy {
        name: format!("networkpolicy/ns{namespace}/policy{number}").into(),
        tier: "default".into(),
        order: Order(Some(1000.0)),
        applies_to: app(namespace, random.below(APPS)),
        ingress: Some(rules(random, true)),
        egress: number.is_multiple_of(3).then(|| rules(random, false)),
    }
}

/// Allows one application, one team, or one outside net, on a port or on all; or anyone on a port.
pub(crate) fn rule(namespace: u32, is_ingress: bool, random: &mut Random) -> Rule {
    let mut peer = Side::default();
    match random.below(40) {
        0..=22 => peer.selector = Some(app(namespace, random.below(APPS))),
        23..=29 => {
            let team = Selector::equals("pcns.team", format!("team{}", random.below(10)));
            peer.selector = Some(Selector::and([pods(), Selector::Has(NAMESPACE.into()), team]));
        }
        30..=37 => {
            let net = Ipv4Addr::from(0xc000_0000 | random.below(1 << 16) << 12);
            peer.nets = vec![Prefix::new(net.into(), 20).expect("no host bits")];
        }
        _ => {}
    }
    let mut other = Side::default();
    let mut protocol = None;
    if random.below(10) > 0 || peer == Side::default() {
        protocol = Some([Protocol::TCP, Protocol::TCP, Protocol::UDP][random.below(3) as usize]);
        let first = port(random);
        let last = if random.below(10) == 0 { first.saturating_add(100) } else { first };
        let ports = vec![Ports::Range(first, last)];
        if is_ingress { other.ports = ports } else { peer.ports = ports }
    }
    let (source, destination) = if is_ingress { (peer, other) } else { (other, peer) };
    Rule { action: Action::Allow, matches: Match { protocol, source, destination, ..Match::default() } }
}

/// One of 200.
pub(crate) fn port(random: &mut Random) -> u16 {
    1000 + 37 * random.below(200) as u16
}

/// A packet to a pod: nine of ten from other pods, one from outside; every fourth to a port that no rule names.
pub(crate) fn packet(to: Ipv4Addr, random: &mut Random) -> Tuple {
    let source = match random.below(10) {
        0 => Ipv4Addr::from(0xc000_0000 | random.below(1 << 28)),
        _ => {
            let number = random.below(ENDPOINTS);
            Ipv4Addr::from(0x0a40_0000 + ((number % NODES) << 8) + number / NODES + 2)
        }
    };
    let destination = if random.below(4) == 0 { random.below(1 << 16) as u16 } else { port(random) };
    let transport = Transport::Ports { source: 1024 + random.below(60_000) as u16, destination };
    let protocol = [Protocol::TCP, Protocol::UDP][random.below(2) as usize];
    Tuple { addresses: Addresses::V4 { source, destination: to }, protocol, transport }
}
