//! The steering program in the running kernel. Needs root and two CPUs; each test works in a namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::env;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, PacketBuilder};
use nix::ifaddrs::getifaddrs;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};
use nix::unistd::{Pid, Uid, setresuid};
use packet::{Mac, VNET_HEADER_LEN};
use podswitch_host::{
    Address, Error, Family, LinkChange, Neighbor, Netlink, Steering, Sysctl, Taken, Tap, TapOptions, TemporaryNamespace,
};

#[test]
fn frames_go_to_the_queue_of_the_cpu_they_are_sent_on() {
    let [one, other] = two_cpus();
    for queues in [2, 3, 5, 256] {
        let pod = Pod::new(queues);
        let steering = Steering::new(&table(&[(one, queues - 1), (other, 0)]), queues).unwrap();
        steering.attach(&pod.tap).unwrap();
        for (cpu, queue) in [(one, queues - 1), (other, 0), (one, queues - 1)] {
            // A socket of its own is a flow of its own.
            let socket = pod.socket("10.9.0.1:0");
            on_cpu(cpu, || socket.send_to(b"hello", NEIGHBOR).unwrap());
            assert_eq!(pod.arrived(), [queue], "CPU {cpu} of {queues} queues");
            assert_eq!(steering.sender_cpu(queue), Some(cpu));
        }
    }
}

#[test]
fn cpus_without_a_queue_of_their_own_share_by_number() {
    for cpu in two_cpus() {
        for queues in [2, 3] {
            let pod = Pod::new(queues);
            let steering = Steering::new(&[], queues).unwrap();
            steering.attach(&pod.tap).unwrap();
            let socket = pod.socket("10.9.0.1:0");
            on_cpu(cpu, || socket.send_to(b"hello", NEIGHBOR).unwrap());
            assert_eq!(pod.arrived(), [cpu % queues]);
        }
    }
}

#[test]
fn one_queue_takes_all() {
    let pod = Pod::new(1);
    Steering::new(&[0, 0], 1).unwrap().attach(&pod.tap).unwrap();
    let socket = pod.socket("10.9.0.1:0");
    for cpu in two_cpus() {
        on_cpu(cpu, || socket.send_to(b"hello", NEIGHBOR).unwrap());
    }
    assert_eq!(pod.arrived(), [0, 0]);
}

#[test]
fn a_flow_leaves_a_queue_only_when_its_last_frame_has_departed() {
    let (pod, steering, [one, other]) = pod_of_two();
    let socket = pod.socket("10.9.0.1:0");
    let send = |cpu| {
        on_cpu(cpu, || socket.send_to(b"hello", NEIGHBOR).unwrap());
        pod.arrived()
    };
    assert_eq!(send(one), [0]);
    assert_eq!(send(other), [0], "it was read, but has not departed");
    pod.depart(&steering, 1);
    assert_eq!(send(other), [0], "what departs from another queue does not count");
    steering.departed(0, Taken { frames: pod.taken(0), drained: false }, Instant::now());
    assert_eq!(send(other), [0], "nobody knows whether there is more");
    pod.depart(&steering, 0);
    assert_eq!(send(other), [1]);
    assert_eq!(send(one), [1]);
    pod.depart(&steering, 1);
    assert_eq!(send(one), [0]);
}

#[test]
fn a_frame_of_another_flow_on_its_way_into_the_queue_holds_a_flow_there() {
    let (pod, steering, [one, other]) = pod_of_two();
    let [flow, delayed] = [(); 2].map(|()| pod.socket("10.9.0.1:0"));
    pod.quieten(&steering);
    on_cpu(one, || flow.send_to(b"hello", NEIGHBOR).unwrap());
    on_cpu(one, || delayed.send_to(b"hello", NEIGHBOR).unwrap());
    // The owner does not see the second frame yet: it was steered, and its CPU is stopped before it enters the queue.
    pod.arrived();
    steering.departed(0, Taken { frames: pod.taken(0) - 1, drained: true }, Instant::now());
    for socket in [&flow, &delayed] {
        on_cpu(other, || socket.send_to(b"hello", NEIGHBOR).unwrap());
        assert_eq!(pod.arrived(), [0]);
    }
    steering.departed(0, Taken { frames: pod.taken(0) + 1, drained: true }, Instant::now());
    for socket in [&flow, &delayed] {
        on_cpu(other, || socket.send_to(b"hello", NEIGHBOR).unwrap());
        assert_eq!(pod.arrived(), [1]);
    }
}

