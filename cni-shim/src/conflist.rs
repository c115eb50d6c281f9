//! The configuration that container runtimes read: this plugin, and those chained behind it.

use std::path::Path;

use control::Name;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::SOCKET;
use crate::version::Version;

/// What a configuration is made of.
#[derive(Clone, Debug)]
pub(crate) struct Conflist<'a> {
    pub(crate) name: &'a Name,
    pub(crate) version: Version,
    pub(crate) socket: &'a Path,
    pub(crate) sticky: bool,
    pub(crate) chain: &'a [Chained],
}

/// Plugins of containernetworking-plugins that work behind this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Chained {
    /// hostPorts, by translation on the host.
    Portmap,
    /// Sysctls and the Ethernet address of the interface.
    Tuning,
    /// Lets pods through a FORWARD chain whose policy is DROP.
    Firewall,
    /// Refused: it shapes the host's end of a veth pair, and pods have none here.
    #[value(hide = true)]
    Bandwidth,
}

impl Conflist<'_> {
    /// The JSON text.
    pub(crate) fn text(&self) -> String {
        let mut own = json!({ "type": TYPE, "capabilities": { "ips": true, "mac": true, "ipRanges": true, "dns": true, "bandwidth": true } });
        if self.socket != Path::new(SOCKET) {
            own["socket"] = json!(self.socket);
        }
        if self.sticky {
            own["ipam"] = json!({ "sticky": true });
        }
        let chained = self.chain.iter().map(|plugin| match plugin {
            Chained::Portmap => json!({ "type": "portmap", "capabilities": { "portMappings": true }, "snat": true }),
            Chained::Tuning => json!({ "type": "tuning" }),
            Chained::Firewall => json!({ "type": "firewall" }),
            Chained::Bandwidth => unreachable!("it is refused on the command line"),
        });
        let plugins: Vec<Value> = [own].into_iter().chain(chained).collect();
        let whole = json!({ "cniVersion": self.version.text(), "name": self.name, "plugins": plugins });
        format!("{whole:#}\n")
    }
}

/// What is known of any configuration, whoever wrote it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Found {
    #[serde(default)]
    pub(crate) cni_version: String,
    #[serde(default)]
    pub(crate) plugins: Vec<FoundPlugin>,
}

/// One plugin of it.
#[derive(Debug, Deserialize)]
pub(crate) struct FoundPlugin {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) socket: Option<std::path::PathBuf>,
    #[serde(default)]
    pub(crate) ipam: Value,
}

impl Found {
    /// This plugin's part, if the configuration is of this plugin.
    pub(crate) fn own(&self) -> Option<&FoundPlugin> {
        self.plugins.first().filter(|first| first.kind == TYPE)
    }
}

/// The plugin's name, also that of its program.
pub(crate) const TYPE: &str = "podswitch-cni";
/// Why the plugin `bandwidth` does not work here.
pub(crate) const NO_BANDWIDTH: &str = "the plugin bandwidth shapes the host's end of a veth pair, and a pod's interface here has none; podswitch-cni limits rates itself";
