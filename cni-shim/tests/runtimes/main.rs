//! Pods under real container runtimes, on the configuration that `podswitch-cni install` writes: containerd as a kubelet
//! speaks to it, and podman as people do.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

mod cri;
mod image;
mod machine;
#[path = "../rig/mod.rs"]
mod rig;

use std::fs;

use cri::Cri;
use image::{IMAGE, PAGE};
use machine::Machine;
use rig::until;

#[test]
fn containerd_runs_pods_that_stay_connected_and_leave_nothing() {
    let mut machine = Machine::new();
    let before = machine.traces();
    let mut containerd = Containerd::start(&machine);
    import(&machine);
    let parent = machine.control_group();
    let (web, shell) = (cri::pod("web", &parent, &[(8080, 18080)]), cri::pod("shell", &parent, &[]));
    let cri = Cri::new(&containerd.socket);
    let pods = [cri.run_pod(&web), cri.run_pod(&shell)];
    let addresses = cri.addresses(&pods[0]);
    assert_eq!(addresses.len(), 2, "one of each family: {addresses:?}");
    let limits = machine.endpoints().into_iter().map(|one| one.bandwidth.ingress.unwrap().rate.to_string());
    assert_eq!(limits.collect::<Vec<_>>(), [cri::INGRESS; 2]);
    cri.start(&pods[0], &web, (IMAGE, &SERVE));
    let inside = cri.start(&pods[1], &shell, (IMAGE, &["sleep", "100000"]));

    let look = |machine: &Machine, cri: &Cri| {
        cri.exec(&inside, &["ping", "-c", "2", "-W", "5", &addresses[0]]);
        cri.exec(&inside, &["ping6", "-c", "2", "-W", "5", &addresses[1]]);
        for (host, port) in [(&addresses[0][..], 8080), (&addresses[1], 8080), (NODE, 18080)] {
            let page = cri.exec(&inside, &["sh", "-c", &fetch("nc", host, port)]);
            assert!(page.ends_with(PAGE), "{host}: {page}");
        }
        let from_outside = format!("nsenter --net=/run/netns/outside sh -c '{}'", fetch("busybox nc", NODE, 18080));
        for command in [from_outside, fetch("busybox nc", NODE, 18080), fetch("busybox nc", "127.0.0.1", 18080)] {
            let page = machine.must(&command);
            assert!(page.ends_with(PAGE), "{command}: {page}");
        }
    };
    look(&machine, &cri);
    containerd = containerd.restart(&machine);
    let cri = Cri::new(&containerd.socket);
    look(&machine, &cri);
    machine.kill_switch();
    machine.start_switch();
    look(&machine, &cri);

    for pod in &pods {
        cri.stop_pod(pod);
        // A kubelet does so again when it is not sure.
        cri.stop_pod(pod);
        cri.remove_pod(pod);
    }
    assert!(machine.endpoints().is_empty());
    assert_eq!(machine.traces(), before);
}

#[test]
fn podman_runs_containers_that_stay_connected_and_leave_nothing() {
    let mut machine = Machine::new();
    let before = machine.traces();
    let podman = Podman::new(&machine);
    podman.must(&machine, &format!("load -q -i {}", machine.path("image.tar").display()));
    let run = format!("run -d --network podswitch --cgroup-parent {}", machine.control_group());
    podman.must(&machine, &format!("{run} --name web -p 18081:8080 {IMAGE} {}", SERVE.join(" ")));
    podman.must(&machine, &format!("{run} --name shell {IMAGE} sleep 100000"));
    let address = |machine: &Machine, name: &str| {
        let format = "{{ (index .NetworkSettings.Networks \"podswitch\").IPAddress }}";
        podman.must(machine, &format!("inspect {name} -f '{format}'")).trim().to_owned()
    };
    let web = address(&machine, "web");
    let look = |machine: &Machine, web: &str| {
        podman.must(machine, &format!("exec shell ping -c 2 -W 5 {web}"));
        for (host, port) in [(web, 8080), (NODE, 18081)] {
            let page = podman.must(machine, &format!("exec shell sh -c '{}'", fetch("nc", host, port)));
            assert!(page.ends_with(PAGE), "{host}: {page}");
        }
        let from_outside = format!("nsenter --net=/run/netns/outside sh -c '{}'", fetch("busybox nc", NODE, 18081));
        for command in [from_outside, fetch("busybox nc", "127.0.0.1", 18081)] {
            let page = machine.must(&command);
            assert!(page.ends_with(PAGE), "{command}: {page}");
        }
    };
    look(&machine, &web);
    machine.kill_switch();
    machine.start_switch();
    look(&machine, &web);
    // DEL and ADD in a namespace that lives on, then in another.
    podman.must(&machine, "network disconnect podswitch shell");
    assert_eq!(machine.endpoints().len(), 1);
    podman.must(&machine, "network connect podswitch shell");
    podman.must(&machine, "restart -t 0 web");
    let web = until("the web server", || {
        let web = address(&machine, "web");
        let answers = format!("exec shell sh -c '{} || true'", fetch("nc", &web, 8080));
        podman.must(&machine, &answers).ends_with(PAGE).then_some(web)
    });
    look(&machine, &web);

    podman.must(&machine, "rm -f -t 0 web shell");
    assert!(machine.endpoints().is_empty());
    assert_eq!(machine.traces(), before);
}