#[test]
fn frames_of_others_that_were_steered_later_hold_no_flow() {
    let (pod, steering, [one, other]) = pod_of_two();
    let [flow, busy] = [(); 2].map(|()| pod.socket("10.9.0.1:0"));
    on_cpu(one, || flow.send_to(b"hello", NEIGHBOR).unwrap());
    pod.arrived();
    pod.depart(&steering, 0);
    on_cpu(one, || busy.send_to(b"hello", NEIGHBOR).unwrap());
    on_cpu(other, || flow.send_to(b"hello", NEIGHBOR).unwrap());
    assert_eq!(pod.arrived(), [0, 1]);
}

#[test]
fn frames_read_that_were_never_steered_stand_for_no_others() {
    let (pod, steering, [one, other]) = pod_of_two();
    let socket = pod.socket("10.9.0.1:0");
    pod.quieten(&steering);
    steering.departed(0, Taken { frames: 1, drained: true }, Instant::now());
    on_cpu(one, || (0..2).for_each(|_| _ = socket.send_to(b"hello", NEIGHBOR).unwrap()));
    // The second is still on its way.
    steering.departed(0, Taken { frames: 1, drained: true }, Instant::now());
    on_cpu(other, || socket.send_to(b"hello", NEIGHBOR).unwrap());
    assert_eq!(pod.arrived(), [0; 3]);
    steering.departed(0, Taken { frames: 2, drained: true }, Instant::now());
    on_cpu(other, || socket.send_to(b"hello", NEIGHBOR).unwrap());
    assert_eq!(pod.arrived(), [1]);
}

#[test]
fn a_flow_that_was_silent_for_long_leaves_a_queue_that_goes_on_losing_frames() {
    let (pod, steering, [one, other]) = pod_of_two();
    let [silent, busy] = [(); 2].map(|()| pod.socket("10.9.0.1:0"));
    pod.quieten(&steering);
    let start = Instant::now();
    let lose_one = |after| {
        // Read and kept to itself, it is as if it were not there.
        on_cpu(one, || busy.send_to(b"hello", NEIGHBOR).unwrap());
        pod.arrived();
        steering.departed(0, Taken { frames: 0, drained: true }, start + Duration::from_millis(after));
    };
    on_cpu(one, || silent.send_to(b"hello", NEIGHBOR).unwrap());
    [0, 1, 50].into_iter().for_each(lose_one);
    let send = |socket: &UdpSocket| {
        on_cpu(other, || socket.send_to(b"hello", NEIGHBOR).unwrap());
        pod.arrived()
    };
    assert_eq!(send(&silent), [0]);
    // A look that ends one while, and those of the next.
    [51, 52, 53, 102, 103].into_iter().for_each(lose_one);
    assert_eq!(send(&silent), [1]);
    assert_eq!(send(&busy), [0]);
}

#[test]
fn frames_a_full_queue_dropped_hold_a_flow_until_they_are_known_to_be_lost() {
    let (pod, steering, [one, other]) = pod_of_two();
    let socket = pod.socket("10.9.0.1:0");
    let mut netlink = Netlink::open_in(&pod.namespace).unwrap();
    let link = netlink.link("eth0").unwrap().index;
    pod.quieten(&steering);
    netlink.change_link(link, &LinkChange { queue_length: Some(2), ..LinkChange::default() }).unwrap();
    on_cpu(one, || (0..5).for_each(|_| _ = socket.send_to(b"hello", NEIGHBOR).unwrap()));
    assert_eq!(pod.arrived(), [0, 0], "a queue for two holds two");

    let start = Instant::now();
    let millis = Duration::from_millis;
    // The first reading of the clock is one from long before the look.
    for after in [0, 5000, 5001, 5049].map(millis) {
        steering.departed(0, Taken { frames: pod.taken(0), drained: true }, start + after);
        on_cpu(other, || socket.send_to(b"hello", NEIGHBOR).unwrap());
        assert_eq!(pod.arrived(), [0], "after {after:?}");
    }
    // A queue that was not read to its end tells of nothing missing.
    steering.departed(0, Taken { frames: 0, drained: false }, start + millis(6000));
    on_cpu(other, || socket.send_to(b"hello", NEIGHBOR).unwrap());
    assert_eq!(pod.arrived(), [0]);
    steering.departed(0, Taken { frames: pod.taken(0), drained: true }, start + millis(5050));
    on_cpu(other, || socket.send_to(b"hello", NEIGHBOR).unwrap());
    assert_eq!(pod.arrived(), [1]);
}

