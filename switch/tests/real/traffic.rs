//! Sockets inside namespaces, and streams whose receiver notices every wrong byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use host::Namespace;

use crate::rig::{PATIENCE, Pod, until};

/// A datagram socket inside a namespace; a receive ends after [`PATIENCE`].
#[track_caller]
pub(crate) fn udp(namespace: &Namespace, address: IpAddr, port: u16) -> UdpSocket {
    let socket = namespace.run(|| UdpSocket::bind((address, port))).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next datagram and who sent it.
#[track_caller]
pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut bytes).expect("a datagram should have come");
    bytes.truncate(length);
    (bytes, from)
}

/// Datagrams that wait to be received.
pub(crate) fn waiting(socket: &UdpSocket) -> usize {
    socket.set_nonblocking(true).unwrap();
    let count = std::iter::from_fn(|| socket.recv_from(&mut [0; 1]).ok()).count();
    socket.set_nonblocking(false).unwrap();
    count
}

pub(crate) fn listen(namespace: &Namespace, address: IpAddr, port: u16) -> TcpListener {
    namespace.run(|| TcpListener::bind((address, port))).unwrap().unwrap()
}

/// A connection from a namespace to `to`, which `listener` gets: the caller's end, then the listener's.
#[track_caller]
pub(crate) fn connect(from: &Namespace, to: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    listener.set_nonblocking(true).unwrap();
    let caller = from.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
    let caller = caller.unwrap_or_else(|error| panic!("connecting to {to}: {error}"));
    let callee = until("a connection", || match listener.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        accepted => Some(accepted.unwrap().0),
    });
    callee.set_nonblocking(false).unwrap();
    for stream in [&caller, &callee] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
    }
    (caller, callee)
}

/// A connection between two pods, to `address` of the second.
#[track_caller]
pub(crate) fn connection(from: &Pod, to: &Pod, address: IpAddr) -> (TcpStream, TcpStream) {
    let listener = listen(to, address, 7000);
    connect(from, (address, 7000).into(), &listener)
}

/// Sends `length` bytes, and a bit, one way, and does `meanwhile`; fails unless they are heard, and nothing else.
pub(crate) fn transfer((one, other): &(TcpStream, TcpStream), length: usize, meanwhile: impl FnOnce()) {
    thread::scope(|scope| {
        scope.spawn(|| send(one, 1, length));
        scope.spawn(|| expect(other, 1, length));
        meanwhile();
    });
}

/// Sends `length` bytes, and a bit, both ways at once; fails unless both ends hear what the other said, and its end.
#[track_caller]
pub(crate) fn exchange((one, other): &(TcpStream, TcpStream), length: usize) {
    let ends = [(one, 1), (other, 2)];
    thread::scope(|scope| {
        for (stream, seed) in ends {
            scope.spawn(move || send(stream, seed, length));
            scope.spawn(move || expect(stream, 3 - seed, length));
        }
    });
}

/// Sends a stream one way, and its end.
fn send(mut stream: &TcpStream, seed: u64, length: usize) {
    let mut blocks = Blocks::new(seed);
    for _ in 0..=length / BLOCK {
        stream.write_all(blocks.next()).expect("the stream should be taken");
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Hears what [`send`] said, to its end.
fn expect(mut stream: &TcpStream, seed: u64, length: usize) {
    let mut blocks = Blocks::new(seed);
    let mut heard = vec![0; BLOCK];
    for number in 0..=length / BLOCK {
        stream.read_exact(&mut heard).unwrap_or_else(|error| panic!("block {number} of the stream: {error}"));
        assert!(heard == blocks.next(), "block {number} of the stream is not what was sent");
    }
    assert_eq!(stream.read(&mut heard).unwrap(), 0, "more came than was sent");
}

/// A stream in which no loss, shift, swap or doubling goes unnoticed: pseudo-random blocks of a length that is no
/// multiple of anything, each with its number.
struct Blocks {
    block: Vec<u8>,
    number: u64,
}

impl Blocks {
    fn new(seed: u64) -> Blocks {
        let mut state = seed;
        let mut byte = || {
            // A linear congruential generator; its upper bits are the good ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        Blocks { block: (0..BLOCK).map(|_| byte()).collect(), number: 0 }
    }

    fn next(&mut self) -> &[u8] {
        self.number += 1;
        self.block[..8].copy_from_slice(&self.number.to_be_bytes());
        &self.block
    }
}

/// Ends the threads of a test also by its panic.
pub(crate) struct EndOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A prime.
const BLOCK: usize = 65_521;
/// One mebibyte.
pub(crate) const MIB: usize = 1 << 20;
