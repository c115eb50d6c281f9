//! The worst hour: the switch killed at any instant, its state damaged, its disk full, namespaces gone behind its back.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::thread;
use std::time::Duration;

use control::{Attach, Client, DeleteRoute, Error, Origin, Route, RouteTarget};
use host::Namespace;
use packet::Prefix;

use crate::rig::{Pod, Rig, must, picture, ping, until};
use crate::traffic::{MIB, connection, transfer};

#[test]
fn a_transfer_goes_on_after_the_switch_was_killed_in_the_middle() {
    let mut rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    for address in b.addresses() {
        let connection = connection(&a, &b, address);
        transfer(&connection, 256 * MIB, || {
            thread::sleep(Duration::from_millis(30));
            rig.kill();
            rig.start();
        });
    }
    rig.settled();
}

/// Killed at random instants while pods and routes come and go: nothing acknowledged is lost, nothing is half there, and
/// nothing is left of what is not.
#[test]
fn whatever_the_instant_of_a_kill_what_was_acknowledged_holds() {
    let kills = if env::var_os("PODSWITCH_DEEP").is_some() { 100 } else { 8 };
    let mut rig = Rig::new();
    let bystander = rig.pod(2);
    // A device that was taken up calls its state otherwise than a new one.
    rig.kill();
    rig.start();
    let mut churn = Churn::new(3..9);
    let empty = (picture(&rig.node), churn.pods.iter().map(|pod| picture(pod)).collect::<Vec<_>>());
    let mut random = Random(0x5eed);
    for kill in 0..kills {
        let (client, spell) = (rig.client(), Duration::from_micros(random.below(60_000)));
        let asked = thread::scope(|scope| {
            let asking = scope.spawn(|| churn.ask_until_refused(&client, &mut random));
            thread::sleep(spell);
            rig.kill();
            asking.join().unwrap()
        });
        rig.start();
        let node = picture(&rig.node);
        assert_eq!(without_neighbors(&node), without_neighbors(&empty.0), "kill {kill}, after {asked} calls");
        churn.compare(&rig, &empty.1, kill);
        ping(&rig.node, bystander.v4());
    }
    rig.settled();
}

#[test]
fn of_a_damaged_state_what_is_sound_is_taken_up() {
    let mut rig = Rig::new();
    let pods = [rig.pod(2), rig.pod(3), rig.pod(4)];
    let to = |name: &str| RouteTarget::Endpoint(name.parse().unwrap());
    for (prefix, pod) in [("192.0.2.0/24", "pod-2"), ("198.51.100.0/24", "pod-3")] {
        let route = Route { prefix: prefix.parse().unwrap(), target: to(pod), origin: Origin::Cli };
        rig.client().add_route(route).unwrap();
    }
    rig.kill();
    let journal = rig.state_dir().join("state.journal");
    let mut text = fs::read(&journal).unwrap();
    let at = String::from_utf8_lossy(&text).find("\"pod-3\"").unwrap();
    text[at + 5] ^= 1;
    // And a last record that was cut off.
    text.extend(b"01234567 {\"endp");
    fs::write(&journal, text).unwrap();
    rig.start();
    let names: Vec<_> = rig.client().ports().unwrap().into_iter().map(|port| port.name).collect();
    assert_eq!(names, ["podswitch0", "pod-2", "pod-4"]);
    let routes = rig.client().routes().unwrap();
    let has = |prefix: &str| routes.iter().any(|route| route.prefix.to_string() == prefix);
    assert!(has("192.0.2.0/24") && !has("198.51.100.0/24"));
    ping(&pods[0], pods[2].v6());
    let log = rig.logged();
    for words in ["line 3 of the kept state is damaged", "is cut off", "state.damaged", "led to endpoint pod-3"] {
        assert!(log.contains(words), "'{words}' is not in\n{log}");
    }
    assert!(rig.state_dir().join("state.damaged").exists());
    // What the switch lost, its operator removes; then the pod can come again.
    must(&pods[1], "ip link del eth0");
    rig.join(&pods[1]);
    ping(&pods[0], pods[1].v4());
}