#[test]
fn frames_that_come_late_are_not_lost() {
    let (pod, steering, [one, other]) = pod_of_two();
    let socket = pod.socket("10.9.0.1:0");
    pod.quieten(&steering);
    let start = Instant::now();
    let look = |seconds, frames| {
        steering.departed(0, Taken { frames, drained: true }, start + Duration::from_secs(seconds));
    };
    on_cpu(one, || (0..2).for_each(|_| _ = socket.send_to(b"hello", NEIGHBOR).unwrap()));
    look(0, 0);
    look(1, 1);
    // The second came before the time was over, so only the fewest, none, are written off.
    look(1, 1);
    on_cpu(one, || socket.send_to(b"hello", NEIGHBOR).unwrap());
    look(9, 0);
    look(10, 0);
    on_cpu(other, || socket.send_to(b"hello", NEIGHBOR).unwrap());
    assert_eq!(pod.arrived(), [0; 4], "the time begins anew");
    look(10, 2);
    on_cpu(other, || socket.send_to(b"hello", NEIGHBOR).unwrap());
    assert_eq!(pod.arrived(), [1]);
}

/// What a bridge floods are copies, and copies have no socket.
#[test]
fn frames_without_a_socket_stay_with_their_kind() {
    let (pod, steering, [one, other]) = pod_of_two();
    let entrance = pod.bridge();
    for (name, first, second) in kinds() {
        let pass = |cpu, frame: &[u8]| {
            on_cpu(cpu, || (&entrance.queues()[0]).write_all(&[&[0; VNET_HEADER_LEN], frame].concat()).unwrap());
            let arrived = pod.frames().into_iter().filter(|(_, got)| got == frame);
            arrived.map(|(queue, _)| queue).collect::<Vec<_>>()
        };
        // Whatever shared its entry before is drained.
        pod.depart_all(&steering);
        assert_eq!(pass(one, &first), [0], "{name}");
        assert_eq!(pass(other, &second), [0], "{name}");
        pod.depart(&steering, 0);
        assert_eq!(pass(other, &second), [1], "{name}");
    }
}

#[test]
fn ports_tell_flows_without_a_socket_apart_but_not_fragments() {
    let (pod, _steering, [one, other]) = pod_of_two();
    let entrance = pod.bridge();
    let pass = |cpu, frame: &[u8]| {
        on_cpu(cpu, || (&entrance.queues()[0]).write_all(&[&[0; VNET_HEADER_LEN], frame].concat()).unwrap());
        pod.frames().into_iter().find(|(_, got)| got == frame).unwrap().0
    };
    assert_eq!(pass(one, &udp(1, 2, b"")), 0);
    assert_eq!(pass(other, &udp(1, 3, b"")), 1);
    assert_eq!(pass(other, &udp(1, 2, b"")), 0);
    assert_eq!(pass(one, &fragment(0, true, 1)), 0);
    assert_eq!(pass(other, &fragment(8, false, 2)), 0);
}

#[test]
fn sockets_of_every_kind_keep_their_queue_until_it_is_drained() {
    let (pod, steering, [one, other]) = pod_of_two();
    let open = |family, kind, protocol: Option<SockProtocol>| {
        pod.namespace.run(|| socket(family, kind, SockFlag::empty(), protocol).unwrap()).unwrap()
    };
    let packets = open(AddressFamily::Packet, SockType::Raw, None);
    let echo = open(AddressFamily::Inet, SockType::Raw, Some(SockProtocol::Icmp));
    let v6 = pod.socket("[fd09::1]:0");
    let connected = pod.socket("10.9.0.1:0");
    connected.connect(NEIGHBOR).unwrap();

    let link = pod.namespace.run(link_address).unwrap();
    let packet = [&FAR.0[..], &NEAR.0, &[0x88, 0xb5]].concat();
    let neighbor = SockaddrIn::new(10, 9, 0, 2, 0);
    let senders: [(&str, &(dyn Fn() -> usize + Sync)); 4] = [
        ("packet", &|| sendto(packets.as_raw_fd(), &packet, &link, MsgFlags::empty()).unwrap()),
        ("echo", &|| sendto(echo.as_raw_fd(), &ECHO, &neighbor, MsgFlags::empty()).unwrap()),
        ("IPv6", &|| v6.send_to(b"hello", "[fd09::2]:9").unwrap()),
        ("connected", &|| connected.send(b"hello").unwrap()),
    ];
    for (name, send) in senders {
        pod.depart_all(&steering);
        let mut queues = Vec::new();
        for cpu in [one, other] {
            on_cpu(cpu, send);
            queues.extend(pod.arrived());
        }
        pod.depart(&steering, 0);
        on_cpu(other, send);
        queues.extend(pod.arrived());
        assert_eq!(queues, [0, 0, 1], "{name}");
    }
}

