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

mod across;
mod counted;
mod crowding;
mod endpoints;
mod error;
mod inside;
mod neighbors;
mod paths;
mod pulse;
mod scrape;
pub mod slow_side;
mod stations;
mod sweep;
mod tables;
mod takeover;
mod trace;
mod uplinks;
mod views;

use std::io;
use std::os::fd::OwnedFd;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use control::{Done, Reply, Request};
use crossbeam::channel::{self, Receiver, TryRecvError};
use host::Steering;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sys::signalfd::SignalFd;
use sd_notify::NotifyState;

use crate::config::Config;
use crate::crew::Crew;
use crate::ipam::Memory;
use crate::masquerade;
use crate::port::Counted;
use crate::purge;
use crate::server::{self, Answer, Call, Listeners};
use crate::signals;
use crate::state::{Change, State};
use crate::store::Store;

use self::across::Links;
pub(crate) use self::endpoints::netns_id;
pub use self::error::Error;
pub(crate) use self::error::report;
use self::error::system;
use self::paths::Paths;
use self::pulse::Pulse;
use self::slow_side::SlowSide;
use self::stations::Fresh;
use self::tables::Tables;
use self::trace::Traces;

/// Runs a switch until SIGTERM, SIGINT, or a request to stop or purge.
///
/// # Errors
/// What it needs and did not get: the state directory, the socket, the host port.
pub fn run(config: Config) -> Result<(), Error> {
    let links = Links::of(&config)?;
    let config = config.over_links(|address| links.mtu(address))?;
    let signals = signals::block().map_err(system("signalfd"))?;
    let mut store = Store::open(&config.state_dir)?;
    let kept = store.load()?;
    let listener = server::bind(&config.socket)?;
    let metrics = config.metrics_address.map(server::bind_metrics).transpose()?;
    let poll = Poll::new().map_err(system("epoll_create"))?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(system("eventfd"))?);
    let source = signals.as_fd().as_raw_fd();
    poll.registry().register(&mut SourceFd(&source), SIGNAL, Interest::READABLE).map_err(system("epoll_ctl"))?;

    if let Some(kept) = &kept {
        takeover::report_damage(&store, &kept.damages);
    }
    let crew = Crew::new(&config).map_err(system("sched_getaffinity"))?;
    let host = takeover::open_host_port((&config, &crew), &mut store, kept.as_ref())?;
    let state = State::new(config.node.clone());
    let tables = Tables::new(&config, &crew, host, &waker).map_err(system("starting the workers"))?;
    let ends = links.ends(&config);
    let mut engine = Engine::new((config, crew), store, state, tables);
    engine.tables.open_uplinks((ends, &engine.config.node.pod_ranges), &engine.crew)?;
    engine.memory = Memory::open(&engine.config.state_dir).map_err(system("remembering addresses"))?;
    if let Some(kept) = kept {
        engine.take_over(kept)?;
    }
    masquerade::arrange(&engine.config)?;
    let (calls_in, calls) = channel::bounded(CALLS);
    let wake = Box::new(move || drop(waker.wake()));
    let server = server::serve(Listeners { control: listener, metrics }, calls_in, wake)?;
    tracing::info!(socket = %engine.config.socket.display(), "ready");
    let taken_up = format!("forwarding; pods taken up again: {}", engine.state.endpoints().len());
    tell_service_manager(&[NotifyState::Ready, NotifyState::Status(&taken_up)]);
    let ended = engine.serve(poll, &signals, &calls);
    tell_service_manager(&[NotifyState::Stopping, NotifyState::Status("ending; pods' interfaces stay")]);
    // Whoever still waits hears that the switch is stopping.
    calls.try_iter().for_each(drop);
    drop(calls);
    server.stop();
    engine.tables.stop().map_err(system("the workers"))?;
    if engine.purged {
        purge::remove_directory(&engine.config.state_dir)?;
    }
    ended
}

/// Everything the control thread owns.
struct Engine {
    config: Config,
    crew: Crew,
    state: State,
    tables: Tables,
    slow: SlowSide,
    traces: Traces,
    /// Who had which address before.
    memory: Memory,
    /// For the next pod.
    spare: Option<Steering>,
    /// Who came a moment ago.
    fresh: Fresh,
    /// What was counted at ports that left, so that the switch's totals never go back.
    departed: Counted,
    /// Endpoints detached because their namespace was gone.
    swept: u64,
    pulse: Pulse,
    paths: Paths,
    started: Instant,
    started_at: SystemTime,
    /// When namespaces were last looked after.
    looked: Instant,
    ending: bool,
    purged: bool,
    /// Last, so that its lock goes after the devices: who gets the lock finds them free.
    store: Store,
}

impl Engine {
    fn new((config, crew): (Config, Crew), store: Store, state: State, tables: Tables) -> Engine {
        let now = Instant::now();
        Engine {
            slow: SlowSide::new(&config.node),
            pulse: Pulse::new(crew.cpus.len(), now),
            paths: Paths::default(),
            config,
            crew,
            state,
            store,
            tables,
            traces: Traces::default(),
            memory: Memory::default(),
            spare: None,
            fresh: Fresh::default(),
            departed: Counted::default(),
            swept: 0,
            started: now,
            started_at: SystemTime::now(),
            looked: now,
            ending: false,
            purged: false,
        }
    }

