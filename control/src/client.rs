//! A blocking client: one call, one connection, one deadline.
//!
//! A call runs on a small runtime of its own, so it may be made from any thread that is not inside another one. Nothing
//! is kept between calls: a switch that was restarted meanwhile is simply spoken to again.

use std::future;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime;
use tokio::time::timeout;

use crate::handover::Handover;
use crate::{
    AdjacencyView, Attach, Attached, ChangeNeighbors, ConfigView, DeleteRoute, Detach, Detached, Done, DropsView,
    EndpointView, Error, NeighborView, Pause, PortView, Purged, Request, Resume, ReturnsView, Route, RouteView,
    StartTrace, StationView, Status, TraceStarted, TraceView, WorkerView, WorldsView, wire,
};

/// Speaks to the switch behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    timeout: Duration,
}

impl Client {
    /// A client of the switch that listens at `socket`; nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Client { socket: socket.into(), timeout: CALL_TIMEOUT }
    }

    /// The same with another bound on the duration of a whole call; 30 seconds otherwise.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Where the switch listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Joins a pod; it forwards when this returns.
    pub fn attach(&self, attach: Attach) -> Result<Attached, Error> {
        self.call(&Request::Attach(attach))
    }

    /// The same for the namespace behind a descriptor, which is sent along; `attach.netns` is where it is found later.
    pub fn attach_in(&self, attach: Attach, netns: BorrowedFd<'_>) -> Result<Attached, Error> {
        self.call_with(&Request::Attach(attach), Some(netns))
    }

    /// Takes a pod off, and routes to it.
    pub fn detach(&self, detach: Detach) -> Result<Detached, Error> {
        self.call(&Request::Detach(detach))
    }

    /// Adds a route, or changes the target of one's own.
    pub fn add_route(&self, route: Route) -> Result<Done, Error> {
        self.call(&Request::AddRoute(route))
    }

    /// Deletes a route.
    pub fn delete_route(&self, delete: DeleteRoute) -> Result<Done, Error> {
        self.call(&Request::DeleteRoute(delete))
    }

    /// Adds neighbours and deletes others, all or none.
    pub fn change_neighbors(&self, change: ChangeNeighbors) -> Result<Done, Error> {
        self.call(&Request::ChangeNeighbors(change))
    }

    /// Has no pod attached until the same origin resumes; the pause outlasts the switch's process.
    pub fn pause(&self, pause: Pause) -> Result<Done, Error> {
        self.call(&Request::Pause(pause))
    }

    /// Ends the pause of an origin, if there is one.
    pub fn resume(&self, resume: Resume) -> Result<Done, Error> {
        self.call(&Request::Resume(resume))
    }

    /// All ports and their counters.
    pub fn ports(&self) -> Result<Vec<PortView>, Error> {
        self.call(&Request::Ports)
    }

    /// All routes in force.
    pub fn routes(&self) -> Result<Vec<RouteView>, Error> {
        self.call(&Request::Routes)
    }

    /// All neighbours.
    pub fn neighbors(&self) -> Result<Vec<NeighborView>, Error> {
        self.call(&Request::Neighbors)
    }

    /// The stations behind the ports.
    pub fn stations(&self) -> Result<Vec<StationView>, Error> {
        self.call(&Request::Stations)
    }

    /// Where every packet went.
    pub fn drops(&self) -> Result<DropsView, Error> {
        self.call(&Request::Drops)
    }

    /// The switch in short.
    pub fn status(&self) -> Result<Status, Error> {
        self.call(&Request::Status)
    }

    /// All workers and what they did.
    pub fn workers(&self) -> Result<Vec<WorkerView>, Error> {
        self.call(&Request::Workers)
    }

    /// All adjacencies.
    pub fn adjacencies(&self) -> Result<Vec<AdjacencyView>, Error> {
        self.call(&Request::Adjacencies)
    }

    /// Counts of worlds.
    pub fn worlds(&self) -> Result<WorldsView, Error> {
        self.call(&Request::Worlds)
    }

    /// All endpoints.
    pub fn endpoints(&self) -> Result<Vec<EndpointView>, Error> {
        self.call(&Request::Endpoints)
    }

    /// How many return entries there are.
    pub fn returns(&self) -> Result<ReturnsView, Error> {
        self.call(&Request::Returns)
    }

    /// The settings in force.
    pub fn config(&self) -> Result<ConfigView, Error> {
        self.call(&Request::Config)
    }

    /// Begins a trace. Ask it for packets every few moments: the switch ends a trace that nobody asks for.
    pub fn start_trace(&self, start: StartTrace) -> Result<TraceStarted, Error> {
        self.call(&Request::StartTrace(start))
    }

    /// What the trace has seen since it was last asked.
    pub fn poll_trace(&self, id: u64) -> Result<TraceView, Error> {
        self.call(&Request::PollTrace(id))
    }

    /// Ends the trace; the rest of what it has seen.
    pub fn stop_trace(&self, id: u64) -> Result<TraceView, Error> {
        self.call(&Request::StopTrace(id))
    }

    /// Ends the switch; pods' interfaces stay.
    pub fn stop(&self) -> Result<Done, Error> {
        self.call(&Request::Stop)
    }

    /// Removes all the switch ever made and ends it.
    pub fn purge(&self) -> Result<Purged, Error> {
        self.call(&Request::Purge)
    }

    fn call<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        self.call_with(request, None)
    }

    fn call_with<T: DeserializeOwned>(&self, request: &Request, beside: Option<BorrowedFd<'_>>) -> Result<T, Error> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(|source| self.io(source))?;
        let late = || Error::Timeout { socket: self.socket.clone(), after: self.timeout };
        let exchange = async { timeout(self.timeout, self.exchange(request, beside)).await.map_err(|_| late())? };
        let (status, body) = runtime.block_on(exchange)?;
        wire::answer(status, &body)
    }

    async fn exchange(&self, request: &Request, beside: Option<BorrowedFd<'_>>) -> Result<(u16, Bytes), Error> {
        let broken = |source| Error::Http { socket: self.socket.clone(), source };
        let line = Handover::new(self.connect().await?, beside);
        let (mut sender, connection) = http1::handshake(TokioIo::new(line)).await.map_err(broken)?;
        let wire::Message { method, target, body } = wire::encode(request);
        let message = hyper::Request::builder()
            .method(method)
            .uri(target)
            .header("host", "podswitch")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .expect("wire makes well-formed requests");
        let answer = async {
            let response = sender.send_request(message).await?;
            let status = response.status().as_u16();
            Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        // Driven beside the exchange; what matters of its end reaches the exchange as an error.
        let driven = async {
            drop(connection.await);
            future::pending().await
        };
        tokio::select! {
            answered = answer => answered.map_err(broken),
            never = driven => never,
        }
    }

    async fn connect(&self) -> Result<UnixStream, Error> {
        let late = || Error::Timeout { socket: self.socket.clone(), after: CONNECT_TIMEOUT };
        let connected = timeout(CONNECT_TIMEOUT, UnixStream::connect(&self.socket)).await.map_err(|_| late())?;
        connected.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Error::Absent { socket: self.socket.clone() },
            io::ErrorKind::PermissionDenied => Error::Permission { socket: self.socket.clone() },
            _ => self.io(source),
        })
    }

    fn io(&self, source: io::Error) -> Error {
        Error::Io { socket: self.socket.clone(), source }
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than a switch lets a call wait for its turn.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Listens at a fresh socket, gives the first connection's bytes `reply`, and returns what was said.
    fn serve_once(reply: &'static str) -> (tempfile::TempDir, PathBuf, thread::JoinHandle<String>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut said = [0; 4096];
            let length = stream.read(&mut said).unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
            if reply.is_empty() {
                let _ = stream.read(&mut [0]);
            }
            String::from_utf8_lossy(&said[..length]).into_owned()
        });
        (dir, socket, server)
    }

    #[test]
    fn no_socket_means_no_switch() {
        let error = Client::new("/nonexistent/control.sock").status().unwrap_err();
        assert_eq!(error.to_string(), "no switch is running at /nonexistent/control.sock");
        assert_eq!(error.hint(), Some("start it with `podswitch run`"));
    }

    #[test]
    fn a_socket_nobody_listens_at_means_no_switch() {
        let (_dir, socket, server) = serve_once("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
        Client::new(&socket).stop().unwrap();
        server.join().unwrap();
        assert!(matches!(Client::new(&socket).stop(), Err(Error::Absent { .. })));
    }

    #[test]
    fn a_call_says_method_and_target_and_hears_the_refusal() {
        let refusal = "HTTP/1.1 409 Conflict\r\ncontent-length: 67\r\n\r\n\
                       {\"error\":{\"code\":\"conflict\",\"message\":\"in use\",\"hint\":\"try later\"}}";
        let (_dir, socket, server) = serve_once(refusal);
        let route = DeleteRoute { prefix: "10.0.0.0/8".parse().unwrap(), origin: crate::Origin::Cli, force: false };
        let error = Client::new(socket).delete_route(route).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.hint()), ("in use", Some("try later")));
        assert!(server.join().unwrap().starts_with("DELETE /v1/routes?prefix=10.0.0.0/8&origin=cli HTTP/1.1\r\n"));
    }

    #[test]
    fn a_silent_switch_is_given_up_on() {
        let (_dir, socket, server) = serve_once("");
        let client = Client::new(socket).timeout(Duration::from_millis(100));
        assert!(matches!(client.status(), Err(Error::Timeout { .. })));
        server.join().unwrap();
    }

    #[test]
    fn an_answer_cut_short_is_an_error() {
        let (_dir, socket, server) = serve_once("HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n{");
        assert!(matches!(Client::new(socket).status(), Err(Error::Http { .. })));
        server.join().unwrap();
    }
}
