//! Leases in a real etcd: taken, kept, raced for, stolen, watched.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use agent::claim::{Held, Standing, acquire, keep};
use agent::lease::Attributes;
use agent::network::Network;
use agent::store::{Etcd, EtcdSettings, Store, listener};
use agent::view::{Update, View};

use crate::rig::{PATIENCE, Security, Server, until};

const NETWORK: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
pub(crate) const PREFIX: &str = "/coreos.com/network";

fn network() -> Network {
    NETWORK.parse().unwrap()
}

fn said(last: u8) -> Attributes {
    Attributes::of(network().backend, [192, 168, 9, last].into(), None)
}

fn take(store: &mut Etcd, last: u8) -> Held {
    acquire(store, &network(), &said(last), None).unwrap()
}

#[test]
fn keys_and_values_are_what_flannel_reads_and_writes() {
    let server = Server::new();
    let mut store = server.store(PREFIX);
    assert_eq!(store.network().unwrap(), None);
    store.offer_network(NETWORK).unwrap();
    store.offer_network("{}").unwrap();
    assert_eq!(server.etcdctl(&["get", "--print-value-only", "/coreos.com/network/config"]), NETWORK);
    let held = take(&mut store, 1);
    let written = server.etcdctl(&["get", "--prefix", "/coreos.com/network/subnets"]);
    let mac = said(1).vxlan(false).unwrap().mac;
    let value = format!(
        r#"{{"PublicIP":"192.168.9.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
    );
    assert_eq!(written, format!("/coreos.com/network/subnets/{}\n{value}", held.subnets));
    let lease = server.etcdctl(&["get", "-w", "json", "--prefix", "/coreos.com/network/subnets"]);
    let lease: serde_json::Value = serde_json::from_str(&lease).unwrap();
    let lease = lease["kvs"][0]["lease"].as_i64().expect("the key hangs on a lease");
    assert!(server.etcdctl(&["lease", "timetolive", &format!("{lease:x}")]).contains("granted with TTL(60s)"));
}

#[test]
fn nodes_that_race_never_share_a_subnet() {
    let server = Server::new();
    let few = NETWORK.replace("/16\"", "/16\",\"SubnetMax\":\"10.5.12.0\"");
    let racers: Vec<_> = (1..=8)
        .map(|racer| {
            let (few, settings) = (few.clone(), server.settings(""));
            thread::spawn(move || -> Vec<Held> {
                let network: Network = few.parse().unwrap();
                let round = |round: usize| {
                    let settings = EtcdSettings { prefix: format!("/round-{round}"), ..settings.clone() };
                    acquire(&mut Etcd::new(settings).unwrap(), &network, &said(racer), None).unwrap()
                };
                (0..100).map(round).collect()
            })
        })
        .collect();
    let held: Vec<Vec<Held>> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
    for round in 0..100 {
        let subnets: BTreeSet<_> = held.iter().map(|held| held[round].subnets).collect();
        assert_eq!(subnets.len(), 8, "round {round}");
        let written = server.store(&format!("/round-{round}")).leases().unwrap();
        assert_eq!(written.len(), 8);
        assert!(held.iter().all(|held| written[&held[round].subnets.to_string()] == held[round].text));
    }
}

#[test]
fn a_lease_that_somebody_writes_over_is_told_and_left_and_taken_again_when_it_is_free() {
    let server = Server::new();
    let mut store = server.store(PREFIX);
    let held = take(&mut store, 1);
    let key = format!("{PREFIX}/subnets/{}", held.subnets);
    let mut keep = || keep(&mut store, &held, &said(1)).unwrap();
    assert_eq!(keep(), Standing::Kept);
    server.etcdctl(&["put", &key, &said(7).text()]);
    for _ in 0..2 {
        let Standing::Lost(why) = keep() else { panic!("it is another's") };
        assert!(why.contains("192.168.9.7"), "{why}");
    }
    assert_eq!(server.etcdctl(&["get", "--print-value-only", &key]), said(7).text());
    server.etcdctl(&["del", &key]);
    assert_eq!(keep(), Standing::Regained);
    assert_eq!(server.etcdctl(&["get", "--print-value-only", &key]), held.text);
    server.etcdctl(&["put", &key, "nonsense"]);
    assert_eq!(keep(), Standing::Regained);
    assert_eq!(keep(), Standing::Kept);
}

