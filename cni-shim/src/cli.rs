//! The command line of `podswitch-cni` when no runtime calls it.

use std::io::{self, Write};
use std::iter;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use control::Name;

use crate::config::SOCKET;
use crate::conflist::{Chained, Conflist, NO_BANDWIDTH};
use crate::doctor;
use crate::install::{self, Place};
use crate::version::Version;

/// Does what the command line says; without any it tells what this program is.
pub fn main() -> ExitCode {
    if std::env::args_os().len() < 2 {
        // What runtimes and people see who call a plugin with nothing (CNI specification, section 2).
        eprintln!("{ABOUT}");
        return ExitCode::SUCCESS;
    }
    match Cli::parse().command.execute() {
        Ok(code) => code,
        Err(error) => {
            let causes = iter::successors(std::error::Error::source(&error), |&cause| cause.source());
            eprintln!("error: {}", causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")));
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The CNI plugin of podswitch, which container runtimes call; and its installation.
#[derive(Parser)]
#[command(name = "podswitch-cni", version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Put this program and its configuration where container runtimes look for them.
    Install {
        #[command(flatten)]
        folders: Folders,
        #[command(flatten)]
        wishes: Wishes,
    },
    /// Remove both again.
    Uninstall {
        #[command(flatten)]
        folders: Folders,
    },
    /// Print the configuration.
    Conflist {
        #[command(flatten)]
        wishes: Wishes,
    },
    /// Say what a container runtime on this node would find, and what it lacks.
    Doctor {
        #[command(flatten)]
        folders: Folders,
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

#[derive(Args)]
struct Folders {
    /// Where runtimes look for plugins; containerd of Debian looks in /usr/lib/cni.
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// Where runtimes look for configurations.
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,
}

#[derive(Args)]
struct Wishes {
    /// Name of the network.
    #[arg(long, default_value = "podswitch")]
    name: Name,
    /// Version of the CNI specification that is spoken; every plugin of the chain must know it.
    #[arg(long, value_name = "VERSION", default_value = "1.0.0", value_parser = Version::parse)]
    cni_version: Version,
    /// Where the switch listens.
    #[arg(long, value_name = "PATH", default_value = SOCKET, env = "PODSWITCH_SOCKET")]
    socket: PathBuf,
    /// A pod of the same namespace and name gets its earlier addresses again.
    #[arg(long)]
    sticky: bool,
    /// A plugin behind this one; give it once for each, and `--chain=` for none.
    #[arg(long, value_name = "PLUGIN", num_args = 0..=1, value_enum, default_value = "portmap", require_equals = true)]
    chain: Vec<Chained>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Install(#[from] install::Error),
    #[error("{NO_BANDWIDTH}")]
    Bandwidth,
    #[error("cannot write the output")]
    Output(#[from] io::Error),
}

impl Error {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Install(install::Error::Foreign { .. }) => Some("move it away, or give another --conf-dir"),
            Error::Bandwidth => Some("leave it out"),
            Error::Install(_) | Error::Output(_) => None,
        }
    }
}

impl Action {
    fn execute(self) -> Result<ExitCode, Error> {
        match self {
            Action::Install { folders, wishes } => {
                let text = wishes.text()?;
                let written = folders.place().install(&text)?;
                say(written.iter().map(|path| format!("wrote {}", path.display())))
            }
            Action::Uninstall { folders } => {
                let removed = folders.place().uninstall()?;
                say(removed.iter().map(|path| format!("removed {}", path.display())))
            }
            Action::Conflist { wishes } => say([wishes.text()?.trim_end().to_owned()]),
            Action::Doctor { folders } => {
                let findings = doctor::examine(&folders.place());
                say(findings.iter().map(ToString::to_string))?;
                let well = findings.iter().all(doctor::Finding::is_well);
                Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Action::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "podswitch-cni", &mut script);
                io::stdout().lock().write_all(&script)?;
                Ok(ExitCode::SUCCESS)
            }
            Action::Man { dir } => {
                std::fs::create_dir_all(&dir)?;
                clap_mangen::generate_to(Cli::command(), dir)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Folders {
    fn place(&self) -> Place<'_> {
        Place { programs: &self.bin_dir, configurations: &self.conf_dir }
    }
}

impl Wishes {
    fn text(&self) -> Result<String, Error> {
        if self.chain.contains(&Chained::Bandwidth) {
            return Err(Error::Bandwidth);
        }
        let Wishes { name, cni_version, socket, sticky, chain } = self;
        Ok(Conflist { name, version: *cni_version, socket, sticky: *sticky, chain }.text())
    }
}

fn say(lines: impl IntoIterator<Item = String>) -> Result<ExitCode, Error> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(ExitCode::SUCCESS)
}

const ABOUT: &str = "podswitch-cni is a CNI plugin (specification 0.1.0 to 1.1.0): a container runtime calls it.\n\
    For its installation see `podswitch-cni --help`.";
const EXAMPLES: &str = "\
Examples:
  podswitch-cni install --bin-dir /usr/lib/cni
  podswitch-cni conflist --chain=portmap --chain=tuning
  podswitch-cni doctor --bin-dir /usr/lib/cni";