/// A containerd of its own: configuration, state, socket.
struct Containerd {
    socket: std::path::PathBuf,
    process: u32,
}

impl Containerd {
    fn start(machine: &Machine) -> Containerd {
        let socket = machine.path("containerd.sock");
        let place = |below: &str| machine.path(below).display().to_string();
        let text = CONTAINERD.replace("{IMAGE}", IMAGE).replace("{FOLDER}", &place(""));
        fs::write(machine.path("containerd.toml"), text).unwrap();
        let process = machine.spawn(&format!("exec containerd -c {}", place("containerd.toml")));
        until("containerd and its network", || Cri::new(&socket).is_ready().then_some(()));
        Containerd { socket, process }
    }

    /// Its pods' processes have shims as parents, and go on.
    fn restart(self, machine: &Machine) -> Containerd {
        machine.kill(self.process);
        Containerd::start(machine)
    }
}

fn import(machine: &Machine) {
    let archive = machine.path("image.tar");
    image::write(&archive);
    let socket = machine.path("containerd.sock");
    machine.must(&format!("ctr -a {} -n k8s.io images import {}", socket.display(), archive.display()));
}

/// A podman of its own: its configuration and all its folders.
struct Podman(String);

impl Podman {
    fn new(machine: &Machine) -> Podman {
        image::write(&machine.path("image.tar"));
        let folder = machine.path("").display().to_string();
        fs::write(machine.path("containers.conf"), PODMAN.replace("{FOLDER}", &folder)).unwrap();
        fs::write(machine.path("storage.conf"), STORAGE.replace("{FOLDER}", &folder)).unwrap();
        let files = format!("CONTAINERS_CONF={folder}containers.conf CONTAINERS_STORAGE_CONF={folder}storage.conf");
        Podman(format!("env {files} podman --runtime runc --tmpdir {folder}tmp --network-config-dir {folder}net.d "))
    }

    #[track_caller]
    fn must(&self, machine: &Machine, words: &str) -> String {
        machine.must(&format!("{}{words}", self.0))
    }
}

/// A line for a shell that prints a page. busybox's own wget wants libraries that are not in the image.
fn fetch(nc: &str, host: &str, port: u16) -> String {
    format!("printf \"GET / HTTP/1.0\\r\\n\\r\\n\" | {nc} -w 10 {host} {port}")
}

const SERVE: [&str; 6] = ["httpd", "-f", "-p", "8080", "-h", "/www"];
/// An address of the machine in the network it is in.
const NODE: &str = "192.0.2.1";
/// No AppArmor and no lower `oom_score_adj`, which a machine inside another may not have.
const CONTAINERD: &str = r#"
version = 2
root = "{FOLDER}root"
state = "{FOLDER}run"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{FOLDER}containerd.sock"
[ttrpc]
  address = "{FOLDER}containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{FOLDER}bin"
    conf_dir = "{FOLDER}net.d"
"#;
/// podman asks for more open files than a machine inside another may have.
const PODMAN: &str = r#"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{FOLDER}bin"]
network_config_dir = "{FOLDER}net.d"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;
const STORAGE: &str = r#"
[storage]
driver = "overlay"
graphroot = "{FOLDER}root"
runroot = "{FOLDER}runroot"
"#;
