//! One end of a rule.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::labels::ACCOUNT;
use crate::read::values::{IntOrText, NetOrAddress, OfAccount, OfNamespace, Own, is_in, named, port, range};
use crate::rule::{Ports, Side};
use crate::selector::Selector;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Entity {
    nets: Option<Vec<NetOrAddress>>,
    not_nets: Option<Vec<NetOrAddress>>,
    #[serde(default)]
    selector: Own,
    #[serde(default)]
    not_selector: Own,
    #[serde(default)]
    namespace_selector: OfNamespace,
    #[serde(rename = "services", default)]
    _services: NoServices,
    ports: Option<Vec<PortSpec>>,
    not_ports: Option<Vec<PortSpec>>,
    service_accounts: Option<ServiceAccounts>,
}

#[derive(Deserialize, Default)]
#[serde(try_from = "IgnoredAny")]
struct NoServices;

impl TryFrom<IgnoredAny> for NoServices {
    type Error = &'static str;

    fn try_from(_: IgnoredAny) -> Result<Self, Self::Error> {
        Err("rules by service are not enforced here: name the pods behind it by a selector")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServiceAccounts {
    names: Option<Vec<String>>,
    #[serde(default)]
    selector: OfAccount,
}

#[derive(Deserialize)]
#[serde(try_from = "IntOrText")]
struct PortSpec(Ports);

impl TryFrom<IntOrText> for PortSpec {
    type Error = String;

    fn try_from(spec: IntOrText) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| format!("'{text}' is not a port")).and_then(port);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|one| one.is_ascii_digit());
        match spec {
            IntOrText::Int(only) => range(port(only)?, port(only)?),
            IntOrText::Text(text) if is_number(&text) => range(number(&text)?, number(&text)?),
            IntOrText::Text(text) => match text.split_once(':') {
                Some((first, last)) => range(number(first)?, number(last)?),
                None => named(&text),
            },
        }
        .map(Self)
    }
}

impl Entity {
    pub(super) fn speaks_of_ports(&self) -> bool {
        [&self.ports, &self.not_ports].into_iter().flatten().any(|ports| !ports.is_empty())
    }

    /// `namespace` is that of the policy, if it is of one.
    pub(super) fn into_side(self, namespace: Option<&Arc<str>>) -> Side {
        let accounts = self.service_accounts.map_or(Selector::All, ServiceAccounts::into_selector);
        let own = self.selector.0;
        let has_any = own.is_some()
            || accounts != Selector::All
            || self.not_selector.0.is_some()
            || self.namespace_selector.0.is_some();
        let place = self.namespace_selector.0.or_else(|| namespace.cloned().map(is_in));
        // A global policy that only excludes has no selector: it speaks of addresses nobody has, too.
        let has_selector = has_any && (place.is_some() || own.is_some() || accounts != Selector::All);
        let ports = |specs: Option<Vec<PortSpec>>| specs.into_iter().flatten().map(|spec| spec.0).collect();
        let nets = |nets: Option<Vec<NetOrAddress>>| nets.into_iter().flatten().map(|net| net.0).collect();
        Side {
            nets: nets(self.nets),
            not_nets: nets(self.not_nets),
            selector: has_selector.then(|| Selector::and(place.into_iter().chain(own).chain([accounts]))),
            not_selector: self.not_selector.0,
            ports: ports(self.ports),
            not_ports: ports(self.not_ports),
        }
    }
}

impl ServiceAccounts {
    fn into_selector(self) -> Selector {
        let names = self
            .names
            .filter(|names| !names.is_empty())
            .map(|names| Selector::any_of(ACCOUNT, names.into_iter().map(Arc::from)));
        Selector::and(names.into_iter().chain(self.selector.0))
    }
}
