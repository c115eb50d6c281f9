//! The real client against the real server, an engine of a few lines behind it; and clients that misbehave.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use control::{Client, Done, Origin, Route};
use crossbeam::channel::{Receiver, bounded};

use super::*;

struct Rig {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    address: SocketAddr,
    server: ServerThread,
    woken: Arc<AtomicUsize>,
}

/// A server whose calls go into a channel of `room`.
fn rig(room: usize) -> (Rig, Receiver<Call>) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("control.sock");
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let (sender, calls) = bounded(room);
    let wake = move || {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let metrics = bind_metrics("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = metrics.local_addr().unwrap();
    let listeners = Listeners { control: bind(&socket).unwrap(), metrics: Some(metrics) };
    let server = serve(listeners, sender, wake).unwrap();
    (Rig { _dir: dir, socket, address, server, woken }, calls)
}

/// Answers `count` calls: what is deleted was never there, all else is done.
fn engine(calls: Receiver<Call>, count: usize) -> thread::JoinHandle<Vec<Request>> {
    let serve = |call: Call| {
        let (request, reply) = client_request(call);
        let said = match request {
            Request::DeleteRoute(_) => Err(Refusal::new(Code::NotFound, "there is no route").hint("look first")),
            _ => Ok(Reply::Done(Done {})),
        };
        reply.send(answer(said)).unwrap();
        request
    };
    thread::spawn(move || calls.iter().take(count).map(serve).collect())
}

/// An answer with nothing beside the reply.
fn answer(reply: Result<Reply, Refusal>) -> Answer {
    Answer { reply, places: Vec::new(), leaving: None }
}

fn client_request(call: Call) -> (Request, oneshot::Sender<Answer>) {
    let Call::Request(request, _, reply) = call else { panic!("no client's request: {call:?}") };
    (request, reply)
}

fn route() -> Route {
    Route { prefix: "10.0.0.0/8".parse().unwrap(), target: "host".parse().unwrap(), origin: Origin::Cli }
}

/// Everything the server says to `bytes` before it closes.
fn raw(socket: &Path, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    // The server may answer and close before all is written.
    let _ = stream.write_all(bytes);
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn a_call_reaches_the_engine_and_its_answer_the_client() {
    let (rig, calls) = rig(8);
    let engine = engine(calls, 3);
    let client = Client::new(&rig.socket);
    client.add_route(route()).unwrap();
    let refused = client
        .delete_route(control::DeleteRoute { prefix: route().prefix, origin: Origin::Cli, force: false })
        .unwrap_err();
    assert_eq!((refused.to_string().as_str(), refused.hint()), ("there is no route", Some("look first")));
    client.stop().unwrap();
    let requests = engine.join().unwrap();
    assert_eq!((&requests[0], &requests[2]), (&Request::AddRoute(route()), &Request::Stop));
    assert_eq!(rig.woken.load(Ordering::Relaxed), 3);
}

#[test]
fn a_busy_engine_is_said_to_be_busy() {
    let (rig, calls) = rig(1);
    let client = Client::new(&rig.socket);
    let first = thread::spawn({
        let client = client.clone();
        move || client.status()
    });
    let since = Instant::now();
    while calls.is_empty() {
        assert!(since.elapsed() < CONNECTION_TIMEOUT, "the first call is not in the channel");
        thread::yield_now();
    }
    assert_eq!(client.status().unwrap_err().to_string(), "the switch has too much to do");
    drop(calls.recv().unwrap());
    drop(calls);
    assert_eq!(client.status().unwrap_err().to_string(), "the switch is stopping");
    assert_eq!(first.join().unwrap().unwrap_err().to_string(), "the switch is stopping");
}

#[test]
fn a_call_dropped_unanswered_is_refused() {
    let (rig, calls) = rig(1);
    let engine = thread::spawn(move || drop(calls.recv().unwrap()));
    assert_eq!(Client::new(&rig.socket).status().unwrap_err().to_string(), "the switch is stopping");
    engine.join().unwrap();
}

#[test]
fn what_is_no_request_never_reaches_the_engine() {
    let (rig, calls) = rig(8);
    let said = raw(&rig.socket, b"GET /v1/nothing HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    assert!(said.contains("\"code\":\"not-found\"") && said.contains("/v1/endpoints"), "{said}");
    let said = raw(&rig.socket, b"POST /v1/routes HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}");
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("prefix"), "{said}");
    let said = raw(&rig.socket, b"\x16\x03\x01\x02\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    assert!(calls.is_empty());
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let (rig, calls) = rig(8);
    let head = format!("POST /v1/routes HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", BODY_LEN_MAX + 1);
    let said = raw(&rig.socket, &[head.into_bytes(), vec![b' '; BODY_LEN_MAX + 1]].concat());
    assert!(said.starts_with("HTTP/1.1 413 ") && said.contains("\"code\":\"too-large\""), "{said}");
    assert!(calls.is_empty());
}

#[test]
fn the_interface_describes_itself() {
    let (rig, calls) = rig(8);
    let said = raw(&rig.socket, format!("GET {} HTTP/1.1\r\nhost: x\r\n\r\n", wire::OPENAPI).as_bytes());
    assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with(wire::DESCRIPTION), "{said}");
    let said = raw(&rig.socket, format!("POST {} HTTP/1.1\r\nhost: x\r\n\r\n", wire::OPENAPI).as_bytes());
    assert!(said.starts_with("HTTP/1.1 404 ") && said.contains("\"code\":\"not-found\""), "{said}");
    assert!(calls.is_empty());
}

