//! Removing all that a switch that no longer runs has left: interfaces, routes, files.
//!
//! What there is to remove is found first, so that it can be shown before anything is done. Sources: the kept state for
//! pods' interfaces, the configuration for the host port, the route protocol number for routes, the
//! host port's name for the table of masquerading. An interface is taken
//! for ours only if it is a TAP, and a pod's only if the namespace is still the one it was made in.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use control::{InterfaceName, Neighbor};
use host::{Namespace, Netlink, Route};
use packet::Prefix;

use crate::config::Config;
use crate::engine::netns_id;
use crate::masquerade;
use crate::state::Endpoint;
use crate::store::{self, Kept, Store};
use crate::wire::{TAP_KIND, host_routes, unless_missing};

/// One thing that was left.
#[derive(Debug)]
pub enum Leftover {
    /// A pod's interface.
    PodInterface {
        /// Where it is.
        namespace: Namespace,
        /// Its name there.
        name: String,
    },
    /// The host port.
    HostPort {
        /// Its name.
        name: String,
    },
    /// A route in the node's namespace.
    Route(Route),
    /// The table of masquerading, by the host port's name.
    Masquerade(String),
    /// The state directory with its files.
    StateDirectory(PathBuf),
}

/// Why something could not be found out or removed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error(transparent)]
    Masquerade(#[from] masquerade::Error),
    #[error("a running process holds {name}: is its state kept elsewhere? Give its --state-dir")]
    Held { name: String },
    #[error("cannot remove {}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Everything an ended switch of this configuration has left.
///
/// # Errors
/// [`store::Error::Locked`] while a switch runs there: it purges itself when asked. A damaged state is no error: what
/// was kept there is not known, and goes with its namespace.
pub fn leftovers(config: &Config) -> Result<Vec<Leftover>, Error> {
    if !config.state_dir.exists() {
        return of_the_node(&[&config.node.host_port], &config.node.pod_ranges, &[]);
    }
    let store = Store::open(&config.state_dir)?;
    let Kept { node, endpoints, neighbors, .. } = store.load()?.unwrap_or_default();
    let nodes = || node.iter().chain([&config.node]);
    let ranges: Vec<Prefix> = nodes().flat_map(|node| node.pod_ranges.iter().copied()).collect();
    let mut host_ports: Vec<&InterfaceName> = nodes().map(|node| &node.host_port).collect();
    host_ports.dedup();
    let mut found = Vec::new();
    for endpoint in &endpoints {
        found.extend(pod_interface(endpoint)?);
    }
    found.extend(of_the_node(&host_ports, &ranges, &neighbors)?);
    found.push(Leftover::StateDirectory(config.state_dir.clone()));
    Ok(found)
}

/// What is in the node's namespace; of the routes those for `ranges` and to `neighbors`, or all of ours when no range is
/// known.
fn of_the_node(
    host_ports: &[&InterfaceName],
    ranges: &[Prefix],
    neighbors: &[Neighbor],
) -> Result<Vec<Leftover>, Error> {
    let mut own = Netlink::open()?;
    let mut found = Vec::new();
    for name in host_ports.iter().map(|name| name.as_str()) {
        let Some(link) = unless_missing(own.link(name))?.filter(|link| link.kind == TAP_KIND) else { continue };
        // A TAP has a carrier while a process holds it.
        if link.carrier {
            return Err(Error::Held { name: name.to_owned() });
        }
        found.push(Leftover::HostPort { name: name.to_owned() });
    }
    let ways: HashSet<(Prefix, Option<IpAddr>)> =
        neighbors.iter().filter_map(host_routes::route_by_node).map(|route| (route.prefix, route.via)).collect();
    let is_ours = |route: &Route| {
        let of_a_range = route.link.is_none() && ranges.contains(&route.prefix);
        let meant = ranges.is_empty() || of_a_range || ways.contains(&(route.prefix, route.via));
        // Those by a host port go with it.
        route.protocol == Route::PROTOCOL && !route.onlink && meant
    };
    let tables = host_ports.iter().map(|name| name.to_string()).filter(|name| masquerade::is_there(name));
    found.extend(tables.map(Leftover::Masquerade));
    found.extend(own.routes()?.into_iter().filter(is_ours).map(Leftover::Route));
    Ok(found)
}

/// None when it is gone with its namespace, or another device is in its place.
fn pod_interface(endpoint: &Endpoint) -> Result<Option<Leftover>, Error> {
    let namespace = match Namespace::open(endpoint.netns.as_path()) {
        Err(host::Error::NotNetworkNamespace { .. }) => return Ok(None),
        opened => unless_missing(opened)?,
    };
    let Some(namespace) = namespace.filter(|namespace| netns_id(namespace).is(endpoint.netns_id)) else {
        return Ok(None);
    };
    let name = endpoint.interface.as_str();
    let link = unless_missing(Netlink::open_in(&namespace)?.link(name))?;
    let is_ours = link.is_some_and(|link| link.kind == TAP_KIND);
    Ok(is_ours.then(|| Leftover::PodInterface { namespace, name: name.to_owned() }))
}

impl Leftover {
    /// Removes it; what is gone in the meantime is no error.
    pub fn remove(&self) -> Result<(), Error> {
        let gone = |done: Result<(), host::Error>| match done {
            Err(error) if !error.is_missing() => Err(error.into()),
            _ => Ok(()),
        };
        match self {
            Leftover::PodInterface { namespace, name } => {
                gone(Netlink::open_in(namespace).and_then(|mut pod| delete(&mut pod, name)))
            }
            Leftover::HostPort { name } => gone(Netlink::open().and_then(|mut own| delete(&mut own, name))),
            Leftover::Route(route) => gone(Netlink::open().and_then(|mut own| own.delete_route(route))),
            Leftover::Masquerade(table) => Ok(masquerade::remove(table)?),
            Leftover::StateDirectory(path) => remove_directory(path),
        }
    }
}

fn delete(netlink: &mut Netlink, name: &str) -> Result<(), host::Error> {
    let index = netlink.link(name)?.index;
    netlink.delete_link(index)
}

/// Removes the state directory; files that are not a switch's own keep it.
pub(crate) fn remove_directory(path: &Path) -> Result<(), Error> {
    for file in store::FILES {
        match fs::remove_file(path.join(file)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(Error::File { path: path.join(file), source });
            }
            _ => {}
        }
    }
    match fs::remove_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::File { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leftover::PodInterface { namespace, name } => {
                write!(f, "interface {name} of {}", namespace.path().display())
            }
            Leftover::HostPort { name } => write!(f, "interface {name}"),
            Leftover::Route(route) => write!(f, "route {:?} {}", route.kind, route.prefix),
            Leftover::Masquerade(table) => write!(f, "table inet {table}"),
            Leftover::StateDirectory(path) => write!(f, "directory {}", path.display()),
        }
    }
}