#[test]
fn a_device_taken_over_elsewhere_with_other_queues_is_steered_by_what_its_new_holder_says() {
    let [one, other] = two_cpus();
    let (home, pod) = (namespace(), namespace());
    let options = |name: &str, queues| TapOptions {
        queues,
        multi_queue: true,
        persistent: true,
        adopt: true,
        ..TapOptions::new(name)
    };
    let tap = home.run(|| Tap::open(&options("before", 2))).unwrap().unwrap();
    let mut netlink = Netlink::open_in(&home).unwrap();
    let index = netlink.link("before").unwrap().index;
    let (there, name) = (Some(pod.as_fd()), Some("eth0"));
    netlink.change_link(index, &LinkChange { namespace: there, name, ..LinkChange::default() }).unwrap();
    let mut pod = Pod::wired(pod, tap);
    let socket = pod.socket("10.9.0.1:0");
    let first = Steering::new(&table(&[(one, 0), (other, 1)]), 2).unwrap();
    first.attach(&pod.tap).unwrap();
    on_cpu(one, || socket.send_to(b"hello", NEIGHBOR).unwrap());
    assert_eq!(pod.arrived(), [0]);

    for (queues, own) in [(4, [3, 2]), (1, [0, 0]), (3, [2, 0])] {
        // The former holder ends first.
        let namespace = pod.close();
        let tap = namespace.run(|| Tap::open(&options("eth0", queues))).unwrap().unwrap();
        pod = Pod::of(namespace, tap);
        assert_eq!(pod.tap.queues().len(), usize::from(queues));
        let steering = Steering::new(&table(&[(one, own[0]), (other, own[1])]), queues).unwrap();
        steering.attach(&pod.tap).unwrap();
        pod.await_carrier();
        pod.frames();
        pod.depart_all(&steering);
        // What the flow had left in a queue of the former holder is lost, and keeps it nowhere.
        for (cpu, queue) in [(other, own[1]), (one, own[1])] {
            on_cpu(cpu, || socket.send_to(b"hello", NEIGHBOR).unwrap());
            assert_eq!(pod.arrived(), [queue], "{queues} queues");
        }
        pod.depart(&steering, own[1]);
        on_cpu(one, || socket.send_to(b"hello", NEIGHBOR).unwrap());
        assert_eq!(pod.arrived(), [own[0]], "{queues} queues");
    }
    pod.tap.set_persistent(false).unwrap();
}

#[test]
fn a_sender_that_moves_a_thousand_times_a_second_stays_in_order() {
    let received = stay_in_order(&Senders { threads: 1, sockets: 1, on_the_way_max: 100 }, &pod_of_two());
    assert!(received.iter().all(|count| *count > 1000), "one queue was hardly used: {received:?}");
}

#[test]
fn each_of_several_senders_on_one_socket_stays_in_order() {
    let received = stay_in_order(&Senders { threads: 3, sockets: 1, on_the_way_max: 100 }, &pod_of_two());
    assert!(received.iter().all(|count| *count > 1000), "one queue was hardly used: {received:?}");
}

#[test]
fn flows_that_move_past_each_other_stay_in_order() {
    let received = stay_in_order(&Senders { threads: 3, sockets: 3, on_the_way_max: 100 }, &pod_of_two());
    assert!(received.iter().all(|count| *count > 1000), "one queue was hardly used: {received:?}");
}

