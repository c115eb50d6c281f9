//! A machine of its own for a container runtime: mount, network and process namespaces that end together.
//!
//! ```text
//!   machine, 192.0.2.1 ---- outside, 192.0.2.2      another machine of its network
//!   FOLDER/bin              our plugin, and those of containernetworking-plugins by links
//!   FOLDER/net.d            the configuration `podswitch-cni install` wrote
//!   /run, /var/lib/cni      empty, in memory; all else is the real machine's
//! ```
//!
//! Process 1 reads its standard input and ends with it, and the kernel ends all others with process 1. What is not in a
//! namespace are control groups: those below the machine's own name are removed at the end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use control::{Client, EndpointView};
use tempfile::TempDir;

use crate::rig::{PLUGIN, podswitch, until};

pub(crate) struct Machine {
    first: Child,
    /// The first process inside, as the machine around it counts.
    inside: u32,
    switch: u32,
    folder: TempDir,
}

impl Machine {
    /// A machine with a running switch and its plugin installed.
    pub(crate) fn new() -> Machine {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", SETUP]);
        let mut first = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(first.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "a machine of its own needs root");
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", first.id())).unwrap();
        let inside = children.trim().parse().unwrap();
        let folder = TempDir::with_prefix("podswitch-runtime-").unwrap();
        let mut machine = Machine { first, inside, switch: 0, folder };
        machine.install();
        machine.start_switch();
        machine
    }

    fn install(&self) {
        let bin = self.path("bin");
        fs::create_dir(&bin).unwrap();
        for entry in fs::read_dir(PEERS).unwrap_or_else(|error| panic!("{PEERS}: {error}; `make deps` fills it")) {
            let path = entry.unwrap().path();
            std::os::unix::fs::symlink(&path, bin.join(path.file_name().unwrap())).unwrap();
        }
        let folders = format!("--bin-dir={} --conf-dir={}", bin.display(), self.path("net.d").display());
        let socket = self.path("state/control.sock");
        self.must(&format!("{PLUGIN} install {folders} --socket={}", socket.display()));
    }

    pub(crate) fn start_switch(&mut self) {
        let ranges = "--pod-range 10.244.0.0/24 --pod-range fd00:244::/64 --masquerade";
        let state = self.path("state");
        self.switch = self.spawn(&format!("{} run {ranges} --state-dir {}", podswitch().display(), state.display()));
        until("an answer of the switch", || self.client().status().ok());
    }

    /// Ends the switch without a word.
    pub(crate) fn kill_switch(&self) {
        self.kill(self.switch);
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.path("state/control.sock"))
    }

    pub(crate) fn endpoints(&self) -> Vec<EndpointView> {
        self.client().endpoints().unwrap()
    }

    /// A place in the machine's folder.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    /// The name of control groups that go with the machine.
    pub(crate) fn control_group(&self) -> String {
        format!("/{}", self.folder.path().file_name().unwrap().display())
    }

    /// What a line of the shell's language prints; it must succeed.
    #[track_caller]
    pub(crate) fn must(&self, line: &str) -> String {
        let output = self.run(line).stdin(Stdio::null()).output().unwrap();
        let [said, complained] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(output.status.success(), "`{line}`:\n{said}{complained}{}", self.log());
        said
    }

    /// Starts a program that goes on; its number inside, and what it says goes to the log.
    pub(crate) fn spawn(&self, line: &str) -> u32 {
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        let pid = self.path("pid");
        let mut command = self.run(&format!("{line} & echo $! >{}", pid.display()));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        assert!(command.status().unwrap().success());
        fs::read_to_string(pid).unwrap().trim().parse().unwrap()
    }

    /// Ends such a program without a word, and waits until it is gone.
    pub(crate) fn kill(&self, program: u32) {
        self.must(&format!("kill -9 {program}"));
        until("the end of a program", || {
            let state = self.must(&format!("grep -s ^State: /proc/{program}/status || echo gone"));
            (state.starts_with("gone") || state.contains('Z')).then_some(())
        });
    }

    fn run(&self, line: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "--pid", "--target", &self.inside.to_string()]);
        command.args(["timeout", "-k", "1", SECONDS_MAX, "sh", "-c", line]);
        command
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What a pod's network may leave on its node: links, translations, namespaces.
    pub(crate) fn traces(&self) -> [String; 3] {
        let links = self.must("ip -o link | awk '{ print $2 }'");
        // The chains portmap keeps for all are no trace of a pod.
        let rules = self.must("iptables-save; ip6tables-save");
        let rules = rules.lines().filter(|rule| rule.contains("CNI-DN-") || rule.contains("10.244.0."));
        [links, rules.collect::<Vec<_>>().join("\n"), self.must("ls /run/netns")]
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
        // unshare takes process 1 with it, and that all others.
        let _ = self.first.kill();
        let _ = self.first.wait();
        let name = self.control_group();
        let groups = || {
            let one = Path::new("/sys/fs/cgroup").join(&name[1..]);
            let each = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
            each.map(|controller| controller.path().join(&name[1..])).chain([one]).filter(|group| group.is_dir())
        };
        // The kernel empties them on its own time.
        for _ in 0..100 {
            groups().for_each(|group| remove(&group));
            if groups().next().is_none() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a control group and those in it, as far as no process is there.
fn remove(group: &Path) {
    let inner = fs::read_dir(group).into_iter().flatten().flatten().map(|entry| entry.path());
    inner.filter(|path| path.is_dir()).for_each(|path| remove(&path));
    let _ = fs::remove_dir(group);
}

/// `cat` ends when nobody holds the other end of its input.
const SETUP: &str = "\
mount -t tmpfs -o mode=755 none /run
mkdir -p /run/netns /var/lib/cni
mount -t tmpfs -o mode=755 none /var/lib/cni
ip link set lo up
ip netns add outside
ip link add net0 type veth peer name eth0 netns outside
ip address add 192.0.2.1/24 dev net0 && ip link set net0 up
ip -n outside link set lo up
ip -n outside address add 192.0.2.2/24 dev eth0 && ip -n outside link set eth0 up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
echo ready
exec cat >/dev/null";
/// Where Debian's package has the reference plugins.
const PEERS: &str = "/usr/lib/cni";
/// For each command, and for programs that go on: longer than any test.
const SECONDS_MAX: &str = "300";
