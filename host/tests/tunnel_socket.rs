//! Trains of datagrams over loopback.

#![allow(clippy::unwrap_used, reason = "a test says by panic what is missing")]

use std::io::{ErrorKind, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as PlainSocket};
use std::thread;
use std::time::{Duration, Instant};

use podswitch_host::{Datagrams, SLICES_MAX, TRAIN_BYTES_MAX, TRAIN_DATAGRAMS_MAX, Train, TunnelSocket};
use socket2::SockAddr;

const LOOPBACKS: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

fn pair(loopback: &str) -> (TunnelSocket, TunnelSocket, SocketAddr) {
    let local: SocketAddr = loopback.parse().unwrap();
    let receiver = TunnelSocket::open(local).unwrap();
    let address = SocketAddr::new(local.ip(), receiver.port().unwrap());
    (TunnelSocket::open(local).unwrap(), receiver, address)
}

fn together<'a>(slices: &'a [IoSlice<'a>], segment: usize) -> Datagrams<'a> {
    Datagrams { slices, segment, tos: 0 }
}

/// The next train, within a second.
fn next(socket: &TunnelSocket, buffer: &mut [u8]) -> Train {
    let until = Instant::now() + Duration::from_secs(1);
    loop {
        if let Some(train) = socket.receive(buffer).unwrap() {
            return train;
        }
        assert!(Instant::now() < until, "nothing came");
        thread::yield_now();
    }
}

/// The datagrams of trains until `bytes` have come.
fn datagrams(socket: &TunnelSocket, bytes: usize) -> Vec<Vec<u8>> {
    let (mut buffer, mut received, mut all) = (vec![0; 70_000], 0, Vec::new());
    while received < bytes {
        let train = next(socket, &mut buffer);
        all.extend(buffer[..train.length].chunks(train.segment).map(<[u8]>::to_vec));
        received += train.length;
    }
    all
}

#[test]
fn a_train_arrives_as_the_datagrams_it_was_cut_into() {
    for loopback in LOOPBACKS {
        let (sender, receiver, address) = pair(loopback);
        let to = SockAddr::from(address);
        for (count, segment, last) in
            [(1, 1, 1), (1, 1400, 1400), (10, 100, 50), (TRAIN_DATAGRAMS_MAX, 72, 72), (46, 1400, 1)]
        {
            let bytes: Vec<u8> = (0..(count - 1) * segment + last).map(|place| (place / 3) as u8).collect();
            // In slices that have nothing to do with the datagrams.
            let slices: Vec<IoSlice<'_>> = bytes.chunks(37.max(bytes.len() / 500)).map(IoSlice::new).collect();
            sender.send(&to, &together(&slices, segment)).unwrap();
            assert_eq!(
                datagrams(&receiver, bytes.len()),
                bytes.chunks(segment).collect::<Vec<_>>(),
                "{count} of {segment}"
            );
        }
    }
}

#[test]
fn a_plain_sockets_datagrams_come_one_by_one_with_their_sender() {
    for loopback in LOOPBACKS {
        let (_, receiver, address) = pair(loopback);
        let plain = PlainSocket::bind(loopback).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(receiver.receive(&mut buffer).unwrap(), None);
        plain.send_to(b"hello", address).unwrap();
        let from: IpAddr = plain.local_addr().unwrap().ip();
        assert_eq!(next(&receiver, &mut buffer), Train { length: 5, segment: 5, from, tos: 0 });
        assert_eq!(&buffer[..5], b"hello");
        plain.send_to(b"", address).unwrap();
        assert_eq!(next(&receiver, &mut buffer).length, 0);
    }
}

#[test]
fn congestion_marks_arrive_with_the_datagrams_that_bear_them() {
    for loopback in LOOPBACKS {
        let (sender, receiver, address) = pair(loopback);
        let (bytes, mut buffer) = ([7; 300], [0; 300]);
        for (tos, segment) in [(3, 300), (1, 100), (0, 100), (2, 100), (2, 100), (0, 300)] {
            let slices = [IoSlice::new(&bytes)];
            sender.send(&address.into(), &Datagrams { tos, ..together(&slices, segment) }).unwrap();
            let mut received = 0;
            while received < bytes.len() {
                let train = next(&receiver, &mut buffer);
                assert_eq!((train.tos, train.segment), (tos, segment));
                received += train.length;
            }
        }
    }
}

#[test]
fn what_does_not_fit_a_train_is_refused_whole() {
    let (sender, receiver, address) = pair(LOOPBACKS[0]);
    let to = SockAddr::from(address);
    let bytes = vec![0; TRAIN_BYTES_MAX + 1];
    sender.send(&to, &together(&[IoSlice::new(&bytes)], 1400)).unwrap_err();
    sender.send(&to, &together(&[IoSlice::new(&bytes)], bytes.len())).unwrap_err();
    let longest = &bytes[..TRAIN_BYTES_MAX];
    sender.send(&to, &together(&[IoSlice::new(longest)], 1400)).unwrap();
    assert_eq!(datagrams(&receiver, longest.len()).len(), longest.len().div_ceil(1400));
    assert!(longest.len().div_ceil(1400) <= TRAIN_DATAGRAMS_MAX && TRAIN_DATAGRAMS_MAX * 3 <= SLICES_MAX);
}

#[test]
fn what_one_port_sends_to_a_group_comes_by_one_socket_and_many_ports_use_them_all() {
    let probe = PlainSocket::bind(LOOPBACKS[0]).unwrap();
    let address = probe.local_addr().unwrap();
    drop(probe);
    let group = TunnelSocket::group(address, 2).unwrap();
    let mut buffer = [0; 100];
    let mut used = [0; 2];
    for _ in 0..64 {
        let sender = PlainSocket::bind(LOOPBACKS[0]).unwrap();
        let mut by = group.iter().map(|_| 0).collect::<Vec<_>>();
        for _ in 0..3 {
            sender.send_to(b"hello", address).unwrap();
            for (socket, count) in group.iter().zip(&mut by) {
                while let Some(train) = socket.receive(&mut buffer).unwrap() {
                    *count += train.length / 5;
                }
            }
        }
        assert!(by == [3, 0] || by == [0, 3], "{by:?}");
        used.iter_mut().zip(&by).for_each(|(used, count)| *used += count);
    }
    // By chance alone never, but once in 2^63.
    assert!(used.iter().all(|count| *count > 0), "{used:?}");
}

#[test]
fn a_port_that_another_has_is_refused_and_named() {
    let (_, _receiver, address) = pair(LOOPBACKS[0]);
    let error = TunnelSocket::open(address).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
    assert_eq!(error.errno(), Some(nix::libc::EADDRINUSE));
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
}

#[test]
fn of_a_group_for_ip_in_ip_each_takes_its_share_of_the_flows_and_none_the_outer_header() {
    // Of this process alone: loopback has 2^24 addresses, and these sockets see all packets to theirs.
    let own = std::process::id().to_be_bytes();
    let local = Ipv4Addr::new(127, own[1] | 1, own[2], own[3] | 1);
    let group = TunnelSocket::ipip_group(local, 2).unwrap();
    let to = SockAddr::from(SocketAddr::new(local.into(), 0));
    let mut buffer = [0; 100];
    let mut shares = [0; 2];
    for flow in 0..8u8 {
        let mut packet = [flow; 40];
        packet[..20].copy_from_slice(&[0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, flow, 10, 0, 1, 1]);
        group[0].send(&to, &together(&[IoSlice::new(&packet[..20]), IoSlice::new(&packet[20..])], 40)).unwrap();
        let received: Vec<usize> = group
            .iter()
            .map(|socket| {
                let mut count = 0;
                while let Some(train) = socket.receive(&mut buffer).unwrap() {
                    assert_eq!(train, Train { length: 40, segment: 40, from: local.into(), tos: 0 });
                    assert_eq!(buffer[..40], packet);
                    count += 1;
                }
                count
            })
            .collect();
        let turned = [&packet[..12], &packet[16..20], &packet[12..16], &packet[20..]].concat();
        group[1].send(&to, &together(&[IoSlice::new(&turned)], 40)).unwrap();
        for (socket, (count, share)) in group.iter().zip(received.into_iter().zip(&mut shares)) {
            let answered = socket.receive(&mut buffer).unwrap().map_or(0, |_| 1);
            assert_eq!(answered, count, "both directions of a flow are in one share");
            *share += count;
        }
    }
    assert_eq!(shares, [4, 4]);
}
