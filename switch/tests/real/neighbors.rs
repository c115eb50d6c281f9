//! What a node keeps of others: through restarts and damage, beside routes of somebody else, and while thousands change.

use std::fs;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use control::{Backend, ChangeNeighbors, Code, DeleteNeighbor, Error, Neighbor, Origin};
use packet::Mac;

use crate::nodes::{Underlay, change, nodes, tell};
use crate::rig::{PODSWITCH, Pod, Rig, call, must, ping, subnets, until};
use crate::traffic::{EndOnDrop, MIB, connection, exchange, receive, transfer, udp};

#[test]
fn a_stream_goes_on_when_the_other_nodes_switch_is_started_anew() {
    for how in [(Backend::Vxlan, Underlay::V4), (Backend::HostGw, Underlay::Same)] {
        let [one, mut two] = nodes("underlay_address = [\"ADDRESS\"]");
        tell(&one, &two, how);
        tell(&two, &one, how);
        let (a, b) = (one.pod(2), two.pod(2));
        for address in b.addresses() {
            transfer(&connection(&a, &b, address), 64 * MIB, || {
                thread::sleep(Duration::from_millis(30));
                two.kill();
                two.start();
            });
        }
        one.settled();
        two.settled();
    }
}

#[test]
fn routes_that_the_kernel_drops_with_a_link_come_again() {
    let [one, two] = nodes("sweep_seconds = 1");
    tell(&one, &two, (Backend::HostGw, Underlay::Same));
    tell(&two, &one, (Backend::HostGw, Underlay::Same));
    let (a, b) = (one.pod(2), two.pod(2));
    must(&one.node, "sysctl -q -w net.ipv6.conf.up0.keep_addr_on_down=1");
    must(&one.node, "ip link set up0 down");
    assert!(!must(&one.node, "ip -4 route show proto 112").text.contains("192.168.9.2"));
    must(&one.node, "ip link set up0 up");
    for address in b.addresses() {
        until("the routes", || call(&a, &format!("ping -n -c 1 -W 1 {address}")).success.then_some(()));
    }
}

#[test]
fn a_purge_leaves_routes_of_somebody_else() {
    let [mut one, two] = nodes("");
    tell(&one, &two, (Backend::HostGw, Underlay::Same));
    must(&one.node, "ip route add 10.77.0.0/16 via 192.168.9.2 proto 112");
    must(&one.node, "ip route add 10.78.0.0/16 via 192.168.9.2");
    one.kill();
    let said = one.podswitch(&format!("purge --yes --config {}", one.configuration().display()));
    assert!(said.success, "{}", said.text);
    must(&one.node, "ip route show").has("10.77.0.0/16 via 192.168.9.2").has("10.78.0.0/16 via 192.168.9.2");
    for (family, range) in [("-4", "10.244."), ("-6", "fd00:10:244:")] {
        let routes = must(&one.node, &format!("ip {family} route show table all"));
        assert!(!routes.text.contains(range), "{}", routes.text);
    }
}

#[test]
fn what_the_host_routes_by_itself_is_left_alone() {
    let [one, _two] = nodes("underlay_address = [\"ADDRESS\"]");
    let add = |add: Vec<Neighbor>| one.client().change_neighbors(ChangeNeighbors { add, ..Default::default() });
    let refused = |neighbors: Vec<Neighbor>, named: &str| {
        let Err(Error::Refused(refusal)) = add(neighbors) else { panic!("{named} is not refused") };
        assert_eq!(refusal.code, Code::Conflict, "{refusal}");
        assert!(refusal.to_string().contains(named), "{refusal}");
        refusal.hint.unwrap()
    };
    must(&one.node, "ip route add 10.244.7.0/24 via 192.168.9.7");
    let good = neighbor("10.244.6.0/24", "192.168.9.2", Backend::HostGw);
    let theirs = neighbor("10.244.7.0/24", "192.168.9.2", Backend::HostGw);
    assert!(refused(vec![good.clone(), theirs], "10.244.7.0/24").contains("ip route"));
    let nowhere = neighbor("10.244.8.0/24", "203.0.113.1", Backend::HostGw);
    assert!(refused(vec![good.clone(), nowhere], "203.0.113.1").contains("on a link"));
    // All or none.
    assert_eq!(one.client().neighbors().unwrap(), []);
    let routes = || must(&one.node, "ip route show").result;
    assert!(!routes().contains("10.244.6.0/24") && routes().contains("10.244.7.0/24 via 192.168.9.7"), "{}", routes());
    // A route of ours that nobody knows any more is no obstacle, and one by another node is replaced.
    must(&one.node, "ip route add 10.244.6.0/24 via 192.168.9.9 proto 112");
    add(vec![good]).unwrap();
    assert!(routes().contains("10.244.6.0/24 via 192.168.9.2"), "{}", routes());
    add(vec![neighbor("10.244.6.0/24", "192.168.9.3", Backend::HostGw)]).unwrap();
    assert!(routes().contains("10.244.6.0/24 via 192.168.9.3"), "{}", routes());
    // Through a tunnel the host's way is by the host port.
    add(vec![neighbor("10.244.6.0/24", "192.168.9.3", Backend::Vxlan)]).unwrap();
    assert!(routes().contains("10.244.6.0/24 via 169.254.1.1 dev podswitch0"), "{}", routes());
}

