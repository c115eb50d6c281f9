//! What a process without rights inside a pod may not do to the switch.

use std::env;
use std::process::Command;

use host::{Tap, TapOptions};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mknod};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::rig::{Rig, must};
use crate::stage::{Ended, Stage};

/// The attempt is made by this same test in a process of its own, which gives up root for good.
#[test]
fn nobody_cannot_seize_a_pods_interface() {
    if env::var_os(ATTEMPT).is_some() {
        return seize_as_nobody();
    }
    let mut rig = Rig::new();
    let (a, b) = (rig.pod(2), rig.pod(3));
    let attempt = || {
        let test = ["--exact", "unprivileged::nobody_cannot_seize_a_pods_interface", "--nocapture"];
        Command::new(env::current_exe().unwrap()).args(test).env(ATTEMPT, "1").output().unwrap()
    };
    for held in [true, false] {
        let output = a.run(attempt).unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "held: {held}: {said}\n{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains("refused: ") && said.contains("eth0"), "{said}");
        rig.kill();
    }
    // Root can: it was the user that was refused, not the device.
    rig.start();
    must(&a, &format!("ping -n -c 1 -w 10 {}", b.v4()));
}

/// Each is told what it lacks and the line that does it, arguments and all.
#[test]
fn every_command_tells_nobody_how_to_be_root() {
    let mut stage = Stage::new();
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
    let capabilities = "needs CAP_NET_ADMIN and CAP_SYS_ADMIN, which this process lacks";
    let root = "the switch at /run/podswitch/control.sock answers to root alone";
    stage.must("mkdir -m 777 /run/own");
    for running in [false, true] {
        for (arguments, why) in [
            ("run --pod-range 10.244.0.0/24 --state-dir /run/own/state", Some(capabilities)),
            ("purge --yes", Some(capabilities)),
            ("attach web-0 --netns /run/netns/web --address 10.244.0.2", running.then_some(root)),
            ("detach web-0", running.then_some(root)),
            ("route add 192.0.2.0/24 --to endpoint:web-0", running.then_some(root)),
            ("route del 192.0.2.0/24 --force", running.then_some(root)),
            ("show status --json", running.then_some(root)),
            ("stop", running.then_some(root)),
        ] {
            let Ended { text, code } = stage.run(&format!("{nobody} podswitch {arguments}"));
            assert_eq!(code, 1, "{arguments}: {text}");
            let expected = why.unwrap_or("no switch is running at /run/podswitch/control.sock");
            assert!(text.contains(expected), "{arguments}: {text}");
            let line = format!("hint: run it as root: sudo podswitch {arguments}\n");
            assert_eq!(text.contains(&line), why.is_some(), "{arguments}: {text}");
        }
        let text = stage.run(&format!(r"{nobody} podswitch purge --yes --state-dir $'/run/own/\xff'")).text;
        assert!(text.contains("sudo podswitch purge --yes --state-dir '/run/own/\u{fffd}'"), "{text}");
        let text = stage.run(&format!("PODSWITCH_LOG=debug {nobody} podswitch doctor --host-port 'it'")).text;
        assert!(text.contains("sudo PODSWITCH_LOG=debug podswitch doctor --host-port it"), "{text}");
        if !running {
            assert_eq!(stage.must("ls /run/own").trim(), "", "a refused start left something");
            stage.start_switch("--pod-range 10.244.0.0/24");
        }
    }
    // What needs no rights is had without.
    stage.must(&format!("{nobody} podswitch completions bash >/dev/null"));
    stage.must(&format!("{nobody} podswitch man /run/own/man1"));
    stage.must("podswitch show status");
}

fn seize_as_nobody() {
    // A device node anybody may open, in a mount namespace that ends with this process.
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).unwrap();
    mount(Some("none"), "/dev/net", Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
    let everyone = Mode::from_bits_truncate(0o666);
    mknod("/dev/net/tun", SFlag::S_IFCHR, everyone, makedev(10, 200)).unwrap();
    fchmodat(nix::fcntl::AT_FDCWD, "/dev/net/tun", everyone, FchmodatFlags::FollowSymlink).unwrap();

    let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setgroups(&[]).unwrap();
    setresgid(group, group, group).unwrap();
    setresuid(user, user, user).unwrap();
    let refused = Tap::open(&TapOptions { adopt: true, multi_queue: true, ..TapOptions::new("eth0") });
    let refused = refused.expect_err("a user without rights attached a pod's interface");
    assert_eq!(refused.errno(), Some(nix::libc::EPERM), "{refused:?}");
    println!("refused: {refused}");
}

const NOBODY: u32 = 65_534;
const ATTEMPT: &str = "PODSWITCH_TEST_SEIZE";
