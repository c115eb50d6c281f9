//! Word of the kernel that some route changed, without saying which: who wants to know lists them again.
//!
//! Source: rtnetlink(7), `RTMGRP_IPV4_ROUTE` and `RTMGRP_IPV6_ROUTE`.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::Error;

/// A subscription of the namespace in which it was opened.
#[derive(Debug)]
pub struct RouteWatch {
    socket: Socket,
    buffer: Vec<u8>,
}

impl RouteWatch {
    /// Subscribes, in the calling thread's namespace.
    ///
    /// # Errors
    /// [`Error::Call`]
    pub fn open() -> Result<Self, Error> {
        let subscribe = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, GROUPS))?;
            Ok(socket)
        };
        let socket = subscribe().map_err(failed)?;
        Ok(RouteWatch { socket, buffer: Vec::with_capacity(NOTICE_BYTES) })
    }

    /// Waits until some route changes, and takes all notices there are then: a listing made afterwards holds what they
    /// speak of.
    ///
    /// # Errors
    /// [`Error::Call`]
    pub fn wait(&mut self) -> Result<(), Error> {
        let mut flags = 0;
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, flags).map_err(|error| (error.raw_os_error(), error)) {
                // More changed than there was room to tell of.
                Ok(_) | Err((Some(libc::ENOBUFS), _)) => flags = libc::MSG_DONTWAIT,
                Err((Some(libc::EINTR), _)) => {}
                Err((Some(libc::EAGAIN), _)) => return Ok(()),
                Err((_, error)) => return Err(failed(error)),
            }
        }
    }
}

fn failed(source: io::Error) -> Error {
    Error::call("recv", "changes of routes", source)
}

const GROUPS: u32 = (libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE) as u32;
/// A notice that does not fit is cut, and nobody reads it.
const NOTICE_BYTES: usize = 4096;