    fn serve(&mut self, mut poll: Poll, signals: &SignalFd, calls: &Receiver<Call>) -> Result<(), Error> {
        let mut events = Events::with_capacity(8);
        while !self.ending {
            // The bell rang once for all calls that wait.
            let patience = if calls.is_empty() { LOOK_EVERY } else { Duration::ZERO };
            match poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(system("epoll_wait")(error)),
                _ => {}
            }
            if let Ok(Some(_)) = signals.read_signal() {
                self.ending = true;
            }
            self.serve_slow_path();
            self.pulse.feel(self.tables.workers.iter().map(|worker| &*worker.tallies), Instant::now());
            self.answer_some(calls)?;
            if self.spare.is_none() && calls.is_empty() {
                self.spare = self.crew.spare_steering();
            }
            self.end_forsaken_trace();
            self.tables.look_at_cpus(Instant::now());
            self.tables.look_at_paths(&mut self.paths);
            self.look_at_fresh(Instant::now());
            if self.looked.elapsed() >= self.config.sweep_every {
                self.looked = Instant::now();
                self.sweep();
                self.look_at_stations();
                self.mend_host_routes();
            }
            if self.tables.a_worker_is_gone() {
                return Err(Error::Worker);
            }
        }
        Ok(())
    }

    fn serve_slow_path(&mut self) {
        let now = self.started.elapsed();
        let (workers, world) = self.tables.ends();
        for worker in workers {
            if self.slow.serve(&mut worker.slow, world, now) {
                // A failed wake-up is made up for by the next look.
                let _ = (worker.wake)();
            }
        }
    }

    /// Answers a bounded number of calls: however many there are, the slow path and signals have their turn.
    fn answer_some(&mut self, calls: &Receiver<Call>) -> Result<(), Error> {
        for _ in 0..CALLS_AT_ONCE {
            // Who asks after the end was asked for hears that the switch is stopping.
            if self.ending {
                break;
            }
            match calls.try_recv() {
                Ok(call) => self.answer(call),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(Error::Deaf),
            }
        }
        Ok(())
    }

    /// Answers; a client that has gone does not want its answer.
    fn answer(&mut self, call: Call) {
        match call {
            // Who has gone before its turn came wants nothing any more.
            Call::Request(_, _, reply) if reply.is_closed() => {}
            Call::Request(request, netns, reply) => {
                let coming = if let Request::Attach(attach) = &request { Some(attach.name.clone()) } else { None };
                let answer = self.call(request, netns);
                let done = answer.reply.is_ok();
                let unheard = reply.send(answer).is_err();
                if let (Some(name), true) = (coming, done && unheard) {
                    self.forsake(name);
                }
            }
            Call::Metrics(reply) => drop(reply.send(Box::new(scrape::metrics(self)))),
            Call::Health(reply) => {
                // A long answer to another call must not pass for a worker that stands still.
                self.pulse.feel(self.tables.workers.iter().map(|worker| &*worker.tallies), Instant::now());
                let _ = reply.send(self.pulse.health(self.ending, Instant::now()));
            }
        }
    }

    fn call(&mut self, request: Request, netns: Option<OwnedFd>) -> Answer {
        let (mut places, mut leaving) = (Vec::new(), None);
        let reply = match request {
            Request::Attach(attach) => self.attach(attach, netns).map(Reply::Attached),
            Request::Detach(detach) => self.detach(detach).map(|(detached, port)| {
                leaving = port;
                Reply::Detached(detached)
            }),
            Request::AddRoute(route) => self.change(Change::AddRoute(route)),
            Request::DeleteRoute(delete) => self.change(Change::DeleteRoute(delete)),
            Request::ChangeNeighbors(change) => self.change_neighbors(change),
            Request::Pause(pause) => self.change(Change::Pause(pause)),
            Request::Resume(resume) => self.change(Change::Resume(resume)),
            Request::Ports => {
                places = scrape::places(self);
                Ok(Reply::Ports(views::ports(self)))
            }
            Request::Routes => Ok(Reply::Routes(views::routes(self))),
            Request::Neighbors => Ok(Reply::Neighbors(views::neighbors(self))),
            Request::Stations => Ok(Reply::Stations(views::stations(self))),
            Request::Drops => Ok(Reply::Drops(views::drops(self))),
            Request::Status => Ok(Reply::Status(views::status(self))),
            Request::Workers => Ok(Reply::Workers(inside::workers(self))),
            Request::Adjacencies => Ok(Reply::Adjacencies(inside::adjacencies(self))),
            Request::Worlds => Ok(Reply::Worlds(inside::worlds(self))),
            Request::Endpoints => Ok(Reply::Endpoints(inside::endpoints(self))),
            Request::Returns => Ok(Reply::Returns(inside::returns(self))),
            Request::Config => Ok(Reply::Config(Box::new(inside::config(&self.config)))),
            Request::StartTrace(start) => self.start_trace(start).map(Reply::TraceStarted),
            Request::PollTrace(id) => self.poll_trace(id).map(Reply::Trace),
            Request::StopTrace(id) => self.stop_trace(id).map(Reply::Trace),
            Request::Stop => {
                self.ending = true;
                Ok(Reply::Done(Done {}))
            }
            Request::Purge => self.purge().map(Reply::Purged),
        };
        Answer { reply, places, leaving }
    }
}

/// Where nobody waits for word there is nothing to do; see sd_notify(3).
fn tell_service_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// Calls that may wait.
const CALLS: usize = 256;
/// Punts and signals come in between this many calls.
const CALLS_AT_ONCE: usize = 16;
/// A wake-up that failed is made up for this soon.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const WAKE: Token = Token(0);
const SIGNAL: Token = Token(1);