#[test]
fn flows_that_lose_frames_stay_in_order() {
    let rig = pod_of_two();
    let mut netlink = Netlink::open_in(&rig.0.namespace).unwrap();
    let link = netlink.link("eth0").unwrap().index;
    netlink.change_link(link, &LinkChange { queue_length: Some(8), ..LinkChange::default() }).unwrap();
    let received = stay_in_order(&Senders { threads: 2, sockets: 2, on_the_way_max: u64::MAX }, &rig);
    assert!(received.iter().sum::<u64>() < NUMBERS, "none was lost: {received:?}");
}

/// Threads that send numbered datagrams by their sockets, moving all the time.
struct Senders {
    threads: u64,
    sockets: usize,
    /// How many of its datagrams a thread lets be on the way.
    on_the_way_max: u64,
}

/// Has two others read what they send; how many each read.
fn stay_in_order(senders: &Senders, (pod, steering, cpus): &(Pod, Steering, [u16; 2])) -> [u64; 2] {
    let sockets: Vec<UdpSocket> = (0..senders.sockets).map(|_| pod.socket("10.9.0.1:0")).collect();
    let (done, late) = (AtomicBool::new(false), AtomicU64::new(0));
    let latest: Vec<AtomicU64> = (0..senders.threads).map(|_| AtomicU64::new(0)).collect();
    let received = thread::scope(|scope| {
        let readers = [0, 1].map(|queue| {
            let (done, reader) = (&done, Reader { steering, tap: &pod.tap, latest: &latest, late: &late });
            scope.spawn(move || reader.run(queue, done))
        });
        let threads = (0..senders.threads).zip(sockets.iter().cycle()).map(|(thread, socket)| {
            let latest = &latest[thread as usize];
            let numbers = (1..=NUMBERS / senders.threads).map(move |number| {
                while number.saturating_sub(latest.load(Ordering::Relaxed) / senders.threads) > senders.on_the_way_max {
                    thread::yield_now();
                }
                number * senders.threads + thread
            });
            scope.spawn(move || send_while_moving(socket, numbers, *cpus))
        });
        threads.collect::<Vec<_>>().into_iter().for_each(|sender| sender.join().unwrap());
        done.store(true, Ordering::Release);
        readers.map(|reader| reader.join().unwrap())
    });
    assert_eq!(late.into_inner(), 0, "late of {received:?}");
    received
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    for (table, queues) in [(&[][..], 0), (&[], 257), (&[2], 2)] {
        assert!(matches!(Steering::new(table, queues), Err(Error::Illegal { .. })), "{table:?} {queues}");
    }
}

/// The attempt is made by this same test in a process of its own, which gives up root for good.
#[test]
fn without_rights_steering_is_refused_and_says_which_it_needs() {
    if env::var_os(ATTEMPT).is_some() {
        setresuid(NOBODY, NOBODY, NOBODY).unwrap();
        println!("refused: {}", Steering::new(&[0], 1).unwrap_err());
        return;
    }
    let name = "without_rights_steering_is_refused_and_says_which_it_needs";
    let mut attempt = Command::new(env::current_exe().unwrap());
    let output = attempt.args(["--exact", name, "--nocapture"]).env(ATTEMPT, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("refused: ") && said.contains("needs CAP_BPF"), "{said}");
}

/// Reads one queue in turns, each of a few frames at most, and counts those that came after a later one.
struct Reader<'a> {
    steering: &'a Steering,
    tap: &'a Tap,
    /// By sender, which is a number's remainder.
    latest: &'a [AtomicU64],
    late: &'a AtomicU64,
}

