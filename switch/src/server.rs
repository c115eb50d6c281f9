//! The control server: HTTP on a Unix socket that root alone may open, on one thread away from the workers.
//!
//! The server decides nothing. It turns bytes into a [`Call`], hands it to the engine, and turns the reply back into
//! bytes. Limits, so that no client can hold the switch up: [`CONNECTIONS_MAX`] connections, one call each, a head
//! within [`HEAD_TIMEOUT`] and [`HEAD_LEN_MAX`], a body within [`BODY_LEN_MAX`], all of it within [`CONNECTION_TIMEOUT`];
//! when all connections are taken, who has been silent longest makes room (`places.rs`). Calls queue in the bounded channel
//! the engine gives, and what finds it full is told to come again.

mod places;

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use control::wire::{self, BODY_LEN_MAX};
use control::{Code, Refusal, Reply, Request};
use crossbeam::channel::{Sender, TrySendError};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use self::places::{Places, Said};

/// A request and where its reply goes; a call whose reply is dropped is answered as refused.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes.
    pub reply: oneshot::Sender<Result<Reply, Refusal>>,
}

/// The running server; it ends with this.
#[derive(Debug)]
pub struct ServerThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
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
    #[error("cannot start the control server")]
    Start { source: io::Error },
}

impl Error {
    /// What the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::InUse { .. } => Some("end it with `podswitch stop`, or give this one its own --socket".to_owned()),
            Error::NoSocket { .. } => Some("move it away, or give another --socket".to_owned()),
            Error::Io { .. } | Error::Start { .. } => None,
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

/// Serves `listener` on a thread of its own: each request goes into `calls`, then `wake` is called.
pub fn serve(
    listener: UnixListener,
    calls: Sender<Call>,
    wake: impl Fn() + Send + Sync + 'static,
) -> Result<ServerThread, Error> {
    let start = |source| Error::Start { source };
    let address = listener.local_addr().map_err(start)?;
    let socket = address.as_pathname().map(Path::to_owned).unwrap_or_default();
    listener.set_nonblocking(true).map_err(start)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(start)?;
    let listener = {
        let _context = runtime.enter();
        tokio::net::UnixListener::from_std(listener).map_err(start)?
    };
    let (stop, stopped) = oneshot::channel();
    let engine = Engine { calls, wake: Arc::new(wake) };
    let serving = move || run(&runtime, listener, engine, stopped);
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

impl Engine {
    async fn call(&self, request: Request) -> Result<Reply, Refusal> {
        let (reply, replied) = oneshot::channel();
        let unavailable = |message: &str| Refusal::new(Code::Unavailable, message);
        self.calls.try_send(Call { request, reply }).map_err(|error| match error {
            TrySendError::Full(_) => unavailable("the switch has too much to do").hint("try again later"),
            TrySendError::Disconnected(_) => unavailable("the switch is stopping"),
        })?;
        (self.wake)();
        match timeout(REPLY_TIMEOUT, replied).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(unavailable("the switch is stopping")),
            Err(_) => Err(unavailable("the switch takes too long; it may still do what was asked")
                .hint("look with `podswitch show` before asking again")),
        }
    }
}

fn run(runtime: &Runtime, listener: tokio::net::UnixListener, engine: Engine, stopped: oneshot::Receiver<()>) {
    let mut places = Places::new(CONNECTIONS_MAX);
    let all = places.all();
    let accepting = runtime.spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Out of descriptors, most likely: they come back.
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let peer = stream.peer_cred();
            let trusted = peer.is_ok_and(|peer| trusted(peer.uid(), geteuid().as_raw()));
            let engine = engine.clone();
            places.admit(|said| converse(stream, if trusted { open(engine, said) } else { closed() })).await;
        }
    });
    runtime.block_on(async {
        // It ends by being dropped.
        let _ = stopped.await;
        accepting.abort();
        // Every place free: every reply is delivered.
        let _ = timeout(FAREWELL_TIMEOUT, all.free()).await;
    });
}

/// What a connection is served with: everything, for those who may ask.
fn open(engine: Engine, said: Said) -> Router {
    Router::new()
        .route(wire::OPENAPI, get(describe).fallback(answer))
        .fallback(answer)
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(Visit { engine, said })
}

/// And a refusal for all others.
fn closed() -> Router {
    Router::new().fallback(turn_away)
}

async fn converse(stream: tokio::net::UnixStream, router: Router) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_LEN_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // How a connection ends concerns its client alone.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

/// One connection's way to the engine.
#[derive(Clone)]
struct Visit {
    engine: Engine,
    said: Said,
}

async fn answer(
    State(visit): State<Visit>,
    method: Method,
    target: Uri,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    visit.said.all();
    let target = target.path_and_query().map_or("/", |target| target.as_str());
    let request = body.map_err(unread).and_then(|body| wire::decode(method.as_str(), target, &body));
    respond(match request {
        Ok(request) => visit.engine.call(request).await,
        Err(refusal) => Err(refusal),
    })
}

async fn describe() -> Response {
    (StatusCode::OK, [(header::CONTENT_TYPE, JSON)], wire::DESCRIPTION).into_response()
}

async fn turn_away() -> Response {
    respond(Err(Refusal::new(Code::Forbidden, "the switch answers to root alone").hint("run this as root")))
}

fn unread(rejection: BytesRejection) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Refusal::new(Code::TooLarge, format!("the body is longer than {BODY_LEN_MAX} bytes"))
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
/// How long the engine may take; the client waits a little longer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(25);
/// How long an ending server waits for replies to be delivered.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const JSON: &str = "application/json";

#[cfg(test)]
mod tests;
