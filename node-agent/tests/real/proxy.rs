//! A way to etcd that may be slow, stand still, or be cut.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Carries connections of loopback to a port there; it takes none any more when it is dropped.
pub(crate) struct Proxy {
    port: u16,
    way: Arc<Mutex<Way>>,
}

struct Way {
    delay: Duration,
    lines: Vec<TcpStream>,
    closed: bool,
}

impl Proxy {
    pub(crate) fn to(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            port: listener.local_addr().unwrap().port(),
            way: Arc::new(Mutex::new(Way { delay: Duration::ZERO, lines: Vec::new(), closed: false })),
        };
        let way = proxy.way.clone();
        thread::spawn(move || {
            for near in listener.incoming() {
                let mut guard = way.lock().unwrap();
                if guard.closed {
                    return;
                }
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(("127.0.0.1", port))) else { continue };
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
        format!("http://127.0.0.1:{}", self.port)
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
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, way: &Mutex<Way>) {
    let mut bytes = [0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let came = Instant::now();
        // The delay may be shortened while this waits.
        while came.elapsed() < way.lock().unwrap().delay {
            thread::sleep(Duration::from_millis(5));
        }
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}
