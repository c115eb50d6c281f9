//! The control thread: it owns the state, the route table and the worlds, and is the slow path.
//!
//! A call goes one straight way: request -> [`State::apply`] -> store (intent) -> kernel (effect) -> world -> in force ->
//! reply. A reply that says "attached" means that every worker knows: the pod's first packet will pass. When the effect
//! fails, the state and the store are put back and nothing of it is left in the kernel.
//!
//! ```text
//!   control-http --calls-->  +---------+ --publish--> worker
//!   signals ---------------> | control | <--punts---- worker
//!                            +---------+ --answers--> worker
//! ```
//!
//! A stop leaves pods' interfaces, routes and the store for the next start, which takes them up again; a purge leaves
//! nothing.

pub mod slow_side;
mod tables;
mod trace;
mod views;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::{Attach, Attached, Code, Detached, Done, Purged, Refusal, Reply, Request, Route, RouteTarget};
use crossbeam::channel::{self, Receiver};
use host::{Namespace, Netlink, Tap};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use packet::{Mac, Prefix};
use route_table::NextHop;

use crate::config::Config;
use crate::port::{Link, Port, PortCounters};
use crate::purge;
use crate::server::{self, Call};
use crate::state::{Change, Effect, Endpoint, NetnsId, State};
use crate::store::{Kept, Store};
use crate::wire;
use crate::world::{BLACKHOLE, HOST, UNREACHABLE, hop_of};

use self::slow_side::SlowSide;
use self::tables::Tables;
use self::trace::Traces;
use self::views::Totals;

