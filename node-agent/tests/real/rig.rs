//! An etcd of one's own, and what several tests do. Nothing waits without a bound.

use std::fmt::Debug;
use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use agent::store::{Etcd, EtcdSettings};
use host::Namespace;
use tempfile::TempDir;

/// A running etcd; it ends with this.
pub(crate) struct Server {
    folder: TempDir,
    address: String,
    port: u16,
    security: Security,
    /// Further arguments.
    arguments: Vec<String>,
    child: Option<Child>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Security {
    None,
    /// TLS with certificates of both sides, and users.
    Full,
}

impl Server {
    /// On loopback of the test's own namespace.
    pub(crate) fn new() -> Server {
        let mut server = Server::at("127.0.0.1", free_port(), Security::None);
        server.start(None);
        server
    }

    /// On loopback, with further arguments.
    pub(crate) fn with(arguments: &[&str]) -> Server {
        let mut server = Server::at("127.0.0.1", free_port(), Security::None);
        server.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        server.start(None);
        server
    }

    /// Three that are one etcd, on loopback.
    pub(crate) fn three() -> [Server; 3] {
        let mut members = [(); 3].map(|()| Server::at("127.0.0.1", free_port(), Security::None));
        let peers: Vec<String> =
            members.iter().map(|one| format!("m{0}=http://127.0.0.1:{1}", one.port, one.port + 1)).collect();
        for member in &mut members {
            let name = format!("m{}", member.port);
            member.arguments = ["--name", &name, "--initial-cluster", &peers.join(",")].map(str::to_owned).into();
            member.spawn(None);
        }
        members.iter().for_each(|member| member.until_healthy(None));
        members
    }

    /// Not started yet.
    pub(crate) fn at(address: &str, port: u16, security: Security) -> Server {
        let folder = TempDir::with_prefix("podswitch-etcd-").unwrap();
        Server { folder, address: address.to_owned(), port, security, arguments: Vec::new(), child: None }
    }

    /// Starts it, or starts it again with what it kept, in a namespace if one is given.
    pub(crate) fn start(&mut self, namespace: Option<&Namespace>) {
        self.spawn(namespace);
        self.until_healthy(namespace);
    }

    fn spawn(&mut self, namespace: Option<&Namespace>) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let (client, peer) = (self.url(), format!("http://{}:{}", self.address, self.port + 1));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.folder.path().join("data")).args(["--name", "test", "--unsafe-no-fsync"]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("test={peer}"), "--logger", "zap", "--log-level", "warn"]);
        command.args(["--bcrypt-cost", "4"]).args(&self.arguments);
        if self.security == Security::Full {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(self.file("ca.crt"));
            command.arg("--cert-file").arg(self.file("server.crt")).arg("--key-file").arg(self.file("server.key"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut spawn = || command.spawn().expect("etcd is missing: `make deps`");
        self.child = Some(match namespace {
            Some(namespace) => namespace.run(spawn).unwrap(),
            None => spawn(),
        });
    }

    fn until_healthy(&self, namespace: Option<&Namespace>) {
        until("etcd", || {
            let healthy = || self.command(&["endpoint", "health"]).output().unwrap().status.success();
            match namespace {
                Some(namespace) => namespace.run(healthy).unwrap(),
                None => healthy(),
            }
            .then_some(())
        });
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.security == Security::Full { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.address, self.port)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn settings(&self, prefix: &str) -> EtcdSettings {
        EtcdSettings {
            endpoints: vec![self.url()],
            prefix: prefix.to_owned(),
            ca: None,
            identity: None,
            user: None,
            lease: Duration::from_secs(60),
        }
    }

    pub(crate) fn store(&self, prefix: &str) -> Etcd {
        Etcd::new(self.settings(prefix)).unwrap()
    }

    /// What somebody else says to it.
    pub(crate) fn etcdctl(&self, arguments: &[&str]) -> String {
        self.try_etcdctl(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// The same, with what it says when it is refused.
    pub(crate) fn try_etcdctl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output().expect("etcdctl is missing: `make deps`");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8(output.stdout).unwrap().trim_end().to_owned())
    }

    /// A value that is no text.
    pub(crate) fn put_bytes(&self, key: &str, value: &[u8]) {
        let mut child = self.command(&["put", key]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(value).unwrap();
        assert!(child.wait().unwrap().success(), "{key}");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", self.url()).args(arguments);
        if self.security == Security::Full {
            command.env("ETCDCTL_CACERT", self.file("ca.crt")).env("ETCDCTL_CERT", self.file("root.crt"));
            command.env("ETCDCTL_KEY", self.file("root.key"));
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `look` finds `expected`.
#[track_caller]
pub(crate) fn until_is<T: PartialEq + Debug>(expected: &T, mut look: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = look();
        if found == *expected {
            return;
        }
        assert!(Instant::now() < deadline, "found {found:?}, not {expected:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A port that nobody has, and the one after it.
fn free_port() -> u16 {
    let taken = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_err();
    let any = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    until("two free ports", || Some(any()).filter(|port| *port < 60_000 && !taken(port + 1)))
}

/// Long, for a machine that many share.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
