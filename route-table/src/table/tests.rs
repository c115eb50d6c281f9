use super::*;

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn table(routes: &[(&str, u16)]) -> RouteTable {
    let mut table = RouteTable::new();
    for &(to, hop) in routes {
        assert_eq!(table.insert(prefix(to), NextHop(hop)), Ok(None));
    }
    table
}

fn lookup(fib: &Fib, to: &str) -> u16 {
    match to.parse().unwrap() {
        IpAddr::V4(to) => fib.lookup4(to.into()).0,
        IpAddr::V6(to) => fib.lookup6(to.into()).0,
    }
}

#[test]
fn an_empty_table_has_no_route() {
    let fib = RouteTable::new().reader();
    assert_eq!((fib.lookup4(0), fib.lookup4(u32::MAX)), (NextHop::NONE, NextHop::NONE));
    assert_eq!((fib.lookup6(0), fib.lookup6(u128::MAX)), (NextHop::NONE, NextHop::NONE));
}

#[test]
fn the_longest_of_nested_prefixes_answers() {
    let fib = table(&[
        ("0.0.0.0/0", 1),
        ("10.0.0.0/8", 2),
        ("10.244.0.0/16", 3),
        ("10.244.1.0/24", 4),
        ("10.244.1.64/26", 5),
        ("10.244.1.70/32", 6),
    ])
    .reader();
    let answers = ["11.0.0.0", "10.243.255.255", "10.244.0.0", "10.244.1.128", "10.244.1.71", "10.244.1.70"];
    assert_eq!(answers.map(|to| lookup(&fib, to)), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn the_longest_of_nested_prefixes_answers_whatever_the_order_of_insertion() {
    let fib =
        table(&[("fd00::1:0/127", 5), ("fd00::/64", 3), ("fd00::1:1/128", 6), ("fd00::/16", 2), ("::/0", 1)]).reader();
    let answers = ["fe00::", "fd00:1::", "fd00::2:0", "fd00::1:0", "fd00::1:1"];
    assert_eq!(answers.map(|to| lookup(&fib, to)), [1, 2, 3, 5, 6]);
}

#[test]
fn removal_restores_the_covering_route() {
    let mut table =
        table(&[("10.0.0.0/8", 1), ("10.244.0.0/22", 2), ("10.244.1.64/26", 3), ("fc00::/7", 4), ("fd00::1/128", 5)]);
    let fib = table.reader();
    assert_eq!(table.remove(prefix("10.244.1.64/26")), Some(NextHop(3)));
    assert_eq!(lookup(&fib, "10.244.1.70"), 2);
    assert_eq!(table.remove(prefix("10.244.0.0/22")), Some(NextHop(2)));
    assert_eq!(lookup(&fib, "10.244.1.70"), 1);
    assert_eq!(table.remove(prefix("10.0.0.0/8")), Some(NextHop(1)));
    assert_eq!(lookup(&fib, "10.244.1.70"), 0);
    assert_eq!(table.remove(prefix("fd00::1/128")), Some(NextHop(5)));
    assert_eq!(lookup(&fib, "fd00::1"), 4);
}

#[test]
fn removing_a_covering_route_leaves_the_longer_ones() {
    let mut table = table(&[("10.0.0.0/8", 1), ("10.244.1.64/26", 3), ("0.0.0.0/0", 9)]);
    table.remove(prefix("10.0.0.0/8"));
    let fib = table.reader();
    assert_eq!(["10.244.1.64", "10.244.1.63", "10.0.0.1"].map(|to| lookup(&fib, to)), [3, 9, 9]);
}

#[test]
fn the_default_route_comes_and_goes_per_family() {
    let mut table = table(&[("10.0.0.0/8", 1), ("0.0.0.0/0", 2)]);
    let fib = table.reader();
    assert_eq!(["10.1.1.1", "11.1.1.1", "::1"].map(|to| lookup(&fib, to)), [1, 2, 0]);
    assert_eq!(table.insert(prefix("0.0.0.0/0"), NextHop(3)), Ok(Some(NextHop(2))));
    assert_eq!(lookup(&fib, "11.1.1.1"), 3);
    assert_eq!(table.remove(prefix("0.0.0.0/0")), Some(NextHop(3)));
    assert_eq!(["10.1.1.1", "11.1.1.1"].map(|to| lookup(&fib, to)), [1, 0]);
}

#[test]
fn the_first_and_last_addresses_are_routed() {
    let all_ones = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let fib =
        table(&[("0.0.0.0/32", 1), ("255.255.255.255/32", 2), ("::/128", 3), (&format!("{all_ones}/128"), 4)]).reader();
    let answers = ["0.0.0.0", "0.0.0.1", "255.255.255.254", "255.255.255.255", "::", "::1", all_ones];
    assert_eq!(answers.map(|to| lookup(&fib, to)), [1, 0, 0, 2, 3, 0, 4]);
}

#[test]
fn a_route_is_exactly_its_prefix() {
    let mut table = table(&[("10.0.0.0/8", 1)]);
    assert_eq!((table.get(prefix("10.0.0.0/8")), table.get(prefix("10.0.0.0/9"))), (Some(NextHop(1)), None));
    assert_eq!(table.remove(prefix("10.0.0.0/9")), None);
    assert_eq!((table.len(), lookup(&table.reader(), "10.0.0.1")), (1, 1));
}

#[test]
fn routes_are_listed_in_order() {
    let table = table(&[("fd00::/8", 1), ("10.1.0.0/16", 2), ("10.0.0.0/16", 3), ("10.0.0.0/8", 4)]);
    let listed: Vec<String> = table.iter().map(|(to, hop)| format!("{to} {}", hop.0)).collect();
    assert_eq!(listed, ["10.0.0.0/8 4", "10.0.0.0/16 3", "10.1.0.0/16 2", "fd00::/8 1"]);
}

#[test]
fn no_next_hop_is_refused() {
    let to = prefix("10.0.0.0/8");
    let mut table = RouteTable::new();
    assert_eq!(table.insert(to, NextHop::NONE), Err(Error::NoNextHop { prefix: to }));
    assert!(table.is_empty());
}

#[test]
fn a_next_hop_too_high_is_refused() {
    let to = prefix("fd00::/8");
    let mut table = RouteTable::new();
    let hop = NextHop(NextHop::MAX.0 + 1);
    assert_eq!(table.insert(to, hop), Err(Error::NextHopTooHigh { prefix: to, hop }));
    assert!(table.is_empty());
}

#[test]
fn a_full_table_refuses_and_is_unchanged() {
    let mut table = RouteTable::with_nodes_max(1);
    let (near, far) = (prefix("10.0.0.1/32"), prefix("10.1.0.1/32"));
    assert_eq!(table.insert(near, NextHop(1)), Ok(None));
    assert_eq!(table.insert(far, NextHop(2)), Err(Error::Full { prefix: far }));
    assert_eq!((table.nodes_used(), table.len(), table.get(far)), (1, 1, None));
    assert_eq!(["10.0.0.1", "10.1.0.1"].map(|to| lookup(&table.reader(), to)), [1, 0]);
    // Routes that need no more than is there still enter.
    assert_eq!(table.insert(prefix("10.0.0.2/32"), NextHop(3)), Ok(None));
    assert_eq!(table.insert(prefix("10.0.0.0/8"), NextHop(4)), Ok(None));
}

#[test]
fn a_full_ipv6_table_refuses_and_is_unchanged() {
    let mut table = RouteTable::with_nodes_max(40);
    let fib = table.reader();
    let block = |number: u128| Prefix::new(Ipv6Addr::from(0xfd00 << 112 | number << 64).into(), 64).unwrap();
    let mut taken = 0;
    let error = loop {
        match table.insert(block(taken as u128), NextHop(1)) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        table.reclaim();
    };
    let to = block(taken as u128);
    assert_eq!(error, Error::Full { prefix: to });
    assert_eq!((table.len(), table.get(to)), (taken, None));
    let IpAddr::V6(at) = to.address() else { unreachable!("an IPv6 prefix") };
    assert_eq!((fib.lookup6(at.to_bits()), fib.lookup6(at.to_bits() - 1)), (NextHop::NONE, NextHop(1)));
    // Another next hop takes no node.
    assert_eq!(table.insert(block(0), NextHop(2)), Ok(Some(NextHop(1))));
    assert_eq!(fib.lookup6(0xfd00_u128 << 112), NextHop(2));
    // It comes empty again, also without room to spare.
    let all: Vec<Prefix> = table.iter().map(|(prefix, _)| prefix).collect();
    for prefix in all {
        table.remove(prefix).unwrap();
        table.reclaim();
    }
    assert_eq!((table.nodes_used(), fib.lookup6(0xfd00_u128 << 112)), (0, NextHop::NONE));
}

#[test]
fn unlinked_nodes_are_free_after_reclaim_and_not_before() {
    let mut table = table(&[("10.0.0.0/8", 1), ("10.0.0.1/32", 2)]);
    table.remove(prefix("10.0.0.1/32"));
    assert_eq!(table.nodes_used(), 1);
    table.reclaim();
    assert_eq!(table.nodes_used(), 0);
}

#[test]
fn a_node_stays_while_one_route_needs_it() {
    // Two halves with one next hop look like their whole, and yet are two routes.
    let mut table = table(&[("10.0.0.0/25", 1), ("10.0.0.128/25", 1), ("10.0.0.0/24", 2)]);
    table.remove(prefix("10.0.0.0/24"));
    table.remove(prefix("10.0.0.0/25"));
    assert_eq!(["10.0.0.0", "10.0.0.128"].map(|to| lookup(&table.reader(), to)), [0, 1]);
    table.remove(prefix("10.0.0.128/25"));
    table.reclaim();
    assert_eq!(table.nodes_used(), 0);
}

#[test]
fn a_handle_outlives_the_table_and_sees_what_came_after_it() {
    let mut table = RouteTable::new();
    let fib = table.reader();
    table.insert(prefix("10.0.0.0/8"), NextHop(1)).unwrap();
    drop(table);
    assert_eq!(lookup(&fib, "10.0.0.1"), 1);
}

#[test]
#[should_panic(expected = "as many answers as addresses")]
fn a_burst_needs_room_for_its_answers() {
    RouteTable::new().reader().lookup4_burst(&[0; 2], &mut [NextHop::NONE; 1]);
}
