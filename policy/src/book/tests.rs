use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::rule::{Match, Order, Protocol, Side};
use crate::selector::Selector;
use crate::tuple::{Addresses, Transport};

fn endpoint(name: &str, app: &str, address: [u8; 4], is_local: bool) -> Endpoint {
    Endpoint {
        name: name.into(),
        labels: [("app".into(), app.into())].into(),
        profiles: Vec::new(),
        addresses: vec![IpAddr::from(address)],
        ports: Vec::new(),
        is_local,
    }
}

fn from(selector: Selector) -> Match {
    Match { source: Side { selector: Some(selector), ..Side::default() }, ..Match::default() }
}

fn to_port(mut matches: Match, port: u16) -> Match {
    matches.destination.ports = vec![Ports::Range(port, port)];
    matches
}

fn policy(name: &str, applies_to: Selector, ingress: Vec<Match>) -> Policy {
    let rules = ingress.into_iter().map(|matches| Rule { action: Action::Allow, matches });
    Policy {
        name: name.into(),
        tier: "default".into(),
        order: Order(None),
        applies_to,
        ingress: Some(rules.collect()),
        egress: None,
    }
}

fn tcp(source: [u8; 4], destination: [u8; 4], port: u16) -> Tuple {
    let addresses = Addresses::V4 { source: Ipv4Addr::from(source), destination: Ipv4Addr::from(destination) };
    Tuple { addresses, protocol: Protocol::TCP, transport: Transport::Ports { source: 9999, destination: port } }
}

/// Whether it may come in, by the program; the facts say so too.
fn enters(book: &Book, name: &str, tuple: Tuple) -> bool {
    let verdict = book.programs(name).expect("it is local").ingress.decide(book.peers(), &tuple);
    let explained = book.explain(name, Direction::Ingress, &tuple).expect("it is there");
    assert_eq!((verdict.allow, book.cause(verdict.by)), (explained.allow, Some(explained.by)), "{tuple}");
    verdict.allow
}

const WEB: [u8; 4] = [10, 0, 0, 1];
const DATABASE: [u8; 4] = [10, 0, 0, 2];

fn shop() -> Book {
    let mut book = Book::new();
    book.set_endpoint(endpoint("shop/web", "web", WEB, true));
    book.set_endpoint(endpoint("shop/database", "database", DATABASE, true));
    let database = Selector::equals("app", "database");
    book.set_policy(policy("database", database, vec![to_port(from(Selector::equals("app", "web")), 5432)]))
        .expect("nothing is backwards");
    book.compile();
    book
}

#[test]
fn what_no_policy_selects_is_open_and_what_one_selects_is_closed_but_for_its_rules() {
    let book = shop();
    assert!(enters(&book, "shop/web", tcp(DATABASE, WEB, 1)));
    assert!(enters(&book, "shop/database", tcp(WEB, DATABASE, 5432)));
    assert!(!enters(&book, "shop/database", tcp(WEB, DATABASE, 5433)));
    assert!(!enters(&book, "shop/database", tcp([10, 0, 0, 3], DATABASE, 5432)));
}

#[test]
fn a_pod_like_others_changes_addresses_and_no_program() {
    let mut book = shop();
    book.set_endpoint(endpoint("shop/web-2", "web", [10, 0, 0, 3], false));
    let changes = book.compile();
    assert!(changes.peers && changes.programs.is_empty());
    assert!(enters(&book, "shop/database", tcp([10, 0, 0, 3], DATABASE, 5432)));
    book.remove_endpoint("shop/web-2");
    let changes = book.compile();
    assert!(changes.peers && changes.programs.is_empty() && changes.gone.is_empty());
    assert!(!enters(&book, "shop/database", tcp([10, 0, 0, 3], DATABASE, 5432)));
    let changes = book.compile();
    assert!(!changes.peers && changes.programs.is_empty());
}

#[test]
fn pods_with_the_same_rules_share_a_program() {
    let mut book = shop();
    book.set_endpoint(endpoint("shop/database-2", "database", [10, 0, 0, 4], true));
    let changes = book.compile();
    assert_eq!(changes.programs.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["shop/database-2"]);
    let [one, other] = ["shop/database", "shop/database-2"].map(|name| book.programs(name).expect("it is local"));
    assert!(Arc::ptr_eq(&one.ingress, &other.ingress) && Arc::ptr_eq(&one.egress, &other.egress));
}

