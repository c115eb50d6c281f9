//! Calico's own kinds (projectcalico.org/v3, and crd.projectcalico.org/v1, which is the same as it lies in Kubernetes).
//!
//! How selectors of namespaces and accounts become part of one selector is as in Calico: in a policy of a namespace, a side of a rule
//! that has any selector is limited to that namespace, unless it has a selector of namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::DEFAULT_TIER;
use super::values::{IntOrText, NetOrAddress, OfAccount, OfNamespace, Outer, Own, PolicyType, is_in};
use crate::labels::NAMESPACE;
use crate::rule::{self, Family, Icmp, Match, Order, Policy, Protocol, Rule};
use crate::selector::Selector;

mod entity;

use entity::Entity;

pub(super) type NetworkPolicy = Outer<PolicySpec>;
pub(super) type Profile = Outer<ProfileSpec>;
pub(super) type NetworkSet = Outer<SetSpec>;
pub(super) type Tier = Outer<TierSpec>;

/// The same fields, but of no namespace.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct GlobalNetworkPolicy(Outer<GlobalSpec>);

/// The same fields, but of no namespace.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct GlobalNetworkSet(NetworkSet);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct PolicySpec {
    tier: Option<String>,
    order: Option<f64>,
    ingress: Option<Vec<RuleSpec>>,
    egress: Option<Vec<RuleSpec>>,
    #[serde(default)]
    selector: Own,
    types: Option<Vec<PolicyType>>,
    #[serde(default)]
    service_account_selector: OfAccount,
    #[serde(rename = "performanceHints")]
    _performance_hints: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct GlobalSpec {
    tier: Option<String>,
    order: Option<f64>,
    ingress: Option<Vec<RuleSpec>>,
    egress: Option<Vec<RuleSpec>>,
    #[serde(default)]
    selector: Own,
    types: Option<Vec<PolicyType>>,
    #[serde(default)]
    service_account_selector: OfAccount,
    #[serde(default)]
    namespace_selector: OfNamespace,
    #[serde(rename = "doNotTrack", default)]
    _do_not_track: Never,
    #[serde(rename = "preDNAT", default)]
    _pre_dnat: Never,
    /// Says something of host endpoints only.
    #[serde(rename = "applyOnForward")]
    _apply_on_forward: Option<bool>,
    #[serde(rename = "performanceHints")]
    _performance_hints: Option<IgnoredAny>,
}

/// What cannot be done here.
#[derive(Deserialize, Default)]
#[serde(try_from = "bool")]
struct Never;

impl TryFrom<bool> for Never {
    type Error = &'static str;