#[test]
fn a_state_of_noise_is_no_reason_not_to_start() {
    let mut rig = Rig::new();
    let a = rig.pod(2);
    rig.kill();
    let noise: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(rig.state_dir().join("state.journal"), noise).unwrap();
    rig.start();
    assert_eq!(rig.client().status().unwrap().endpoints, 0);
    must(&a, "ip link del eth0");
    rig.join(&a);
    ping(&rig.node, a.v4());
}

#[test]
fn a_full_disk_refuses_changes_and_stops_no_traffic() {
    let mut rig = Rig::stopped("");
    let pods = [2, 3, 4].map(Pod::new);
    rig.start_with_room(64 * 1024);
    let [a, b, c] = &pods;
    rig.join(a);
    rig.join(b);
    let filler = format!("/proc/{}/root{}/filler", rig.pid(), rig.state_dir().display());
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
    drop(file);
    let before = (picture(c), picture(&rig.node));
    let refused = (0..1000).find_map(|number| {
        let prefix = format!("10.99.{}.{}/32", number / 250, number % 250).parse().unwrap();
        rig.client().add_route(Route { prefix, target: RouteTarget::Blackhole, origin: Origin::Cli }).err()
    });
    let Some(Error::Refused(refusal)) = refused else { panic!("{refused:?}") };
    assert!(refusal.message.contains("No space left") && refusal.hint.unwrap().contains("room"));
    let Err(Error::Refused(refusal)) = rig.client().attach(c.attach()) else { panic!("attached without a note") };
    assert!(refusal.message.contains("state.journal"), "{refusal}");
    assert_eq!((picture(c), picture(&rig.node)), before);
    ping(a, b.v4());
    let routes = rig.client().status().unwrap().routes;
    // A detach needs no room.
    rig.detach(b);
    fs::remove_file(filler).unwrap();
    rig.join(c);
    ping(a, c.v6());
    assert_eq!(rig.client().status().unwrap().routes, routes);
    rig.settled();
}

#[test]
fn an_endpoint_goes_with_its_namespace() {
    let mut rig = Rig::with("sweep_seconds = 1");
    let (a, gone, reborn, taken_up) = (rig.pod(2), rig.pod(3), rig.pod(4), rig.pod(5));
    let (path, held) = (reborn.path().to_owned(), taken_up.path().to_owned());
    let route = Route {
        prefix: "192.0.2.0/24".parse().unwrap(),
        target: RouteTarget::Endpoint("pod-3".parse().unwrap()),
        origin: Origin::Agent,
    };
    rig.client().add_route(route).unwrap();
    drop(gone);
    // Its path names another namespace from now on, which is none of the switch's business.
    Namespace::delete_named(path.file_name().unwrap().to_str().unwrap()).unwrap();
    let stranger = Namespace::create_named(path.file_name().unwrap().to_str().unwrap()).unwrap();
    let before = picture(&stranger);
    until("both to be detached", || (rig.client().status().unwrap().endpoints == 2).then_some(()));
    assert_eq!(rig.client().status().unwrap().routes, 0);
    assert_eq!(picture(&stranger), before);

    // The switch that took it up holds a descriptor of it, and is not deceived by that.
    rig.kill();
    rig.start();
    drop(taken_up);
    until("the last to be detached", || (rig.client().status().unwrap().endpoints == 1).then_some(()));
    assert!(!held.exists() && rig.logged().contains("its namespace is gone"));
    ping(&rig.node, a.v4());
    rig.settled();
}

#[test]
fn a_path_that_names_another_namespace_by_the_next_start_is_not_followed() {
    let mut rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    rig.kill();
    let name = b.path().file_name().unwrap().to_str().unwrap().to_owned();
    Namespace::delete_named(&name).unwrap();
    let stranger = Namespace::create_named(&name).unwrap();
    // Even with a device that might be taken for ours.
    must(&stranger, "ip tuntap add eth0 mode tap vnet_hdr");
    let before = picture(&stranger);
    rig.start();
    assert_eq!(rig.client().status().unwrap().endpoints, 1);
    assert_eq!(picture(&stranger), before);
    ping(&rig.node, a.v4());
}