#[test]
fn a_policy_of_a_tier_that_nobody_told_of_closes_until_the_tier_comes() {
    let mut book = shop();
    let mut early = policy("early", Selector::All, Vec::new());
    early.tier = "early".into();
    book.set_policy(early).expect("it has no rules");
    book.compile();
    assert!(!enters(&book, "shop/web", tcp(DATABASE, WEB, 1)));
    // Behind the tier `default`, which nobody told of either, by name.
    assert!(enters(&book, "shop/database", tcp(WEB, DATABASE, 5432)));
    book.set_tier(Tier { name: "early".into(), order: Order(Some(1.0)), otherwise: Action::Pass }).expect("it passes");
    book.compile();
    assert!(enters(&book, "shop/web", tcp(DATABASE, WEB, 1)));
}

#[test]
fn a_number_of_a_rule_that_is_gone_means_nothing() {
    let mut book = shop();
    let tuple = tcp(WEB, DATABASE, 5432);
    let by = book.programs("shop/database").expect("it is local").ingress.decide(book.peers(), &tuple).by;
    assert_eq!(book.cause(by).expect("a rule").to_string(), "ingress rule 0 of database in tier default");
    book.remove_policy("database");
    let changes = book.compile();
    assert_eq!(changes.programs.len(), 1);
    assert_eq!(book.cause(by), None);
    assert!(enters(&book, "shop/database", tuple));
}

#[test]
fn bad_rules_are_refused_with_the_way_out_and_change_nothing() {
    let mut book = shop();
    let mut backwards = policy("database", Selector::All, vec![Match::default(), Match::default()]);
    backwards.ingress.as_mut().expect("it has some")[1].matches.destination.ports = vec![Ports::Range(90, 80)];
    let error = book.set_policy(backwards).expect_err("90 is behind 80");
    assert_eq!(error.to_string(), "database: rule 1 has the port range 90-80, which is backwards: write 80-90");
    let many = policy("many", Selector::All, vec![Match::default(); RULES_MAX + 1]);
    assert!(matches!(book.set_policy(many), Err(Error::TooManyRules { count, .. }) if count == RULES_MAX + 1));
    let tier = Tier { name: "t".into(), order: Order(None), otherwise: Action::Allow };
    assert!(book.set_tier(tier).expect_err("it allows").to_string().starts_with("tier t is to allow at its end"));
    assert!(book.compile().programs.is_empty());
    assert!(enters(&book, "shop/database", tcp(WEB, DATABASE, 5432)));
}

#[test]
fn ten_thousand_policies_at_once_for_one_pod_agree_with_the_rules() {
    let mut book = Book::new();
    book.set_endpoint(endpoint("all", "all", WEB, true));
    for number in 0..100_u8 {
        book.set_endpoint(endpoint(
            &format!("peer{number}"),
            &format!("app{}", number % 10),
            [10, 1, 0, number],
            false,
        ));
    }
    for number in 0..10_000_u16 {
        // Half of them choose some peers, in ever other words; all look at a port of their own.
        let app = Selector::equals("app", format!("app{}", number % 10));
        let selector = Selector::or([app, Selector::equals("other", number.to_string())]);
        let matches = if number % 2 == 0 { from(selector) } else { Match::default() };
        book.set_policy(policy(&format!("policy{number:05}"), Selector::All, vec![to_port(matches, number)]))
            .expect("nothing is backwards");
    }
    book.compile();
    let allowed = (0..100).filter(|&round| {
        let source = [10, 1, 0, (round * 7 % 110) as u8];
        enters(&book, "all", tcp(source, WEB, round * 101))
    });
    assert!((30..80).contains(&allowed.count()));
    for number in 0..10_000 {
        book.remove_policy(&format!("policy{number:05}"));
    }
    book.compile();
    assert!(enters(&book, "all", tcp([10, 1, 0, 1], WEB, 1)));
    assert_eq!(book.classes(), 2);
}

#[test]
fn a_peer_for_whom_many_tests_hold_is_looked_up_in_sets_of_bits() {
    let mut book = Book::new();
    book.set_endpoint(endpoint("all", "all", WEB, true));
    book.set_endpoint(endpoint("peer", "peer", DATABASE, false));
    let rules = (0..200).map(|number| {
        let selector = Selector::or([Selector::equals("app", "peer"), Selector::equals("other", number.to_string())]);
        to_port(from(selector), 1000 + number)
    });
    book.set_policy(policy("many", Selector::All, rules.collect())).expect("nothing is backwards");
    book.compile();
    assert!((990..1210).all(|port| enters(&book, "all", tcp(DATABASE, WEB, port)) == (1000..1200).contains(&port)));
    assert!(!enters(&book, "all", tcp([10, 9, 9, 9], WEB, 1000)));
}
