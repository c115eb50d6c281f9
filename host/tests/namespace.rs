//! Namespaces and the settings inside them. Needs root.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process;

use podswitch_host::{Error, Family, Identity, LinkChange, Namespace, Netlink, Sysctl, TemporaryNamespace};

fn namespace() -> TemporaryNamespace {
    TemporaryNamespace::new("host-ns").unwrap_or_else(|error| panic!("this test needs root: {error}"))
}

#[test]
fn a_named_namespace_is_made_entered_and_deleted() {
    let name = format!("host-ns-named-{}", process::id());
    let made = Namespace::create_named(&name).unwrap();
    let path = Path::new("/run/netns").join(&name);
    assert_eq!(made.path(), path);
    assert_eq!(Namespace::named(&name).unwrap().identity(), made.identity());
    assert_ne!(Namespace::current().unwrap().identity(), made.identity());
    let inside = made.run(|| Namespace::current().unwrap().identity()).unwrap();
    assert_eq!(inside, made.identity());

    let taken = Namespace::create_named(&name).unwrap_err();
    assert!(taken.is_exists(), "{taken:?}");
    assert_eq!(Namespace::named(&name).unwrap().identity(), made.identity());

    Namespace::delete_named(&name).unwrap();
    assert!(!path.exists());
    assert!(Namespace::delete_named(&name).unwrap_err().is_missing());
    // The open descriptor still is that namespace.
    assert_eq!(made.run(|| Namespace::current().unwrap().identity()).unwrap(), inside);
}

#[test]
fn a_namespace_is_known_by_what_leads_to_it() {
    let (pod, other) = (namespace(), namespace());
    let (identity, path) = (pod.identity(), pod.path().to_owned());
    assert!(identity.is_at(&path) && !identity.is_at(other.path()) && !identity.is_at(Path::new("/run/netns/none")));
    let is_inhabited = |identity| Identity::inhabited().unwrap().contains(&identity);
    assert!(is_inhabited(identity) && is_inhabited(Namespace::current().unwrap().identity()));
    let cookie = |namespace| Netlink::open_in(namespace).unwrap().namespace_cookie().unwrap();
    assert!(cookie(&pod) == cookie(&pod) && cookie(&pod) != cookie(&other));

    // Without its name it lives on by the one process inside. The descriptor keeps its number from being given anew.
    let _held = Namespace::open(&path).unwrap();
    let mut command = process::Command::new("sleep");
    let mut sleep = pod.run(|| command.arg("60").spawn()).unwrap().unwrap();
    drop(pod);
    assert!(!identity.is_at(&path) && is_inhabited(identity));
    sleep.kill().unwrap();
    sleep.wait().unwrap();
    assert!(!is_inhabited(identity));
}

#[test]
fn a_thread_that_asks_for_another_namespace_stays_where_it_is() {
    let before = Namespace::current().unwrap().identity();
    let other = namespace();
    let links = Netlink::open_in(&other).unwrap().links().unwrap();
    assert_eq!(links.iter().map(|link| (link.name.as_str(), link.up)).collect::<Vec<_>>(), [("lo", true)]);
    assert_eq!(Namespace::current().unwrap().identity(), before);
}

#[test]
fn a_panic_inside_a_namespace_reaches_the_caller() {
    let other = namespace();
    let ended = panic::catch_unwind(AssertUnwindSafe(|| other.run(|| panic!("inside"))));
    assert_eq!(*ended.unwrap_err().downcast::<&str>().unwrap(), "inside");
}

#[test]
fn a_visitor_is_inside_and_comes_back_also_from_a_panic() {
    let (other, home) = (namespace(), Namespace::current().unwrap().identity());
    let inside = other.visit(|| Namespace::current().unwrap().identity()).unwrap();
    assert_eq!((inside, Namespace::current().unwrap().identity()), (other.identity(), home));
    let ended = panic::catch_unwind(AssertUnwindSafe(|| other.visit(|| panic!("inside"))));
    assert!(ended.is_err());
    assert_eq!(Namespace::current().unwrap().identity(), home);
}

