//! What a client hands over beside its bytes: one open descriptor (unix(7), `SCM_RIGHTS`).
//!
//! A namespace is known to a container runtime by a path that may mean nothing to the switch, and may be gone a moment
//! later. So a client may send the descriptor of the namespace with the first byte of its request. A connection keeps the
//! first one until the request is read; what else comes is closed at once.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::serve::Listener;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

/// Listens for connections that may carry a descriptor.
pub(super) struct Door(pub(super) UnixListener);

/// A connection that may carry a descriptor.
pub(super) struct Line {
    stream: UnixStream,
    beside: Beside,
}

/// The place of the descriptor of one connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Beside(Arc<Mutex<Option<OwnedFd>>>);

impl Beside {
    /// The descriptor that came, if one did; once.
    pub(super) fn take(&self) -> Option<OwnedFd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, descriptor: OwnedFd) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(descriptor);
    }
}

impl Line {
    /// The connection itself.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Where its descriptor will be.
    pub(super) fn beside(&self) -> Beside {
        self.beside.clone()
    }
}

impl Listener for Door {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (Line { stream, beside: Beside::default() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream.poll_read_ready(cx))?;
            let into = buffer.initialize_unfilled();
            match self.stream.try_io(Interest::READABLE, || receive(&self.stream, into, &self.beside)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(length) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Bytes of the stream, and the descriptor beside them.
fn receive(stream: &UnixStream, into: &mut [u8], beside: &Beside) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(stream, &mut [IoSliceMut::new(into)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptors.for_each(|descriptor| beside.keep(descriptor));
        }
    }
    Ok(received.bytes)
}
