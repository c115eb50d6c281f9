//! The command line: `run` is the switch itself, all else speaks to one or looks at the machine.
//!
//! Results go to standard output, errors to standard error as `error: ...` and, where something can be done,
//! `hint: ...`. Exit codes: 0 done, 1 refused or failed, 2 misused.

mod attach;
mod neighbor;
mod show;
mod trace;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use control::{Client, Code, DeleteRoute, Detach, InterfaceName, Name, Origin, Route, RouteTarget};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use packet::Prefix;
use serde::Serialize;
use tracing::level_filters::LevelFilter;

use crate::config::{self, Config, Settings};
use crate::purge::{self, Leftover};
use crate::{doctor, engine, log, privilege, store};

use self::attach::{ATTACH_EXAMPLES, AttachArgs};
use self::neighbor::NeighborAction;
use self::show::{Table, View, watch};
use self::trace::TraceArgs;

/// Reads the command line, does what it says, and tells how that went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let Err(error) = cli.command.execute(&cli.global) else { return ExitCode::SUCCESS };
    if let Error::Output(source) = &error
        && source.kind() == io::ErrorKind::BrokenPipe
    {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {}", engine::report(&error));
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
    ExitCode::FAILURE
}

/// A poll-mode userspace packet switch for pods.
#[derive(Parser)]
#[command(name = "podswitch", version, max_term_width = 100, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Action,
}

#[derive(Args)]
struct Global {
    /// Control socket of the switch [default: /run/podswitch/control.sock].
    #[arg(long, global = true, env = "PODSWITCH_SOCKET", value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How much the switch logs: off, error, warn, info, debug or trace.
    #[arg(long, global = true, env = "PODSWITCH_LOG", value_name = "LEVEL", default_value = "info",
        hide_possible_values = true, value_parser = log_level())]
    log_level: LevelFilter,
}

#[derive(Subcommand)]
enum Action {
    /// Run a switch until it is stopped.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<Run>),
    /// Join a pod's namespace to the switch.
    #[command(after_help = ATTACH_EXAMPLES)]
    Attach(AttachArgs),
    /// Take a pod off, and the routes to it.
    #[command(after_help = "Example:\n  podswitch detach web-0")]
    Detach {
        /// Name of the endpoint.
        name: Name,
        /// Also if another origin made it or has routes to it.
        #[arg(long)]
        force: bool,
    },
    /// Add and delete routes.
    #[command(subcommand)]
    Route(RouteAction),
    /// Add, delete and list neighbours: other nodes and the subnets of their pods.
    #[command(subcommand)]
    Neighbor(NeighborAction),
    /// Show ports, routes, endpoints, counters or the switch itself.
    #[command(after_help = SHOW_EXAMPLES)]
    Show {
        /// What to show.
        #[arg(value_enum)]
        view: View,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Of ports: show rates again and again, every so many seconds [default: 2].
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
            value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "json")]
        watch: Option<u16>,
    },
    /// Show packets, what each stage of the path saw of them and decided.
    #[command(after_help = TRACE_EXAMPLES)]
    Trace(TraceArgs),
    /// Say what this machine gives a switch and what it lacks.
    #[command(after_help = "Example:\n  podswitch doctor --json")]
    Doctor {
        /// The switch's interface on the host.
        #[arg(long, value_name = "INTERFACE", default_value = config::HOST_PORT)]
        host_port: InterfaceName,
        /// Where the switch keeps, or would keep, what it was asked for.
        #[arg(long, visible_alias = "state", value_name = "DIR", default_value = config::STATE_DIR)]
        state_dir: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End the switch; pods' interfaces and routes stay for the next start.
    #[command(after_help = "Example:\n  podswitch stop")]
    Stop,
    /// Remove all a switch ever made, whether it runs or is dead.
    #[command(after_help = "Example:\n  podswitch purge --yes")]
    Purge(Purge),
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  podswitch completions bash > /etc/bash_completion.d/podswitch")]
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages into a directory.
    #[command(after_help = "Example:\n  podswitch man /usr/local/share/man/man1")]
    Man {
        /// The directory; it is made where it is missing.
        dir: PathBuf,
    },
}