    fn try_from(is_wanted: bool) -> Result<Self, Self::Error> {
        if is_wanted { Err("is for interfaces of hosts, which are not enforced here") } else { Ok(Self) }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ProfileSpec {
    ingress: Option<Vec<RuleSpec>>,
    egress: Option<Vec<RuleSpec>>,
    #[serde(rename = "labelsToApply", default)]
    _labels_to_apply: Nothing,
}

/// Labels by profile are not given here; namespaces and accounts give theirs.
#[derive(Deserialize, Default)]
#[serde(try_from = "BTreeMap<String, String>")]
struct Nothing;

impl TryFrom<BTreeMap<String, String>> for Nothing {
    type Error = &'static str;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, Self::Error> {
        if labels.is_empty() { Ok(Self) } else { Err("is not supported: label the pods or their namespace") }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetSpec {
    nets: Option<Vec<NetOrAddress>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TierSpec {
    order: Option<f64>,
    default_action: Option<DefaultAction>,
}

#[derive(Deserialize)]
enum DefaultAction {
    Deny,
    Pass,
}

#[derive(Deserialize)]
#[serde(try_from = "RawRule")]
struct RuleSpec {
    raw: RawRule,
    family: Option<Family>,
    icmp: Option<Icmp>,
    not_icmp: Option<Icmp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRule {
    action: Action,
    ip_version: Option<u8>,
    protocol: Option<ProtocolSpec>,
    not_protocol: Option<ProtocolSpec>,
    icmp: Option<IcmpSpec>,
    #[serde(rename = "notICMP")]
    not_icmp: Option<IcmpSpec>,
    #[serde(default)]
    source: Entity,
    #[serde(default)]
    destination: Entity,
    http: Option<IgnoredAny>,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
}

#[derive(Deserialize, Clone, Copy)]
enum Action {
    Allow,
    Deny,
    Log,
    Pass,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "IntOrText")]
struct ProtocolSpec(Protocol);

impl TryFrom<IntOrText> for ProtocolSpec {
    type Error = String;

    fn try_from(spec: IntOrText) -> Result<Self, String> {
        let known = [("TCP", 6), ("UDP", 17), ("ICMP", 1), ("ICMPv6", 58), ("SCTP", 132), ("UDPLite", 136)];
        let (number, text) = match spec {
            IntOrText::Int(number) => (u8::try_from(number).ok().filter(|&number| number != 0), number.to_string()),
            IntOrText::Text(text) => {
                (known.iter().find(|(name, _)| name.eq_ignore_ascii_case(&text)).map(|&(_, number)| number), text)
            }
        };
        let refused = || format!("'{text}' is no protocol: TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite and 1 to 255 are");
        number.map(|number| Self(Protocol(number))).ok_or_else(refused)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IcmpSpec {
    r#type: Option<u8>,
    code: Option<u8>,
}

impl IcmpSpec {
    fn icmp(&self) -> Result<Option<Icmp>, String> {
        match (self.r#type, self.code) {
            (None, Some(_)) => Err("a code of ICMP needs its type".to_owned()),
            (kind, code) => Ok(kind.map(|kind| Icmp { kind, code })),
        }
    }
}

impl TryFrom<RawRule> for RuleSpec {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<Self, String> {
        let refused = |problem: &str| Err(problem.to_owned());
        let family = match raw.ip_version {
            None => None,
            Some(4) => Some(Family::V4),
            Some(6) => Some(Family::V6),
            Some(other) => return Err(format!("ipVersion is 4 or 6, not {other}")),
        };
        if raw.http.is_some() {
            return refused("http is not enforced here: rules look at addresses, protocols and ports");
        }
        let protocol = raw.protocol.map(|protocol| protocol.0.0);
        let has_ports = [&raw.source, &raw.destination].iter().any(|entity| entity.speaks_of_ports());
        if has_ports && !matches!(protocol, Some(6 | 17 | 132)) {
            return refused("ports need a protocol that has them: TCP, UDP or SCTP");
        }
        if (raw.icmp.is_some() || raw.not_icmp.is_some()) && !matches!(protocol, Some(1 | 58)) {
            return refused("icmp and notICMP need protocol ICMP or ICMPv6");
        }
        if matches!((protocol, family), (Some(1), Some(Family::V6)) | (Some(58), Some(Family::V4))) {
            return refused("ICMP is of ipVersion 4, ICMPv6 of 6");
        }
        let icmp = raw.icmp.as_ref().map(IcmpSpec::icmp).transpose()?.flatten();
        let not_icmp = match raw.not_icmp.as_ref().map(IcmpSpec::icmp).transpose()? {
            Some(None) => return refused("notICMP needs a type"),
            given => given.flatten(),
        };
        Ok(Self { raw, family, icmp, not_icmp })
    }
}

impl RuleSpec {
    fn into_rule(self, namespace: Option<&Arc<str>>) -> Rule {
        let action = match self.raw.action {
            Action::Allow => rule::Action::Allow,
            Action::Deny => rule::Action::Deny,
            Action::Log => rule::Action::Log,
            Action::Pass => rule::Action::Pass,
        };
        let matches = Match {
            family: self.family,
            protocol: self.raw.protocol.map(|protocol| protocol.0),
            not_protocol: self.raw.not_protocol.map(|protocol| protocol.0),
            icmp: self.icmp,
            not_icmp: self.not_icmp,
            source: self.raw.source.into_side(namespace),
            destination: self.raw.destination.into_side(namespace),
        };
        Rule { action, matches }
    }
}

fn rules(specs: Option<Vec<RuleSpec>>, namespace: Option<&Arc<str>>) -> Vec<Rule> {
    specs.into_iter().flatten().map(|spec| spec.into_rule(namespace)).collect()
}

/// Both directions' rules, where the policy is about them.
fn directions(types: Option<Vec<PolicyType>>, ingress: Vec<Rule>, egress: Vec<Rule>) -> [Option<Vec<Rule>>; 2] {
    let types =
        types.filter(|types| !types.is_empty()).unwrap_or_else(|| match (ingress.is_empty(), egress.is_empty()) {
            (_, true) => vec![PolicyType::Ingress],
            (true, false) => vec![PolicyType::Egress],
            (false, false) => vec![PolicyType::Ingress, PolicyType::Egress],
        });
    let about = |direction, rules| types.contains(&direction).then_some(rules);
    [about(PolicyType::Ingress, ingress), about(PolicyType::Egress, egress)]
}

impl From<NetworkPolicy> for Policy {
    fn from(Outer { metadata, spec, .. }: NetworkPolicy) -> Self {
        let namespace = metadata.namespace();
        let of = Some(&namespace);
        let [ingress, egress] = directions(spec.types, rules(spec.ingress, of), rules(spec.egress, of));
        let parts = [spec.selector.0, spec.service_account_selector.0].into_iter().flatten();
        Self {
            name: metadata.name("caliconetworkpolicy"),
            tier: spec.tier.as_deref().unwrap_or(DEFAULT_TIER).into(),
            order: Order(spec.order),
            applies_to: Selector::and([is_in(namespace)].into_iter().chain(parts)),
            ingress,
            egress,
        }
    }
}

impl From<GlobalNetworkPolicy> for Policy {
    fn from(GlobalNetworkPolicy(Outer { metadata, spec, .. }): GlobalNetworkPolicy) -> Self {
        let [ingress, egress] = directions(spec.types, rules(spec.ingress, None), rules(spec.egress, None));
        let parts = [spec.selector.0, spec.namespace_selector.0, spec.service_account_selector.0];
        Self {
            name: metadata.global_name("globalnetworkpolicy"),
            tier: spec.tier.as_deref().unwrap_or(DEFAULT_TIER).into(),
            order: Order(spec.order),
            applies_to: Selector::and(parts.into_iter().flatten()),
            ingress,
            egress,
        }
    }
}

impl From<Profile> for rule::Profile {
    fn from(Outer { metadata, spec, .. }: Profile) -> Self {
        Self { name: metadata.bare_name(), ingress: rules(spec.ingress, None), egress: rules(spec.egress, None) }
    }
}

impl From<NetworkSet> for rule::NetworkSet {
    fn from(Outer { metadata, spec, .. }: NetworkSet) -> Self {
        let mut labels = metadata.labels();
        labels.insert(NAMESPACE.into(), metadata.namespace());
        let nets = spec.nets.into_iter().flatten().map(|net| net.0).collect();
        Self { name: metadata.name("networkset"), labels, nets }
    }
}

impl From<GlobalNetworkSet> for rule::NetworkSet {
    fn from(GlobalNetworkSet(Outer { metadata, spec, .. }): GlobalNetworkSet) -> Self {
        let nets = spec.nets.into_iter().flatten().map(|net| net.0).collect();
        Self { name: metadata.global_name("globalnetworkset"), labels: metadata.labels(), nets }
    }
}

impl From<Tier> for rule::Tier {
    fn from(Outer { metadata, spec, .. }: Tier) -> Self {
        let otherwise = match spec.default_action {
            Some(DefaultAction::Pass) => rule::Action::Pass,
            Some(DefaultAction::Deny) | None => rule::Action::Deny,
        };
        Self { name: metadata.bare_name(), order: Order(spec.order), otherwise }
    }
}