/// Why a switch did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error(transparent)]
    Store(#[from] crate::store::Error),
    #[error(transparent)]
    Server(#[from] crate::server::Error),
    #[error(transparent)]
    Purge(#[from] purge::Error),
    #[error("cannot make the host port {name}")]
    HostPort { name: String, source: host::Error },
    #[error("{what} failed")]
    System { what: &'static str, source: io::Error },
    #[error("the worker ended by itself")]
    Worker,
    #[error("cannot take up endpoint {name}")]
    Endpoint { name: String, source: host::Error },
    #[error("{path} is another namespace now")]
    OtherNamespace { path: String },
    #[error("what an earlier switch kept does not fit the configuration: {0}")]
    State(#[source] Refusal),
}

impl Error {
    /// True when what was to be taken up does not exist any more.
    fn is_gone(&self) -> bool {
        match self {
            Error::Endpoint { source, .. } => source.is_missing(),
            Error::OtherNamespace { .. } => true,
            _ => false,
        }
    }
}

/// Runs a switch until SIGTERM, SIGINT, or a request to stop or purge.
///
/// # Errors
/// What it needs and did not get: the state directory, the socket, the host port.
pub fn run(config: Config) -> Result<(), Error> {
    let signals = block_signals().map_err(system("signalfd"))?;
    let store = Store::open(&config.state_dir)?;
    let kept = store.load()?;
    let listener = server::bind(&config.socket)?;
    let poll = Poll::new().map_err(system("epoll_create"))?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(system("eventfd"))?);
    let source = signals.as_fd().as_raw_fd();
    poll.registry().register(&mut SourceFd(&source), SIGNAL, Interest::READABLE).map_err(system("epoll_ctl"))?;

    let host = open_host_port(&config, kept.is_some())?;
    if kept.is_none() {
        // Kept before the device is made to last, so that whoever comes after a crash in between knows it for ours.
        store.save(&State::new(config.node.clone()))?;
    }
    make_persistent(&host)?;
    let tables = Tables::new(&config, host, Arc::clone(&waker)).map_err(system("starting the worker"))?;
    let mut engine = Engine {
        slow: SlowSide::new(&config.node),
        state: State::new(config.node.clone()),
        config,
        store,
        tables,
        traces: Traces::default(),
        departed: Totals::default(),
        started: Instant::now(),
        ending: false,
        purged: false,
    };
    engine.readopt(kept)?;
    let (calls_in, calls) = channel::bounded(CALLS);
    let wake = Box::new(move || drop(waker.wake()));
    let server = server::serve(listener, calls_in, wake)?;
    tracing::info!(socket = %engine.config.socket.display(), "ready");
    let ended = engine.serve(poll, &signals, &calls);
    server.stop();
    engine.tables.stop().map_err(system("the worker"))?;
    if engine.purged {
        purge::remove_directory(&engine.config.state_dir)?;
    }
    ended
}

/// Everything the control thread owns.
struct Engine {
    config: Config,
    state: State,
    store: Store,
    tables: Tables,
    slow: SlowSide,
    traces: Traces,
    departed: Totals,
    started: Instant,
    ending: bool,
    purged: bool,
}

impl Engine {
    fn serve(&mut self, mut poll: Poll, signals: &SignalFd, calls: &Receiver<Call>) -> Result<(), Error> {
        let mut events = Events::with_capacity(8);
        while !self.ending {
            match poll.poll(&mut events, Some(LOOK_EVERY)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(system("epoll_wait")(error)),
                _ => {}
            }
            if let Ok(Some(_)) = signals.read_signal() {
                self.ending = true;
            }
            self.serve_slow_path();
            self.end_forsaken_trace();
            while let Ok(call) = calls.try_recv() {
                let reply = self.call(call.request);
                // A client that has gone does not want its answer.
                let _ = call.reply.send(reply);
            }
            if self.tables.worker_is_gone() {
                return Err(Error::Worker);
            }
        }
        Ok(())
    }

    fn serve_slow_path(&mut self) {
        let (ends, world) = self.tables.slow_ends();
        if self.slow.serve(ends, world, self.started.elapsed()) {
            // A failed wake-up is made up for by the next look.
            let _ = self.tables.worker.waker.wake();
        }
    }

    fn call(&mut self, request: Request) -> Result<Reply, Refusal> {
        match request {
            Request::Attach(attach) => self.attach(attach).map(Reply::Attached),
            Request::Detach(detach) => self.change(Change::Detach(detach)),
            Request::AddRoute(route) => self.change(Change::AddRoute(route)),
            Request::DeleteRoute(delete) => self.change(Change::DeleteRoute(delete)),
            Request::Ports => Ok(Reply::Ports(views::ports(self))),
            Request::Routes => Ok(Reply::Routes(views::routes(self))),
            Request::Neighbors => Ok(Reply::Neighbors(views::neighbors(self))),
            Request::Drops => Ok(Reply::Drops(views::drops(self))),
            Request::Status => Ok(Reply::Status(views::status(self))),
            Request::StartTrace(start) => self.start_trace(start).map(Reply::TraceStarted),
            Request::PollTrace(id) => self.poll_trace(id).map(Reply::Trace),
            Request::StopTrace(id) => self.stop_trace(id).map(Reply::Trace),
            Request::Stop => {
                self.ending = true;
                Ok(Reply::Done(Done {}))
            }
            Request::Purge => self.purge().map(Reply::Purged),
        }
    }

    fn attach(&mut self, attach: Attach) -> Result<Attached, Refusal> {
        let namespace = Namespace::open(attach.netns.as_path()).map_err(|error| from_host(Code::Invalid, &error))?;
        let own = Namespace::current().map_err(|error| from_host(Code::Internal, &error))?;
        if namespace.identity() == own.identity() {
            let message = format!("{} is the node's own namespace: a pod needs one of its own", attach.netns);
            return Err(Refusal::new(Code::Invalid, message));
        }
        let before = self.state.clone();
        let Effect::Attached(endpoint) = self.state.apply(Change::Attach(attach, netns_id(&namespace)))? else {
            unreachable!("an attach has no other effect");
        };
        let made = self.keep().and_then(|()| self.plug(&endpoint, &namespace));
        if made.is_err() {
            self.state = before;
            // The refusal that led here is what the client must hear.
            let _ = self.keep();
        }
        made
    }

    /// Makes the endpoint's interface and brings its port into force.
    fn plug(&mut self, endpoint: &Endpoint, namespace: &Namespace) -> Result<Attached, Refusal> {
        let scratch = format!("psw{:x}.{}", std::process::id(), endpoint.port);
        let tap =
            wire::pod(endpoint, namespace, &scratch).map_err(|error| no_interface(endpoint, namespace, &error))?;
        let port = pod_port(endpoint, tap, &self.config).map_err(|error| from_host(Code::Internal, &error))?;
        let (mac, abilities) = (port.mac, views::abilities(port.abilities));
        self.bring_in(endpoint, port)?;
        // Last, since up to here the interface goes by itself, whatever happens.
        if let Err(refusal) = self.set_persistent(endpoint.port, true) {
            self.unplug(endpoint, &[]);
            return Err(refusal);
        }
        let (interface, gateways) = (endpoint.interface.clone(), endpoint.gateways());
        Ok(Attached { port: endpoint.port, interface, mac, gateways, mtu: endpoint.mtu, abilities })
    }

    fn bring_in(&mut self, endpoint: &Endpoint, port: Port) -> Result<(), Refusal> {
        let addresses: Vec<_> = endpoint.addresses.iter().map(|address| address.get()).collect();
        self.tables.add_port(port, &addresses)
    }

    /// Lets a port's device outlive this process, or not.
    fn set_persistent(&self, port: u16, on: bool) -> Result<(), Refusal> {
        let link = self.tables.world().port(port).map(|port| &port.link);
        let Some(Link::Tap(tap)) = link else { return Ok(()) };
        tap.set_persistent(on).map_err(|error| from_host(Code::Internal, &error))
    }

    /// A change whose effect is in the tables alone, or takes something away.
    fn change(&mut self, change: Change) -> Result<Reply, Refusal> {
        let before = self.state.clone();
        let effect = self.state.apply(change)?;
        if let Effect::Detached(..) = effect {
            // A crash in between leaves a note without an interface, which the next start forgets; never the reverse.
            return self.put_in_force(&effect).and_then(|reply| self.keep().map(|()| reply));
        }
        let done = self.keep().and_then(|()| self.put_in_force(&effect));
        if done.is_err() {
            self.state = before;
            // The refusal that led here is what the client must hear.
            let _ = self.keep();
        }
        done
    }

    fn put_in_force(&mut self, effect: &Effect) -> Result<Reply, Refusal> {
        match effect {
            Effect::Attached(_) => unreachable!("an attach makes an interface first"),
            Effect::Detached(endpoint, routes) => {
                let prefixes: Vec<Prefix> = routes.iter().map(|route| route.prefix).collect();
                self.unplug(endpoint, &prefixes);
                Ok(Reply::Detached(Detached { routes: prefixes }))
            }
            Effect::RouteAdded { route, .. } => {
                let hop = self.next_hop(route);
                self.tables.set(route.prefix, hop)?;
                Ok(Reply::Done(Done {}))
            }
            Effect::RouteDeleted(route) => {
                self.tables.take_back(&[route.prefix]);
                Ok(Reply::Done(Done {}))
            }
        }
    }

    /// Takes an endpoint's port out of force and removes its interface.
    fn unplug(&mut self, endpoint: &Endpoint, routes: &[Prefix]) {
        let own = endpoint.addresses.iter().map(|address| Prefix::host(address.get()));
        let gone: Vec<Prefix> = own.chain(routes.iter().copied()).collect();
        let removed = self.tables.remove_port(endpoint.port, &gone);
        // What the slow path still holds speaks of the port by its number, which the next endpoint may get.
        self.serve_slow_path();
        self.tables.flush_answers();
        if let Some(port) = removed {
            self.departed.add(&port);
            if let Link::Tap(tap) = &port.link {
                // A device whose namespace is gone is gone already.
                let _ = tap.set_persistent(false);
            }
        }
    }

    fn next_hop(&self, route: &Route) -> NextHop {
        match &route.target {
            RouteTarget::Host => HOST,
            RouteTarget::Unreachable => UNREACHABLE,
            RouteTarget::Blackhole => BLACKHOLE,
            RouteTarget::Endpoint(name) => {
                hop_of(self.state.endpoint(name).expect("the state refuses routes to endpoints it does not have").port)
            }
        }
    }

    /// Takes up what an earlier switch left. An endpoint whose namespace or interface is gone is forgotten, and said so;
    /// any other failure ends the start, since forgetting would leave an interface nobody knows.
    fn readopt(&mut self, kept: Option<Kept>) -> Result<(), Error> {
        let Some(Kept { endpoints, routes, .. }) = kept else { return Ok(()) };
        let (mut sound, mut ports) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            match self.reopen(&endpoint) {
                Ok(port) => {
                    ports.push(port);
                    sound.push(endpoint);
                }
                Err(why) if why.is_gone() => tracing::warn!(endpoint = %endpoint.name, "forgotten: {}", report(&why)),
                Err(why) => return Err(why),
            }
        }
        let is_sound = |route: &Route| match &route.target {
            RouteTarget::Endpoint(name) => sound.iter().any(|endpoint| endpoint.name == *name),
            _ => true,
        };
        let routes: Vec<Route> = routes.into_iter().filter(is_sound).collect();
        self.state = State::restore(self.config.node.clone(), sound.clone(), routes.clone()).map_err(Error::State)?;
        for (endpoint, port) in sound.iter().zip(ports) {
            self.bring_in(endpoint, port).map_err(Error::State)?;
        }
        for route in &routes {
            let hop = self.next_hop(route);
            self.tables.set(route.prefix, hop).map_err(Error::State)?;
        }
        self.store.save(&self.state).map_err(Error::from)
    }

    fn reopen(&self, endpoint: &Endpoint) -> Result<Port, Error> {
        let failed = |source| Error::Endpoint { name: endpoint.name.to_string(), source };
        let namespace = Namespace::open(endpoint.netns.as_path()).map_err(failed)?;
        if netns_id(&namespace) != endpoint.netns_id {
            return Err(Error::OtherNamespace { path: endpoint.netns.to_string() });
        }
        let tap = wire::readopt_pod(endpoint, &namespace).map_err(failed)?;
        pod_port(endpoint, tap, &self.config).map_err(failed)
    }

    fn purge(&mut self) -> Result<Purged, Refusal> {
        let mut removed = Vec::new();
        let endpoints: Vec<Endpoint> = self.state.endpoints().cloned().collect();
        for endpoint in endpoints {
            self.unplug(&endpoint, &[]);
            removed.push(format!("{} of {}", endpoint.interface, endpoint.netns));
        }
        self.set_persistent(0, false)?;
        drop(self.tables.remove_port(0, &[]));
        removed.push(self.config.node.host_port.to_string());
        wire::remove_unreachable_routes(&self.config.node).map_err(|error| from_host(Code::Internal, &error))?;
        removed.push(self.config.state_dir.display().to_string());
        (self.ending, self.purged) = (true, true);
        Ok(Purged { removed })
    }

    /// Writes the state down.
    fn keep(&mut self) -> Result<(), Refusal> {
        self.store.save(&self.state).map_err(|error| {
            Refusal::new(Code::Unavailable, report(&error))
                .hint(format!("see that {} can be written and has room", self.config.state_dir.display()))
        })
    }
}

fn open_host_port(config: &Config, adopt: bool) -> Result<Port, Error> {
    let name = &config.node.host_port;
    let named = |source| Error::HostPort { name: name.to_string(), source };
    let tap = wire::host_port(name, &config.node, adopt).map_err(named)?;
    Ok(Port {
        number: 0,
        name: name.to_string(),
        host: true,
        mac: tap.mac().map_err(named)?,
        gateway: Mac::GATEWAY,
        mtu: config.node.mtu.get(),
        sources_v4: Vec::new(),
        sources_v6: Vec::new(),
        strict_mac: false,
        abilities: tap.abilities(),
        link: Link::Tap(tap),
        counters: PortCounters::default(),
    })
}

fn make_persistent(port: &Port) -> Result<(), Error> {
    let Link::Tap(tap) = &port.link else { return Ok(()) };
    tap.set_persistent(true).map_err(|source| Error::HostPort { name: port.name.clone(), source })
}

fn pod_port(endpoint: &Endpoint, tap: Tap, config: &Config) -> Result<Port, host::Error> {
    let addresses = || endpoint.addresses.iter().map(|address| address.get());
    Ok(Port {
        number: endpoint.port,
        name: endpoint.name.to_string(),
        host: false,
        mac: tap.mac()?,
        gateway: Mac::GATEWAY,
        mtu: endpoint.mtu.get(),
        sources_v4: addresses()
            .filter_map(|address| if let std::net::IpAddr::V4(v4) = address { Some(v4.into()) } else { None })
            .collect(),
        sources_v6: addresses()
            .filter_map(|address| if let std::net::IpAddr::V6(v6) = address { Some(v6.into()) } else { None })
            .collect(),
        strict_mac: config.strict_mac,
        abilities: tap.abilities(),
        link: Link::Tap(tap),
        counters: PortCounters::default(),
    })
}

/// SIGTERM and SIGINT as something to read, in every thread started after this.
pub(crate) fn block_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// A namespace as the state knows it.
pub(crate) fn netns_id(namespace: &Namespace) -> NetnsId {
    let identity = namespace.identity();
    NetnsId { device: identity.device, inode: identity.inode }
}

/// Why an endpoint's interface was not made; what was made of it is gone again.
fn no_interface(endpoint: &Endpoint, namespace: &Namespace, error: &host::Error) -> Refusal {
    let (netns, name) = (&endpoint.netns, &endpoint.interface);
    let is_there = || Netlink::open_in(namespace).is_ok_and(|mut pod| pod.link(name.as_str()).is_ok());
    if error.is_exists() && is_there() {
        return Refusal::new(Code::Conflict, format!("{netns} has an interface {name} that is not the switch's"))
            .hint("delete it, or ask for another with --ifname");
    }
    from_host(Code::Conflict, error)
}

fn from_host(code: Code, error: &host::Error) -> Refusal {
    Refusal::new(code, report(error))
}

/// An error with its causes, in one line.
fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn system(what: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// Calls that may wait.
const CALLS: usize = 256;
/// A wake-up that failed is made up for this soon.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const WAKE: Token = Token(0);
const SIGNAL: Token = Token(1);
