//! TAPs as the kernel gives them. Needs root; each test works in namespaces of its own.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use packet::{Gso, Mac, Offload, VNET_HEADER_LEN};
use podswitch_host::{
    Abilities, Address, Error, Family, LinkChange, Neighbor, Netlink, Sysctl, Tap, TapFeature, TapOptions,
    TemporaryNamespace, tap_holder,
};

#[test]
fn a_moved_tap_is_known_by_its_descriptor() {
    let (home, pod) = (namespace(), namespace());
    let tap = open_in(&home, &TapOptions::new("before"));
    let mut netlink = Netlink::open_in(&home).unwrap();
    let index = netlink.link("before").unwrap().index;
    let mac: Mac = "02:00:0a:f4:00:02".parse().unwrap();
    netlink.change_link(index, &LinkChange { mac: Some(mac), ..LinkChange::default() }).unwrap();

    let (there, name) = (Some(pod.as_fd()), Some("eth0"));
    netlink.change_link(index, &LinkChange { namespace: there, name, ..LinkChange::default() }).unwrap();
    assert!(netlink.link("before").unwrap_err().is_missing());
    let moved = Netlink::open_in(&pod).unwrap().link("eth0").unwrap();
    assert_eq!((moved.mac, moved.kind.as_str()), (mac, "tun"));

    // A stranger of the same name, where the device came from, must not be mistaken for it.
    netlink.create_bridge("eth0").unwrap();
    assert_ne!(netlink.link("eth0").unwrap().mac, mac);
    assert_eq!(tap.name().unwrap(), "eth0");
    assert_eq!(tap.mac().unwrap(), mac);
}

#[test]
fn a_descriptor_keeps_the_namespace_it_was_opened_in_and_no_other() {
    let (home, kept, lost) = (namespace(), namespace(), namespace());
    let options = TapOptions { persistent: true, ..TapOptions::new("eth0") };
    drop(open_in(&kept, &options));
    let adopted = open_in(&kept, &TapOptions { adopt: true, ..options });
    let moved = open_in(&home, &TapOptions::new("mine"));
    let mut netlink = Netlink::open_in(&home).unwrap();
    let index = netlink.link("mine").unwrap().index;
    netlink.change_link(index, &LinkChange { namespace: Some(lost.as_fd()), ..LinkChange::default() }).unwrap();
    assert_eq!(moved.name().unwrap(), "mine");

    // The kernel takes dead namespaces down on its own time, in the order of their deaths.
    drop(kept);
    drop(lost);
    let gone = until(|| moved.name().err());
    assert_eq!(gone.errno(), Some(libc::EBADFD), "{gone}");
    assert!(!moved.is_attached() && adopted.is_attached());
    assert_eq!(adopted.name().unwrap(), "eth0");
    adopted.set_persistent(false).unwrap();
}

#[test]
fn frames_are_read_and_written_behind_the_virtio_header() {
    let pod = namespace();
    let tap = open_in(&pod, &TapOptions::new("eth0"));
    assert_eq!(tap.abilities(), Abilities::ALL, "this kernel is older than 6.2");
    wire(&pod);
    let socket = pod.run(|| UdpSocket::bind("10.9.0.1:7000")).unwrap().unwrap();

    socket.send_to(b"hello", "10.9.0.2:7001").unwrap();
    let (offload, frame) = read_datagram(&tap, 7001);
    assert!(offload.needs_csum && offload.gso == Gso::None, "{offload:?}");
    assert_eq!((offload.csum_start, offload.csum_offset), (34, 6));
    assert_eq!(frame[..6], FAR.0);
    assert_eq!(frame[frame.len() - 5..], *b"hello");

    let mut reply = offload.bytes().to_vec();
    reply.extend(answer(&frame));
    (&tap.queues()[0]).write_all(&reply).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut received = [0; 16];
    let (length, from) = socket.recv_from(&mut received).unwrap();
    assert_eq!((&received[..length], from), (&b"hello"[..], "10.9.0.2:7001".parse().unwrap()));

    let counters = Netlink::open_in(&pod).unwrap().link("eth0").unwrap().counters;
    assert_eq!((counters.receive_packets, counters.transmit_dropped), (1, 0), "{counters:?}");
}

#[test]
fn a_datagram_train_arrives_uncut_when_asked_for_and_cut_when_not() {
    let pod = namespace();
    let mut tap = open_in(&pod, &TapOptions::new("eth0"));
    wire(&pod);
    let socket = pod.run(|| UdpSocket::bind("10.9.0.1:7000")).unwrap().unwrap();
    setsockopt(&socket, UdpGsoSegment, &1000).unwrap();

    socket.send_to(&[7; 3500], "10.9.0.2:7001").unwrap();
    let (offload, frame) = read_datagram(&tap, 7001);
    assert_eq!((offload.gso, offload.gso_size), (Gso::Udp, 1000));
    assert_eq!(frame.len(), 42 + 3500);

    tap.set_abilities(Abilities { uso: false, ..Abilities::ALL }).unwrap();
    socket.send_to(&[7; 3500], "10.9.0.2:7001").unwrap();
    let lengths: Vec<_> = (0..4).map(|_| read_datagram(&tap, 7001).1.len() - 42).collect();
    assert_eq!(lengths, [1000, 1000, 1000, 500]);
}

