//! A routing daemon of the node's own, BIRD, which knows nothing of the switch: routes of pods stand in the host's table, and what
//! the host's table leads to is where pods' packets go.

use std::fs;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

use crate::cluster::{Cluster, Node, must, ping};
use crate::rig::until;

/// BIRD on a node; it ends with this.
struct Bird(Child);

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Bird {
    /// Speaks BGP with the other node, of what the host's table has of pods.
    fn on(node: &Node, other: u8) -> Bird {
        let number = node.number;
        let text = format!(
            "log stderr all;\nrouter id 192.168.9.{number};\nprotocol device {{ scan time 1; }}\nprotocol direct {{ ipv4; }}\n\
             protocol kernel {{ learn; scan time 1; ipv4 {{ import where net ~ [10.244.0.0/16+]; export where source = RTS_BGP; }}; }}\n\
             protocol bgp {{ local 192.168.9.{number} as 65000; neighbor 192.168.9.{other} as 65000; connect delay time 1; \
             connect retry time 1; ipv4 {{ import all; export where net ~ [10.244.0.0/16+]; next hop self; }}; }}\n"
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
    let birds = [Bird::on(&one, 2), Bird::on(&two, 1)];
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
