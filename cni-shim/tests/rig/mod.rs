//! A node with a switch, pods' namespaces, and the plugin called in the node; all of it goes with its owner.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use control::Client;
use host::{Namespace, TemporaryNamespace};
use tempfile::TempDir;

/// A node; its switch ends with it.
pub(crate) struct Node {
    namespace: TemporaryNamespace,
    folder: TempDir,
    switch: Option<Child>,
}

/// A pod's namespace.
pub(crate) struct Pod(TemporaryNamespace);

impl Node {
    /// A node whose switch does not run.
    pub(crate) fn stopped() -> Node {
        let node = Node {
            namespace: namespace("cni-node"),
            folder: TempDir::with_prefix("podswitch-cni-").unwrap(),
            switch: None,
        };
        node.configure("");
        node
    }

    /// A node with a running switch, configured by these lines beside the usual ones.
    pub(crate) fn with(lines: &str) -> Node {
        let mut node = Node::stopped();
        node.configure(lines);
        node.start();
        node
    }

    fn configure(&self, lines: &str) {
        let ranges =
            if lines.contains("pod_ranges") { "" } else { "pod_ranges = [\"10.244.0.0/24\", \"fd00:244::/64\"]" };
        let state = self.folder.path().join("state");
        let text = format!("{ranges}\nstate_dir = \"{}\"\n{lines}\n", state.display());
        fs::write(self.folder.path().join("node.toml"), text).unwrap();
    }

    /// Starts the switch and waits until it answers.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(podswitch());
        command.arg("run").arg("--config").arg(self.folder.path().join("node.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.switch = Some(self.namespace.run(|| command.spawn()).unwrap().unwrap());
        until("an answer of the switch", || self.client().status().ok());
    }

    /// Ends the switch without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(mut switch) = self.switch.take() {
            switch.kill().unwrap();
            switch.wait().unwrap();
        }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.switch.as_ref().unwrap().id() as i32
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.socket())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("state/control.sock")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The plugin with an empty environment.
    pub(crate) fn plugin(&self) -> Command {
        let mut command = Command::new(PLUGIN);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    /// Runs it in the node with that input.
    pub(crate) fn call(&self, command: &mut Command, input: &[u8]) -> Output {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.namespace.run(|| command.spawn()).unwrap().unwrap();
        // A plugin that refuses its environment does not read its input.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("{}", fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
        }
    }
}

impl Pod {
    pub(crate) fn new() -> Pod {
        Pod(namespace("cni-pod"))
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.0
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }
}

/// Runs a program inside a namespace, bounded in time.
pub(crate) fn run_in(namespace: &Namespace, words: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "30"]).args(words).stdin(Stdio::null());
    namespace.run(|| command.output()).unwrap().unwrap()
}

/// Waits, within bounds, until `look` finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn namespace(prefix: &str) -> TemporaryNamespace {
    TemporaryNamespace::new(prefix).unwrap_or_else(|error| panic!("this test needs root: {error}"))
}

/// The switch's program, which lies beside the plugin's.
pub(crate) fn podswitch() -> PathBuf {
    let path = Path::new(PLUGIN).with_file_name("podswitch");
    assert!(path.is_file(), "{} is missing: `cargo build -p podswitch` makes it", path.display());
    path
}

/// The plugin.
pub(crate) const PLUGIN: &str = env!("CARGO_BIN_EXE_podswitch-cni");