/// Bytes that a socket's buffers take whoever reads there, with room to spare.
const BUFFERED_MAX: usize = 4 << 20;

#[test]
fn a_gibibyte_is_cut_off_early_wherever_it_is_put() {
    let (rig, calls) = rig(8);
    let post = "POST /v1/routes HTTP/1.1\r\nhost: x\r\n";
    for (head, chunk) in [
        (format!("{post}content-length: {}\r\n\r\n", 1 << 30), vec![b' '; 1 << 16]),
        (format!("{post}transfer-encoding: chunked\r\n\r\n"), [b"10000\r\n", &[b' '; 1 << 16][..], b"\r\n"].concat()),
        (format!("{post}x: "), vec![b'x'; 1 << 16]),
        (String::new(), vec![0; 1 << 16]),
    ] {
        let mut stream = UnixStream::connect(&rig.socket).unwrap();
        stream.set_write_timeout(Some(HEAD_TIMEOUT)).unwrap();
        let mut written = 0;
        let refused = std::iter::once(head.as_bytes()).chain(std::iter::repeat(chunk.as_slice())).find_map(|part| {
            written += part.len();
            assert!(written < BUFFERED_MAX, "{written} bytes were taken after {head:?}");
            stream.write_all(part).err()
        });
        assert_eq!(refused.unwrap().kind(), io::ErrorKind::BrokenPipe, "{head:?}");
    }
    assert!(calls.is_empty());
}

#[test]
fn half_a_request_is_none() {
    let (rig, calls) = rig(8);
    for half in
        ["", "GET", "GET /v1/status HTTP/1.1\r\nhost", "POST /v1/routes HTTP/1.1\r\ncontent-length: 9\r\n\r\n{\"pre"]
    {
        let mut stream = UnixStream::connect(&rig.socket).unwrap();
        stream.write_all(half.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400 "), "{half}: {said}");
    }
    assert!(calls.is_empty());
}

/// Clients that owe the end of a body: they stay for `CONNECTION_TIMEOUT` if nobody needs their place, twice as long as
/// other clients wait here. Who is answered waited for none of these to go by itself.
fn silent(rig: &Rig, count: usize) -> Vec<UnixStream> {
    let connect = |_| {
        let mut stream = UnixStream::connect(&rig.socket).unwrap();
        stream.write_all(b"POST /v1/routes HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{").unwrap();
        stream
    };
    (0..count).map(connect).collect()
}

#[test]
fn a_client_without_a_head_does_not_stay() {
    let (rig, _calls) = rig(8);
    for beginning in ["", "G"] {
        let mut stream = UnixStream::connect(&rig.socket).unwrap();
        stream.write_all(beginning.as_bytes()).unwrap();
        stream.set_read_timeout(Some(CONNECTION_TIMEOUT / 2)).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
}

#[test]
fn silent_clients_make_room_for_those_that_speak_and_stay_where_there_is_room() {
    let (rig, calls) = rig(8);
    let engine = engine(calls, 2);
    let mut few = silent(&rig, CONNECTIONS_MAX / 2);
    let client = Client::new(&rig.socket).timeout(CONNECTION_TIMEOUT / 2);
    client.stop().unwrap();
    few[0].set_nonblocking(true).unwrap();
    assert_eq!(few[0].read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let many = silent(&rig, CONNECTIONS_MAX * 2);
    client.stop().unwrap();
    engine.join().unwrap();
    drop(many);
}

#[test]
fn a_client_that_waits_for_the_engine_keeps_its_place() {
    let (rig, calls) = rig(8);
    let socket = rig.socket.clone();
    let waiting = thread::spawn(move || Client::new(socket).stop());
    let call = calls.recv().unwrap();
    let crowd = silent(&rig, CONNECTIONS_MAX + 1);
    let socket = rig.socket.clone();
    let other = thread::spawn(move || Client::new(socket).timeout(CONNECTION_TIMEOUT / 2).stop());
    // It came after the crowd, so somebody has made room by now.
    client_request(calls.recv().unwrap()).1.send(answer(Ok(Reply::Done(Done {})))).unwrap();
    other.join().unwrap().unwrap();
    client_request(call).1.send(answer(Ok(Reply::Done(Done {})))).unwrap();
    waiting.join().unwrap().unwrap();
    drop(crowd);
}

#[test]
fn a_crowd_of_silent_scrapers_makes_way_too() {
    let (rig, _calls) = rig(8);
    // Who is answered sooner than the first silent one had to go anyway waited for none. A machine with much else to do
    // may be slower than that now and then, a server that makes nobody leave always is.
    let is_answered_sooner = || {
        let since = Instant::now();
        let silent: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(rig.address).unwrap()).collect();
        assert!(over_tcp(rig.address, "GET /").starts_with("HTTP/1.1 404 "));
        drop(silent);
        since.elapsed() < HEAD_TIMEOUT
    };
    assert!((0..5).any(|_| is_answered_sooner()));
}

#[test]
fn a_reply_outlives_the_order_to_stop() {
    let (rig, calls) = rig(8);
    let socket = rig.socket.clone();
    let client = thread::spawn(move || Client::new(socket).stop());
    let call = calls.recv().unwrap();
    client_request(call).1.send(answer(Ok(Reply::Done(Done {})))).unwrap();
    let socket = rig.socket.clone();
    rig.server.stop();
    client.join().unwrap().unwrap();
    assert!(!socket.exists());
    assert!(matches!(Client::new(&socket).status(), Err(control::Error::Absent { .. })));
}

#[test]
fn a_stale_socket_is_replaced_and_one_in_use_is_not() {
    let (rig, _calls) = rig(8);
    assert_eq!(fs::metadata(&rig.socket).unwrap().mode() & 0o777, 0o600);
    assert!(matches!(bind(&rig.socket), Err(Error::InUse { .. })));
    let stale = rig.socket.with_extension("stale");
    drop(UnixListener::bind(&stale).unwrap());
    bind(&stale).unwrap();
    let file = rig.socket.with_extension("file");
    fs::write(&file, "precious").unwrap();
    assert!(matches!(bind(&file), Err(Error::NoSocket { .. })));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

/// Answers calls for health with `health` until nobody asks any more.
fn well(calls: Receiver<Call>, health: Health) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for call in calls {
            if let Call::Health(reply) = call {
                reply.send(health).unwrap();
            }
        }
    })
}

