//! ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2, network-policy-api 0.2): what administrators say of all namespaces.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::values::{LabelSelector, Net, Outer, named, pods, port, range};
use super::{ADMIN_TIER, BASELINE_TIER};
use crate::rule::{self, Match, Order, Policy, Ports, Protocol, Rule, Side};
use crate::selector::Selector;

pub(super) type ClusterNetworkPolicy = Outer<Spec>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Spec {
    tier: Tier,
    priority: Priority,
    subject: Pods,
    ingress: Option<Vec<IngressRule>>,
    egress: Option<Vec<EgressRule>>,
}

#[derive(Deserialize)]
enum Tier {
    Admin,
    Baseline,
}

#[derive(Deserialize)]
#[serde(try_from = "i64")]
struct Priority(f64);

impl TryFrom<i64> for Priority {
    type Error = String;

    fn try_from(priority: i64) -> Result<Self, String> {
        match priority {
            0..=1000 => Ok(Self(priority as f64)),
            _ => Err(format!("a priority is 0 to 1000, not {priority}")),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IngressRule {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    action: Action,
    from: Peers<Pods>,
    protocols: Option<Vec<Transport>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EgressRule {
    #[serde(rename = "name")]
    _name: Option<IgnoredAny>,
    action: Action,
    to: Peers<Peer>,
    protocols: Option<Vec<Transport>>,
}

/// A list that must not be empty, since an empty one elsewhere means everybody.
#[derive(Deserialize)]
#[serde(try_from = "Vec<T>", bound = "T: Deserialize<'de>")]
struct Peers<T>(Vec<T>);

impl<T> TryFrom<Vec<T>> for Peers<T> {
    type Error = &'static str;

    fn try_from(list: Vec<T>) -> Result<Self, Self::Error> {
        if list.is_empty() { Err("at least one peer is needed") } else { Ok(Self(list)) }
    }
}

#[derive(Deserialize, Clone, Copy)]
enum Action {
    Accept,
    Deny,
    Pass,
}

impl From<Action> for rule::Action {
    fn from(action: Action) -> Self {
        match action {
            Action::Accept => Self::Allow,
            Action::Deny => Self::Deny,
            Action::Pass => Self::Pass,
        }
    }
}

/// Pods by their namespaces, or by these and their own labels.
#[derive(Deserialize)]
#[serde(try_from = "RawPods")]
struct Pods(Selector);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPods {
    namespaces: Option<LabelSelector>,
    pods: Option<NamespacedPods>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NamespacedPods {
    #[serde(default)]
    namespace_selector: LabelSelector,
    pod_selector: LabelSelector,
}

impl NamespacedPods {
    fn selector(&self) -> Selector {
        pods([self.namespace_selector.of_namespaces(), self.pod_selector.of_pods()])
    }
}

impl TryFrom<RawPods> for Pods {
    type Error = &'static str;

    fn try_from(raw: RawPods) -> Result<Self, Self::Error> {
        match (raw.namespaces, raw.pods) {
            (Some(namespaces), None) => Ok(Self(pods([namespaces.of_namespaces()]))),
            (None, Some(pods)) => Ok(Self(pods.selector())),
            _ => Err("exactly one of namespaces and pods is needed"),
        }
    }
}

/// What egress may speak of.
#[derive(Deserialize)]
#[serde(try_from = "RawPeer")]
struct Peer(Side);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPeer {
    namespaces: Option<LabelSelector>,
    pods: Option<NamespacedPods>,
    networks: Option<Vec<Net>>,
    nodes: Option<IgnoredAny>,
    domain_names: Option<IgnoredAny>,
}

impl TryFrom<RawPeer> for Peer {
    type Error = &'static str;

    fn try_from(raw: RawPeer) -> Result<Self, Self::Error> {
        if raw.nodes.is_some() || raw.domain_names.is_some() {
            return Err("nodes and domainNames are experimental and not enforced here: name addresses by networks");
        }
        match (raw.namespaces, raw.pods, raw.networks) {
            (namespaces, pods, None) => {
                let Pods(selector) = Pods::try_from(RawPods { namespaces, pods })
                    .map_err(|_| "exactly one of namespaces, pods and networks is needed")?;
                Ok(Self(Side { selector: Some(selector), ..Side::default() }))
            }
            (None, None, Some(networks)) if !networks.is_empty() => {
                Ok(Self(Side { nets: networks.into_iter().map(|net| net.0).collect(), ..Side::default() }))
            }
            _ => Err("exactly one of namespaces, pods and networks is needed"),
        }
    }
}

/// Protocols and ports; one name stands for all protocols.
#[derive(Deserialize)]
#[serde(try_from = "RawTransport")]
struct Transport(Vec<(Protocol, Ports)>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawTransport {
    tcp: Option<Destination>,
    udp: Option<Destination>,
    sctp: Option<Destination>,
    destination_named_port: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Destination {
    destination_port: Port,
}

#[derive(Deserialize)]
#[serde(try_from = "RawPort")]
struct Port(Ports);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPort {
    number: Option<i64>,
    range: Option<Range>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    start: i64,
    end: i64,
}

impl TryFrom<RawPort> for Port {
    type Error = String;

    fn try_from(raw: RawPort) -> Result<Self, String> {
        match (raw.number, raw.range) {
            (Some(number), None) => range(port(number)?, port(number)?).map(Self),
            (None, Some(Range { start, end })) => range(port(start)?, port(end)?).map(Self),
            _ => Err("exactly one of number and range is needed".to_owned()),
        }
    }
}

impl TryFrom<RawTransport> for Transport {
    type Error = String;

    fn try_from(raw: RawTransport) -> Result<Self, String> {
        let numbered = [(6, raw.tcp), (17, raw.udp), (132, raw.sctp)];
        let mut given = numbered.into_iter().filter_map(|(number, to)| to.map(|to| (Protocol(number), to)));
        match (given.next(), given.next(), raw.destination_named_port) {
            (Some((protocol, to)), None, None) => Ok(Self(vec![(protocol, to.destination_port.0)])),
            (None, None, Some(name)) => {
                let name = named(&name)?;
                Ok(Self([6, 17, 132].map(|number| (Protocol(number), name.clone())).to_vec()))
            }
            _ => Err("exactly one of tcp, udp, sctp and destinationNamedPort is needed".to_owned()),
        }
    }
}

impl From<ClusterNetworkPolicy> for Policy {
    fn from(Outer { metadata, spec, .. }: ClusterNetworkPolicy) -> Self {
        let tier: Arc<str> = match spec.tier {
            Tier::Admin => ADMIN_TIER.into(),
            Tier::Baseline => BASELINE_TIER.into(),
        };
        let ingress = spec.ingress.into_iter().flatten().flat_map(|rule| {
            let sides =
                rule.from.0.into_iter().map(|Pods(selector)| Side { selector: Some(selector), ..Side::default() });
            rules(rule.action, sides.collect(), rule.protocols, |peer, ports| (peer, Side { ports, ..Side::default() }))
        });
        let egress = spec.egress.into_iter().flatten().flat_map(|rule| {
            let sides = rule.to.0.into_iter().map(|Peer(side)| side);
            rules(rule.action, sides.collect(), rule.protocols, |peer, ports| (Side::default(), Side { ports, ..peer }))
        });
        let about = |rules: Vec<Rule>| (!rules.is_empty()).then_some(rules);
        Self {
            name: metadata.global_name("clusternetworkpolicy"),
            tier,
            order: Order(Some(spec.priority.0)),
            applies_to: spec.subject.0,
            ingress: about(ingress.collect()),
            egress: about(egress.collect()),
        }
    }
}

/// A rule for each peer and protocol; `ends` makes source and destination.
fn rules(
    action: Action,
    peers: Vec<Side>,
    protocols: Option<Vec<Transport>>,
    ends: impl Fn(Side, Vec<Ports>) -> (Side, Side),
) -> Vec<Rule> {
    let mut transports: Vec<(Option<Protocol>, Vec<Ports>)> = Vec::new();
    for (protocol, ports) in protocols.into_iter().flatten().flat_map(|transport| transport.0) {
        match transports.iter_mut().find(|(other, _)| *other == Some(protocol)) {
            Some((_, list)) => list.push(ports),
            None => transports.push((Some(protocol), vec![ports])),
        }
    }
    if transports.is_empty() {
        transports.push((None, Vec::new()));
    }
    let mut rules = Vec::new();
    for peer in &peers {
        for (protocol, ports) in &transports {
            let (source, destination) = ends(peer.clone(), ports.clone());
            let matches = Match { protocol: *protocol, source, destination, ..Match::default() };
            rules.push(Rule { action: action.into(), matches });
        }
    }
    rules
}