#[test]
fn many_neighbours_stay_over_a_restart_and_a_damaged_record_costs_one() {
    let [mut one, _two] = nodes("underlay_address = [\"ADDRESS\"]");
    let add: Vec<Neighbor> = (0..1000).map(nth).collect();
    for _ in 0..2 {
        change(&one, ChangeNeighbors { add: add.clone(), ..Default::default() });
        assert_eq!(one.client().status().unwrap().neighbors, 1000);
        change(&one, ChangeNeighbors { delete: add.iter().map(gone).collect(), ..Default::default() });
        assert_eq!(one.client().neighbors().unwrap(), []);
    }
    change(&one, ChangeNeighbors { add, ..Default::default() });
    one.kill();
    one.start();
    assert_eq!(one.client().neighbors().unwrap().len(), 1000);
    assert_eq!(must(&one.node, "ip -4 route show dev podswitch0").result.matches("10.10").count(), 1000);
    one.kill();
    let journal = one.state_dir().join("state.journal");
    let mut text = fs::read(&journal).unwrap();
    let at = String::from_utf8_lossy(&text).find("10.101.7.0/24").unwrap();
    text[at] ^= 1;
    fs::write(&journal, text).unwrap();
    one.start();
    let left = one.client().neighbors().unwrap();
    assert!(left.len() == 999 && left.iter().all(|one| one.subnet.to_string() != "10.101.7.0/24"));
}

#[test]
fn a_neighbour_whose_subnet_has_become_this_nodes_own_is_forgotten() {
    let [mut one, two] = nodes("underlay_address = [\"ADDRESS\"]");
    tell(&one, &two, (Backend::HostGw, Underlay::Same));
    one.kill();
    one.start_with(|command, _| {
        command.args(["10.244.2.0/23", "fd00:10:244:1::/64"].iter().flat_map(|range| ["--pod-range", range]));
    });
    let left: Vec<_> = one.client().neighbors().unwrap().iter().map(|left| left.subnet).collect();
    assert_eq!(left, [subnets(2)[1]]);
    must(&one.node, "ip -6 route show proto 112").has("fd00:10:244:2::/64 via fd00:9::2");
    let routes = must(&one.node, "ip -4 route show proto 112").result;
    assert!(!routes.contains("up0"), "{routes}");
    let log = one.logged();
    assert!(log.contains("10.244.2.0/24 overlaps this node's pod range 10.244.2.0/23"), "{log}");
}

#[test]
fn pods_get_the_mtu_that_tunnels_leave() {
    let [mut one, _two] = nodes("underlay_address = [\"ADDRESS\"]");
    assert_eq!(one.client().config().unwrap().mtu.get(), 1450);
    one.kill();
    must(&one.node, "ip link set up0 mtu 9000");
    one.start();
    assert_eq!(one.client().config().unwrap().mtu.get(), 8950);
    must(&one.node, "ip link show podswitch0").has("mtu 8950");
    one.kill();
    must(&one.node, "ip link set up0 mtu 1300");
    let said = call(&one.node, &format!("{PODSWITCH} run --config {}", one.configuration().display()));
    assert!(!said.success);
    said.has("mtu: 1250 is too small for the IPv6 range");
}