#[test]
fn a_foreign_device_with_our_name_is_refused_and_left_alone() {
    let rig = Rig::stopped("");
    for (add, words) in [
        ("ip link add podswitch0 type bridge", "podswitch0"),
        ("ip tuntap add podswitch0 mode tap", "the name is taken"),
    ] {
        must(&rig.node, add);
        let before = picture(&rig.node);
        // However often it is tried.
        for _ in 0..2 {
            let said = rig.podswitch(&format!("run --config {}", rig.configuration().display()));
            assert!(!said.success, "{}", said.text);
            said.has("error: cannot make the host port podswitch0").has(words);
            assert_eq!(picture(&rig.node), before);
        }
        must(&rig.node, "ip link del podswitch0");
    }
}

#[test]
fn what_other_settings_had_set_up_goes_with_the_next_start() {
    let mut rig = Rig::stopped("");
    let before = picture(&rig.node);
    configure(&rig, "pod_ranges = [\"10.7.0.0/24\", \"10.8.0.0/24\"]\nhost_port = \"psw-old\"");
    rig.start();
    rig.kill();
    configure(&rig, "pod_ranges = [\"10.8.0.0/24\"]\nrouter_address = [\"10.8.0.9\"]\nhost_port = \"psw-old\"");
    rig.start();
    let node = picture(&rig.node);
    assert!(!node.contains("10.7.0") && !node.contains("10.8.0.1 ") && node.contains("10.8.0.9"), "{node}");
    rig.kill();
    configure(&rig, "pod_ranges = [\"10.8.0.0/24\"]");
    rig.start();
    let node = picture(&rig.node);
    assert!(node.contains("podswitch0") && !node.contains("psw-old") && node.contains("10.8.0.1"), "{node}");
    rig.client().purge().unwrap();
    assert!(rig.has_ended());
    until("the node to be as before", || (picture(&rig.node) == before).then_some(()));
}

fn configure(rig: &Rig, text: &str) {
    let state_dir = format!("state_dir = \"{}\"\n", rig.state_dir().display());
    fs::write(rig.configuration(), state_dir + text).unwrap();
}

/// What a pod, or its runtime, puts in the place of what was the switch's is no reason to leave all others alone.
#[test]
fn a_start_forgets_what_others_have_replaced() {
    let mut rig = Rig::new();
    let (a, mangled, replaced) = (rig.pod(2), rig.pod(3), rig.pod(4));
    rig.kill();
    must(&replaced, "ip link del eth0");
    must(&replaced, "ip link add eth0 type bridge");
    // A teardown that was cut short: unmounted, and the file still there.
    must(&rig.node, &format!("umount -l {}", mangled.path().display()));
    rig.start();
    assert_eq!(rig.client().status().unwrap().endpoints, 1, "{}", rig.logged());
    ping(&rig.node, a.v4());
}

#[test]
fn a_change_of_the_host_port_survives_a_start_that_failed() {
    let mut rig = Rig::stopped("");
    configure(&rig, "pod_ranges = [\"10.244.0.0/24\"]\nhost_port = \"psw-old\"");
    rig.start();
    let pod = Pod::new(9);
    let v4 = pod.v4().try_into().unwrap();
    rig.client().attach(Attach { addresses: vec![v4], ..pod.attach() }).unwrap();
    rig.kill();
    // The pod's address is the router's now: refused, after the new host port was made.
    configure(&rig, "pod_ranges = [\"10.244.0.0/24\"]\nrouter_address = [\"10.244.0.9\"]");
    let said = rig.podswitch(&format!("run --config {}", rig.configuration().display()));
    assert!(!said.success, "{}", said.text);
    said.has("does not fit the configuration");
    configure(&rig, "pod_ranges = [\"10.244.0.0/24\"]");
    rig.start();
    ping(&rig.node, pod.v4());
    assert!(!picture(&rig.node).contains("psw-old"));
    rig.client().purge().unwrap();
    assert!(rig.has_ended());
}

