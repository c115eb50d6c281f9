//! Clients of the control socket that are broken or mean harm: the switch answers the others, and does not grow.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use podswitch::server::{CONNECTIONS_MAX, HEAD_TIMEOUT};

use crate::rig::{Rig, ping};

#[test]
fn a_thousand_silent_clients_hold_nobody_up_and_cost_little() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard.min(4096), hard).unwrap();
    let rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    // Those that owe a body alone take all places, and stay for longer than this waits if nobody needs theirs.
    let client = rig.client();
    let before = resident_kib(&rig);
    let mut crowd = Vec::new();
    for beginning in BEGINNINGS {
        for _ in 0..CONNECTIONS_MAX + 1 {
            let mut stream = UnixStream::connect(client.socket()).unwrap();
            // Who was sent away for another may hear of it while speaking.
            let _ = stream.write_all(beginning);
            crowd.push(stream);
        }
        client.status().unwrap();
    }
    assert!(crowd.len() > 1000);
    ping(&a, b.v4());
    let grown = resident_kib(&rig).saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "grown by {grown} KiB");
    drop(crowd);
    rig.detach(&a);
    client.status().unwrap();
    rig.settled();
}

#[test]
fn clients_that_send_without_end_are_cut_off_and_cost_little() {
    let rig = Rig::new();
    let before = resident_kib(&rig);
    let chunk = vec![b'x'; 1 << 16];
    for beginning in BEGINNINGS {
        let mut crowd: Vec<UnixStream> = (0..50).map(|_| UnixStream::connect(rig.client().socket()).unwrap()).collect();
        for stream in &mut crowd {
            stream.set_write_timeout(Some(HEAD_TIMEOUT)).unwrap();
            let mut taken = 0;
            let _ = stream.write_all(beginning);
            while stream.write_all(&chunk).is_ok() {
                taken += chunk.len();
                assert!(taken < TAKEN_MAX, "{taken} bytes were taken");
            }
        }
        rig.client().status().unwrap();
    }
    let grown = resident_kib(&rig).saturating_sub(before);
    assert!(grown < GROWTH_KIB_MAX, "grown by {grown} KiB");
}

/// Memory of the switch that is in use.
fn resident_kib(rig: &Rig) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", rig.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

const BEGINNINGS: [&[u8]; 4] = [
    b"",
    b"GET /v1/status HTTP/1.1\r\nhost: x\r\nx: ",
    b"POST /v1/routes HTTP/1.1\r\nhost: x\r\ncontent-length: 1073741824\r\n\r\n{",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];
/// A place costs its head and body at most, 80 KiB; there are 256.
const GROWTH_KIB_MAX: u64 = 32 * 1024;
/// What the socket's buffers take, with room to spare.
const TAKEN_MAX: usize = 4 << 20;