/// Everything that is said to `head` over TCP.
fn over_tcp(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{head} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    said
}

#[test]
fn health_and_readiness_are_told_apart_and_why() {
    for (health, alive, ready, why) in [
        (Health { stalled: None, forwarding: true }, 200, 200, "ready"),
        (Health { stalled: None, forwarding: false }, 200, 503, "stopping"),
        (Health { stalled: Some(Duration::from_secs(7)), forwarding: false }, 503, 503, "for 7 seconds"),
    ] {
        let (rig, calls) = rig(8);
        let engine = well(calls, health);
        let [healthz, readyz] = ["GET /healthz", "GET /readyz"].map(|head| over_tcp(rig.address, head));
        assert!(healthz.starts_with(&format!("HTTP/1.1 {alive} ")), "{healthz}");
        assert!(readyz.starts_with(&format!("HTTP/1.1 {ready} ")) && readyz.contains(why), "{readyz}");
        let over_socket = raw(&rig.socket, b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(over_socket.starts_with(&format!("HTTP/1.1 {ready} ")), "{over_socket}");
        rig.server.stop();
        engine.join().unwrap();
    }
}

#[test]
fn an_engine_that_is_gone_is_unhealthy() {
    let (rig, calls) = rig(8);
    drop(calls);
    let said = over_tcp(rig.address, "GET /healthz");
    assert!(said.starts_with("HTTP/1.1 503 ") && said.ends_with("the switch is stopping\n"), "{said}");
}

#[test]
fn over_tcp_nothing_but_monitoring_is_served() {
    let (rig, calls) = rig(8);
    for head in ["GET /v1/status", "POST /v1/stop", "DELETE /v1/endpoints/a?origin=cli", "GET /"] {
        let said = over_tcp(rig.address, head);
        assert!(said.starts_with("HTTP/1.1 404 ") && said.contains("/metrics"), "{head}: {said}");
    }
    for head in ["POST /metrics", "DELETE /healthz", "PUT /readyz"] {
        let said = over_tcp(rig.address, head).to_lowercase();
        assert!(said.starts_with("http/1.1 405 ") && said.contains("allow: get,head"), "{head}: {said}");
    }
    assert!(calls.is_empty());
}

#[test]
fn an_address_in_use_is_refused_by_name() {
    let (rig, _calls) = rig(8);
    let error = bind_metrics(rig.address).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot serve metrics at {}", rig.address));
    assert!(error.hint().unwrap().contains("--metrics-address"));
}

#[test]
fn root_and_the_switchs_own_user_are_trusted() {
    let cases = [(0, 0), (0, 1000), (1000, 1000), (1000, 0), (1000, 1001)];
    assert_eq!(cases.map(|(peer, own)| trusted(peer, own)), [true, true, true, false, false]);
}