#[test]
fn what_a_full_disk_kept_from_being_written_is_written_with_the_next_change() {
    let mut rig = Rig::stopped("");
    let (a, b) = (Pod::new(2), Pod::new(3));
    rig.start_with_room(64 * 1024);
    rig.join(&a);
    rig.join(&b);
    let route = |prefix: &str, target| Route { prefix: prefix.parse().unwrap(), target, origin: Origin::Cli };
    rig.client().add_route(route("192.0.2.0/24", RouteTarget::Endpoint("pod-3".parse().unwrap()))).unwrap();
    let state_dir = format!("/proc/{}/root{}", rig.pid(), rig.state_dir().display());
    let mut file = File::create(format!("{state_dir}/filler")).unwrap();
    while file.write_all(&[0; 1]).is_ok() {}
    drop(file);
    while rig.client().add_route(route("192.0.3.0/24", RouteTarget::Blackhole)).is_ok() {}
    rig.detach(&b);
    fs::remove_file(format!("{state_dir}/filler")).unwrap();
    rig.client().add_route(route("192.0.4.0/24", RouteTarget::Blackhole)).unwrap();
    let journal = fs::read_to_string(format!("{state_dir}/state.journal")).unwrap();
    assert!(
        !journal.contains("\"pod-3\"") && !journal.contains("192.0.2.0") && journal.contains("192.0.4.0"),
        "{journal}"
    );
}

/// Pods and routes that come and go, and what the switch said of each.
struct Churn {
    pods: Vec<Pod>,
    routes: Vec<Prefix>,
    /// By the number of a pod, or of a route behind those: there or not, as far as was acknowledged; `None` when the last
    /// call about it was not answered.
    known: BTreeMap<usize, Option<bool>>,
}

impl Churn {
    fn new(numbers: std::ops::Range<u8>) -> Churn {
        let pods: Vec<Pod> = numbers.map(Pod::new).collect();
        let routes: Vec<Prefix> = (0..4).map(|number| format!("10.99.{number}.0/24").parse().unwrap()).collect();
        let known = (0..pods.len() + routes.len()).map(|at| (at, Some(false))).collect();
        Churn { pods, routes, known }
    }

    /// Asks until an answer stays away; how many answers came.
    fn ask_until_refused(&mut self, client: &Client, random: &mut Random) -> usize {
        for answered in 0.. {
            let at = random.below(self.known.len() as u64) as usize;
            let is_there = self.known[&at].expect("only the last call is without an answer");
            match self.ask(client, at, is_there) {
                Ok(()) => drop(self.known.insert(at, Some(!is_there))),
                Err(Error::Refused(refusal)) => panic!("{at}, there: {is_there}: {refusal}"),
                Err(_) => {
                    self.known.insert(at, None);
                    return answered;
                }
            }
        }
        unreachable!("the switch is killed")
    }

    fn ask(&self, client: &Client, at: usize, is_there: bool) -> Result<(), Error> {
        let Some(pod) = self.pods.get(at) else {
            let prefix = self.routes[at - self.pods.len()];
            let origin = Origin::Cli;
            return if is_there {
                client.delete_route(DeleteRoute { prefix, origin, force: false }).map(drop)
            } else {
                client.add_route(Route { prefix, target: RouteTarget::Blackhole, origin }).map(drop)
            };
        };
        if is_there { client.detach(pod.detach()).map(drop) } else { client.attach(pod.attach()).map(drop) }
    }

    /// What the new switch knows is what the old one acknowledged; each pod is whole or as it was at first.
    fn compare(&mut self, rig: &Rig, empty: &[String], kill: usize) {
        let ports: Vec<_> = rig.client().ports().unwrap().into_iter().map(|port| port.name).collect();
        let routes: Vec<_> = rig.client().routes().unwrap().into_iter().map(|route| route.prefix).collect();
        for (&at, known) in &mut self.known {
            let is_there = match self.pods.get(at) {
                Some(pod) => ports.iter().any(|name| *name == pod.attach().name.to_string()),
                None => routes.contains(&self.routes[at - self.pods.len()]),
            };
            assert!(
                known.is_none_or(|known| known == is_there),
                "kill {kill}: {at}, there: {is_there}, known: {known:?}"
            );
            *known = Some(is_there);
            match self.pods.get(at) {
                Some(pod) if is_there => ping(pod, "10.244.0.1"),
                Some(pod) => until("the namespace to be as before", || (picture(pod) == empty[at]).then_some(())),
                None => {}
            }
        }
    }
}

/// The host learns and forgets neighbours by itself.
fn without_neighbors(picture: &str) -> Vec<&str> {
    picture.lines().filter(|line| !line.contains("lladdr") && !line.contains("FAILED")).collect()
}

/// A linear congruential generator; its upper bits are the good ones.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}
