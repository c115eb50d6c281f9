//! The steering program in the running kernel. Needs root and two CPUs; each test works in a namespace of its own.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

mod rig;

use std::env;
use std::io::Write;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket};
use nix::unistd::setresuid;
use packet::VNET_HEADER_LEN;
use podswitch_host::{Error, LinkChange, Netlink, Steered, Steering, Taken, Tap, TapOptions};

use rig::{
    ATTEMPT, ECHO, FAR, NEAR, NEIGHBOR, NOBODY, NUMBERS, Pod, Reader, fragment, kinds, link_address, namespace, on_cpu,
    pod_of_two, send_while_moving, table, two_cpus, udp,
};

#[test]
fn frames_go_to_the_queue_of_the_cpu_they_are_sent_on() {
    let [one, other] = two_cpus();
    for queues in [2, 3, 5, 256] {
        let pod = Pod::new(queues);
        let steering = Steering::new(Steered::Frames, &table(&[(one, queues - 1), (other, 0)]), queues).unwrap();
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
            let steering = Steering::new(Steered::Frames, &[], queues).unwrap();
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
    Steering::new(Steered::Frames, &[0, 0], 1).unwrap().attach(&pod.tap).unwrap();
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
    let first = Steering::new(Steered::Frames, &table(&[(one, 0), (other, 1)]), 2).unwrap();
    first.attach(&pod.tap).unwrap();
    on_cpu(one, || socket.send_to(b"hello", NEIGHBOR).unwrap());
    assert_eq!(pod.arrived(), [0]);

    for (queues, own) in [(4, [3, 2]), (1, [0, 0]), (3, [2, 0])] {
        // The former holder ends first.
        let namespace = pod.close();
        let tap = namespace.run(|| Tap::open(&options("eth0", queues))).unwrap().unwrap();
        pod = Pod::of(namespace, tap);
        assert_eq!(pod.tap.queues().len(), usize::from(queues));
        let steering = Steering::new(Steered::Frames, &table(&[(one, own[0]), (other, own[1])]), queues).unwrap();
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
        assert!(
            matches!(Steering::new(Steered::Frames, table, queues), Err(Error::Illegal { .. })),
            "{table:?} {queues}"
        );
    }
}

/// The attempt is made by this same test in a process of its own, which gives up root for good.
#[test]
fn without_rights_steering_is_refused_and_says_which_it_needs() {
    if env::var_os(ATTEMPT).is_some() {
        setresuid(NOBODY, NOBODY, NOBODY).unwrap();
        println!("refused: {}", Steering::new(Steered::Frames, &[0], 1).unwrap_err());
        return;
    }
    let name = "without_rights_steering_is_refused_and_says_which_it_needs";
    let mut attempt = Command::new(env::current_exe().unwrap());
    let output = attempt.args(["--exact", name, "--nocapture"]).env(ATTEMPT, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("refused: ") && said.contains("needs CAP_BPF"), "{said}");
}
