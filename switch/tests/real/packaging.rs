//! What is shipped beside the binaries: the example of a configuration, the unit, and what `make install` puts where. Manual
//! pages and completions are looked at by `cni-shim/tests/share.rs`, which has all binaries.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Stdio};

use host::TemporaryNamespace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podswitch::config::{Config, Node, Settings};

use crate::rig::{PATIENCE, Pod, namespace, until};
use crate::stage::Stage;

#[test]
fn the_example_of_a_configuration_is_legal_and_has_every_key() {
    let path = repository().join("share/podswitch.toml");
    let text = fs::read_to_string(&path).unwrap();
    let given = Config::try_from(Settings::parse(&path, &text).unwrap()).unwrap();
    // A key in a comment stands right behind the sign; a sentence has a blank there.
    let uncommented: String = text
        .lines()
        .filter(|line| !line.starts_with("# "))
        .map(|line| format!("{}\n", line.trim_start_matches('#')))
        .collect();
    let table: toml::Table = uncommented.parse().unwrap();
    let mut keys: Vec<&str> = table.keys().map(String::as_str).collect();
    let mut known = podswitch::config::keys();
    keys.sort();
    known.sort();
    assert_eq!(keys, known);
    let shown = Config::try_from(Settings::parse(&path, &uncommented).unwrap()).unwrap();
    let node = Node { underlay: given.node.underlay.clone(), ..shown.node.clone() };
    let with_defaults = Config { node, mtu_by_underlay: true, worker_cpus: Vec::new(), metrics_address: None, ..shown };
    assert_eq!(with_defaults, given, "what a comment shows is the default, where there is one");
}

#[test]
fn an_installation_is_whole_and_goes_again() {
    let mut stage = Stage::new();
    stage.must("make install DESTDIR=/run/stage/root PREFIX=/usr");
    let find = "find /run/stage/root -type f | sort";
    let installed = stage.must(find);
    for file in [
        "/usr/sbin/podswitch",
        "/usr/sbin/podswitch-cni",
        "/usr/sbin/podswitch-agent",
        "/usr/share/man/man1/podswitch.1",
        "/usr/share/man/man1/podswitch-attach.1",
        "/usr/share/man/man1/podswitch-cni.1",
        "/usr/share/man/man1/podswitch-agent-run.1",
        "/usr/share/bash-completion/completions/podswitch",
        "/usr/share/bash-completion/completions/podswitch-cni",
        "/usr/share/zsh/site-functions/_podswitch",
        "/usr/share/fish/vendor_completions.d/podswitch.fish",
        "/usr/share/podswitch/podswitch.toml",
        "/usr/lib/systemd/system/podswitch.service",
        "/usr/lib/systemd/system/podswitch-agent.service",
    ] {
        assert!(installed.contains(&format!("/run/stage/root{file}\n")), "{file} is not in\n{installed}");
    }
    let unit = stage.must("cat /run/stage/root/usr/lib/systemd/system/podswitch.service");
    assert!(unit.contains("\nExecStart=/usr/sbin/podswitch run "), "{unit}");
    stage.must("make uninstall DESTDIR=/run/stage/root PREFIX=/usr");
    assert_eq!(stage.must(find).trim(), "");
}

#[test]
fn the_units_are_sound() {
    let mut stage = Stage::new();
    stage.must("make install");
    for unit in ["podswitch.service", "podswitch-agent.service"] {
        let said = stage.must(&format!("systemd-analyze verify --man=no /usr/local/lib/systemd/system/{unit}"));
        assert!(!said.contains(unit), "{said}");
    }
}

/// The rights that the unit leaves are enough, whichever way a pod is named.
#[test]
fn a_switch_with_the_units_capabilities_does_all_it_should() {
    let unit = fs::read_to_string(repository().join("share/systemd/podswitch.service")).unwrap();
    let set = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let set: String =
        set.split(' ').map(|name| format!(",+{}", name.trim_start_matches("CAP_").to_lowercase())).collect();
    let mut stage = Stage::new();
    stage.start(&format!("setpriv --no-new-privs --bounding-set=-all{set} podswitch"), "--pod-range 10.244.0.0/24");
    stage.must("ip netns add web && ip netns add db && ip netns exec db sleep 1000 &");
    stage.must("until [ \"$(ip netns pids db)\" ]; do sleep 0.02; done");
    stage.must("podswitch attach web --netns web --address 10.244.0.2");
    stage.must("podswitch attach db --netns /proc/$(ip netns pids db)/ns/net --address 10.244.0.3");
    stage.must("ip netns exec web ping -n -c 1 -w 10 10.244.0.3");
    stage.must("podswitch purge --yes");
}

/// systemd's side of sd_notify(3).
#[test]
fn the_service_manager_hears_when_packets_pass_and_when_they_will_not() {
    let folder = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let (node, pod) = (namespace("psw-node"), Pod::new(2));
    for taken_up in [0, 1] {
        let mut switch = start(&node, folder.path());
        let said = hear(&manager);
        assert!(
            said.contains("READY=1\n")
                && said.contains(&format!("STATUS=forwarding; pods taken up again: {taken_up}\n")),
            "{said}"
        );
        // What was promised holds at once.
        let client = control::Client::new(folder.path().join("state/control.sock"));
        if taken_up == 0 {
            client.attach(pod.attach()).unwrap();
        }
        crate::rig::must(&node, "ping -n -c 1 -w 1 10.244.0.2");
        kill(Pid::from_raw(switch.id() as i32), Signal::SIGTERM).unwrap();
        let said = hear(&manager);
        assert!(said.contains("STOPPING=1\n"), "{said}");
        assert!(until("the end of the switch", || switch.try_wait().unwrap()).success());
    }
    manager.set_nonblocking(true).unwrap();
    assert_eq!(manager.recv(&mut [0; 9]).unwrap_err().kind(), ErrorKind::WouldBlock, "each is said once");
}

fn start(node: &TemporaryNamespace, folder: &Path) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podswitch"));
    command.args(["run", "--pod-range", "10.244.0.0/24", "--pod-range", "fd00:10:244::/64", "--state-dir"]);
    command.arg(folder.join("state")).env("NOTIFY_SOCKET", folder.join("notify"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    node.run(|| command.spawn()).unwrap().unwrap()
}

fn hear(manager: &UnixDatagram) -> String {
    let mut said = [0; 4096];
    let length = manager.recv(&mut said).expect("a word from the switch");
    String::from_utf8(said[..length].to_vec()).unwrap()
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
