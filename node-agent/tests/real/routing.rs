//! A routing daemon of the node's own, BIRD, which knows nothing of the switch: routes of pods stand in the host's table, and what
//! the host's table leads to is where pods' packets go, by way of the host or, with `import_routes`, of the switch.

use std::fs;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

use control::{Backend, NeighborView, Origin};

use crate::cluster::{Cluster, Node, must, ping};
use crate::rig::{until, until_is};

/// BIRD on a node; it ends with this.
struct Bird(Child);

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bird {
    /// Speaks BGP with the other node, of what the host's table has of some prefixes.
    fn on(node: &Node, other: u8, told: &str) -> Bird {
        let number = node.number;
        let text = format!(
            "log stderr all;\nrouter id 192.168.9.{number};\nprotocol device {{ scan time 1; }}\nprotocol direct {{ ipv4; }}\n\
             protocol kernel {{ learn; scan time 1; ipv4 {{ import where net ~ [10.244.0.0/16+]; export where source = RTS_BGP; }}; }}\n\
             protocol bgp {{ local 192.168.9.{number} as 65000; neighbor 192.168.9.{other} as 65000; connect delay time 1; \
             connect retry time 1; ipv4 {{ import all; export where net ~ [{told}]; next hop self; }}; }}\n"
        );
        let [conf, socket, pid] = ["bird.conf", "bird.ctl", "bird.pid"].map(|name| node.path(name));
        fs::write(&conf, text).unwrap();
        let log = fs::File::create(node.path("bird.log")).unwrap();
        let mut command = Command::new("bird");
        command.arg("-f").arg("-c").arg(conf).arg("-s").arg(socket).arg("-P").arg(pid).env("PATH", path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Bird(node.namespace.run(|| command.spawn()).unwrap().expect("bird is missing: `make deps`"))
    }
}

/// Debian has daemons where not everybody looks.
fn path() -> String {
    format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default())
}

#[test]
fn a_routing_daemon_of_the_node_joins_pods_of_nodes_that_no_tunnel_joins() {
    let cluster = Cluster::new();
    let network = "{ Network = \"10.244.0.0/16\", Backend = { Type = \"alloc\" } }";
    let (one, two) = (cluster.node(1, network), cluster.node(2, network));
    for node in [&one, &two] {
        node.until_ready(0);
        must(&node.namespace, "sysctl -q -w net.ipv4.conf.all.forwarding=1");
    }
    let (a, b) = (one.pod(), two.pod());
    let route = |node: &Node, to: IpAddr| must(&node.namespace, &format!("ip route show match {to}"));
    assert!(!route(&one, b.address).contains("192.168.9.2"), "nobody has told of the other node yet");
    let birds = [Bird::on(&one, 2, "10.244.0.0/16+"), Bird::on(&two, 1, "10.244.0.0/16+")];
    for (node, to, via) in [(&one, b.address, "192.168.9.2"), (&two, a.address, "192.168.9.1")] {
        until("BIRD's route", || {
            let found = route(node, to);
            (found.contains(via) && found.contains("proto bird")).then_some(())
        });
    }
    ping(&a.namespace, b.address);
    ping(&b.namespace, a.address);
    // What BIRD takes back is gone for pods too: the route is not kept anywhere else.
    drop(birds);
    must(&one.namespace, "ip route flush proto bird");
    let mut command = Command::new("ping");
    command.args(["-n", "-q", "-c", "1", "-W", "1", &b.address.to_string()]).stdout(Stdio::null());
    assert!(!a.namespace.run(|| command.status()).unwrap().unwrap().success());
}

const VXLAN: &str = "{ Network = \"10.244.0.0/16\", Backend = { Type = \"vxlan\" } }";
const IMPORT: &str = "import_routes = true\n";

/// Neighbours of a switch that come from routes, not from leases.
fn imported(node: &Node) -> Vec<NeighborView> {
    let all = node.client().neighbors().unwrap();
    all.into_iter().filter(|neighbor| neighbor.origin == Origin::HostImport).collect()
}

/// Routes of a switch that the host had first.
fn routes(node: &Node) -> Vec<String> {
    let all = node.client().routes().unwrap().into_iter();
    let ours = all.filter(|route| route.origin == Some(Origin::HostImport));
    ours.map(|route| format!("{} {}", route.prefix, route.target)).collect()
}

