//! The control server: HTTP on a Unix socket that root alone may open, on one thread away from the workers; and beside
//! it, where configured, the monitoring pages alone over TCP on loopback.
//!
//! The server decides nothing. It turns bytes into a [`Call`], hands it to the engine, and turns the reply back into
//! bytes. Limits, so that no client can hold the switch up: on each of the two [`CONNECTIONS_MAX`] connections, one
//! call each, a head within [`HEAD_TIMEOUT`] and [`HEAD_LEN_MAX`], a body within [`BODY_LEN_MAX`] (of neighbours, which
//! come many at once, [`NEIGHBORS_LEN_MAX`]), all of it within [`CONNECTION_TIMEOUT`]; when all connections are taken,
//! who has been silent longest makes room (`places.rs`). Calls queue in the bounded channel the engine gives, and what
//! finds it full is told to come again.

mod beside;
mod monitoring;
mod places;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::serve::Listener;
use control::wire::{self, BODY_LEN_MAX, NEIGHBORS_LEN_MAX};
use control::{Code, Refusal, Reply, Request};
use crossbeam::channel::{Sender, TrySendError};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;
use tokio::task;
use tokio::time::timeout;

use crate::kernel_drops::Place;
use crate::metrics::Metrics;
use crate::port::Port;

use self::beside::{Beside, Door, Line};
use self::monitoring::SharedDrops;
use self::places::{All, Places, Said};

/// What the engine is asked, and where its answer goes; a call whose sender is dropped is answered as refused.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, moved once or twice")]
pub enum Call {
    /// A client's request, and what came beside it.
    Request(Request, Option<OwnedFd>, oneshot::Sender<Answer>),
    /// All numbers.
    Metrics(oneshot::Sender<Box<Metrics>>),
    /// Whether it works.
    Health(oneshot::Sender<Health>),
}

/// What the engine says to a request.
#[derive(Debug)]
pub struct Answer {
    /// What the client gets.
    pub reply: Result<Reply, Refusal>,
    /// Where the interfaces of [`Reply::Ports`] are, in that order and as far as they have one: the kernel is still to
    /// be asked for its drops there.
    pub places: Vec<Option<Place>>,
    /// The last handle of a port that left. To close its interface has the kernel wait for tens of milliseconds, which the
    /// engine need not; the client hears of it when the interface is gone.
    pub leaving: Option<Arc<Port>>,
}

/// Whether the switch works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Health {
    /// How long the worker has neither turned nor slept, if too long.
    pub stalled: Option<Duration>,
    /// True while it forwards for all its endpoints and wants traffic.
    pub forwarding: bool,
}

/// Where the server listens.
#[derive(Debug)]
pub struct Listeners {
    /// For requests, and monitoring too.
    pub control: UnixListener,
    /// For monitoring alone.
    pub metrics: Option<TcpListener>,
}

/// The running server; it ends with this.
#[derive(Debug)]
pub struct ServerThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    socket: PathBuf,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say what the fields hold")]
pub enum Error {
    #[error("process {pid} listens at {}", socket.display())]
    InUse { socket: PathBuf, pid: i32 },
    #[error("{} is in the way of the control socket: it is no socket", socket.display())]
    NoSocket { socket: PathBuf },
    #[error("cannot {action} the control socket {}", socket.display())]
    Io { action: &'static str, socket: PathBuf, source: io::Error },
    #[error("cannot serve metrics at {address}")]
    Metrics { address: SocketAddr, source: io::Error },
    #[error("cannot start the control server")]
    Start { source: io::Error },
}

impl Error {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::InUse { .. } => Some("end it with `podswitch stop`, or give this one its own --socket".to_owned()),
            Error::NoSocket { .. } => Some("move it away, or give another --socket".to_owned()),
            Error::Metrics { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("another program listens there: end it, or give another --metrics-address".to_owned())
            }
            Error::Metrics { .. } | Error::Io { .. } | Error::Start { .. } => None,
        }
    }
}

/// Listens at `socket`, for root alone. A socket file nobody listens at any more is replaced.
///
/// # Errors
/// [`Error::InUse`] when somebody does listen, [`Error::NoSocket`] when something else lies there.
pub fn bind(socket: &Path) -> Result<UnixListener, Error> {
    let failed = |action| move |source| Error::Io { action, socket: socket.to_owned(), source };
    match fs::symlink_metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed("look at")(source)),
        Ok(file) if !file.file_type().is_socket() => return Err(Error::NoSocket { socket: socket.to_owned() }),
        Ok(_) => match UnixStream::connect(socket) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(socket).map_err(failed("replace"))?;
            }
            Err(source) => return Err(failed("probe")(source)),
            Ok(probe) => {
                let holder = getsockopt(&probe, PeerCredentials).map_err(|errno| failed("probe")(errno.into()))?;
                return Err(Error::InUse { socket: socket.to_owned(), pid: holder.pid() });
            }
        },
    }
    let listener = UnixListener::bind(socket).map_err(failed("listen at"))?;
    // Whoever slips in before this is still turned away by its credentials.
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).map_err(failed("protect"))?;
    Ok(listener)
}

