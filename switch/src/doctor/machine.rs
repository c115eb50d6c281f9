//! The machine itself: kernel, clock, CPUs, limits, and where the state lies.

use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use crate::pipeline::threads::STAGES;
use crate::thread::{thread_named, worker_thread};

use super::{Finding, field, found, lacking, note, text};

/// Looks at what is outside the network; `process` is the folder of proc of the switch, or of who stands in for it.
pub(super) fn findings(state_dir: &Path, process: &str) -> Vec<Finding> {
    let own = |file| text(&format!("{process}/{file}")).unwrap_or_default();
    let (quota, descriptors) = (quota(&own("cgroup")), descriptors(&own("limits")));
    let mut findings = vec![kernel(), clock(), worker_cpus(process), quota, descriptors, files(), state(state_dir)];
    findings.extend(later());
    findings
}

fn kernel() -> Finding {
    let release = text("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= KERNEL_WANTED {
        found("kernel", release)
    } else {
        note("kernel", format!("{release}: UDP super-frames begin with 6.2"))
    }
}

/// The switch reads the clock once a turn; a slow one costs more than the turn.
fn clock() -> Finding {
    let subject = "clock source";
    match text("/sys/devices/system/clocksource/clocksource0/current_clocksource") {
        None => note(subject, "the kernel does not say"),
        Some(slow) if SLOW_CLOCKS.contains(&slow.as_str()) => lacking(
            subject,
            format!("{slow}: each reading takes a microsecond or more"),
            "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, if it is among available_clocksource",
        ),
        Some(clock) => found(subject, clock),
    }
}

/// The CPUs the workers or the stages of a pipeline are bound to, or would be: all that are allowed.
fn worker_cpus(process: &str) -> Finding {
    let subject = "workers' CPUs";
    let bound = |thread: String| cpus(&thread_named(process, &thread)?.cpus?).first().copied();
    let own = || Some(cpus(field(&text(&format!("{process}/status"))?, "Cpus_allowed_list")?));
    let stages = STAGES.iter().map(|&stage| stage.to_owned());
    let running: Vec<u32> = (0..).map(worker_thread).map_while(bound).chain(stages.filter_map(bound)).collect();
    let used = if running.is_empty() { own().unwrap_or_default() } else { running };
    if used.is_empty() {
        return note(subject, "not known");
    }
    let online = text("/sys/devices/system/cpu/online").map_or(1, |list| cpus(&list).len());
    let isolated = text("/sys/devices/system/cpu/isolated").map(|list| cpus(&list)).unwrap_or_default();
    let listed = used.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    if used.iter().all(|cpu| isolated.contains(cpu)) {
        return found(subject, format!("{listed} of {online}, isolated"));
    }
    found(subject, format!("{listed} of {online}, shared with pods"))
}

/// The numbers of a list such as `0-2,7` (cpuset(7)).
fn cpus(list: &str) -> Vec<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// A quota below one CPU stops the worker in the middle of the traffic. `cgroup` is the text of `/proc/PID/cgroup`.
fn quota(cgroup: &str) -> Finding {
    let subject = "CPU quota";
    let Some(path) = cgroup.lines().find_map(|line| line.strip_prefix("0::")) else {
        return note(subject, "not examined: cgroup version 1");
    };
    let groups = Path::new(path).ancestors().map(|group| format!("/sys/fs/cgroup{}/cpu.max", group.display()));
    let limits = groups.filter_map(|file| Some((cores(&text(&file)?)?, file)));
    match limits.min_by(|(one, _), (other, _)| one.total_cmp(other)) {
        None => found(subject, "none"),
        Some((cores, file)) if cores < 1.0 => lacking(
            subject,
            format!("{cores:.2} CPUs: the worker is stopped when they are used up"),
            format!("echo max > {file}"),
        ),
        Some((cores, _)) => note(subject, format!("{cores:.2} CPUs for the switch and all else in its group")),
    }
}

/// CPUs that a `cpu.max` allows; none for no limit (Linux `Documentation/admin-guide/cgroup-v2.rst`).
fn cores(limit: &str) -> Option<f64> {
    let (quota, period) = limit.split_once(' ')?;
    Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
}

/// A pod takes one descriptor. `run` raises the soft limit to the hard one by itself. `limits` is the text of
/// `/proc/PID/limits`.
fn descriptors(limits: &str) -> Finding {
    let subject = "open files of one process";
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let Some(hard) = line.and_then(|limits| limits.split_whitespace().nth(1)?.parse::<u64>().ok()) else {
        return note(subject, "the kernel does not say");
    };
    if hard >= DESCRIPTORS_WANTED {
        found(subject, format!("up to {hard}"))
    } else {
        let pods = hard.saturating_sub(DESCRIPTORS_WANTED - PODS_MAX);
        lacking(
            subject,
            format!("up to {hard}: enough for {pods} pods of {PODS_MAX}"),
            "LimitNOFILE=65536 in the unit, or ulimit -Hn 65536",
        )
    }
}