#[test]
fn asking_what_the_kernel_offers_leaves_the_tap_as_it_was() {
    let pod = namespace();
    let tap = open_in(&pod, &TapOptions::new("eth0"));
    let features = || {
        let shown = pod.run(|| Command::new("ethtool").args(["-k", "eth0"]).output()).unwrap().unwrap();
        assert!(shown.status.success(), "ethtool, of scripts/packages.txt, is needed");
        String::from_utf8(shown.stdout).unwrap()
    };
    let before = features();
    // In every kernel since 4.16; the other came with 6.17 and may be missing.
    assert!(tap.offers(TapFeature::SteeringProgram));
    tap.offers(TapFeature::UdpTunnelGso);
    assert_eq!(features(), before);
}

#[test]
fn a_tap_without_the_header_has_no_abilities_and_plain_frames() {
    let pod = namespace();
    let tap = open_in(&pod, &TapOptions { vnet_header: false, ..TapOptions::new("eth0") });
    assert_eq!(tap.abilities(), Abilities::default());
    wire(&pod);
    let socket = pod.run(|| UdpSocket::bind("10.9.0.1:7000")).unwrap().unwrap();
    socket.send_to(b"hello", "10.9.0.2:7001").unwrap();
    let frame = until(|| read(&tap.queues()[0]).filter(|frame| is_datagram_to(frame, 7001)));
    assert_eq!(frame.len(), 42 + 5);
}

#[test]
fn frames_that_nobody_reads_are_counted_by_the_kernel() {
    let pod = namespace();
    let tap = open_in(&pod, &TapOptions::new("eth0"));
    let mut netlink = Netlink::open_in(&pod).unwrap();
    let index = netlink.link("eth0").unwrap().index;
    netlink.change_link(index, &LinkChange { queue_length: Some(4), ..LinkChange::default() }).unwrap();
    wire(&pod);
    let socket = pod.run(|| UdpSocket::bind("10.9.0.1:7000")).unwrap().unwrap();
    for _ in 0..50 {
        socket.send_to(b"hello", "10.9.0.2:7001").unwrap();
    }
    let dropped = netlink.link("eth0").unwrap().counters.transmit_dropped;
    let read = (0..60).filter_map(|_| read(&tap.queues()[0])).count();
    assert_eq!((read, dropped), (4, 46));
}

#[test]
fn a_device_that_exists_is_taken_over_only_when_asked() {
    let home = namespace();
    let persistent = TapOptions { persistent: true, ..TapOptions::new("kept") };
    drop(open_in(&home, &persistent));
    let mut netlink = Netlink::open_in(&home).unwrap();
    let before = netlink.link("kept").unwrap();

    let taken = home.run(|| Tap::open(&persistent)).unwrap().unwrap_err();
    assert!(matches!(taken, Error::TapBusy { holder: None, .. }), "{taken:?}");
    assert!(taken.to_string().contains("kept"), "{taken}");

    let adopting = TapOptions { adopt: true, ..persistent.clone() };
    let unlike = home.run(|| Tap::open(&TapOptions { multi_queue: true, ..adopting.clone() })).unwrap().unwrap_err();
    assert!(matches!(unlike, Error::TapUnlike { .. }), "{unlike:?}");

    let tap = open_in(&home, &adopting);
    assert_eq!(tap.mac().unwrap(), before.mac);
    assert_eq!(netlink.link("kept").unwrap().index, before.index);
    let held = home.run(|| Tap::open(&adopting)).unwrap().unwrap_err();
    assert!(matches!(held, Error::TapBusy { holder: Some(pid), .. } if pid == process::id()), "{held:?}");
    assert!(held.to_string().contains(&process::id().to_string()), "{held}");

    tap.set_persistent(false).unwrap();
    drop(tap);
    assert!(netlink.link("kept").unwrap_err().is_missing());
}

#[test]
fn something_else_of_the_same_name_is_never_adopted() {
    let home = namespace();
    Netlink::open_in(&home).unwrap().create_bridge("br0").unwrap();
    let options = TapOptions { adopt: true, ..TapOptions::new("br0") };
    let unlike = home.run(|| Tap::open(&options)).unwrap().unwrap_err();
    assert!(matches!(unlike, Error::TapUnlike { .. }), "{unlike:?}");
}

#[test]
fn several_queues_are_opened_only_on_a_multi_queue_device() {
    let home = namespace();
    let several = TapOptions { queues: 3, multi_queue: true, ..TapOptions::new("many") };
    let tap = open_in(&home, &several);
    assert_eq!(tap.queues().len(), 3);
    for queues in [0, 2] {
        let options = TapOptions { queues, ..TapOptions::new("few") };
        assert!(matches!(Tap::open(&options), Err(Error::Illegal { .. })));
    }
}

#[test]
fn the_carrier_follows_what_the_holder_says() {
    let home = namespace();
    let tap = open_in(&home, &TapOptions::new("mine"));
    wire_named(&home, "mine");
    let mut netlink = Netlink::open_in(&home).unwrap();
    assert!(netlink.link("mine").unwrap().carrier);
    tap.set_carrier(false).unwrap();
    assert!(!netlink.link("mine").unwrap().carrier);
}

