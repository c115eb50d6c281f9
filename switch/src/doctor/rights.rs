//! What this process may do.

use std::thread;

use host::{Scheduling, set_scheduling};
use nix::sys::resource::{Resource, getrlimit};

use crate::privilege::{Capability, NEEDED, listed, missing, sudo};

use super::{Finding, found, lacking, note, text};

/// Looks at capabilities and at what they are good for.
pub(super) fn findings() -> Vec<Finding> {
    vec![needed(), others_namespaces(), real_time(), bpf()]
}

fn needed() -> Finding {
    let (subject, missing) = ("privileges", missing(&NEEDED));
    if missing.is_empty() {
        found(subject, listed(&NEEDED))
    } else {
        lacking(subject, format!("{} missing", listed(&missing)), format!("run as root: {}", sudo()))
    }
}

fn others_namespaces() -> Finding {
    let subject = "namespaces by process";
    if missing(&[Capability::SysPtrace]).is_empty() {
        found(subject, "CAP_SYS_PTRACE: /proc/PID/ns/net of any process opens")
    } else {
        note(subject, "CAP_SYS_PTRACE missing: name pods by a path such as /run/netns/NAME")
    }
}

/// Tried on a thread that ends with it, since a permission alone does not decide: cgroups hand out shares of real time.
fn real_time() -> Finding {
    let subject = "real-time priority";
    let tried = thread::spawn(|| set_scheduling(Scheduling::RealTime)).join();
    let Ok(Err(error)) = tried else { return found(subject, "full turns get it") };
    let limit = getrlimit(Resource::RLIMIT_RTPRIO).map_or(0, |(soft, _)| soft);
    let may = missing(&[Capability::SysNice]).is_empty() || limit > 0;
    if !may {
        let detail = "CAP_SYS_NICE missing and RLIMIT_RTPRIO is 0: slower under load";
        return lacking(subject, detail, "LimitRTPRIO=1 or CAP_SYS_NICE in the unit, or run as root");
    }
    let cgroup = text("/proc/self/cgroup").unwrap_or_default();
    match share_file(&cgroup) {
        Some(file) if text(&file).as_deref() == Some("0") => lacking(
            subject,
            "allowed, but this cgroup has no share of it: slower under load",
            format!("echo 100000 > {file}, and in the groups above it"),
        ),
        _ => lacking(
            subject,
            format!("allowed, but refused: {error}"),
            "see seccomp below, and RT_GROUP_SCHED of the kernel",
        ),
    }
}

/// Where cgroup version 1 says how much real time the process of this `/proc/PID/cgroup` gets (sched(7)).
fn share_file(cgroup: &str) -> Option<String> {
    let line = cgroup
        .lines()
        .find(|line| line.split(':').nth(1).is_some_and(|names| names.split(',').any(|name| name == "cpu")))?;
    let path = line.splitn(3, ':').nth(2)?.trim_end_matches('/');
    Some(format!("/sys/fs/cgroup/cpu{path}/cpu.rt_runtime_us"))
}

fn bpf() -> Finding {
    let subject = "bpf(2)";
    match (text("/proc/sys/kernel/unprivileged_bpf_disabled"), missing(&[Capability::Bpf]).is_empty()) {
        (None, _) => note(subject, "the kernel has none; nothing needs it yet"),
        (_, true) => note(subject, "CAP_BPF; nothing needs it yet"),
        (_, false) => note(subject, "CAP_BPF missing; nothing needs it yet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_real_time_is_looked_for_where_version_1_has_it() {
        let version_1 = "12:cpu,cpuacct:/docker/7\n3:memory:/x\n0::/\n";
        assert_eq!(share_file(version_1).as_deref(), Some("/sys/fs/cgroup/cpu/docker/7/cpu.rt_runtime_us"));
        assert_eq!(share_file("0::/system.slice/podswitch.service\n"), None);
        assert_eq!(share_file("4:cpuset:/\n"), None);
    }
}