impl Reader<'_> {
    fn run(&self, queue: u16, done: &AtomicBool) -> u64 {
        let (file, mut bytes, mut received) = (&self.tap.queues()[usize::from(queue)], [0; 2048], 0);
        loop {
            let is_last = done.load(Ordering::Acquire);
            let mut numbers = (0..64).map_while(|_| read_number(file, &mut bytes));
            let count = numbers.by_ref().inspect(|number| self.deliver(*number)).count();
            self.steering.departed(queue, Taken { frames: count as u32, drained: count < 64 }, Instant::now());
            received += count as u64;
            if count == 0 {
                if is_last {
                    return received;
                }
                thread::yield_now();
            }
        }
    }

    fn deliver(&self, number: u64) {
        let latest = &self.latest[number as usize % self.latest.len()];
        if number != 0 && latest.fetch_max(number, Ordering::AcqRel) > number {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The number in the next frame; 0 for a frame of the kernel's own.
fn read_number(mut file: &File, bytes: &mut [u8]) -> Option<u64> {
    match file.read(bytes) {
        Ok(length) if bytes[VNET_HEADER_LEN..length].starts_with(&FAR.0) => {
            Some(u64::from_be_bytes(bytes[length - 8..length].try_into().unwrap()))
        }
        Ok(_) => Some(0),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

fn send_while_moving(socket: &UdpSocket, numbers: impl Iterator<Item = u64>, cpus: [u16; 2]) {
    let (mut moved, mut here) = (Instant::now(), 0);
    pin(cpus[here]);
    for number in numbers {
        socket.send_to(&number.to_be_bytes(), NEIGHBOR).unwrap();
        if moved.elapsed() > Duration::from_millis(1) {
            here = 1 - here;
            pin(cpus[here]);
            moved = Instant::now();
        }
    }
}

/// A namespace with an `eth0` of several queues: 10.9.0.1/24 and `fd09::1/64`, the neighbours `.2` and `::2` known.
struct Pod {
    namespace: TemporaryNamespace,
    tap: Tap,
    /// By queue, frames read that are not said to have departed.
    taken: Vec<AtomicU32>,
}

impl Pod {
    fn new(queues: u16) -> Self {
        let namespace = namespace();
        let options = TapOptions { queues, multi_queue: true, ..TapOptions::new("eth0") };
        let tap = namespace.run(|| Tap::open(&options)).unwrap().unwrap();
        Pod::wired(namespace, tap)
    }

    fn wired(namespace: TemporaryNamespace, tap: Tap) -> Self {
        let quiet = |key| Sysctl::interface(Family::V6, "eth0", key).unwrap();
        namespace.run(|| ["accept_dad", "router_solicitations"].map(|key| quiet(key).write(0).unwrap())).unwrap();
        let mut netlink = Netlink::open_in(&namespace).unwrap();
        let link = netlink.link("eth0").unwrap().index;
        let change = LinkChange { address_generation: Some(false), ..LinkChange::default() };
        netlink.change_link(link, &change).unwrap();
        netlink.set_no_queue(link).unwrap();
        for (own, neighbor) in [("10.9.0.1/24", "10.9.0.2"), ("fd09::1/64", "fd09::2")] {
            netlink.add_address(&Address::new(link, own.parse().unwrap())).unwrap();
            netlink.add_neighbor(&Neighbor { link, address: neighbor.parse().unwrap(), mac: FAR }).unwrap();
        }
        netlink.change_link(link, &LinkChange { up: Some(true), ..LinkChange::default() }).unwrap();
        let pod = Pod::of(namespace, tap);
        pod.await_carrier();
        pod
    }

    fn of(namespace: TemporaryNamespace, tap: Tap) -> Self {
        let taken = tap.queues().iter().map(|_| AtomicU32::new(0)).collect();
        Pod { namespace, tap, taken }
    }

    fn close(self) -> TemporaryNamespace {
        self.namespace
    }

    fn await_carrier(&self) {
        let mut netlink = Netlink::open_in(&self.namespace).unwrap();
        let start = Instant::now();
        while !netlink.link("eth0").unwrap().carrier {
            assert!(start.elapsed() < PATIENCE, "no carrier");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Once the address is in use: the kernel may still be about to make a new IPv6 one so.
    fn socket(&self, address: &str) -> UdpSocket {
        let address: SocketAddr = address.parse().unwrap();
        let start = Instant::now();
        loop {
            match self.namespace.run(|| UdpSocket::bind(address)).unwrap() {
                // The kernel makes an IPv6 address usable a moment after it has taken it.
                Err(error) if error.kind() == ErrorKind::AddrNotAvailable && start.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(1));
                }
                bound => return bound.unwrap(),
            }
        }
    }

    /// Makes `eth0` the port of a bridge whose other port is the TAP that is given back.
    fn bridge(&self) -> Tap {
        let entrance = self.namespace.run(|| Tap::open(&TapOptions::new("entrance"))).unwrap().unwrap();
        let mut netlink = Netlink::open_in(&self.namespace).unwrap();
        netlink.create_bridge("bridge").unwrap();
        let bridge = netlink.link("bridge").unwrap().index;
        for name in ["bridge", "entrance", "eth0"] {
            let disable = Sysctl::interface(Family::V6, name, "disable_ipv6").unwrap();
            self.namespace.run(|| disable.write(1)).unwrap().unwrap();
            let index = netlink.link(name).unwrap().index;
            let master = (index != bridge).then_some(bridge);
            netlink.change_link(index, &LinkChange { master, up: Some(true), ..LinkChange::default() }).unwrap();
        }
        // Where the machine has bridges ask its packet filter, that would refuse what is cut short.
        for key in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
            let filter = Sysctl::net(&["bridge", key]).unwrap();
            let written = self.namespace.run(|| filter.write(0)).unwrap();
            assert!(written.as_ref().err().is_none_or(Error::is_missing), "{written:?}");
        }
        self.frames();
        entrance
    }

    /// All frames that lie in the queues, with the queue.
    fn frames(&self) -> Vec<(u16, Vec<u8>)> {
        let mut frames = Vec::new();
        for (queue, mut file) in (0..).zip(self.tap.queues()) {
            let mut bytes = [0; 2048];
            while let Ok(length) = file.read(&mut bytes) {
                frames.push((queue, bytes[VNET_HEADER_LEN..length].to_vec()));
                self.taken[usize::from(queue)].fetch_add(1, Ordering::Relaxed);
            }
        }
        frames
    }

    /// How many frames of this queue were read since it was last asked.
    fn taken(&self, queue: u16) -> u32 {
        self.taken[usize::from(queue)].swap(0, Ordering::Relaxed)
    }

    /// All that was read of this queue departs, and nothing is left there.
    fn depart(&self, steering: &Steering, queue: u16) {
        steering.departed(queue, Taken { frames: self.taken(queue), drained: true }, Instant::now());
    }

    fn depart_all(&self, steering: &Steering) {
        (0..).zip(self.tap.queues()).for_each(|(queue, _)| self.depart(steering, queue));
    }

    /// From now on the kernel sends nothing of its own, and nothing is left of what it sent.
    fn quieten(&self, steering: &Steering) {
        let disable = Sysctl::interface(Family::V6, "eth0", "disable_ipv6").unwrap();
        self.namespace.run(|| disable.write(1)).unwrap().unwrap();
        self.frames();
        self.depart_all(steering);
    }

    /// The queues by which frames to the neighbour came that lie there.
    fn arrived(&self) -> Vec<u16> {
        let to_neighbor = self.frames().into_iter().filter(|(_, frame)| frame.starts_with(&FAR.0));
        to_neighbor.map(|(queue, _)| queue).collect()
    }
}

/// Two CPUs and a pod with a queue for each.
fn pod_of_two() -> (Pod, Steering, [u16; 2]) {
    let (pod, cpus) = (Pod::new(2), two_cpus());
    let steering = Steering::new(&table(&[(cpus[0], 0), (cpus[1], 1)]), 2).unwrap();
    steering.attach(&pod.tap).unwrap();
    (pod, steering, cpus)
}

/// Pairs of frames that are of one kind for the program.
fn kinds() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let v6 = |next: u8, payload: &[u8]| {
        let mut header = [0_u8; 40];
        header[0] = 0x60;
        header[4..6].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        header[6..8].copy_from_slice(&[next, 64]);
        header[8..40].copy_from_slice(&[0xfd; 32]);
        ethernet(0x86dd, &[&header[..], payload].concat())
    };
    let v4 = |protocol, payload: &[u8], options: &[u8]| {
        let mut header =
            Ipv4Header::new(payload.len() as u16, 64, IpNumber(protocol), [10, 9, 0, 8], [10, 9, 0, 9]).unwrap();
        header.options = Ipv4Options::try_from(options).unwrap();
        header.set_payload_len(payload.len()).unwrap();
        header.header_checksum = header.calc_header_checksum();
        ethernet(0x0800, &[header.to_bytes().as_slice(), payload].concat())
    };
    vec![
        ("UDP", udp(7, 8, b"one"), udp(7, 8, b"another")),
        (
            "UDP behind options",
            v4(17, &[0, 5, 0, 6, 0, 9, 0, 0, 1], &[1; 8]),
            v4(17, &[0, 5, 0, 6, 0, 8, 0, 0], &[1; 8]),
        ),
        ("TCP", v4(6, &[9; 20], &[]), v4(6, &[9; 60], &[])),
        ("UDP cut short", v4(17, &[1, 2], &[]), v4(17, &[3], &[])),
        ("fragments", fragment(0, true, 3), fragment(8, false, 4)),
        ("ICMP", v4(1, &[8, 0, 1, 2, 3, 4, 5, 6], &[]), v4(1, &[8, 0, 9, 9, 3, 4, 5, 7], &[])),
        ("no payload", v4(253, &[], &[]), v4(253, &[7], &[])),
        ("UDP over IPv6", v6(17, &[0, 1, 0, 2, 0, 9, 3, 3, 1]), v6(17, &[0, 1, 0, 2, 0, 8, 3, 3])),
        ("ICMPv6", v6(58, &[128, 0, 1, 2]), v6(58, &[128, 0, 3, 4])),
        ("IPv6 fragments", v6(44, &[17, 0, 0, 1, 0, 0, 0, 1, 5]), v6(44, &[17, 0, 0, 8, 0, 0, 0, 1, 6])),
        ("IPv4 cut short", ethernet(0x0800, &[0x45, 0, 0]), ethernet(0x0800, &[0x45; 10])),
        ("IPv6 cut short", ethernet(0x86dd, &[0x60]), ethernet(0x86dd, &[0x60; 39])),
        ("ARP and what is unknown", ethernet(0x0806, &[1; 28]), ethernet(0x88b5, &[])),
    ]
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let headers = PacketBuilder::ethernet2(NEAR.0, EVERYONE.0).ipv4([10, 9, 0, 1], [10, 9, 0, 2], 64).udp(from, to);
    headers.write(&mut frame, payload).unwrap();
    frame
}

fn fragment(offset: u16, more: bool, fill: u8) -> Vec<u8> {
    let mut header = Ipv4Header::new(64, 64, IpNumber::UDP, [10, 9, 0, 6], [10, 9, 0, 7]).unwrap();
    (header.fragment_offset, header.more_fragments) = (IpFragOffset::try_new(offset).unwrap(), more);
    header.header_checksum = header.calc_header_checksum();
    ethernet(0x0800, &[header.to_bytes().as_slice(), &[fill; 64]].concat())
}

fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut header =
        Ethernet2Header { source: NEAR.0, ether_type: EtherType(ether_type), ..Ethernet2Header::default() };
    header.destination = EVERYONE.0;
    [&header.to_bytes()[..], payload].concat()
}

/// The address of `eth0` for packet(7).
fn link_address() -> LinkAddr {
    let addresses = getifaddrs().unwrap().filter(|entry| entry.interface_name == "eth0");
    addresses.flat_map(|entry| entry.address).find_map(|address| address.as_link_addr().copied()).unwrap()
}

fn table(queues: &[(u16, u16)]) -> Vec<u16> {
    let mut table = vec![0; usize::from(queues.iter().map(|(cpu, _)| *cpu).max().unwrap()) + 1];
    for (cpu, queue) in queues {
        table[usize::from(*cpu)] = *queue;
    }
    table
}

/// The first two CPUs this process may use.
fn two_cpus() -> [u16; 2] {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus: Vec<u16> = (0..CpuSet::count() as u16).filter(|cpu| allowed.is_set((*cpu).into()).unwrap()).collect();
    *cpus.first_chunk().expect("this test needs two CPUs")
}

fn on_cpu<T: Send>(cpu: u16, action: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        pin(cpu);
        action()
    };
    thread::scope(|scope| scope.spawn(pinned).join().unwrap())
}

fn pin(cpu: u16) {
    let mut one = CpuSet::new();
    one.set(cpu.into()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

fn namespace() -> TemporaryNamespace {
    TemporaryNamespace::new("host-steer").unwrap_or_else(|error| panic!("this test needs root: {error}"))
}

/// Datagrams that all threads send together, a multiple of their number.
const NUMBERS: u64 = 300_000;
const PATIENCE: Duration = Duration::from_secs(10);
const NOBODY: Uid = Uid::from_raw(65_534);
const ATTEMPT: &str = "PODSWITCH_TEST_STEER";
const NEIGHBOR: &str = "10.9.0.2:9";
const NEAR: Mac = Mac([2, 0, 0, 0, 0, 0x11]);
const EVERYONE: Mac = Mac([0xff; 6]);
const FAR: Mac = Mac([2, 0, 0, 0, 0, 0x22]);
/// An echo request without data.
const ECHO: [u8; 8] = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
