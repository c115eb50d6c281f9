//! What a container runtime says by environment variables.
//!
//! `CNI_COMMAND` is the verb; `CNI_CONTAINERID`, `CNI_NETNS` and `CNI_IFNAME` say which attachment; `CNI_ARGS` holds pairs
//! `KEY=VALUE;KEY=VALUE`; `CNI_PATH` is where other plugins lie; `CNI_NETNS_OVERRIDE=1` allows the plugin's own
//! namespace. An empty variable is an absent one.
//!
//! Source: CNI specification 1.1.0, section 2; its CONVENTIONS for `CNI_ARGS`.

use std::net::IpAddr;
use std::path::PathBuf;

use control::{InterfaceName, Name};
use packet::Mac;

use crate::error::Error;

/// A verb of the specification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

/// The environment of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub verb: Verb,
    /// `CNI_CONTAINERID`.
    container: Option<Name>,
    /// `CNI_IFNAME`.
    interface: Option<InterfaceName>,
    /// `CNI_NETNS`.
    netns: Option<PathBuf>,
    /// `CNI_ARGS`.
    pub arguments: Arguments,
    /// `CNI_PATH`, folder by folder.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`.
    pub netns_override: bool,
}

/// The pairs of `CNI_ARGS` that mean something here.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Arguments {
    /// `IP`: addresses that are asked for, separated by commas.
    pub addresses: Vec<IpAddr>,
    /// `MAC`: an Ethernet address that is asked for.
    pub mac: Option<Mac>,
    /// `K8S_POD_NAMESPACE` and `K8S_POD_NAME`: who the pod is, whatever its container is called this time.
    pub pod: Option<Name>,
}

impl Environment {
    /// What the variables say, each by `get`.
    ///
    /// # Errors
    /// [`Error::Environment`] names the variable that is missing or illegal.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Environment, Error> {
        let get = |variable: &str| get(variable).filter(|value| !value.is_empty());
        let verb = match get("CNI_COMMAND").as_deref() {
            Some("ADD") => Verb::Add,
            Some("DEL") => Verb::Del,
            Some("CHECK") => Verb::Check,
            Some("GC") => Verb::Gc,
            Some("STATUS") => Verb::Status,
            Some("VERSION") => Verb::Version,
            Some(other) => {
                return Err(wrong(
                    "CNI_COMMAND",
                    format!("is '{other}', and none of ADD, DEL, CHECK, GC, STATUS, VERSION"),
                ));
            }
            None => return Err(missing("CNI_COMMAND")),
        };
        let mut environment = Environment {
            verb,
            container: None,
            interface: None,
            netns: get("CNI_NETNS").map(PathBuf::from),
            arguments: Arguments::default(),
            path: get("CNI_PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
            netns_override: get("CNI_NETNS_OVERRIDE").is_some_and(|value| value == "1" || value == "true"),
        };
        if matches!(verb, Verb::Add | Verb::Del | Verb::Check) {
            environment.container = Some(container(get("CNI_CONTAINERID"))?);
            let interface = get("CNI_IFNAME").ok_or_else(|| missing("CNI_IFNAME"))?;
            environment.interface = Some(
                interface
                    .parse()
                    .map_err(|error: control::ParseError| wrong("CNI_IFNAME", format!("is wrong: {error}")))?,
            );
            environment.arguments = Arguments::parse(&get("CNI_ARGS").unwrap_or_default())?;
        }
        if matches!(verb, Verb::Add | Verb::Check) && environment.netns.is_none() {
            return Err(missing("CNI_NETNS"));
        }
        Ok(environment)
    }

    /// The container of ADD, DEL and CHECK.
    pub fn container(&self) -> &Name {
        self.container.as_ref().expect("these verbs are not read without it")
    }

    /// The interface of ADD, DEL and CHECK.
    pub fn interface(&self) -> &InterfaceName {
        self.interface.as_ref().expect("these verbs are not read without it")
    }

    /// The namespace; of DEL there may be none.
    pub fn netns(&self) -> Option<&PathBuf> {
        self.netns.as_ref()
    }
}

impl Arguments {
    fn parse(text: &str) -> Result<Arguments, Error> {
        let wrong = |fault: String| wrong("CNI_ARGS", fault);
        let (mut arguments, mut unknown, mut ignore) = (Arguments::default(), None, false);
        let (mut namespace, mut pod) = (None, None);
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(wrong(format!("has '{pair}', which is no KEY=VALUE")));
            };
            match key {
                "IgnoreUnknown" => ignore = matches!(value, "1" | "true" | "True" | "TRUE"),
                "IP" => {
                    let parse = |text: &str| {
                        text.parse().map_err(|_| wrong(format!("has IP={value}, and '{text}' is no address")))
                    };
                    arguments.addresses = value.split(',').map(parse).collect::<Result<_, _>>()?;
                }
                "MAC" => {
                    arguments.mac = Some(value.parse().map_err(|error| wrong(format!("has MAC={value}: {error}")))?)
                }
                "K8S_POD_NAMESPACE" => namespace = Some(value),
                "K8S_POD_NAME" => pod = Some(value),
                "K8S_POD_INFRA_CONTAINER_ID" | "K8S_POD_UID" => {}
                _ => unknown = unknown.or(Some(key)),
            }
        }
        if let Some(key) = unknown.filter(|_| !ignore) {
            return Err(wrong(format!("has '{key}', which is not known here; IgnoreUnknown=1 allows it")));
        }
        // No Kubernetes namespace has a dot, so that the pair is told by its first one. What is too long is no name here.
        arguments.pod = namespace.zip(pod).and_then(|(namespace, pod)| format!("{namespace}.{pod}").parse().ok());
        Ok(arguments)
    }
}

fn container(value: Option<String>) -> Result<Name, Error> {
    let value = value.ok_or_else(|| missing("CNI_CONTAINERID"))?;
    let name = value.parse().map_err(|_| {
        wrong(
            "CNI_CONTAINERID",
            format!("is '{value}': write letters, digits, '_', '.' and '-', the first a letter or a digit"),
        )
    })?;
    if value.len() > CONTAINER_LEN_MAX {
        return Err(wrong("CNI_CONTAINERID", format!("is longer than {CONTAINER_LEN_MAX} bytes")));
    }
    Ok(name)
}

fn wrong(variable: &'static str, fault: String) -> Error {
    Error::Environment { variable, fault }
}

fn missing(variable: &'static str) -> Error {
    wrong(variable, "is missing".to_owned())
}

/// With a dot and 32 digits behind it, it is still a name of the switch's.
pub(crate) const CONTAINER_LEN_MAX: usize = 128 - 33;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_told_by_namespace_and_name() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b.c;x=y;IP=10.0.0.2,fd00::2;MAC=02:00:00:00:00:01";
        let arguments = Arguments::parse(text).unwrap();
        assert_eq!(arguments.pod, Some("a.b.c".parse().unwrap()));
        assert_eq!((arguments.addresses.len(), arguments.mac), (2, Some(Mac([2, 0, 0, 0, 0, 1]))));
        assert_eq!(Arguments::parse("").unwrap(), Arguments::default());
    }

    #[test]
    fn what_is_no_argument_is_named() {
        for (text, named) in [("x=y", "'x'"), ("IP", "'IP'"), ("IP=10.0.0", "'10.0.0'"), ("MAC=2", "'2'")] {
            let error = Arguments::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("CNI_ARGS has ") && error.contains(named), "{error}");
        }
    }
}