#[derive(Args)]
struct Run {
    /// Configuration file; flags override its keys one by one.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum RouteAction {
    /// Add a route, or change the target of one added here before.
    #[command(after_help = ROUTE_EXAMPLES)]
    Add {
        /// Destinations.
        prefix: Prefix,
        /// Where their packets go: endpoint:NAME, host, unreachable or blackhole.
        #[arg(long, value_name = "TARGET")]
        to: RouteTarget,
    },
    /// Delete a route.
    #[command(after_help = "Example:\n  podswitch route del 192.0.2.0/24")]
    Del {
        /// Destinations.
        prefix: Prefix,
        /// Also if another origin asked for it.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Args)]
struct Purge {
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Configuration file of the switch.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the switch keeps what it was asked for [default: /run/podswitch].
    #[arg(long, visible_alias = "state", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The switch's interface on the host [default: podswitch0].
    #[arg(long, value_name = "INTERFACE")]
    host_port: Option<InterfaceName>,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Control(#[from] control::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Engine(#[from] engine::Error),
    #[error(transparent)]
    Purge(#[from] purge::Error),
    #[error("this needs {}, which this process lacks", privilege::listed(.0))]
    Privilege(Vec<privilege::Capability>),
    #[error("cannot read the neighbours in {}", file.display())]
    Unread { file: PathBuf, source: io::Error },
    #[error("{} holds something else than neighbours", file.display())]
    NoNeighbor { file: PathBuf, source: serde_json::Error },
    #[error("cannot write the output")]
    Output(#[from] io::Error),
    #[error("a purge takes every pod off the network and was not confirmed")]
    Unconfirmed,
    #[error("--watch shows rates, which only ports have")]
    Unwatchable,
    #[error("{0} of the findings need mending")]
    Findings(usize),
}

impl Error {
    fn hint(&self) -> Option<String> {
        match self {
            Error::Control(error) if is_for_root_alone(error) => Some(format!("run it as root: {}", privilege::sudo())),
            Error::Privilege(_) => Some(format!("run it as root: {}", privilege::sudo())),
            Error::Control(error) => error.hint().map(str::to_owned),
            Error::Config(error) | Error::Engine(engine::Error::Config(error)) => error.hint(),
            Error::NoNeighbor { .. } => Some("see `podswitch neighbor add --help` for what one looks like".to_owned()),
            Error::Engine(engine::Error::Store(error)) => error.hint(),
            Error::Engine(engine::Error::Server(error)) => error.hint(),
            Error::Purge(purge::Error::Store(error)) => error.hint(),
            Error::Unwatchable => Some("say `podswitch show ports --watch`".to_owned()),
            Error::Unconfirmed => Some("give --yes".to_owned()),
            Error::Engine(_) | Error::Purge(_) | Error::Unread { .. } | Error::Output(_) | Error::Findings(_) => None,
        }
    }
}

impl Action {
    fn execute(self, global: &Global) -> Result<(), Error> {
        let client = client(global);
        match self {
            Action::Run(run) => run.execute(global),
            Action::Attach(attach) => attach.execute(&client),
            Action::Detach { name, force } => {
                let gone = client.detach(Detach { name, origin: Origin::Cli, force })?;
                for route in gone.routes {
                    print(&format!("deleted the route {route}, which led there\n"))?;
                }
                Ok(())
            }
            Action::Route(RouteAction::Add { prefix, to }) => {
                client.add_route(Route { prefix, target: to, origin: Origin::Cli })?;
                Ok(())
            }
            Action::Route(RouteAction::Del { prefix, force }) => {
                client.delete_route(DeleteRoute { prefix, origin: Origin::Cli, force })?;
                Ok(())
            }
            Action::Neighbor(neighbor) => neighbor.execute(&client),
            Action::Show { view: View::Ports, watch: Some(seconds), .. } => watch::ports(&client, seconds),
            Action::Show { watch: Some(_), .. } => Err(Error::Unwatchable),
            Action::Show { view, json, .. } => print(&view.ask(&client, json)?),
            Action::Trace(trace) => trace.execute(&client),
            Action::Doctor { host_port, state_dir, json } => {
                let socket = global.socket.clone().unwrap_or_else(|| state_dir.join(config::SOCKET));
                examine(&doctor::Place { host_port, state_dir, client: Client::new(socket) }, json)
            }
            Action::Stop => {
                client.stop()?;
                Ok(())
            }
            Action::Purge(purge) => purge.execute(global),
            Action::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "podswitch", &mut script);
                print(&String::from_utf8_lossy(&script))
            }
            Action::Man { dir } => {
                std::fs::create_dir_all(&dir)?;
                clap_mangen::generate_to(Cli::command(), dir)?;
                Ok(())
            }
        }
    }
}

impl Run {
    fn execute(self, global: &Global) -> Result<(), Error> {
        let flags = Settings { socket: global.socket.clone(), ..self.settings };
        let config = Config::try_from(flags.over(read(self.config.as_deref())?))?;
        need_privilege()?;
        raise_descriptor_limit();
        let _log = log::start(global.log_level);
        engine::run(config)?;
        Ok(())
    }
}

impl Purge {
    fn execute(self, global: &Global) -> Result<(), Error> {
        let Purge { yes, config, state_dir, host_port } = self;
        let flags = Settings { socket: global.socket.clone(), state_dir, host_port, ..Settings::default() };
        let config = Config::without_ranges(flags.over(read(config.as_deref())?))?;
        need_privilege()?;
        let leftovers = match purge::leftovers(&config) {
            Err(purge::Error::Store(store::Error::Locked { .. })) => return purge_running(&config, yes),
            leftovers => leftovers?,
        };
        if leftovers.is_empty() {
            return print("there was nothing to remove\n");
        }
        let things: Vec<String> = leftovers.iter().map(Leftover::to_string).collect();
        if !yes && !confirmed(&things.join("\n"))? {
            return Err(Error::Unconfirmed);
        }
        for (leftover, thing) in leftovers.iter().zip(things) {
            leftover.remove()?;
            print(&format!("removed {thing}\n"))?;
        }
        Ok(())
    }
}

fn purge_running(config: &Config, yes: bool) -> Result<(), Error> {
    if !yes && !confirmed("the running switch and every pod's interface")? {
        return Err(Error::Unconfirmed);
    }
    let removed = Client::new(&config.socket).purge()?.removed;
    print(&removed.iter().map(|thing| format!("removed {thing}\n")).collect::<String>())
}

/// Asks whoever sits at the terminal; nobody there is no.
fn confirmed(what: &str) -> Result<bool, Error> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("{what}\nRemove all this, taking every pod off the network? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A pod takes a descriptor. The soft limit is for programs that use select(2), which this one does not.
fn raise_descriptor_limit() {
    // Few pods need no more than there is, and the doctor tells of a low limit.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Said before anything is begun, since half of it might be possible without.
fn need_privilege() -> Result<(), Error> {
    let missing = privilege::missing(&privilege::NEEDED);
    if missing.is_empty() { Ok(()) } else { Err(Error::Privilege(missing)) }
}

fn is_for_root_alone(error: &control::Error) -> bool {
    match error {
        control::Error::Permission { .. } => true,
        control::Error::Refused(refusal) => refusal.code == Code::Forbidden,
        _ => false,
    }
}

fn examine(place: &doctor::Place, as_json: bool) -> Result<(), Error> {
    let findings = doctor::examine(place);
    if as_json {
        print(&json(&findings))?;
    } else {
        let mut table = Table::new(&["", "what", "found", "cure"]);
        for doctor::Finding { subject, status, detail, cure } in &findings {
            let mark = match status {
                doctor::Status::Ok => "ok",
                doctor::Status::Lack => "LACK",
                doctor::Status::Note => "-",
            };
            table.row([mark, *subject, detail.as_str(), cure.as_deref().unwrap_or_default()]);
        }
        print(&table.text())?;
    }
    match findings.iter().filter(|finding| finding.status == doctor::Status::Lack).count() {
        0 => Ok(()),
        lacks => Err(Error::Findings(lacks)),
    }
}

/// Says all levels when it is given something else.
fn log_level() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(log::LEVELS).map(|word| word.parse().expect("these words are levels"))
}

/// The settings of a file, or none.
fn read(file: Option<&Path>) -> Result<Settings, config::Error> {
    file.map(Settings::read).transpose().map(Option::unwrap_or_default)
}

fn client(global: &Global) -> Client {
    let default = || PathBuf::from(config::STATE_DIR).join(config::SOCKET);
    Client::new(global.socket.clone().unwrap_or_else(default))
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("every view has a JSON form");
    text + "\n"
}

const EXAMPLES: &str = "\
Examples:
  podswitch run --pod-range 10.244.0.0/24 &
  podswitch attach web-0 --netns web --address 10.244.0.2
  podswitch show ports";
const RUN_EXAMPLES: &str = "\
Examples:
  podswitch run --pod-range 10.244.0.0/24 --pod-range fd00:10:244::/64
  podswitch run --config /etc/podswitch.toml --mtu 9000 --log-level debug";
const ROUTE_EXAMPLES: &str = "\
Examples:
  podswitch route add 192.0.2.0/24 --to endpoint:web-0
  podswitch route add 198.51.100.0/24 --to unreachable";
const SHOW_EXAMPLES: &str = "\
Examples:
  podswitch show ports
  podswitch show ports --watch=5
  podswitch show drops --json
  podswitch show config";
const TRACE_EXAMPLES: &str = "\
Examples:
  podswitch trace --port web-0
  podswitch trace --filter 'tcp and dst 10.1.2.3' --count 10
  podswitch trace --dropped --seconds 60 --json

A filter is made of ip, ip6, arp, icmp, icmp6, tcp, udp, sctp; [src|dst] [host] ADDRESS; [src|dst] net PREFIX;
[tcp|udp|sctp] [src|dst] port N, portrange A-B; less N, greater N; and, or, not and parentheses.
It is held against packets as they come in. Ctrl-C ends the trace; nothing is traced while nobody looks.";
