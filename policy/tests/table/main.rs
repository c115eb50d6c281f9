//! The truth table, asked of the rules and of programs.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy::labels::Labels;
use policy::read::{self, Object};
use policy::rule::{Direction, Protocol};
use policy::{Addresses, Book, Endpoint, NamedPort, Transport, Tuple};

#[allow(unreachable_pub, reason = "others take the file as theirs")]
mod cases;

use cases::{Case, Pod, Probe};

#[test]
fn rules_and_programs_let_through_what_the_table_says() {
    let cases = cases::cases();
    assert!(cases.len() >= 200, "{} cases", cases.len());
    let (mut passed, mut stopped) = (0, 0);
    for case in &cases {
        let book = book(case);
        for probe in cases::probes() {
            let expected = case.passes(probe);
            let (by_rules, by_programs) = (
                reaches(probe, &|name, direction, tuple| {
                    book.explain(name, direction, tuple).expect("it is there").allow
                }),
                reaches(probe, &|name, direction, tuple| {
                    let programs = book.programs(name).expect("it is local");
                    let program = match direction {
                        Direction::Ingress => &programs.ingress,
                        Direction::Egress => &programs.egress,
                    };
                    program.decide(book.peers(), tuple).allow
                }),
            );
            assert_eq!(by_rules, expected, "by rules: {}: {probe:?}\n{}", case.name, case.documents);
            assert_eq!(by_programs, expected, "by programs: {}: {probe:?}\n{}", case.name, case.documents);
            *(if expected { &mut passed } else { &mut stopped }) += 1;
        }
    }
    assert!(passed > 10_000 && stopped > 10_000, "{passed} got through, {stopped} did not");
}

/// Whether the sender's rules let the packet go, and the receiver's let it in.
fn reaches(probe: Probe, allow: &dyn Fn(&str, Direction, &Tuple) -> bool) -> bool {
    let protocol = match probe.protocol {
        "TCP" => Protocol::TCP,
        "UDP" => Protocol::UDP,
        _ => Protocol::SCTP,
    };
    let addresses = Addresses::new(probe.from.v4(), probe.to.v4()).expect("of one family");
    let tuple = Tuple { addresses, protocol, transport: Transport::Ports { source: 40_000, destination: probe.port } };
    let [from, to] = [probe.from, probe.to].map(Pod::name);
    allow(&from, Direction::Egress, &tuple) && allow(&to, Direction::Ingress, &tuple)
}

/// All of the world, with the policies of a case.
fn book(case: &Case) -> Book {
    let mut book = Book::new();
    for tier in read::standard_tiers() {
        book.set_tier(tier).expect("it denies or passes");
    }
    let mut namespaces: BTreeMap<Arc<str>, Labels> = BTreeMap::new();
    let documents = cases::world() + &case.documents;
    for object in read::read(&documents).unwrap_or_else(|error| panic!("{}: {error}\n{documents}", case.name)) {
        match object {
            Object::Tier(tier) => book.set_tier(tier).expect("it denies or passes"),
            Object::Policy(policy) => book.set_policy(policy).expect("nothing is backwards"),
            Object::Namespace(namespace) => drop(namespaces.insert(namespace.name, namespace.inherited)),
            Object::Pod(pod) => {
                let (namespace, _) = pod.name.split_once('/').expect("a pod has a namespace");
                let inherited = namespaces[namespace].clone();
                let ports = pod.ports.into_iter();
                book.set_endpoint(Endpoint {
                    name: pod.name,
                    labels: pod.labels.into_iter().chain(inherited).collect(),
                    profiles: Vec::new(),
                    addresses: pod.addresses,
                    ports: ports.map(|(name, protocol, port)| NamedPort { name, protocol, port }).collect(),
                    is_local: true,
                });
            }
            Object::Profile(_) | Object::NetworkSet(_) => panic!("{}: no case has one", case.name),
        }
    }
    book.compile();
    book
}
