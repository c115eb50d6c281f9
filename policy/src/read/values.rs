//! Values that several kinds have, none of which can be illegal once read.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::IpNet;
use packet::Prefix;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::labels::{KUBERNETES, Labels, NAMESPACE, NAMESPACE_PREFIX, ORCHESTRATOR, is_key};
use crate::rule::{Ports, Protocol};
use crate::selector::{Scope, Selector};

/// An object of any kind around its `spec`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "S: Deserialize<'de>")]
pub(super) struct Outer<S> {
    #[serde(rename = "apiVersion")]
    _api_version: Option<IgnoredAny>,
    #[serde(rename = "kind")]
    _kind: Option<IgnoredAny>,
    pub(super) metadata: Metadata,
    pub(super) spec: S,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
}

/// What is used of `metadata`; all else in it is the server's.
#[derive(Deserialize)]
pub(super) struct Metadata {
    name: Name,
    namespace: Option<Name>,
    labels: Option<OwnLabels>,
}

/// A name of one part: in names of ours a `/` stands between kind, namespace and name.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Name(String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.is_empty() || text.contains('/') { Err(format!("{text:?} is no name")) } else { Ok(Name(text)) }
    }
}

impl Metadata {
    /// The namespace; kubectl takes this one where none is written.
    pub(super) fn namespace(&self) -> Arc<str> {
        self.namespace.as_ref().map_or("default", |namespace| &namespace.0).into()
    }

    /// The name alone.
    pub(super) fn bare_name(&self) -> Arc<str> {
        self.name.0.as_str().into()
    }

    pub(super) fn labels(&self) -> Labels {
        self.labels.as_ref().map(|labels| labels.0.clone()).unwrap_or_default()
    }

    /// As policies of namespaces are called.
    pub(super) fn name(&self, kind: &str) -> Arc<str> {
        format!("{kind}/{}/{}", self.namespace(), self.name.0).into()
    }

    /// As what is in no namespace is called.
    pub(super) fn global_name(&self, kind: &str) -> Arc<str> {
        format!("{kind}/{}", self.name.0).into()
    }
}

/// Labels that users wrote. They cannot pass for those of a namespace or an account.
#[derive(Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
struct OwnLabels(Labels);

impl TryFrom<BTreeMap<String, String>> for OwnLabels {
    type Error = String;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, String> {
        match labels.keys().find(|key| crate::labels::is_reserved(key)) {
            Some(key) => {
                Err(format!("the label '{key}' is reserved: the switch sets it from the namespace or account"))
            }
            None => Ok(Self(labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect())),
        }
    }
}

/// An expression over labels of endpoints.
#[derive(Deserialize, Default)]
#[serde(try_from = "String")]
pub(super) struct Own(pub(super) Option<Selector>);

/// An expression over labels of namespaces.
#[derive(Deserialize, Default)]
#[serde(try_from = "String")]
pub(super) struct OfNamespace(pub(super) Option<Selector>);

/// An expression over labels of service accounts.
#[derive(Deserialize, Default)]
#[serde(try_from = "String")]
pub(super) struct OfAccount(pub(super) Option<Selector>);

/// An empty text is no selector, which is not the same as one that chooses everything.
fn expression(scope: Scope, text: &str) -> Result<Option<Selector>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    Selector::parse_of(scope, text).map(Some).map_err(|error| format!("not a selector, {error}"))
}

impl TryFrom<String> for Own {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        expression(Scope::Endpoints, &text).map(Self)
    }
}

impl TryFrom<String> for OfNamespace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        expression(Scope::Namespaces, &text).map(Self)
    }
}

impl TryFrom<String> for OfAccount {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        expression(Scope::Accounts, &text).map(Self)
    }
}

/// Kubernetes' own selectors.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LabelSelector {
    match_labels: Option<BTreeMap<Key, String>>,
    match_expressions: Option<Vec<Requirement>>,
}

#[derive(Deserialize)]
#[serde(try_from = "RawRequirement")]
struct Requirement {
    key: Key,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRequirement {
    key: Key,
    operator: Operator,
    values: Option<Vec<String>>,
}

#[derive(Deserialize, Clone, Copy)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl TryFrom<RawRequirement> for Requirement {
    type Error = &'static str;

