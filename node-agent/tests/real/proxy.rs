//! A way to etcd that may be slow, stand still, or be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Carries connections of an address to a port there; it takes none any more when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    way: Arc<Mutex<Way>>,
}

struct Way {
    delay: Duration,
    lines: Vec<TcpStream>,
    closed: bool,
}

impl Proxy {
    /// In the namespace that it is made in.
    pub(crate) fn to(address: &str, port: u16) -> Proxy {
        let listener = TcpListener::bind((address, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let to = (address.to_owned(), port);
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            way: Arc::new(Mutex::new(Way { delay: Duration::ZERO, lines: Vec::new(), closed: false })),
        };
        let way = proxy.way.clone();
        thread::spawn(move || {
            while !way.lock().unwrap().closed {
                let Ok((near, _)) = listener.accept() else {
                    thread::sleep(LOOK_EVERY);
                    continue;
                };
                let mut guard = way.lock().unwrap();
                let Ok(far) = TcpStream::connect((to.0.as_str(), to.1)) else { continue };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (from, to, way) = (from.try_clone().unwrap(), to.try_clone().unwrap(), way.clone());
                    thread::spawn(move || carry(from, to, &way));
                }
                guard.lines.extend([near, far]);
            }
        });
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on what comes is passed on so much later.
    pub(crate) fn delay(&self, delay: Duration) {
        self.way.lock().unwrap().delay = delay;
    }

    /// Breaks the connections there are.
    pub(crate) fn cut(&self) {
        for line in self.way.lock().unwrap().lines.drain(..) {
            let _ = line.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.way.lock().unwrap().closed = true;
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, way: &Mutex<Way>) {
    let mut bytes = [0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let came = Instant::now();
        // The delay may be shortened while this waits.
        while came.elapsed() < way.lock().unwrap().delay {
            thread::sleep(LOOK_EVERY);
        }
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

const LOOK_EVERY: Duration = Duration::from_millis(5);
