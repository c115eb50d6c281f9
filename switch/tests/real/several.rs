//! Several switches on one machine.

use crate::stage::Stage;

#[test]
fn two_switches_of_one_node_keep_to_themselves_and_reach_each_other_by_the_host() {
    let mut stage = Stage::new();
    for (name, range, host_port) in [("one", "10.1.0.0/24", "psw-one"), ("two", "10.2.0.0/24", "psw-two")] {
        let own = format!("--pod-range {range} --state /run/{name} --host-port {host_port}");
        stage.must(&format!("export PODSWITCH_SOCKET=/run/{name}/control.sock"));
        stage.start("podswitch", &own);
        // The same name and the same interface twice: nobody asks the other.
        stage.must(&format!("ip netns add {name}"));
        let address = range.replace("0/24", "2");
        stage.must(&format!("podswitch attach pod --netns {name} --address {address}"));
    }
    stage.must("podswitch show ports --socket /run/one/control.sock | grep 10.1.0.2");
    let looked_at = stage.run("env -u PODSWITCH_SOCKET podswitch doctor --state /run/one --host-port psw-one").text;
    assert!(looked_at.contains("complete on 2 ports"), "{looked_at}");
    stage.must("ip netns exec one ping -n -c 1 -w 10 10.2.0.2");
    stage.must("ip netns exec two ping -n -c 1 -w 10 10.1.0.2");
    stage.must("ip netns exec two ping -n -c 1 -w 10 169.254.1.1");

    // One crashes and is cleaned up after, then the other ends; neither takes anything along.
    stage.must("kill -KILL %1; wait %1; ip link show psw-one");
    stage.must("podswitch purge --yes --state /run/one --socket /run/one/control.sock --host-port psw-one");
    assert_eq!(stage.must("ip route show proto 112 10.1.0.0/24; ls -d /run/one || true").matches("10.1").count(), 0);
    stage.must("ping -n -c 1 -w 10 10.2.0.2");
    assert!(stage.must("ip route show proto 112 10.2.0.0/24").contains("unreachable"));
    stage.must("podswitch purge --yes --state /run/two --host-port psw-two");
    assert_eq!(stage.must("ip -o link").matches("psw-").count(), 0);
}

#[test]
fn two_switches_in_two_namespaces_differ_in_nothing_but_their_state() {
    let mut stage = Stage::new();
    for name in ["east", "west"] {
        stage.must(&format!("ip netns add {name} && ip netns add pod-{name} && ip -n {name} link set lo up"));
        stage.must(&format!("export PODSWITCH_SOCKET=/run/{name}/control.sock"));
        let node = format!("ip netns exec {name} podswitch");
        stage.start(&node, &format!("--pod-range 10.244.0.0/24 --state /run/{name}"));
        stage.must(&format!("podswitch attach pod --netns pod-{name} --address 10.244.0.2"));
    }
    for name in ["east", "west"] {
        stage.must(&format!("ip netns exec {name} ping -n -c 1 -w 10 10.244.0.2"));
        stage.must(&format!("ip netns exec pod-{name} ping -n -c 1 -w 10 10.244.0.1"));
    }
    stage.must("ip netns exec east podswitch purge --yes --state /run/east --socket /run/east/control.sock");
    stage.must("ip netns exec west ping -n -c 1 -w 10 10.244.0.2");
    assert!(!stage.must("ip -n east -o link").contains("podswitch0"));
}