    fn try_from(RawRequirement { key, operator, values }: RawRequirement) -> Result<Self, Self::Error> {
        let values = values.unwrap_or_default();
        match (operator, values.is_empty()) {
            (Operator::In | Operator::NotIn, true) => Err("In and NotIn need values"),
            (Operator::Exists | Operator::DoesNotExist, false) => Err("Exists and DoesNotExist take no values"),
            _ => Ok(Self { key, operator, values }),
        }
    }
}

/// A label's key.
#[derive(Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct Key(String);

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(key: String) -> Result<Self, String> {
        if is_key(&key) { Ok(Self(key)) } else { Err(format!("'{key}' cannot be a label's key")) }
    }
}

impl LabelSelector {
    /// Over labels of pods.
    pub(super) fn of_pods(&self) -> Selector {
        self.selector("")
    }

    /// Over labels of the namespaces of pods; none at all chooses every namespace.
    pub(super) fn of_namespaces(&self) -> Selector {
        Selector::and([Selector::Has(NAMESPACE.into()), self.selector(NAMESPACE_PREFIX)])
    }

    fn selector(&self, prefix: &str) -> Selector {
        let key = |key: &Key| format!("{prefix}{}", key.0);
        let labels =
            self.match_labels.iter().flatten().map(|(name, value)| Selector::equals(key(name), value.as_str()));
        let expressions = self.match_expressions.iter().flatten().map(|requirement| {
            let (key, values) = (key(&requirement.key), requirement.values.iter().map(|value| value.as_str().into()));
            match requirement.operator {
                Operator::In => Selector::any_of(key, values),
                Operator::NotIn => Selector::negation(Selector::any_of(key, values)),
                Operator::Exists => Selector::Has(key.into()),
                Operator::DoesNotExist => Selector::negation(Selector::Has(key.into())),
            }
        });
        Selector::and(labels.chain(expressions))
    }
}

/// Pods that all of these choose: Kubernetes' selectors choose no network sets.
pub(super) fn pods(parts: impl IntoIterator<Item = Selector>) -> Selector {
    Selector::and([Selector::equals(ORCHESTRATOR, KUBERNETES)].into_iter().chain(parts))
}

/// What is in a namespace.
pub(super) fn is_in(namespace: Arc<str>) -> Selector {
    Selector::equals(NAMESPACE, namespace)
}

/// A prefix in which host bits are passed over, as the APIs it comes from do.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "String")]
pub(super) struct Net(pub(super) Prefix);

impl TryFrom<String> for Net {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let refused = || format!("'{text}' is not an address prefix: write it as 10.244.1.0/24 or fd00:10:244::/64");
        let net = IpNet::from_str(&text).map_err(|_| refused())?;
        Prefix::try_from(net.trunc()).map(Self).map_err(|_| refused())
    }
}

/// The same, or one address.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "String")]
pub(super) struct NetOrAddress(pub(super) Prefix);

impl TryFrom<String> for NetOrAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse() {
            Ok(address) => Ok(Self(Prefix::host(address))),
            Err(_) => Net::try_from(text).map(|net| Self(net.0)),
        }
    }
}

/// What may be a number or a text.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number or a text")]
pub(super) enum IntOrText {
    Int(i64),
    Text(String),
}

/// A number of a port.
pub(super) fn port<N: TryInto<u16> + Display + Copy>(number: N) -> Result<u16, String> {
    let port = number.try_into().ok().filter(|&port| port != 0);
    port.ok_or_else(|| format!("{number} is not the number of a port: those are 1 to 65535"))
}

/// From the first port to the last.
pub(super) fn range(first: u16, last: u16) -> Result<Ports, String> {
    match first <= last {
        true => Ok(Ports::Range(first, last)),
        false => Err(format!("the port range {first} to {last} is backwards: write {last} to {first}")),
    }
}

/// The name of a port, as a service or container has it.
pub(super) fn named(name: &str) -> Result<Ports, String> {
    let is_name =
        (1..=128).contains(&name.len()) && name.bytes().all(|one| one.is_ascii_alphanumeric() || b"_.-".contains(&one));
    if is_name {
        Ok(Ports::Named(name.into()))
    } else {
        Err(format!("'{name}' is not a port: give a number or a name"))
    }
}

/// Protocols of Kubernetes.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Transport {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        Self(match transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
        })
    }
}

/// A direction a policy is about.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
pub(super) enum PolicyType {
    Ingress,
    Egress,
}