/// Listens for monitoring at `address`.
///
/// # Errors
/// [`Error::Metrics`] when somebody else does, or the address is not this machine's.
pub fn bind_metrics(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).map_err(|source| Error::Metrics { address, source })
}

/// Serves `listeners` on a thread of its own: each request goes into `calls`, then `wake` is called.
pub fn serve(
    listeners: Listeners,
    calls: Sender<Call>,
    wake: impl Fn() + Send + Sync + 'static,
) -> Result<ServerThread, Error> {
    let start = |source| Error::Start { source };
    let Listeners { control, metrics } = listeners;
    let address = control.local_addr().map_err(start)?;
    let socket = address.as_pathname().map(Path::to_owned).unwrap_or_default();
    // What may block, the kernel's answers about pods and the end of their interfaces, runs beside this thread.
    let mut builder = runtime::Builder::new_current_thread();
    let runtime =
        builder.enable_all().max_blocking_threads(BESIDE_MAX).thread_name("beside-http").build().map_err(start)?;
    let (control, metrics) = {
        let _context = runtime.enter();
        control.set_nonblocking(true).map_err(start)?;
        metrics.iter().try_for_each(|metrics| metrics.set_nonblocking(true)).map_err(start)?;
        let metrics = metrics.map(tokio::net::TcpListener::from_std).transpose().map_err(start)?;
        (tokio::net::UnixListener::from_std(control).map_err(start)?, metrics)
    };
    let (stop, stopped) = oneshot::channel();
    let engine = Engine { calls, wake: Arc::new(wake) };
    let serving = move || run(&runtime, (control, metrics), engine, stopped);
    let thread = thread::Builder::new().name("control-http".to_owned()).spawn(serving).map_err(start)?;
    Ok(ServerThread { stop: Some(stop), thread: Some(thread), socket })
}

impl ServerThread {
    /// Accepts nothing more, lets calls that were replied to be delivered, and removes the socket.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for ServerThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its own thread.
            let _ = thread.join();
        }
        // The file may be gone already, and it is only in the way of nobody.
        let _ = fs::remove_file(&self.socket);
    }
}

/// The way to the engine.
#[derive(Clone)]
struct Engine {
    calls: Sender<Call>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// Why the engine gave no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unanswered {
    Busy,
    Stopping,
    Late,
}

impl Unanswered {
    fn message(self) -> &'static str {
        match self {
            Unanswered::Busy => "the switch has too much to do",
            Unanswered::Stopping => "the switch is stopping",
            Unanswered::Late => "the switch takes too long",
        }
    }
}

impl From<Unanswered> for Refusal {
    fn from(unanswered: Unanswered) -> Refusal {
        let refusal = |message: &str| Refusal::new(Code::Unavailable, message);
        match unanswered {
            Unanswered::Busy => refusal(unanswered.message()).hint("try again later"),
            Unanswered::Stopping => refusal(unanswered.message()),
            Unanswered::Late => refusal("the switch takes too long; it may still do what was asked")
                .hint("look with `podswitch show` before asking again"),
        }
    }
}

impl Engine {
    /// What the engine answers to `call`, which is given the way back.
    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call, within: Duration) -> Result<T, Unanswered> {
        let (answer, answered) = oneshot::channel();
        self.calls.try_send(call(answer)).map_err(|error| match error {
            TrySendError::Full(_) => Unanswered::Busy,
            TrySendError::Disconnected(_) => Unanswered::Stopping,
        })?;
        (self.wake)();
        match timeout(within, answered).await {
            Ok(answer) => answer.map_err(|_| Unanswered::Stopping),
            Err(_) => Err(Unanswered::Late),
        }
    }
}

type Sockets = (tokio::net::UnixListener, Option<tokio::net::TcpListener>);

