//! What the agent is told: a TOML file, of which most nodes need three lines.
//!
//! An unknown key is refused by name. What is left out has the default that stands beside it.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;

/// The keys of the file.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where nodes read of each other: `file`, or `etcd`.
    pub store: Kind,
    /// Of `file`: the folder.
    pub folder: PathBuf,
    /// Of `etcd`: URLs of its members.
    pub etcd_endpoints: Vec<String>,
    /// What all its keys begin with.
    pub etcd_prefix: String,
    /// Who signed its members' certificates, in PEM.
    pub etcd_ca: Option<PathBuf>,
    /// The agent's certificate, in PEM.
    pub etcd_certificate: Option<PathBuf>,
    /// The key of that.
    pub etcd_key: Option<PathBuf>,
    /// A user of etcd.
    pub etcd_user: Option<String>,
    /// The file that holds the user's password.
    pub etcd_password_file: Option<PathBuf>,
    /// How long a lease lasts without renewal; it is renewed three times as often.
    pub lease_seconds: u32,
    /// After so long the node takes another subnet than the one that somebody else took from it; 0 is never.
    pub lost_seconds_max: u32,
    /// Routes of the host's table that lie in the network are the switch's too.
    pub import_routes: bool,
    /// The cluster's network, put into the store if there is none: flannel's keys, as a table.
    pub network: Option<toml::Table>,
    /// This node's address towards others; by default the one by which it speaks to the outside.
    pub public_ip: Option<Ipv4Addr>,
    /// The same of IPv6; none by default.
    pub public_ipv6: Option<Ipv6Addr>,
    /// Where the switch listens.
    pub socket: PathBuf,
    /// The switch's configuration, which the agent writes.
    pub switch_config: PathBuf,
    /// What flannel's programs read, which the agent writes.
    pub subnet_env: PathBuf,
    /// What the agent remembers of its lease, also after a reboot.
    pub remembered: PathBuf,
    /// Where health and metrics are served, on loopback.
    pub listen: SocketAddr,
}

/// Kinds of store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A folder.
    File,
    /// etcd, version 3.
    Etcd,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            store: Kind::File,
            folder: "/var/lib/podswitch-agent/store".into(),
            etcd_endpoints: vec!["http://127.0.0.1:2379".to_owned()],
            etcd_prefix: "/coreos.com/network".to_owned(),
            etcd_ca: None,
            etcd_certificate: None,
            etcd_key: None,
            etcd_user: None,
            etcd_password_file: None,
            lease_seconds: 86_400,
            lost_seconds_max: 300,
            import_routes: false,
            network: None,
            public_ip: None,
            public_ipv6: None,
            socket: "/run/podswitch/control.sock".into(),
            switch_config: "/run/podswitch-agent/switch.toml".into(),
            subnet_env: "/run/flannel/subnet.env".into(),
            remembered: "/var/lib/podswitch-agent/lease".into(),
            listen: LISTEN.parse().expect("it is an address"),
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Unread`], [`Error::Config`] and [`Error::Setting`].
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(file).map_err(|source| Error::Unread { file: file.to_owned(), source })?;
        let wrong = |fault: String| Error::Config { file: file.to_owned(), fault };
        let config: Config = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        config.check().map(|()| config)
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |key, fault: &str| Err(Error::Setting { key, fault: fault.to_owned() });
        if self.etcd_certificate.is_some() != self.etcd_key.is_some() {
            return wrong("etcd_key", "a certificate needs its key, and a key its certificate");
        }
        if self.etcd_user.is_some() != self.etcd_password_file.is_some() {
            return wrong("etcd_password_file", "a user needs a password, and a password its user");
        }
        if self.store == Kind::Etcd && self.etcd_endpoints.is_empty() {
            return wrong("etcd_endpoints", "one is needed");
        }
        if self.lease_seconds < LEASE_SECONDS_MIN {
            return wrong("lease_seconds", "a lease lasts 5 seconds at least");
        }
        if !self.listen.ip().is_loopback() {
            return wrong("listen", "health and metrics are for this node alone: give an address of loopback");
        }
        self.network_text().map_or(Ok(()), |text| Ok(text.parse::<crate::network::Network>().map(drop)?))
    }

    /// The network as it goes into a store.
    pub fn network_text(&self) -> Option<String> {
        self.network.as_ref().map(|table| serde_json::to_string(table).expect("tables have text keys"))
    }
}

/// Where health and metrics are served unless told otherwise.
pub const LISTEN: &str = "127.0.0.1:9471";
const LEASE_SECONDS_MIN: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Config::read(file.path()).map_err(|error| error.report())
    }

    #[test]
    fn three_lines_are_enough() {
        let text = "store = \"etcd\"\netcd_endpoints = [\"http://192.0.2.1:2379\"]\n\
            network = { Network = \"10.244.0.0/16\", Backend = { Type = \"vxlan\" } }\n";
        let config = read(text).unwrap();
        assert_eq!(config.store, Kind::Etcd);
        assert_eq!(config.network_text().unwrap().parse::<crate::network::Network>().unwrap().backend.name(), "vxlan");
        assert_eq!(read("").unwrap(), Config::default());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (text, named) in [
            ("stor = \"etcd\"", "unknown field `stor`"),
            ("store = \"zookeeper\"", "zookeeper"),
            ("etcd_key = \"/k\"", "etcd_key"),
            ("etcd_user = \"u\"", "etcd_password_file"),
            ("lease_seconds = 1", "lease_seconds"),
            ("listen = \"0.0.0.0:1\"", "loopback"),
            ("network = { Network = \"10.0.0.0/8\", Backend = { Type = \"extension\" } }", "'extension'"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