#[test]
fn a_lease_lasts_while_it_is_renewed_and_a_reservation_for_ever() {
    let server = Server::new();
    let mut store = Etcd::new(EtcdSettings { lease: Duration::from_secs(2), ..server.settings(PREFIX) }).unwrap();
    let (kept, left) = (take(&mut store, 1), take(&mut store, 2));
    let reserved = format!("{PREFIX}/subnets/10.5.200.0-24");
    server.etcdctl(&["put", &reserved, &said(3).text().replace("vxlan", "udp")]);
    let held = take(&mut store, 3);
    assert_eq!(held.subnets.to_string(), "10.5.200.0-24");
    assert_eq!(keep(&mut store, &held, &said(3)).unwrap(), Standing::Kept);
    until("the end of the lease that is not renewed", || {
        assert_eq!(keep(&mut store, &kept, &said(1)).unwrap(), Standing::Kept);
        store.lease(&left.subnets.to_string()).unwrap().is_none().then_some(())
    });
    assert_eq!(server.etcdctl(&["get", "--print-value-only", &reserved]), said(3).text());
    let shown = server.etcdctl(&["get", "-w", "json", &reserved]);
    assert!(!shown.contains("\"lease\""), "a reservation hangs on no lease: {shown}");
}

#[test]
fn what_is_no_lease_is_passed_over() {
    let server = Server::new();
    for (key, value) in [("10.5.1.0-24", "{"), ("10.5.2.0-24", ""), ("over/there", "{}"), ("10.5.3.0-24", "[1]")] {
        server.etcdctl(&["put", &format!("{PREFIX}/subnets/{key}"), value]);
    }
    let mut store = server.store(PREFIX);
    let held = take(&mut store, 1);
    let view = View::new(store.leases().unwrap());
    assert_eq!((view.entries().len(), view.leases().count()), (5, 1));
    assert_eq!(view.get(&held.subnets.to_string()), Some(&*held.text));
}

/// What a watch has told, put together.
pub(crate) struct Watched {
    receiver: Receiver<Update>,
    view: View,
    troubles: usize,
    resyncs: usize,
}

impl Watched {
    pub(crate) fn new(store: &Etcd) -> Watched {
        let (sender, receiver) = mpsc::channel();
        store.watch(listener(sender, |update| update)).unwrap();
        Watched { receiver, view: View::default(), troubles: 0, resyncs: 0 }
    }

    #[track_caller]
    pub(crate) fn until(&mut self, expected: &BTreeMap<String, String>) {
        loop {
            let shown: BTreeMap<_, _> =
                self.view.entries().map(|(key, entry)| (key.to_owned(), entry.text.clone())).collect();
            if shown == *expected && self.resyncs > 0 {
                return;
            }
            let update = self.receiver.recv_timeout(PATIENCE);
            let update = update.unwrap_or_else(|_| panic!("told {shown:?}, not {expected:?}"));
            self.troubles += usize::from(matches!(update, Update::Trouble(_)));
            self.resyncs += usize::from(matches!(update, Update::All(_)));
            self.view.apply(update);
        }
    }
}

