//! The command line of `podswitch-agent`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use serde_json::Value;
use tracing::level_filters::LevelFilter;

use crate::config::{Config, LISTEN};
use crate::error::Error;
use crate::{agent, pages};

/// Does what the command line says, and tells how that went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Action::Run { config, log_level } => {
            tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_max_level(log_level).init();
            Config::read(&config).and_then(|config| agent::run(&config))
        }
        Action::Status { json, listen } => pages::ask(listen).and_then(|status| {
            let text = if json { format!("{status:#}\n") } else { lines(&status) };
            let written = io::stdout().lock().write_all(text.as_bytes());
            written.map_err(unwritten)
        }),
        Action::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "podswitch-agent", &mut io::stdout().lock());
            Ok(())
        }
        Action::Man { dir } => std::fs::create_dir_all(&dir)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), dir))
            .map_err(unwritten),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    eprintln!("error: {}", error.report());
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}

fn unwritten(source: io::Error) -> Error {
    Error::System { action: "write the output", source }
}

/// The node agent of podswitch: takes a subnet for this node, learns the others', and tells the switch.
#[derive(Parser)]
#[command(name = "podswitch-agent", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Run the agent; it goes on until it is killed, and may be killed at any moment.
    #[command(after_help = "Example:\n  podswitch-agent run --config /etc/podswitch-agent.toml")]
    Run {
        /// The configuration.
        #[arg(long, value_name = "FILE", default_value = "/etc/podswitch-agent.toml")]
        config: PathBuf,
        /// How much is logged: off, error, warn, info, debug or trace.
        #[arg(long, value_name = "LEVEL", env = "PODSWITCH_LOG", default_value = "info")]
        log_level: LevelFilter,
    },
    /// Say how a running agent is doing.
    #[command(after_help = "Example:\n  podswitch-agent status --json")]
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Where it serves health and metrics.
        #[arg(long, value_name = "ADDRESS:PORT", default_value = LISTEN)]
        listen: SocketAddr,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages into a directory.
    Man {
        /// The directory; it is made where it is missing.
        dir: PathBuf,
    },
}

/// A line for each key; of a list one for each entry.
fn lines(status: &Value) -> String {
    let mut text = String::new();
    for (key, value) in status.as_object().into_iter().flatten() {
        let said = match value {
            Value::Null => continue,
            Value::String(said) => vec![said.clone()],
            Value::Array(many) => many.iter().map(of_entry).collect(),
            other => vec![other.to_string()],
        };
        said.iter().for_each(|said| text += &format!("{:<16}{said}\n", key.replace('_', " ")));
    }
    text
}

fn of_entry(entry: &Value) -> String {
    let values = entry.as_object().into_iter().flatten().filter_map(|(_, value)| value.as_str());
    values.collect::<Vec<_>>().join(": ")
}

const EXAMPLES: &str = "\
Examples:
  podswitch-agent run --config /etc/podswitch-agent.toml
  podswitch run --config /run/podswitch-agent/switch.toml
  podswitch-agent status

A configuration for nodes that share an etcd:
  store = \"etcd\"
  etcd_endpoints = [\"http://192.0.2.1:2379\"]
  network = { Network = \"10.244.0.0/16\", Backend = { Type = \"vxlan\" } }";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_in_lines() {
        let status = serde_json::json!({"version": "1", "store_trouble": null, "leases": 2,
            "passed_over": [{"key": "10.5.1.0-24", "why": "no"}, {"key": "x", "why": "odd"}]});
        let text = lines(&status);
        assert!(text.contains("passed over     10.5.1.0-24: no\npassed over     x: odd\n"), "{text}");
        assert!(text.contains("leases          2\n") && !text.contains("trouble"), "{text}");
    }
}
