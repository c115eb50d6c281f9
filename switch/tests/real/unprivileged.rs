//! What a process without rights inside a pod may not do to the switch.

use std::env;
use std::process::Command;

use host::{Tap, TapOptions};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mknod};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::rig::{Rig, must};

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
    let refused = Tap::open(&TapOptions { adopt: true, ..TapOptions::new("eth0") });
    let refused = refused.expect_err("a user without rights attached a pod's interface");
    assert_eq!(refused.errno(), Some(nix::libc::EPERM), "{refused:?}");
    println!("refused: {refused}");
}

const NOBODY: u32 = 65_534;
const ATTEMPT: &str = "PODSWITCH_TEST_SEIZE";