/// The other node's kernel forwards nothing: packets of pods come through the tunnel or not at all.
#[test]
fn what_a_routing_daemon_learns_is_followed_by_the_switch_itself() {
    let cluster = Cluster::new();
    let (mut one, two) = (cluster.node_with(1, VXLAN, IMPORT), cluster.node(2, VXLAN));
    for node in [&one, &two] {
        node.until_ready(1);
        must(&node.namespace, "sysctl -q -w net.ipv4.conf.all.forwarding=0");
    }
    let (a, moved) = (one.pod(), two.foreign_pod("10.244.250.7"));
    must(&two.namespace, "ip route add 10.244.250.0/24 via 169.254.1.1 dev podswitch0 onlink");
    let birds = [Bird::on(&one, 2, "10.244.250.0/24"), Bird::on(&two, 1, "10.244.250.0/24")];
    let lease = one.client().neighbors().unwrap().remove(0);
    let expected = NeighborView { subnet: "10.244.250.0/24".parse().unwrap(), origin: Origin::HostImport, ..lease };
    assert_eq!(expected.backend, Backend::Vxlan);
    until_is(&vec![expected.clone()], || imported(&one));
    let told = must(&one.namespace, "ip route show 10.244.250.0/24");
    assert!(told.contains("proto bird") && told.lines().count() == 1, "the host's routes stay as they were: {told}");
    ping(&a.namespace, moved.address);
    ping(&moved.namespace, a.address);
    // An agent that starts anew takes nothing back before it knows what the host has.
    one.kill_agent();
    one.start_agent();
    until("an agent that is ready", || {
        assert_eq!(imported(&one), std::slice::from_ref(&expected));
        (one.status()?["neighbors"] == 2).then_some(())
    });
    one.kill_agent();
    one.kill_switch();
    one.start_switch();
    assert_eq!(imported(&one), [expected]);
    one.start_agent();
    one.until_ready(2);
    ping(&a.namespace, moved.address);
    drop(birds);
    must(&one.namespace, "ip route flush proto bird");
    until_is(&vec![], || imported(&one));
    one.until_ready(1);
}

#[test]
fn routes_of_the_host_come_and_go_with_it_and_those_that_cannot_be_are_shown() {
    let cluster = Cluster::new();
    let (mut one, two) = (cluster.node_with(1, VXLAN, IMPORT), cluster.node(2, VXLAN));
    [&one, &two].into_iter().for_each(|node| node.until_ready(1));
    let a = one.pod();
    let [here, there] = [&one, &two].map(|node| node.subnet().address().to_string());
    let (part, taken) = (here.replace(".0", ".200"), a.address);
    let theirs = there.replace(".0", ".128") + "/25";
    must(&one.namespace, "ip nexthop add id 7 via 192.168.9.2 dev eth0");
    let all = [
        "blackhole 10.244.252.0/24".to_owned(),
        format!("{part}/32 via 192.168.9.2"),
        "10.244.253.0/24 via 192.168.9.254".to_owned(),
        "10.244.251.0/24 nhid 7".to_owned(),
        format!("{taken}/32 via 192.168.9.2"),
        format!("{theirs} via 192.168.9.254"),
        "203.0.113.0/24 via 192.168.9.2".to_owned(),
    ];
    all.iter().for_each(|route| drop(must(&one.namespace, &format!("ip route add {route}"))));
    let mut expected =
        vec![format!("{part}/32 host"), "10.244.252.0/24 blackhole".to_owned(), "10.244.253.0/24 host".to_owned()];
    expected.sort();
    until_is(&expected, || {
        let mut found = routes(&one);
        found.sort();
        found
    });
    let by_object = imported(&one);
    assert_eq!(by_object.iter().map(|one| one.subnet.to_string()).collect::<Vec<_>>(), ["10.244.251.0/24"]);
    let status =
        until("what cannot be", || one.status().filter(|status| !status["refused"].as_array().unwrap().is_empty()));
    assert!(status["refused"][0]["why"].as_str().unwrap().contains("endpoint pod's own address"), "{status}");
    let passed_over = status["passed_over"][0]["key"].as_str().unwrap();
    assert!(passed_over.starts_with(&theirs), "{status}");
    assert_eq!(status["routes"], 3);
    all.iter().for_each(|route| drop(must(&one.namespace, &format!("ip route del {route}"))));
    until_is(&(vec![], vec![]), || (routes(&one), imported(&one)));
    // Without the setting nothing is left of it.
    must(&one.namespace, &format!("ip route add {}", all[0]));
    until_is(&1, || routes(&one).len());
    one.kill_agent();
    let config = one.path("agent.toml");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace(IMPORT, "")).unwrap();
    one.start_agent();
    until_is(&0, || routes(&one).len());
    one.until_ready(1);
}
