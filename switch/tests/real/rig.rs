//! A node, its switch, and pods; and the programs that are run inside them.
//!
//! The node is a namespace with every kind of forwarding off, as strict as a node can be. The switch is the binary,
//! spoken to as any client does. Nothing waits without a bound.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::ops::Deref;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use control::{Attach, Attached, Client, Detach, Detached, DropsView, InterfaceName, Mtu, Origin};
use host::{Family, Namespace, Sysctl, TemporaryNamespace, VethPair};
use packet::Prefix;
use tempfile::TempDir;

/// A node with a switch; both end with this.
pub(crate) struct Rig {
    pub(crate) node: TemporaryNamespace,
    site: u8,
    folder: TempDir,
    socket: PathBuf,
    switch: Option<Child>,
}

/// A pod's namespace, with the addresses the pod has once it is joined.
pub(crate) struct Pod {
    namespace: TemporaryNamespace,
    site: u8,
    number: u8,
}

/// What a program printed, and whether it succeeded.
pub(crate) struct Said {
    /// On its standard output.
    pub(crate) result: String,
    /// On both outputs.
    pub(crate) text: String,
    pub(crate) success: bool,
}

impl Rig {
    /// A node with a running switch.
    pub(crate) fn new() -> Rig {
        Rig::with("")
    }

    /// The same with more lines of configuration.
    pub(crate) fn with(configuration: &str) -> Rig {
        let mut rig = Rig::stopped(configuration);
        rig.start();
        rig
    }

    /// A node whose switch was never started.
    pub(crate) fn stopped(configuration: &str) -> Rig {
        Rig::stopped_at(0, configuration)
    }

    /// The same with the pod ranges of that number.
    pub(crate) fn stopped_at(site: u8, configuration: &str) -> Rig {
        let node = namespace("psw-node");
        for setting in [Sysctl::net(&["ipv4", "ip_forward"]), Sysctl::interface(Family::V6, "all", "forwarding")] {
            node.run(|| setting.unwrap().write(0)).unwrap().unwrap();
        }
        let folder = TempDir::with_prefix("podswitch-real-").unwrap();
        let state_dir = folder.path().join("state");
        let rig = Rig { node, site, socket: state_dir.join("control.sock"), folder, switch: None };
        rig.configure(configuration);
        rig
    }

    /// Has the next start read these lines of configuration beside the usual ones.
    pub(crate) fn configure(&self, configuration: &str) {
        let ranges = subnets(self.site).map(|range| format!("\"{range}\"")).join(", ");
        let state_dir = self.state_dir();
        let text = format!("pod_ranges = [{ranges}]\nstate_dir = \"{}\"\n{configuration}\n", state_dir.display());
        fs::write(self.configuration(), text).unwrap();
    }

    /// Starts the switch and waits until it answers.
    pub(crate) fn start(&mut self) {
        self.start_by(Command::new(PODSWITCH), |_, _| {});
    }

    /// The same, after `prepare` was shown the command and the log it is going to write.
    pub(crate) fn start_with(&mut self, prepare: impl FnOnce(&mut Command, &File)) {
        self.start_by(Command::new(PODSWITCH), prepare);
    }