fn files() -> Finding {
    let subject = "open files of the machine";
    let numbers = text("/proc/sys/fs/file-nr").unwrap_or_default();
    let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [used, _, most] = numbers[..] else { return note(subject, "the kernel does not say") };
    if most.saturating_sub(used) >= DESCRIPTORS_WANTED {
        found(subject, format!("{used} of {most}"))
    } else {
        lacking(
            subject,
            format!("{used} of {most}"),
            format!("sysctl -w fs.file-max={}", used + 16 * DESCRIPTORS_WANTED),
        )
    }
}

/// On a disk the state would outlive a reboot, and the namespaces it speaks of would not.
fn state(directory: &Path) -> Finding {
    let subject = "state folder";
    let there = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let name = directory.display();
    let Ok(found_there) = statfs(there) else { return note(subject, format!("{name}: not known")) };
    let block = u64::try_from(found_there.block_size()).unwrap_or(0);
    let room = found_there.blocks_available() * block / MIB;
    if room < STATE_ROOM_MIB {
        return lacking(
            subject,
            format!("{name}: {room} MiB free"),
            format!("mount -o remount,size=64m {}", there.display()),
        );
    }
    if found_there.filesystem_type() == TMPFS_MAGIC {
        found(subject, format!("{name}: in memory, {room} MiB free"))
    } else {
        note(subject, format!("{name}: on a disk, so it outlives a reboot that its pods do not"))
            .cured("a state_dir below /run, with a tmpfs there")
    }
}

/// What nothing uses yet.
fn later() -> [Finding; 5] {
    let there = |subject, there: bool| {
        note(subject, if there { "there; nothing needs it yet" } else { "not there; nothing needs it yet" })
    };
    let huge = text("/proc/meminfo").and_then(|memory| field(&memory, "HugePages_Total")?.parse::<u64>().ok());
    let xdp =
        text("/proc/net/protocols").is_some_and(|protocols| protocols.lines().any(|line| line.starts_with("XDP ")));
    let ring = text("/proc/sys/kernel/io_uring_disabled").is_some_and(|disabled| disabled != "2");
    let wireguard = Path::new("/sys/module/wireguard").exists();
    [
        there("huge pages", huge.is_some_and(|count| count > 0)),
        there("AF_XDP", xdp),
        there("io_uring", ring),
        there("vhost-net", Path::new("/dev/vhost-net").exists()),
        note("WireGuard", if wireguard { "loaded; nothing needs it yet" } else { "not loaded; nothing needs it yet" }),
    ]
}

const KERNEL_WANTED: (u32, u32) = (6, 2);
const SLOW_CLOCKS: [&str; 4] = ["hpet", "acpi_pm", "jiffies", "refined-jiffies"];
const PODS_MAX: u64 = 4095;
/// One for each pod, one for each client, and some for the switch itself.
const DESCRIPTORS_WANTED: u64 = PODS_MAX + 512;
const MIB: u64 = 1 << 20;
/// Every pod and some hundred thousand routes.
const STATE_ROOM_MIB: u64 = 32;

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn lists_of_cpus_and_quotas_are_read() {
        assert_eq!(cpus("0-2,7\n"), [0, 1, 2, 7]);
        assert_eq!((cpus(""), cpus("x")), (vec![], vec![]));
        assert_eq!((cores("50000 100000"), cores("max 100000"), cores("")), (Some(0.5), None, None));
    }

    #[test]
    fn the_hard_limit_of_open_files_counts() {
        let limits = |hard| format!("Limit  Soft Limit  Hard Limit  Units\nMax open files  64  {hard}  files\n");
        let look = |hard| descriptors(&limits(hard));
        assert_eq!((look(512).status, look(65_536).status), (Status::Lack, Status::Ok));
        assert!(look(612).detail.contains("enough for 100 pods"), "{:?}", look(612));
        assert_eq!(descriptors("").status, Status::Note);
    }

    #[test]
    fn a_state_folder_without_room_or_on_a_disk_is_no_good_one() {
        assert_eq!(state(Path::new("/proc/x")).status, Status::Lack);
        assert!(state(Path::new("/dev/shm/podswitch/deep")).detail.contains("in memory"));
    }
}