#[test]
fn a_watch_tells_all_and_every_change_and_finds_its_way_back() {
    let mut server = Server::new();
    let store = server.store(PREFIX);
    let put = |server: &Server, key: &str, value: &str| {
        drop(server.etcdctl(&["put", &format!("{PREFIX}/subnets/{key}"), value]))
    };
    put(&server, "a", "1");
    let mut watched = Watched::new(&store);
    let mut expected: BTreeMap<String, String> = [("a".to_owned(), "1".to_owned())].into();
    watched.until(&expected);
    put(&server, "b", "2");
    put(&server, "a", "3");
    expected.extend([("a".to_owned(), "3".to_owned()), ("b".to_owned(), "2".to_owned())]);
    watched.until(&expected);
    server.etcdctl(&["del", &format!("{PREFIX}/subnets/b")]);
    expected.remove("b");
    watched.until(&expected);
    let before = watched.resyncs;
    server.kill();
    server.start(None);
    // Gone and compacted before anybody watches again: only the list can tell.
    server.etcdctl(&["del", &format!("{PREFIX}/subnets/a")]);
    put(&server, "c", "4");
    let shown: serde_json::Value = serde_json::from_str(&server.etcdctl(&["get", "x", "-w", "json"])).unwrap();
    server.etcdctl(&["compact", &shown["header"]["revision"].to_string()]);
    watched.until(&[("c".to_owned(), "4".to_owned())].into());
    assert!(watched.resyncs > before);
}

#[test]
fn who_has_no_right_is_told_and_who_has_one_is_served() {
    let mut server = Server::at("127.0.0.1", 0, Security::Full);
    server = certified(server);
    server.start(None);
    for words in [
        "user add root:rootpw",
        "user add net:netpw",
        "role add net",
        "user grant-role root root",
        "role grant-permission net readwrite /coreos.com/network/ --prefix=true",
        "user grant-role net net",
        "auth enable",
    ] {
        server.etcdctl(&words.split(' ').collect::<Vec<_>>());
    }
    let password = server.file("password");
    std::fs::write(&password, "netpw\n").unwrap();
    let settings = EtcdSettings {
        ca: Some(server.file("ca.crt")),
        identity: Some((server.file("stranger.crt"), server.file("stranger.key"))),
        user: Some(("net".to_owned(), password.clone())),
        ..server.settings(PREFIX)
    };
    let mut store = Etcd::new(settings.clone()).unwrap();
    let held = take(&mut store, 1);
    assert_eq!(keep(&mut store, &held, &said(1)).unwrap(), Standing::Kept);
    let refused = |settings: EtcdSettings| Etcd::new(settings).unwrap().leases().unwrap_err().report();
    let elsewhere = refused(EtcdSettings { prefix: "/elsewhere".to_owned(), ..settings.clone() });
    assert!(elsewhere.contains("permission denied"), "{elsewhere}");
    let anonymous = refused(EtcdSettings { identity: None, ..settings.clone() });
    assert!(anonymous.contains("etcd at https://127.0.0.1"), "{anonymous}");
    let unknown = refused(EtcdSettings { ca: None, ..settings.clone() });
    assert!(unknown.contains("etcd at https://127.0.0.1"), "{unknown}");
    std::fs::write(&password, "wrong\n").unwrap();
    let wrong = refused(settings);
    assert!(wrong.contains("invalid user ID or password"), "{wrong}");
}

/// The same with certificates for it and its clients, and a port.
fn certified(server: Server) -> Server {
    let made = Server::new();
    let port: u16 = made.url().rsplit(':').next().unwrap().parse().unwrap();
    drop((made, server));
    let server = Server::at("127.0.0.1", port, Security::Full);
    let openssl = |line: &str| {
        let mut command = Command::new("openssl");
        let output = command.args(line.split(' ')).current_dir(server.file("")).output().expect("openssl: `make deps`");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let fresh = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!("req -x509 {fresh} -days 30 -subj /CN=ca -keyout ca.key -out ca.crt"));
    let extensions = "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth,clientAuth\n";
    std::fs::write(server.file("extensions"), extensions).unwrap();
    for name in ["server", "root", "stranger"] {
        openssl(&format!("req {fresh} -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        let sign = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extensions";
        openssl(&format!("x509 -req -in {name}.csr {sign} -out {name}.crt"));
    }
    server
}