#[test]
fn a_temporary_namespace_goes_also_by_a_panic() {
    let mut path = None;
    let ended = panic::catch_unwind(AssertUnwindSafe(|| {
        let temporary = namespace();
        path = Some(temporary.path().to_owned());
        assert!(temporary.path().exists());
        panic!("the owner gives up");
    }));
    assert!(ended.is_err());
    assert!(!path.unwrap().exists());
}

#[test]
fn what_is_no_network_namespace_is_refused_by_its_kind() {
    let missing = Namespace::open("/run/netns/host-ns-nobody-made-this").unwrap_err();
    assert!(matches!(missing, Error::NamespaceMissing { .. }) && missing.is_missing(), "{missing:?}");
    assert!(missing.to_string().contains("host-ns-nobody-made-this"), "{missing}");

    let file = tempfile::NamedTempFile::new().unwrap();
    for path in [file.path(), Path::new("/proc/self/ns/mnt"), Path::new("/proc")] {
        let other = Namespace::open(path).unwrap_err();
        assert!(matches!(other, Error::NotNetworkNamespace { .. }), "{other:?}");
        assert!(other.to_string().contains(path.to_str().unwrap()), "{other}");
    }
    for name in ["", "..", "a/b", "../../etc/passwd"] {
        assert!(matches!(Namespace::create_named(name), Err(Error::Illegal { .. })), "{name:?}");
        assert!(matches!(Namespace::delete_named(name), Err(Error::Illegal { .. })), "{name:?}");
    }
}

#[test]
fn a_leftover_file_of_a_cut_short_creation_can_be_deleted() {
    let _directory_exists = namespace();
    let name = format!("host-ns-leftover-{}", process::id());
    fs::write(Path::new("/run/netns").join(&name), "").unwrap();
    assert!(matches!(Namespace::named(&name), Err(Error::NotNetworkNamespace { .. })));
    Namespace::delete_named(&name).unwrap();
    assert!(matches!(Namespace::named(&name), Err(Error::NamespaceMissing { .. })));
}

#[test]
fn many_namespaces_are_made_at_once() {
    let made: Vec<_> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8).map(|_| scope.spawn(namespace)).collect();
        makers.into_iter().map(|maker| maker.join().unwrap()).collect()
    });
    for one in &made {
        assert_eq!(Namespace::named(one.name()).unwrap().identity(), one.identity());
    }
    // One mount of the directory, however many asked for it.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let of_directory = mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/run/netns"));
    assert_eq!(of_directory.count(), 1);
}

#[test]
fn a_setting_is_of_the_namespace_of_the_thread_that_writes_it() {
    let (one, two) = (namespace(), namespace());
    let forward = Sysctl::net(&["ipv4", "ip_forward"]).unwrap();
    let read = |namespace: &TemporaryNamespace| namespace.run(|| forward.read()).unwrap().unwrap();
    for (here, there) in [("1", "0"), ("0", "1")] {
        one.run(|| forward.write(here)).unwrap().unwrap();
        two.run(|| forward.write(there)).unwrap().unwrap();
        assert_eq!((read(&one).as_str(), read(&two).as_str()), (here, there));
    }
}

#[test]
fn a_setting_of_an_interface_with_a_dot_in_its_name_is_reached() {
    let one = namespace();
    let mut netlink = Netlink::open_in(&one).unwrap();
    netlink.create_bridge("eth0.100").unwrap();
    let accept_dad = Sysctl::interface(Family::V6, "eth0.100", "accept_dad").unwrap();
    one.run(|| accept_dad.write(0)).unwrap().unwrap();
    assert_eq!(one.run(|| accept_dad.read()).unwrap().unwrap(), "0");

    let index = netlink.link("eth0.100").unwrap().index;
    netlink.change_link(index, &LinkChange { name: Some("br0"), ..LinkChange::default() }).unwrap();
    let missing = one.run(|| accept_dad.read()).unwrap().unwrap_err();
    assert!(missing.is_missing() && missing.to_string().contains("eth0.100"), "{missing}");
}
