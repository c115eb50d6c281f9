//! A pod with a steered TAP, frames of every kind for it, and threads that send and read while they move between CPUs.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, PacketBuilder};
use nix::ifaddrs::getifaddrs;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::socket::LinkAddr;
use nix::unistd::{Pid, Uid};
use packet::{Mac, VNET_HEADER_LEN};
use podswitch_host::{
    Address, Error, Family, LinkChange, Neighbor, Netlink, Steered, Steering, Sysctl, Taken, Tap, TapOptions,
    TemporaryNamespace,
};

/// Reads one queue in turns, each of a few frames at most, and counts those that came after a later one.
pub(crate) struct Reader<'a> {
    pub(crate) steering: &'a Steering,
    pub(crate) tap: &'a Tap,
    /// By sender, which is a number's remainder.
    pub(crate) latest: &'a [AtomicU64],
    pub(crate) late: &'a AtomicU64,
}

impl Reader<'_> {
    pub(crate) fn run(&self, queue: u16, done: &AtomicBool) -> u64 {
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

    pub(crate) fn deliver(&self, number: u64) {
        let latest = &self.latest[number as usize % self.latest.len()];
        if number != 0 && latest.fetch_max(number, Ordering::AcqRel) > number {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The number in the next frame; 0 for a frame of the kernel's own.
pub(crate) fn read_number(mut file: &File, bytes: &mut [u8]) -> Option<u64> {
    match file.read(bytes) {
        Ok(length) if bytes[VNET_HEADER_LEN..length].starts_with(&FAR.0) => {
            Some(u64::from_be_bytes(bytes[length - 8..length].try_into().unwrap()))
        }
        Ok(_) => Some(0),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) fn send_while_moving(socket: &UdpSocket, numbers: impl Iterator<Item = u64>, cpus: [u16; 2]) {
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
pub(crate) struct Pod {
    pub(crate) namespace: TemporaryNamespace,
    pub(crate) tap: Tap,
    /// By queue, frames read that are not said to have departed.
    pub(crate) taken: Vec<AtomicU32>,
}

impl Pod {
    pub(crate) fn new(queues: u16) -> Self {
        let namespace = namespace();
        let options = TapOptions { queues, multi_queue: true, ..TapOptions::new("eth0") };
        let tap = namespace.run(|| Tap::open(&options)).unwrap().unwrap();
        Pod::wired(namespace, tap)
    }

    pub(crate) fn wired(namespace: TemporaryNamespace, tap: Tap) -> Self {
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

    pub(crate) fn of(namespace: TemporaryNamespace, tap: Tap) -> Self {
        let taken = tap.queues().iter().map(|_| AtomicU32::new(0)).collect();
        Pod { namespace, tap, taken }
    }

    pub(crate) fn close(self) -> TemporaryNamespace {
        self.namespace
    }

    pub(crate) fn await_carrier(&self) {
        let mut netlink = Netlink::open_in(&self.namespace).unwrap();
        let start = Instant::now();
        while !netlink.link("eth0").unwrap().carrier {
            assert!(start.elapsed() < PATIENCE, "no carrier");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Once the address is in use: the kernel may still be about to make a new IPv6 one so.
    pub(crate) fn socket(&self, address: &str) -> UdpSocket {
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
    pub(crate) fn bridge(&self) -> Tap {
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
    pub(crate) fn frames(&self) -> Vec<(u16, Vec<u8>)> {
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
    pub(crate) fn taken(&self, queue: u16) -> u32 {
        self.taken[usize::from(queue)].swap(0, Ordering::Relaxed)
    }

    /// All that was read of this queue departs, and nothing is left there.
    pub(crate) fn depart(&self, steering: &Steering, queue: u16) {
        steering.departed(queue, Taken { frames: self.taken(queue), drained: true }, Instant::now());
    }

    pub(crate) fn depart_all(&self, steering: &Steering) {
        (0..).zip(self.tap.queues()).for_each(|(queue, _)| self.depart(steering, queue));
    }

    /// From now on the kernel sends nothing of its own, and nothing is left of what it sent.
    pub(crate) fn quieten(&self, steering: &Steering) {
        let disable = Sysctl::interface(Family::V6, "eth0", "disable_ipv6").unwrap();
        self.namespace.run(|| disable.write(1)).unwrap().unwrap();
        self.frames();
        self.depart_all(steering);
    }

    /// The queues by which frames to the neighbour came that lie there.
    pub(crate) fn arrived(&self) -> Vec<u16> {
        let to_neighbor = self.frames().into_iter().filter(|(_, frame)| frame.starts_with(&FAR.0));
        to_neighbor.map(|(queue, _)| queue).collect()
    }
}

/// Two CPUs and a pod with a queue for each.
pub(crate) fn pod_of_two() -> (Pod, Steering, [u16; 2]) {
    let (pod, cpus) = (Pod::new(2), two_cpus());
    let steering = Steering::new(Steered::Frames, &table(&[(cpus[0], 0), (cpus[1], 1)]), 2).unwrap();
    steering.attach(&pod.tap).unwrap();
    (pod, steering, cpus)
}

/// Pairs of frames that are of one kind for the program.
pub(crate) fn kinds() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
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

pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let headers = PacketBuilder::ethernet2(NEAR.0, EVERYONE.0).ipv4([10, 9, 0, 1], [10, 9, 0, 2], 64).udp(from, to);
    headers.write(&mut frame, payload).unwrap();
    frame
}

pub(crate) fn fragment(offset: u16, more: bool, fill: u8) -> Vec<u8> {
    let mut header = Ipv4Header::new(64, 64, IpNumber::UDP, [10, 9, 0, 6], [10, 9, 0, 7]).unwrap();
    (header.fragment_offset, header.more_fragments) = (IpFragOffset::try_new(offset).unwrap(), more);
    header.header_checksum = header.calc_header_checksum();
    ethernet(0x0800, &[header.to_bytes().as_slice(), &[fill; 64]].concat())
}

pub(crate) fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut header =
        Ethernet2Header { source: NEAR.0, ether_type: EtherType(ether_type), ..Ethernet2Header::default() };
    header.destination = EVERYONE.0;
    [&header.to_bytes()[..], payload].concat()
}

/// The address of `eth0` for packet(7).
pub(crate) fn link_address() -> LinkAddr {
    let addresses = getifaddrs().unwrap().filter(|entry| entry.interface_name == "eth0");
    addresses.flat_map(|entry| entry.address).find_map(|address| address.as_link_addr().copied()).unwrap()
}

pub(crate) fn table(queues: &[(u16, u16)]) -> Vec<u16> {
    let mut table = vec![0; usize::from(queues.iter().map(|(cpu, _)| *cpu).max().unwrap()) + 1];
    for (cpu, queue) in queues {
        table[usize::from(*cpu)] = *queue;
    }
    table
}

/// The first two CPUs this process may use.
pub(crate) fn two_cpus() -> [u16; 2] {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus: Vec<u16> = (0..CpuSet::count() as u16).filter(|cpu| allowed.is_set((*cpu).into()).unwrap()).collect();
    *cpus.first_chunk().expect("this test needs two CPUs")
}

pub(crate) fn on_cpu<T: Send>(cpu: u16, action: impl FnOnce() -> T + Send) -> T {
    let pinned = || {
        pin(cpu);
        action()
    };
    thread::scope(|scope| scope.spawn(pinned).join().unwrap())
}

pub(crate) fn pin(cpu: u16) {
    let mut one = CpuSet::new();
    one.set(cpu.into()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
}

pub(crate) fn namespace() -> TemporaryNamespace {
    TemporaryNamespace::new("host-steer").unwrap_or_else(|error| panic!("this test needs root: {error}"))
}

/// Datagrams that all threads send together, a multiple of their number.
pub(crate) const NUMBERS: u64 = 300_000;
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const NOBODY: Uid = Uid::from_raw(65_534);
pub(crate) const ATTEMPT: &str = "PODSWITCH_TEST_STEER";
pub(crate) const NEIGHBOR: &str = "10.9.0.2:9";
pub(crate) const NEAR: Mac = Mac([2, 0, 0, 0, 0, 0x11]);
pub(crate) const EVERYONE: Mac = Mac([0xff; 6]);
pub(crate) const FAR: Mac = Mac([2, 0, 0, 0, 0, 0x22]);
/// An echo request without data.
pub(crate) const ECHO: [u8; 8] = [8, 0, 0xf7, 0xfd, 0, 1, 0, 1];
