//! `podswitch neighbor`: other nodes, told one by one or as a file of many.

use std::fs;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use control::{Backend, ChangeNeighbors, Client, DeleteNeighbor, Neighbor, Origin};
use packet::{Mac, Prefix};
use serde_json::{Deserializer, Value};

use super::show::View;
use super::{Error, print};

#[derive(Subcommand)]
pub(super) enum NeighborAction {
    /// Add a neighbour, or change one added here before; or many at once.
    #[command(after_help = ADD_EXAMPLES)]
    Add(AddArgs),
    /// Delete a neighbour.
    #[command(visible_alias = "del", after_help = "Example:\n  podswitch neighbor delete --subnet 10.244.1.0/24")]
    Delete {
        /// The addresses of its pods.
        #[arg(long, value_name = "PREFIX")]
        subnet: Prefix,
        /// Also if another origin asked for it.
        #[arg(long)]
        force: bool,
        /// In whose name.
        #[arg(long, default_value_t = Origin::Cli)]
        origin: Origin,
    },
    /// List neighbours, as `show neighbors` does.
    #[command(after_help = "Example:\n  podswitch neighbor list --json")]
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(super) struct AddArgs {
    /// The addresses of its pods.
    #[arg(long, value_name = "PREFIX", required_unless_present = "file")]
    subnet: Option<Prefix>,
    /// The node's own address.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "file")]
    via: Option<IpAddr>,
    /// How packets get there: vxlan, udp or host-gw.
    #[arg(long, value_name = "BACKEND", default_value_t)]
    backend: Backend,
    /// Ethernet address of the node's VTEP; vxlan needs it.
    #[arg(long, value_name = "MAC")]
    vtep_mac: Option<Mac>,
    /// In whose name.
    #[arg(long, default_value_t = Origin::Cli)]
    origin: Origin,
    /// Add those of a file of JSON instead, all or none; - is the standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subnet", "via", "backend", "vtep_mac"])]
    file: Option<PathBuf>,
}

impl NeighborAction {
    pub(super) fn execute(self, client: &Client) -> Result<(), Error> {
        match self {
            NeighborAction::Add(args) => {
                client.change_neighbors(ChangeNeighbors { add: args.neighbors()?, delete: Vec::new() })?;
                Ok(())
            }
            NeighborAction::Delete { subnet, force, origin } => {
                let delete = vec![DeleteNeighbor { subnet, origin, force }];
                client.change_neighbors(ChangeNeighbors { add: Vec::new(), delete })?;
                Ok(())
            }
            NeighborAction::List { json } => print(&View::Neighbors.ask(client, json)?),
        }
    }
}

impl AddArgs {
    fn neighbors(self) -> Result<Vec<Neighbor>, Error> {
        let AddArgs { subnet, via, backend, vtep_mac, origin, file } = self;
        match (subnet.zip(via), file) {
            (_, Some(file)) => listed(&file, origin),
            (Some((subnet, via)), None) => Ok(vec![Neighbor { subnet, via, backend, mac: vtep_mac, origin }]),
            (None, None) => unreachable!("the arguments require one or the other"),
        }
    }
}

/// The neighbours of a file: an array, or one after the other. Who does not say its origin has the one given here.
fn listed(file: &Path, origin: Origin) -> Result<Vec<Neighbor>, Error> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|source| Error::Unread { file: file.to_owned(), source })?;
    let wrong = |source| Error::NoNeighbor { file: file.to_owned(), source };
    let mut neighbors = Vec::new();
    for value in Deserializer::from_str(&text).into_iter::<Value>() {
        match value.map_err(wrong)? {
            Value::Array(many) => neighbors.extend(many),
            one => neighbors.push(one),
        }
    }
    let complete = |mut value: Value| {
        if let Value::Object(fields) = &mut value {
            fields.entry("origin").or_insert_with(|| origin.word().into());
        }
        serde_json::from_value(value).map_err(wrong)
    };
    neighbors.into_iter().map(complete).collect()
}

const ADD_EXAMPLES: &str = "\
Examples:
  podswitch neighbor add --subnet 10.244.1.0/24 --via 192.0.2.11 --vtep-mac 02:76:f2:ed:8a:10
  podswitch neighbor add --subnet 10.244.2.0/24 --via 192.0.2.12 --backend host-gw
  podswitch neighbor add --file nodes.json

A file holds a JSON array, or one neighbour a line:
  {\"subnet\": \"10.244.1.0/24\", \"via\": \"192.0.2.11\", \"backend\": \"vxlan\", \"mac\": \"02:76:f2:ed:8a:10\"}
A node tells the Ethernet address of its VTEP itself: `podswitch show config`, vtep_mac.";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Neighbor>, Error> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        listed(file.path(), Origin::Agent)
    }

    #[test]
    fn lines_and_an_array_say_the_same() {
        let one = r#"{"subnet":"10.5.1.0/24","via":"192.0.2.1","backend":"host-gw"}"#;
        let two = r#"{"subnet":"10.5.2.0/24","via":"192.0.2.2","mac":"02:76:00:00:00:02","origin":"cli"}"#;
        let lines = read(&format!("{one}\n{two}\n")).unwrap();
        assert_eq!(lines, read(&format!("[{one},\n {two}]")).unwrap());
        let origins: Vec<Origin> = lines.iter().map(|neighbor| neighbor.origin).collect();
        assert_eq!(origins, [Origin::Agent, Origin::Cli]);
        assert_eq!(read("\n").unwrap(), []);
    }

    #[test]
    fn what_is_no_neighbour_is_refused_with_the_file() {
        for (text, named) in [("{", "EOF"), ("7", "struct Neighbor"), (r#"{"subnet":"10.5.1.0/24"}"#, "via")] {
            let Err(error) = read(text) else { panic!("{text} is taken") };
            let report = crate::engine::report(&error);
            assert!(report.contains(named) && report.contains("/tmp"), "{report}");
        }
    }
}
