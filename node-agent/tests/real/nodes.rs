//! Nodes find each other, and what happens to etcd and to agents does not reach pods.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use agent::lease::Attributes;

use crate::cluster::{Cluster, Node, Pod, SUBNETS, must, namespace, ping};
use crate::rig::{PATIENCE, until, until_is};

const VXLAN: &str = "{ Network = \"10.244.0.0/16\", Backend = { Type = \"vxlan\" } }";

#[test]
fn two_nodes_of_ours_and_one_of_the_kernels_reach_each_others_pods() {
    let cluster = Cluster::new();
    let kernel = cluster.kernel_node(200);
    let (one, two) = (cluster.node(1, VXLAN), cluster.node(2, VXLAN));
    [&one, &two].into_iter().for_each(|node| node.until_ready(2));
    kernel.program(&cluster);
    let (a, b) = (one.pod(), two.pod());
    for (from, to) in
        [(&a.namespace, b.address), (&b.namespace, a.address), (&kernel.pod, a.address), (&kernel.pod, b.address)]
    {
        ping(from, to);
    }
    ping(&a.namespace, kernel.address());
    ping(&kernel.namespace, b.address);
    let subnet = one.subnet();
    let env = std::fs::read_to_string(one.path("subnet.env")).unwrap();
    let router = subnet.net().hosts().next().unwrap();
    assert_eq!(
        env,
        format!("FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET={router}/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n")
    );
    assert_eq!(one.page("/healthz"), "ok\n200");
    assert_eq!(one.page("/readyz"), "ready\n200");
    let metrics = one.page("/metrics");
    for line in ["podswitch_agent_neighbors 2", "podswitch_agent_leases 3", "podswitch_agent_ready 1", "# EOF"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(one.client().neighbors().unwrap().iter().all(|neighbor| neighbor.origin == control::Origin::Agent));
}

/// VNI and port that Calico has.
#[test]
fn streams_pass_between_nodes_whole_with_another_segment_and_port() {
    let cluster = Cluster::new();
    let network = "{ Network = \"10.244.0.0/16\", Backend = { Type = \"vxlan\", VNI = 4096, Port = 4789 } }";
    let (one, two) = (cluster.node(1, network), cluster.node(2, network));
    [&one, &two].into_iter().for_each(|node| node.until_ready(1));
    let config = one.client().config().unwrap();
    assert_eq!(u32::from(config.vxlan_vni), 4096);
    assert!(must(&one.namespace, "ss -Hlnu").contains(":4789 "));
    let (a, b) = (one.pod(), two.pod());
    for (from, to) in [(&a, &b), (&b, &a)] {
        stream(from, to);
    }
}

/// 8 MiB by TCP, each byte of them as it was sent.
fn stream(from: &Pod, to: &Pod) {
    let sent: Vec<u8> = (0..2_u32 << 20).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let address = SocketAddr::new(to.address, 7000);
    let listener = to.namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
    let received = thread::spawn(move || {
        let mut bytes = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut line = from.namespace.run(|| TcpStream::connect(address)).unwrap().unwrap();
    line.set_write_timeout(Some(PATIENCE)).unwrap();
    line.write_all(&sent).unwrap();
    drop(line);
    assert!(received.join().unwrap() == sent, "what was received differs from what was sent");
}

/// Over IPv4, and over IPv6 what is of IPv6.
#[test]
fn pods_of_both_families_reach_each_other() {
    let cluster = Cluster::new();
    let network = "{ Network = \"10.244.0.0/16\", EnableIPv6 = true, IPv6Network = \"fd00:244::/48\", Backend = { Type = \"vxlan\" } }";
    for over_v6 in [false, true] {
        let numbers = if over_v6 { [3, 4] } else { [1, 2] };
        let [one, two] = numbers.map(|number| {
            let own = format!("fd00:9::{number}");
            let more = if over_v6 { format!("public_ipv6 = \"{own}\"\n") } else { String::new() };
            let mut node = cluster.idle_node(number, network, &more);
            must(&node.namespace, &format!("ip address add {own}/64 dev eth0 nodad"));
            node.start();
            node
        });
        [&one, &two].into_iter().for_each(|node| node.until_ready(2));
        for (key, value) in cluster.leases() {
            assert!(key.contains("-24&fd00:244:"), "{key}");
            assert_eq!(value.contains(r#""PublicIPv6":"fd00:9::"#), over_v6, "{value}");
        }
        let env = std::fs::read_to_string(one.path("subnet.env")).unwrap();
        assert!(env.contains("FLANNEL_IPV6_NETWORK=fd00:244::/48\nFLANNEL_IPV6_SUBNET=fd00:244:"), "{env}");
        let ways: Vec<_> = one.client().neighbors().unwrap().iter().map(|way| way.via.is_ipv6()).collect();
        assert_eq!(ways, [false, over_v6]);
        let (a, b) = (one.pod(), two.pod());
        for (from, to) in [(&a, &b), (&b, &a)] {
            ping(&from.namespace, to.address);
            ping(&from.namespace, to.address_v6.unwrap());
            // Another node's host speaks to pods too.
            ping(&one.namespace, b.address_v6.unwrap());
        }
        drop((one, two));
        cluster.etcdctl(&["del", "--prefix", SUBNETS]);
    }
}

#[test]
fn nodes_find_each_other_by_every_backend() {
    for (kind, tunnel) in [
        ("\"host-gw\"", false),
        ("\"vxlan\", DirectRouting = true", false),
        ("\"ipip\", DirectRouting = true", false),
        ("\"udp\"", true),
        ("\"ipip\"", true),
    ] {
        let cluster = Cluster::new();
        let network = VXLAN.replace("\"vxlan\"", kind);
        let (one, two) = (cluster.node(1, &network), cluster.node(2, &network));
        for node in [&one, &two] {
            node.until_ready(1);
            must(&node.namespace, &format!("sysctl -q -w net.ipv4.conf.all.forwarding={}", i32::from(!tunnel)));
        }
        let direct = one.client().neighbors().unwrap()[0].backend == control::Backend::HostGw;
        assert_eq!(direct, !tunnel, "{kind}");
        let (a, b) = (one.pod(), two.pod());
        ping(&a.namespace, b.address);
        ping(&b.namespace, a.address);
    }
}

#[test]
fn a_node_whose_address_changes_keeps_its_subnet_and_its_pods_are_found() {
    let cluster = Cluster::new();
    let (mut one, two) = (cluster.node(1, VXLAN), cluster.node(2, VXLAN));
    [&one, &two].into_iter().for_each(|node| node.until_ready(1));
    let (a, b, subnet) = (one.pod(), two.pod(), one.subnet());
    one.kill_agent();
    one.kill_switch();
    must(&one.namespace, "ip address delete 192.168.9.1/24 dev eth0");
    must(&one.namespace, "ip address add 192.168.9.101/24 dev eth0");
    let config = one.path("agent.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"192.168.9.1\"", "\"192.168.9.101\"")).unwrap();
    std::fs::remove_file(one.path("switch.toml")).unwrap();
    one.start();
    one.until_ready(1);
    assert_eq!((one.subnet(), cluster.leases().len()), (subnet, 2));
    until_is(&"192.168.9.101".to_owned(), || two.client().neighbors().unwrap()[0].via.to_string());
    ping(&a.namespace, b.address);
    ping(&b.namespace, a.address);
}

/// Pings go on all the while, and each must be answered.
#[test]
fn pods_do_not_notice_that_etcd_is_away_and_agents_are_killed() {
    let mut cluster = Cluster::new();
    let (mut one, two) = (cluster.node(1, VXLAN), cluster.node(2, VXLAN));
    [&one, &two].into_iter().for_each(|node| node.until_ready(1));
    let (a, b) = (one.pod(), two.pod());
    ping(&a.namespace, b.address);
    let mut command = Command::new("ping");
    command.args(["-n", "-i", "0.02", "-w", "600", &b.address.to_string()]);
    let told = one.path("pings");
    command.stdin(Stdio::null()).stdout(std::fs::File::create(&told).unwrap());
    let mut pings = a.namespace.run(|| command.spawn()).unwrap().unwrap();
    let subnet = one.subnet();
    cluster.server.kill();
    until("the agent's notice", || one.status().filter(|status| !status["store_trouble"].is_null()));
    assert_eq!(one.page("/readyz"), "ready\n200", "what the store said last holds");
    // Restarted while the store is away, it waits for it and leaves the switch alone.
    one.kill_agent();
    one.start_agent();
    until("the agent's notice", || one.status().filter(|status| !status["store_trouble"].is_null()));
    assert_eq!(one.client().neighbors().unwrap().len(), 1);
    let away = if std::env::var_os("PODSWITCH_DEEP").is_some() { 60 } else { 2 };
    thread::sleep(std::time::Duration::from_secs(away));
    cluster.server.start(Some(&cluster.hub));
    one.until_ready(1);
    for _ in 0..10 {
        one.kill_agent();
        one.start_agent();
        one.until_ready(1);
    }
    assert_eq!(one.subnet(), subnet);
    assert_eq!(cluster.leases().len(), 2);
    // What was lost until now leaves a gap before what is answered in this second.
    thread::sleep(std::time::Duration::from_secs(1));
    let pid = nix::unistd::Pid::from_raw(pings.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    pings.wait().unwrap();
    let text = std::fs::read_to_string(told).unwrap();
    let number = |line: &str| line.split_once("icmp_seq=")?.1.split(' ').next()?.parse::<usize>().ok();
    let answered: Vec<usize> = text.lines().filter_map(number).collect();
    assert!(answered.iter().copied().eq(1..=answered.len()), "lost, late or twice: {answered:?}");
    let summary = text.lines().find(|line| line.contains("packets transmitted")).unwrap();
    let sent: usize = summary.split(' ').next().unwrap().parse().unwrap();
    // The last may have been under way when ping was told to end, several where the machine is busy.
    assert!(answered.len() + 25 >= sent && sent > 100, "{summary}");
}

#[test]
fn a_stolen_subnet_is_told_and_pods_go_on_and_none_comes() {
    let cluster = Cluster::new();
    let (mut one, two) = (cluster.node(1, VXLAN), cluster.node(2, VXLAN));
    [&one, &two].into_iter().for_each(|node| node.until_ready(1));
    let (a, b) = (one.pod(), two.pod());
    ping(&a.namespace, b.address);
    let lease = |node: &Node| node.status().unwrap()["subnets"].as_str().unwrap().to_owned();
    let (key, text) = cluster.leases().into_iter().find(|(key, _)| *key == lease(&one)).unwrap();
    let mut other: Attributes = serde_json::from_str(&text).unwrap();
    other.public_ip = [192, 168, 9, 99].into();
    cluster.etcdctl(&["put", &format!("{SUBNETS}{key}"), &other.text()]);
    let trouble = until("the agent's notice", || one.status()?["lease_trouble"].as_str().map(str::to_owned));
    assert!(trouble.contains("192.168.9.99"), "{trouble}");
    assert!(one.page("/readyz").ends_with("503"));
    assert_eq!(one.page("/healthz"), "ok\n200");
    assert_eq!(one.client().neighbors().unwrap().len(), 1, "its pods go on speaking to others");
    one.refuses_pods(&until("the pause", || one.paused().filter(|why| why.contains("192.168.9.99"))));
    assert_eq!(two.paused(), None);
    // It lasts without the agent, and over a start of the switch.
    one.kill_agent();
    one.kill_switch();
    one.start_switch();
    one.refuses_pods("192.168.9.99");
    ping(&one.namespace, a.address);
    cluster.etcdctl(&["del", &format!("{SUBNETS}{key}")]);
    one.start_agent();
    one.until_ready(1);
    two.until_ready(1);
    until_is(&None, || one.paused());
    until_is(&Some(text), || cluster.leases().into_iter().find(|(found, _)| *found == key).map(|(_, text)| text));
    until_is(&192, || match two.client().neighbors().unwrap()[0].via {
        std::net::IpAddr::V4(via) if via.octets()[3] == 1 => via.octets()[0],
        _ => 0,
    });
    ping(&a.namespace, b.address);
}

#[test]
fn a_node_whose_subnet_stays_another_s_takes_a_new_one() {
    let cluster = Cluster::new();
    let (mut one, two) = (cluster.impatient_node(1, VXLAN), cluster.node(2, VXLAN));
    [&one, &two].into_iter().for_each(|node| node.until_ready(1));
    let (a, b) = (one.pod(), two.pod());
    ping(&a.namespace, b.address);
    let stolen = one.subnet();
    let key = one.status().unwrap()["subnets"].as_str().unwrap().to_owned();
    let (_, text) = cluster.leases().into_iter().find(|(found, _)| *found == key).unwrap();
    let mut other: Attributes = serde_json::from_str(&text).unwrap();
    other.public_ip = [192, 168, 9, 99].into();
    cluster.etcdctl(&["put", &format!("{SUBNETS}{key}"), &other.text()]);
    let trouble = until("another subnet", || {
        let status = one.status()?;
        (status["subnets"] != *key).then_some(())?;
        status["switch_trouble"].as_str().map(str::to_owned)
    });
    assert!(trouble.contains("pod_ranges"), "{trouble}");
    assert_eq!(cluster.leases().len(), 3, "the stolen one stays with who took it");
    one.refuses_pods(&until("the pause", || one.paused().filter(|why| why.contains("pod_ranges"))));
    ping(&one.namespace, a.address);
    one.kill_switch();
    one.start_switch();
    until_is(&None, || one.paused());
    assert_ne!(one.subnet(), stolen);
    until("readiness", || one.page("/readyz").ends_with("200").then_some(()));
    let new = one.pod_named("new");
    until("the other node's notice", || {
        two.client().neighbors().unwrap().iter().any(|neighbor| neighbor.subnet == one.subnet()).then_some(())
    });
    ping(&new.namespace, b.address);
    ping(&new.namespace, a.address);
}

#[test]
fn a_switch_that_starts_anew_is_told_all_again_and_what_others_told_it_stays() {
    let cluster = Cluster::new();
    let (mut one, two) = (cluster.node(1, VXLAN), cluster.node(2, VXLAN));
    [&one, &two].into_iter().for_each(|node| node.until_ready(1));
    let by_hand = control::Neighbor {
        subnet: "10.99.0.0/24".parse().unwrap(),
        via: "192.168.9.77".parse().unwrap(),
        backend: control::Backend::Vxlan,
        mac: Some(packet::Mac([2, 0, 0, 0, 0, 9])),
        origin: control::Origin::Cli,
    };
    let change = control::ChangeNeighbors { add: vec![by_hand], delete: Vec::new() };
    one.client().change_neighbors(change.clone()).unwrap();
    one.kill_switch();
    std::fs::remove_dir_all(one.path("state")).unwrap();
    must(&one.namespace, "ip link delete podswitch0");
    one.start_switch();
    one.client().change_neighbors(change).unwrap();
    until("both neighbours", || (one.client().neighbors().unwrap().len() == 2).then_some(()));
    one.until_ready(1);
    // Leases that come, change and go.
    let key = format!("{SUBNETS}10.244.250.0-24");
    let lease = |last: u8| {
        format!(
            r#"{{"PublicIP":"192.168.9.{last}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"02:00:00:00:00:{last:02}"}}}}"#
        )
    };
    let via = || one.client().neighbors().unwrap().iter().map(|one| one.via.to_string()).collect::<Vec<_>>();
    for last in [50, 51] {
        cluster.etcdctl(&["put", &key, &lease(last)]);
        until("the lease", || via().contains(&format!("192.168.9.{last}")).then_some(()));
    }
    cluster.etcdctl(&["put", &key, &lease(1)]);
    until("the lease that names this node's address", || {
        let status = one.status()?;
        let why = status["passed_over"][0]["why"].as_str()?;
        (why.contains("own address") && via().len() == 2).then_some(())
    });
    cluster.etcdctl(&["del", &key]);
    until("its end", || one.status()?["passed_over"].as_array()?.is_empty().then_some(()));
}

#[test]
fn nodes_that_share_a_folder_need_no_service() {
    let folder = tempfile::tempdir().unwrap();
    let node = namespace("psw-node");
    for line in [
        "ip link set lo up",
        "ip link add up0 type bridge",
        "ip address add 192.168.9.1/24 dev up0",
        "ip link set up0 up",
    ] {
        must(&node, line);
    }
    let path = |name: &str| folder.path().join(name).display().to_string();
    let text = format!(
        "folder = \"{}\"\nnetwork = {VXLAN}\npublic_ip = \"192.168.9.1\"\nsocket = \"{}\"\nswitch_config = \"{}\"\n\
         subnet_env = \"{}\"\nremembered = \"{}\"\n",
        path("store"),
        path("socket"),
        path("switch.toml"),
        path("subnet.env"),
        path("lease")
    );
    std::fs::write(folder.path().join("agent.toml"), text).unwrap();
    let agent = env!("CARGO_BIN_EXE_podswitch-agent");
    let mut command = Command::new(agent);
    command.args(["run", "--config", &path("agent.toml")]).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = node.run(|| command.spawn()).unwrap().unwrap();
    until("the switch's configuration", || folder.path().join("switch.toml").exists().then_some(()));
    assert_eq!(std::fs::read_dir(folder.path().join("store/subnets")).unwrap().count(), 1);
    let said = must(&node, &format!("{agent} status"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(said.contains("address         192.168.9.1"), "{said}");
}