#[test]
fn the_holder_of_a_tap_is_found() {
    let home = namespace();
    let name = format!("held{}", process::id());
    assert_eq!(tap_holder(&name), None);
    let tap = open_in(&home, &TapOptions::new(&name));
    assert_eq!(tap_holder(&name), Some(process::id()));
    assert_eq!(tap_holder(&name[..name.len() - 1]), None);
    drop(tap);
}

/// The attempt is made by this same test in a process of its own, which gives up root for good.
#[test]
fn an_unprivileged_process_cannot_attach_a_persistent_tap() {
    if let Ok(name) = env::var(ATTACH) {
        return attach_as_nobody(&name);
    }
    let home = namespace();
    let persistent = TapOptions { persistent: true, ..TapOptions::new("pod1") };
    drop(open_in(&home, &persistent));
    let attempt = || {
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "an_unprivileged_process_cannot_attach_a_persistent_tap", "--nocapture"])
            .env(ATTACH, "pod1")
            .output()
            .unwrap()
    };
    let output = home.run(attempt).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("refused: TUNSETIFF failed for pod1: needs CAP_NET_ADMIN, run as root"), "{said}");
    // Root can: it was the user that was refused, not the device.
    open_in(&home, &TapOptions { adopt: true, ..persistent });
}

fn attach_as_nobody(name: &str) {
    // A device node anybody may open, in a mount namespace that ends with this process.
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    mount(Some("none"), "/dev/net", Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
    let everyone = Mode::from_bits_truncate(0o666);
    mknod("/dev/net/tun", SFlag::S_IFCHR, everyone, makedev(10, 200)).unwrap();
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        "/dev/net/tun",
        everyone,
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )
    .unwrap();

    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[]).unwrap();
    setresgid(group, group, group).unwrap();
    setresuid(user, user, user).unwrap();
    let options = TapOptions { adopt: true, ..TapOptions::new(name) };
    let refused = Tap::open(&options).expect_err("a user without rights attached a TAP of root's");
    assert_eq!(refused.errno(), Some(libc::EPERM), "{refused:?}");
    println!("refused: {refused}");
}

fn namespace() -> TemporaryNamespace {
    TemporaryNamespace::new("host-tap").unwrap_or_else(|error| panic!("this test needs root: {error}"))
}

fn open_in(namespace: &TemporaryNamespace, options: &TapOptions) -> Tap {
    namespace.run(|| Tap::open(options)).unwrap().unwrap()
}

fn wire(namespace: &TemporaryNamespace) {
    wire_named(namespace, "eth0");
}

/// Sets the link up as 10.9.0.1/24, with 10.9.0.2 a known neighbour and no IPv6 chatter.
fn wire_named(namespace: &TemporaryNamespace, name: &str) {
    let quiet = Sysctl::interface(Family::V6, name, "disable_ipv6").unwrap();
    namespace.run(|| quiet.write(1)).unwrap().unwrap();
    let mut netlink = Netlink::open_in(namespace).unwrap();
    let link = netlink.link(name).unwrap().index;
    netlink.add_address(&Address::new(link, "10.9.0.1/24".parse().unwrap())).unwrap();
    netlink.add_neighbor(&Neighbor { link, address: "10.9.0.2".parse().unwrap(), mac: FAR }).unwrap();
    netlink.change_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
}

/// Waits, within bounds, for something the kernel does on its own time.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "nothing came");
        thread::sleep(Duration::from_millis(1));
    }
}

fn read(mut queue: &File) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 70_000];
    match queue.read(&mut bytes) {
        Ok(length) => {
            bytes.truncate(length);
            Some(bytes)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

fn read_datagram(tap: &Tap, port: u16) -> (Offload, Vec<u8>) {
    let bytes = until(|| read(&tap.queues()[0]).filter(|bytes| is_datagram_to(&bytes[VNET_HEADER_LEN..], port)));
    let (header, frame) = bytes.split_first_chunk().unwrap();
    (Offload::parse(header).unwrap(), frame.to_vec())
}

/// IPv4 without options, UDP, to `port`.
fn is_datagram_to(frame: &[u8], port: u16) -> bool {
    frame.len() >= 42 && frame[12..15] == [8, 0, 0x45] && frame[23] == 17 && frame[36..38] == port.to_be_bytes()
}

/// The same frame from its receiver to its sender. Swapped addresses leave the IPv4 checksum and the unfinished UDP
/// checksum as they are, both being sums.
fn answer(frame: &[u8]) -> Vec<u8> {
    let mut answer = frame.to_vec();
    for (at, length) in [(0, 6), (26, 4), (34, 2)] {
        let (first, second) = answer[at..].split_at_mut(length);
        first.swap_with_slice(&mut second[..length]);
    }
    answer
}

const FAR: Mac = Mac([2, 0, 0, 0, 0, 0x22]);
const NOBODY: u32 = 65_534;
const ATTACH: &str = "PODSWITCH_TEST_ATTACH";