    /// The same with `bytes` of room for the state, in a file system of its own: in `Rig::state_dir` as the switch sees it.
    pub(crate) fn start_with_room(&mut self, bytes: usize) {
        fs::create_dir_all(self.state_dir()).unwrap();
        self.socket = self.folder.path().join("control.sock");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "slave", "sh", "-c"]);
        command.arg(format!(r#"mount -t tmpfs -o size={bytes},mode=700 none "$0" && exec {PODSWITCH} "$@""#));
        command.arg(self.state_dir());
        self.start_by(command, |_, _| {});
    }

    fn start_by(&mut self, mut command: Command, prepare: impl FnOnce(&mut Command, &File)) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        command.arg("run").arg("--config").arg(self.configuration()).arg("--socket").arg(&self.socket);
        prepare(&mut command, &log);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // The thread ends with this call; the child keeps its namespace.
        self.switch = Some(self.node.run(|| command.spawn()).unwrap().unwrap());
        until("an answer of the switch", || {
            let ended = self.switch.as_mut().unwrap().try_wait().unwrap();
            assert_eq!(ended, None, "{}", self.logged());
            self.client().status().ok()
        });
    }

    /// Ends the switch as nothing else does: without a word.
    pub(crate) fn kill(&mut self) {
        if let Some(mut switch) = self.switch.take() {
            switch.kill().unwrap();
            switch.wait().unwrap();
        }
    }

    /// Waits until the switch has ended by itself; true when it says that all went well.
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = until("the end of the switch", || self.switch.as_mut().unwrap().try_wait().unwrap());
        self.switch = None;
        status.success()
    }

    /// The switch's process.
    pub(crate) fn pid(&self) -> u32 {
        self.switch.as_ref().unwrap().id()
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.socket).timeout(PATIENCE)
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) fn configuration(&self) -> PathBuf {
        self.folder.path().join("node.toml")
    }

    /// A new pod, joined.
    pub(crate) fn pod(&self, number: u8) -> Pod {
        let pod = Pod::at(self.site, number);
        self.join(&pod);
        pod
    }

    /// The same with another MTU than the switch's.
    pub(crate) fn pod_with_mtu(&self, number: u8, mtu: u16) -> Pod {
        let pod = Pod::new(number);
        self.client().attach(Attach { mtu: Some(Mtu::try_from(mtu).unwrap()), ..pod.attach() }).unwrap();
        pod
    }

    pub(crate) fn join(&self, pod: &Pod) -> Attached {
        self.client().attach(pod.attach()).unwrap()
    }

    pub(crate) fn detach(&self, pod: &Pod) -> Detached {
        self.client().detach(pod.detach()).unwrap()
    }

    /// Waits until nothing is in flight and says where every packet went; that they do not add up is a failure.
    pub(crate) fn settled(&self) -> DropsView {
        until("a balance of packets", || {
            let drops = self.client().drops().unwrap();
            let came = drops.received + drops.injected;
            let left = drops.sent + drops.dropped.values().sum::<u64>() + drops.punted.values().sum::<u64>();
            (drops.conserved && drops.in_flight == 0 && came == left && came > 0).then_some(drops)
        })
    }

    /// Runs the binary in the node with these arguments.
    pub(crate) fn podswitch(&self, arguments: &str) -> Said {
        call(&self.node, &format!("{PODSWITCH} {arguments}"))
    }

    /// What the switch has logged so far.
    pub(crate) fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("the switch's log:\n{}", self.logged());
        }
    }
}

impl Pod {
    /// A pod that is not joined yet.
    pub(crate) fn new(number: u8) -> Pod {
        Pod::at(0, number)
    }

    /// The same of the pod ranges of number `site`.
    pub(crate) fn at(site: u8, number: u8) -> Pod {
        Pod { namespace: namespace("psw-pod"), site, number }
    }

    pub(crate) fn v4(&self) -> IpAddr {
        [10, 244, self.site, self.number].into()
    }

    pub(crate) fn v6(&self) -> IpAddr {
        [0xfd00, 0x10, 0x244, self.site.into(), 0, 0, 0, self.number.into()].into()
    }

    pub(crate) fn addresses(&self) -> [IpAddr; 2] {
        [self.v4(), self.v6()]
    }

    pub(crate) fn attach(&self) -> Attach {
        Attach {
            bandwidth: control::Bandwidth::default(),
            name: format!("pod-{}", self.number).parse().unwrap(),
            netns: self.namespace.name().parse().unwrap(),
            interface: InterfaceName::default(),
            addresses: self.addresses().map(|address| address.try_into().unwrap()).to_vec(),
            assign: None,
            mtu: None,
            mac: None,
            network: None,
            origin: Origin::Cli,
        }
    }

    pub(crate) fn detach(&self) -> Detach {
        Detach { name: self.attach().name, origin: Origin::Cli, force: false }
    }
}

impl Deref for Pod {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}

impl Said {
    /// Fails unless `words` were said.
    #[track_caller]
    pub(crate) fn has(&self, words: &str) -> &Said {
        assert!(self.text.contains(words), "'{words}' is not in\n{}", self.text);
        self
    }
}

/// The pod ranges of that number.
pub(crate) fn subnets(site: u8) -> [Prefix; 2] {
    [format!("10.244.{site}.0/24"), format!("fd00:10:244:{site}::/64")].map(|text| text.parse().unwrap())
}