/// A thousand come and go each second, and once more as fast as the switch takes them; nothing is lost meanwhile.
#[test]
fn traffic_flows_while_neighbours_come_and_go() {
    let seconds = if std::env::var_os("PODSWITCH_DEEP").is_some() { 60 } else { 2 };
    let [one, two] = nodes("underlay_address = [\"ADDRESS\"]");
    tell(&one, &two, (Backend::Vxlan, Underlay::V4));
    tell(&two, &one, (Backend::Vxlan, Underlay::V4));
    let (a, b) = (one.pod(2), two.pod(2));
    let ending = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = EndOnDrop(&ending);
        let sockets = [udp(&a, a.v4(), 7001), udp(&b, b.v4(), 7002)];
        let answered = scope.spawn(|| ask_and_answer(sockets, &b, &ending));
        let streamed = scope.spawn(|| {
            let rounds = std::iter::from_fn(|| (!ending.load(Ordering::Relaxed)).then_some(()));
            rounds.map(|()| exchange(&connection(&a, &b, b.v6()), MIB)).count()
        });
        let span = Duration::from_secs(seconds);
        let paced = turn_over(&one, span, Some(Duration::from_millis(BATCH as u64)));
        let flat_out = turn_over(&one, span.min(Duration::from_secs(5)), None);
        drop(end);
        let (answered, streamed) = (answered.join().unwrap(), streamed.join().unwrap());
        println!("added and removed each second: {paced:.0}, as fast as it goes {flat_out:.0}");
        println!("meanwhile {answered} datagrams answered, {streamed} streams of 1 MiB both ways");
        assert!(answered > 0 && streamed > 0);
    });
    assert_eq!(one.client().neighbors().unwrap().len(), 2);
    ping(&a, b.v4());
    let dropped = one.settled().dropped;
    assert!(dropped.keys().all(|reason| ["mld", "igmp", "router_solicitation"].contains(&&**reason)), "{dropped:?}");
}

/// Changes neighbours by batches for a time, one every `pace`; how many came, and as many went, each second.
fn turn_over(rig: &Rig, span: Duration, pace: Option<Duration>) -> f64 {
    let (start, mut batches) = (Instant::now(), 0);
    let mut there: Vec<Neighbor> = Vec::new();
    while start.elapsed() < span {
        let add: Vec<Neighbor> = (0..BATCH).map(|number| nth(batches % 2 * BATCH + number)).collect();
        let delete = there.iter().map(gone).collect();
        there.clone_from(&add);
        change(rig, ChangeNeighbors { add, delete });
        batches += 1;
        if let Some(pace) = pace {
            thread::sleep((pace * batches as u32).saturating_sub(start.elapsed()));
        }
    }
    change(rig, ChangeNeighbors { delete: there.iter().map(gone).collect(), ..Default::default() });
    (batches * BATCH) as f64 / start.elapsed().as_secs_f64()
}

/// Datagrams one after the other, each answered by the other pod: one that is lost is waited for in vain.
fn ask_and_answer([asker, answerer]: [UdpSocket; 2], to: &Pod, ending: &AtomicBool) -> u64 {
    let mut questions = 0u64;
    while !ending.load(Ordering::Relaxed) {
        let question = questions.to_be_bytes();
        asker.send_to(&question, (to.v4(), 7002)).unwrap();
        let (heard, from) = receive(&answerer);
        assert_eq!(heard, question);
        answerer.send_to(&question, from).unwrap();
        assert_eq!(receive(&asker).0, question);
        questions += 1;
    }
    questions
}

/// One of many, behind one of two hundred nodes.
fn nth(number: usize) -> Neighbor {
    let (high, low) = (100 + number / 256, number % 256);
    neighbor(&format!("10.{high}.{low}.0/24"), &format!("192.168.9.{}", 3 + number % 200), Backend::Vxlan)
}

fn neighbor(subnet: &str, via: &str, backend: Backend) -> Neighbor {
    let mac = (backend == Backend::Vxlan).then_some(Mac([2, 0x76, 0, 0, 0, 9]));
    Neighbor { subnet: subnet.parse().unwrap(), via: via.parse().unwrap(), backend, mac, origin: Origin::Cli }
}

fn gone(neighbor: &Neighbor) -> DeleteNeighbor {
    DeleteNeighbor { subnet: neighbor.subnet, origin: neighbor.origin, force: false }
}

/// How many come and go by one change.
const BATCH: usize = 100;