fn run(runtime: &Runtime, sockets: Sockets, engine: Engine, stopped: oneshot::Receiver<()>) {
    let drops = SharedDrops::default();
    let visit = move |said, beside| Visit { engine: engine.clone(), drops: drops.clone(), said, beside };
    let for_monitoring = visit.clone();
    let (control, metrics) = sockets;
    let (accepting, taken) = accept(Door(control), CONNECTION_TIMEOUT, move |line: &Line, said| {
        let trusted = line.stream().peer_cred().is_ok_and(|peer| trusted(peer.uid(), geteuid().as_raw()));
        if trusted { everything(visit(said, line.beside())) } else { Router::new().fallback(turn_away) }
    });
    let mut tasks = vec![(runtime.spawn(accepting), taken)];
    if let Some(metrics) = metrics {
        let pages = move |_: &_, said| monitoring::alone().with_state(for_monitoring(said, Beside::default()));
        let (accepting, taken) = accept(metrics, SCRAPE_TIMEOUT, pages);
        tasks.push((runtime.spawn(accepting), taken));
    }
    runtime.block_on(async {
        // It ends by being dropped.
        let _ = stopped.await;
        tasks.iter().for_each(|(accepting, _)| accepting.abort());
        // Every place free: every reply is delivered.
        let delivered = async {
            for (_, taken) in &tasks {
                taken.free().await;
            }
        };
        let _ = timeout(FAREWELL_TIMEOUT, delivered).await;
    });
}

/// Serves every connection with the router it is given, for so long at most; and all the places there are for them.
fn accept<L: Listener>(
    mut listener: L,
    lasts_max: Duration,
    router: impl Fn(&L::Io, Said) -> Router + Send + Sync + 'static,
) -> (impl Future<Output = ()> + Send, All) {
    let mut places = Places::new(CONNECTIONS_MAX);
    let all = places.all();
    let accepting = async move {
        loop {
            let (stream, _) = listener.accept().await;
            places
                .admit(|said| {
                    let router = router(&stream, said);
                    converse(stream, router, lasts_max)
                })
                .await;
        }
    };
    (accepting, all)
}

/// What those are served with who may ask.
fn everything(visit: Visit) -> Router {
    let many = Router::new().route(wire::NEIGHBORS, any(answer)).layer(DefaultBodyLimit::max(NEIGHBORS_LEN_MAX));
    let requests = Router::new().route(wire::OPENAPI, get(describe).fallback(answer)).fallback(answer);
    requests.layer(DefaultBodyLimit::max(BODY_LEN_MAX)).merge(many).merge(monitoring::pages()).with_state(visit)
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, lasts_max: Duration) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LEN_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // How a connection ends concerns its client alone.
    let _ = timeout(lasts_max, connection).await;
}

/// One connection's way to the engine.
#[derive(Clone)]
struct Visit {
    engine: Engine,
    drops: SharedDrops,
    said: Said,
    beside: Beside,
}

async fn answer(
    State(visit): State<Visit>,
    method: Method,
    target: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    visit.said.all();
    let limit = if target.path() == wire::NEIGHBORS { NEIGHBORS_LEN_MAX } else { BODY_LEN_MAX };
    let beside = visit.beside.take();
    let body = body.map_err(|rejection| unread(&rejection, limit));
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    let request = body.and_then(|body| wire::decode(method.as_str(), target, &body));
    respond(match request {
        Ok(request) => match visit.engine.ask(|reply| Call::Request(request, beside, reply), REPLY_TIMEOUT).await {
            Ok(Answer { reply: Ok(Reply::Ports(ports)), places, .. }) => {
                monitoring::complete(ports, places, visit.drops).await
            }
            Ok(Answer { reply, leaving: Some(port), .. }) => {
                // A panic there has been reported by its own thread.
                let _ = task::spawn_blocking(move || drop(port)).await;
                reply
            }
            Ok(Answer { reply, .. }) => reply,
            Err(unanswered) => Err(unanswered.into()),
        },
        Err(refusal) => Err(refusal),
    })
}

async fn describe() -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, JSON)], wire::DESCRIPTION).into_response()
}

async fn turn_away() -> Response {
    respond(Err(Refusal::new(Code::Forbidden, "the switch answers to root alone").hint("run this as root")))
}

fn unread(rejection: &BytesRejection, limit: usize) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Refusal::new(Code::TooLarge, format!("the body is longer than {limit} bytes"))
    } else {
        Refusal::new(Code::Invalid, "the body broke off")
    }
}

fn respond(reply: Result<Reply, Refusal>) -> Response {
    let (status, body) = wire::encode_reply(&reply);
    let status = StatusCode::from_u16(status).expect("every code has a real status");
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// Root, or whoever runs the switch.
fn trusted(peer: u32, own: u32) -> bool {
    peer == 0 || peer == own
}

/// Most connections at a time; more wait for a place.
pub const CONNECTIONS_MAX: usize = 256;
/// How long a client may take to say what it wants.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest head in bytes, and what is read of a connection at a time.
pub const HEAD_LEN_MAX: usize = 16 * 1024;
/// How long a connection may last in all.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// The same where anybody of this machine may connect: a scrape takes milliseconds.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the engine may take; the client waits a little longer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(25);
/// How long an ending server waits for replies to be delivered.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Interfaces that may end at the same time: most of what each takes is waiting.
const BESIDE_MAX: usize = 16;
const JSON: &str = "application/json";

#[cfg(test)]
mod tests;
