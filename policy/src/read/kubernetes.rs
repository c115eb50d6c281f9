//! Kubernetes' NetworkPolicy (networking.k8s.io/v1), and what Namespaces and Pods say of endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use packet::Prefix;
use serde::Deserialize;

use super::DEFAULT_TIER;
use super::values::{
    IntOrText, LabelSelector, Metadata, Net, Outer, PolicyType, Transport, is_in, named, pods, port, range,
};
use crate::labels::{ACCOUNT, KUBERNETES, NAMESPACE, NAMESPACE_PREFIX, ORCHESTRATOR};
use crate::rule::{Action, Match, Order, Policy, Ports, Rule, Side};
use crate::selector::Selector;

/// Where Kubernetes' policies stand in the default tier.
const ORDER: f64 = 1_000.0;

pub(super) type NetworkPolicy = Outer<NetworkPolicySpec>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NetworkPolicySpec {
    #[serde(default)]
    pod_selector: LabelSelector,
    policy_types: Option<Vec<PolicyType>>,
    ingress: Option<Vec<IngressRule>>,
    egress: Option<Vec<EgressRule>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IngressRule {
    from: Option<Vec<Peer>>,
    ports: Option<Vec<PolicyPort>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EgressRule {
    to: Option<Vec<Peer>>,
    ports: Option<Vec<PolicyPort>>,
}

#[derive(Deserialize)]
#[serde(try_from = "RawPeer")]
enum Peer {
    Pods { pods: Option<LabelSelector>, namespaces: Option<LabelSelector> },
    Block { cidr: Prefix, except: Vec<Prefix> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPeer {
    pod_selector: Option<LabelSelector>,
    namespace_selector: Option<LabelSelector>,
    ip_block: Option<IpBlock>,
}

impl TryFrom<RawPeer> for Peer {
    type Error = &'static str;

    fn try_from(RawPeer { pod_selector, namespace_selector, ip_block }: RawPeer) -> Result<Self, Self::Error> {
        match (pod_selector, namespace_selector, ip_block) {
            (None, None, Some(IpBlock { cidr, except })) => Ok(Self::Block { cidr, except }),
            (_, _, Some(_)) => Err("ipBlock stands alone: give the selectors a peer of their own"),
            (None, None, None) => Err("a peer needs podSelector, namespaceSelector or ipBlock"),
            (pods, namespaces, None) => Ok(Self::Pods { pods, namespaces }),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "RawBlock")]
struct IpBlock {
    cidr: Prefix,
    except: Vec<Prefix>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBlock {
    cidr: Net,
    except: Option<Vec<Net>>,
}

impl TryFrom<RawBlock> for IpBlock {
    type Error = String;

    fn try_from(RawBlock { cidr: Net(cidr), except }: RawBlock) -> Result<Self, String> {
        let except: Vec<Prefix> = except.into_iter().flatten().map(|net| net.0).collect();
        match except.iter().find(|net| !cidr.net().contains(&net.net()) || **net == cidr) {
            Some(outside) => Err(format!("except {outside} is not a smaller part of {cidr}")),
            None => Ok(Self { cidr, except }),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "RawPort")]
struct PolicyPort {
    protocol: Transport,
    ports: Option<Ports>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPort {
    protocol: Option<Transport>,
    port: Option<IntOrText>,
    end_port: Option<i64>,
}

impl TryFrom<RawPort> for PolicyPort {
    type Error = String;

    fn try_from(raw: RawPort) -> Result<Self, String> {
        let ports = match (raw.port, raw.end_port) {
            (None, None) => None,
            (None, Some(_)) => return Err("endPort needs port, the first of the range".to_owned()),
            (Some(IntOrText::Text(_)), Some(_)) => {
                return Err("endPort needs a port that is a number, not a name".to_owned());
            }
            (Some(IntOrText::Text(name)), None) => Some(named(&name)?),
            (Some(IntOrText::Int(first)), last) => Some(range(port(first)?, port(last.unwrap_or(first))?)?),
        };
        Ok(Self { protocol: raw.protocol.unwrap_or_default(), ports })
    }
}

impl From<NetworkPolicy> for Policy {
    fn from(Outer { metadata, spec, .. }: NetworkPolicy) -> Self {
        let namespace = metadata.namespace();
        let is_for = |direction, has_rules: bool| match &spec.policy_types {
            Some(types) if !types.is_empty() => types.contains(&direction),
            _ => direction == PolicyType::Ingress || has_rules,
        };
        let has_egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        let [is_ingress, is_egress] = [is_for(PolicyType::Ingress, true), is_for(PolicyType::Egress, has_egress)];
        let ingress = spec.ingress.into_iter().flatten().flat_map(|rule| {
            let join = |peer, (protocol, ports)| Match {
                protocol,
                source: peer,
                destination: Side { ports, ..Side::default() },
                ..Match::default()
            };
            allowed(&sides(&namespace, rule.from), &transports(rule.ports), join)
        });
        let egress = spec.egress.into_iter().flatten().flat_map(|rule| {
            let join =
                |peer, (protocol, ports)| Match { protocol, destination: Side { ports, ..peer }, ..Match::default() };
            allowed(&sides(&namespace, rule.to), &transports(rule.ports), join)
        });
        Self {
            name: metadata.name("networkpolicy"),
            tier: DEFAULT_TIER.into(),
            order: Order(Some(ORDER)),
            applies_to: pods([is_in(namespace.clone()), spec.pod_selector.of_pods()]),
            ingress: is_ingress.then(|| ingress.collect()),
            egress: is_egress.then(|| egress.collect()),
        }
    }
}

/// What ports say: a protocol and its ports, all of them when there are none.
type PortsOf = (Option<crate::rule::Protocol>, Vec<Ports>);

/// A rule for each peer and protocol.
fn allowed(peers: &[Side], transports: &[PortsOf], join: impl Fn(Side, PortsOf) -> Match) -> Vec<Rule> {
    let both = peers.iter().flat_map(|peer| transports.iter().map(move |transport| (peer.clone(), transport.clone())));
    both.map(|(peer, transport)| Rule { action: Action::Allow, matches: join(peer, transport) }).collect()
}

/// Everybody, if no peers are listed.
fn sides(namespace: &Arc<str>, peers: Option<Vec<Peer>>) -> Vec<Side> {
    let peers = peers.unwrap_or_default();
    if peers.is_empty() {
        return vec![Side::default()];
    }
    let side = |peer| match peer {
        Peer::Block { cidr, except } => Side { nets: vec![cidr], not_nets: except, ..Side::default() },
        Peer::Pods { pods: of_pods, namespaces } => {
            let of_namespaces =
                namespaces.map_or_else(|| is_in(namespace.clone()), |selector| selector.of_namespaces());
            let of_pods = of_pods.map_or(Selector::All, |selector| selector.of_pods());
            Side { selector: Some(pods([of_namespaces, of_pods])), ..Side::default() }
        }
    };
    peers.into_iter().map(side).collect()
}

/// By protocol; all packets, if no ports are listed.
fn transports(ports: Option<Vec<PolicyPort>>) -> Vec<PortsOf> {
    let ports = ports.unwrap_or_default();
    if ports.is_empty() {
        return vec![(None, Vec::new())];
    }
    let mut by_protocol = BTreeMap::<Transport, Vec<Ports>>::new();
    let mut whole = BTreeSet::new();
    for PolicyPort { protocol, ports } in ports {
        by_protocol.entry(protocol).or_default().extend(ports.clone());
        if ports.is_none() {
            whole.insert(protocol);
        }
    }
    let ports_of = |(protocol, ports): (Transport, Vec<Ports>)| {
        (Some(protocol.into()), if whole.contains(&protocol) { Vec::new() } else { ports })
    };
    by_protocol.into_iter().map(ports_of).collect()
}

#[derive(Deserialize)]
pub(super) struct Namespace {
    metadata: Metadata,
}

impl From<Namespace> for super::Namespace {
    fn from(Namespace { metadata }: Namespace) -> Self {
        let own = metadata.labels();
        let mut inherited: crate::labels::Labels =
            own.into_iter().map(|(key, value)| (format!("{NAMESPACE_PREFIX}{key}").into(), value)).collect();
        let unlabelled = Self::unlabelled(metadata.bare_name());
        inherited.extend(unlabelled.inherited);
        Self { inherited, ..unlabelled }
    }
}

impl super::Namespace {
    /// One with the labels that Kubernetes and Calico give to every namespace; whoever writes a file need not.
    pub fn unlabelled(name: Arc<str>) -> Self {
        let keys = ["kubernetes.io/metadata.name", "projectcalico.org/name"];
        let inherited = keys.map(|key| (format!("{NAMESPACE_PREFIX}{key}").into(), name.clone())).into();
        Self { name, inherited }
    }
}

#[derive(Deserialize)]
pub(super) struct Pod {
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    status: Option<PodStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    service_account_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    ports: Option<Vec<ContainerPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    name: Option<String>,
    container_port: PortNumber,
    protocol: Option<Transport>,
}

#[derive(Deserialize)]
#[serde(try_from = "i64")]
struct PortNumber(u16);

impl TryFrom<i64> for PortNumber {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        port(number).map(Self)
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodStatus {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<IpAddr>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<PodIp>>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: IpAddr,
}

impl From<Pod> for super::Pod {
    fn from(Pod { metadata, spec, status }: Pod) -> Self {
        let namespace = metadata.namespace();
        let status = status.unwrap_or_default();
        let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let addresses: BTreeSet<IpAddr> =
            status.pod_ip.into_iter().chain(status.pod_ips.into_iter().flatten().map(|address| address.ip)).collect();
        let is_of_node = spec.host_network == Some(true);
        let mut labels = metadata.labels();
        let account = spec.service_account_name.as_deref().unwrap_or("default").into();
        labels.extend([(NAMESPACE, namespace.clone()), (ACCOUNT, account)].map(|(key, value)| (key.into(), value)));
        labels.insert(ORCHESTRATOR.into(), KUBERNETES.into());
        let containers = spec.containers.into_iter().chain(spec.init_containers).flatten();
        let ports = containers.flat_map(|container| container.ports.unwrap_or_default());
        let ports = ports.filter_map(|port| {
            Some((port.name?.into(), port.protocol.unwrap_or_default().into(), port.container_port.0))
        });
        Self {
            name: format!("{namespace}/{}", metadata.bare_name()).into(),
            labels,
            addresses: if is_of_node || has_ended { Vec::new() } else { addresses.into_iter().collect() },
            ports: ports.collect(),
        }
    }
}