/// Joins two namespaces by a link, and waits until it carries packets: of each the interface's name and its addresses.
pub(crate) fn link(ends: [(&Namespace, &str, [&str; 2]); 2]) {
    let [(one, name, _), (other, peer, _)] = ends;
    let pair = VethPair { name, peer, peer_namespace: Some(other.as_fd()), ..VethPair::default() };
    host::Netlink::open_in(one).unwrap().create_veth(&pair).unwrap();
    for (end, interface, [v4, v6]) in ends {
        must(end, &format!("sysctl -q -w net.ipv6.conf.{interface}.accept_dad=0"));
        must(end, &format!("ip address add {v4} dev {interface}"));
        must(end, &format!("ip address add {v6} dev {interface} nodad"));
        must(end, &format!("ip link set {interface} up"));
    }
    // The kernel takes notice of a link's state, and its own address into use, by work it does later.
    for (end, interface, _) in ends {
        let show = |what| must(end, &format!("ip -o {what} show {interface}")).result;
        until("the link to be in use", || {
            let (link, addresses) = (show("link"), show("address"));
            let in_use = addresses.contains("fe80::") && !addresses.contains("tentative");
            (link.contains("state UP") && in_use).then_some(())
        });
    }
}

/// An address of the node's IPv4 range.
pub(crate) fn address_v4(number: u8) -> IpAddr {
    [10, 244, 0, number].into()
}

/// An address of the node's IPv6 range.
pub(crate) fn address_v6(number: u8) -> IpAddr {
    [0xfd00, 0x10, 0x244, 0, 0, 0, 0, u16::from(number)].into()
}

pub(crate) fn namespace(prefix: &str) -> TemporaryNamespace {
    TemporaryNamespace::new(prefix).unwrap_or_else(|error| panic!("this test needs root: {error}"))
}

/// Runs a program, its words separated by spaces, inside a namespace.
#[track_caller]
pub(crate) fn call(namespace: &Namespace, line: &str) -> Said {
    feed(namespace, line, "")
}

/// The same with `input` on its standard input.
#[track_caller]
pub(crate) fn feed(namespace: &Namespace, line: &str, input: &str) -> Said {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "30"]).args(line.split_whitespace()).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = namespace.run(|| command.spawn()).unwrap().unwrap();
    // A program that does not read its input has closed it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let result = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = format!("{result}{}", String::from_utf8_lossy(&output.stderr));
    match output.status.code() {
        Some(124 | 137) => panic!("`{line}` did not end within 30 seconds:\n{text}"),
        Some(126 | 127) => panic!("`{line}` cannot be run; its package is in scripts/packages.txt:\n{text}"),
        code => Said { result, text, success: code == Some(0) },
    }
}

/// What a program says that must succeed.
#[track_caller]
pub(crate) fn must(namespace: &Namespace, line: &str) -> Said {
    let said = call(namespace, line);
    assert!(said.success, "`{line}`:\n{}", said.text);
    said
}

/// Three echoes come back, each once.
#[track_caller]
pub(crate) fn ping(namespace: &Namespace, address: impl Display) {
    let said = must(namespace, &format!("ping -n -c 3 -i 0.05 -w 10 {address}"));
    assert!(!said.text.contains("duplicates") && !said.text.contains("DUP"), "{}", said.text);
}

/// Waits, within bounds, until `look` finds something.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// The same with another bound.
#[track_caller]
pub(crate) fn until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Links, addresses, routes and neighbours of a namespace, as ip(8) shows them.
pub(crate) fn picture(namespace: &Namespace) -> String {
    let looks = ["-o link", "-o address", "-4 route show table all", "-6 route show table all", "neighbor"];
    looks.map(|look| must(namespace, &format!("ip {look}")).result).concat()
}

/// Every readable setting below `net.ipv4` and `net.ipv6`.
pub(crate) fn settings(namespace: &Namespace) -> Vec<(PathBuf, String)> {
    let read = || ["/proc/sys/net/ipv4", "/proc/sys/net/ipv6"].map(|folder| settings_below(Path::new(folder))).concat();
    namespace.run(read).unwrap()
}

fn settings_below(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let below = |path: PathBuf| match (path.is_dir(), fs::read_to_string(&path)) {
        (true, _) => settings_below(&path),
        (false, Ok(value)) => vec![(path, value)],
        // Some settings can only be written.
        (false, Err(_)) => Vec::new(),
    };
    paths.into_iter().flat_map(below).collect()
}

/// The switch's default gateways of pods.
pub(crate) const GATEWAY_V4: &str = "169.254.1.1";
pub(crate) const GATEWAY_V6: &str = "fe80::ecee:eeff:feee:eeee";
/// What is waited for takes milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const PODSWITCH: &str = env!("CARGO_BIN_EXE_podswitch");
