//! The machine a bench runs on: its description, its CPUs, its busy time, and what a fair bench asks of it.

use std::fs;
use std::io::ErrorKind;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use serde::Serialize;

use crate::error::{Error, Result};

/// What a reader must know to judge a figure.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// The CPU's model name.
    pub cpu: String,
    /// How many CPUs this process may run on.
    pub cores: usize,
    /// The running kernel's release.
    pub kernel: String,
    /// When the bench began, UTC, as in RFC 3339.
    pub date: String,
    /// Whether the scheduler's autogroup of the bench was raised, see [`raise_priority`].
    pub priority_raised: bool,
}

impl Machine {
    /// Describes the machine at hand.
    pub fn describe(priority_raised: bool) -> Result<Self> {
        let cpuinfo = read("/proc/cpuinfo")?;
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
            cores: available_cpus()?.len(),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            date: rfc3339(since_1970.as_secs()),
            priority_raised,
        })
    }
}

/// How fast the time stamp counter runs, in MHz: half of the kernel's BogoMIPS, which it derives from that counter on x86-64
/// (`lpj_fine` in the kernel's calibrate.c).
pub fn reference_mhz() -> Result<f64> {
    let cpuinfo = read("/proc/cpuinfo")?;
    let line = cpuinfo.lines().find_map(|line| line.strip_prefix("bogomips")?.split_once(": "));
    let bogomips = line.and_then(|(_, number)| number.trim().parse::<f64>().ok());
    bogomips.map(|bogomips| bogomips / 2.0).ok_or_else(|| {
        Error::system("read bogomips in /proc/cpuinfo: cycles are known on x86-64 alone")(ErrorKind::Unsupported)
    })
}

/// The CPUs this thread may run on, in ascending order.
pub fn available_cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(THIS_THREAD).map_err(Error::system("ask which CPUs may be used"))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// Binds the calling thread, and what it spawns from now on, to one CPU; `None` leaves it where it may run.
pub fn pin(cpu: Option<usize>) -> Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let mut set = CpuSet::new();
    let pinned = set.set(cpu).and_then(|()| sched_setaffinity(THIS_THREAD, &set));
    pinned.map_err(Error::system(format!("run on CPU {cpu}")))
}

/// Seconds all CPUs together have spent working since boot: user, nice, system, irq and softirq, without idle,
/// iowait and steal (proc_stat(5)). Resolution 10 ms per CPU.
pub fn busy_cpu_seconds() -> Result<f64> {
    Ok(busy_ticks(&read("/proc/stat")?) as f64 / USER_HZ)
}

/// Seconds of CPU time a process has used, all its threads together, in nanosecond steps (proc_pid_schedstat(5)).
pub fn cpu_seconds_of(pid: u32) -> Result<f64> {
    let tasks =
        fs::read_dir(format!("/proc/{pid}/task")).map_err(Error::system(format!("list the threads of {pid}")))?;
    let mut nanoseconds = 0_u64;
    for task in tasks.flatten() {
        // A thread that has just ended is not missed.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// Memory a process has resident, in units of 10^6 bytes (`VmRSS` of proc_pid_status(5)).
pub fn resident_megabytes_of(pid: u32) -> Result<f64> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0 / 1e6)
}

/// Raises the scheduler's autogroup of this session (sched(7)), without which `nice` means nothing between sessions
/// and a busy neighbour takes its share of every figure. False where the kernel has no autogroups or forbids it.
pub fn raise_priority() -> bool {
    fs::write("/proc/self/autogroup", "-20").is_ok()
}

/// Lets this process, and those it starts, hold as many open files as its hard limit allows: every pod and flow is one.
pub fn allow_many_open_files() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Error::system("read the limit of open files"))?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(Error::system("raise the limit of open files"))
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(Error::system(format!("read {path}")))
}

fn busy_ticks(stat: &str) -> u64 {
    let all_cpus = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = all_cpus.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0)).collect();
    // user nice system idle iowait irq softirq steal guest guest_nice; guest time is part of user time.
    [0, 1, 2, 5, 6].into_iter().filter_map(|field| ticks.get(field)).sum()
}

/// Civil date from days since 1970, by 400-year eras that begin on 1 March.
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

const THIS_THREAD: Pid = Pid::from_raw(0);
/// Ticks per second in /proc, 100 on every architecture this runs on.
const USER_HZ: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_leaves_out_idle_iowait_and_steal() {
        let stat = "cpu  1 20 300 4000 50000 600000 7000000 80000000 9 9\ncpu0 5 5 5 5 5 5 5 5 5 5\n";
        assert_eq!(busy_ticks(stat), 7_600_321);
    }

    #[test]
    fn the_reference_clock_is_that_of_a_cpu_of_this_century() {
        assert!((500.0..10_000.0).contains(&reference_mhz().unwrap()));
    }

    #[test]
    fn dates_are_right_at_leap_days_and_turns_of_the_year() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_798_761_599), "2026-12-31T23:59:59Z");
        assert_eq!(rfc3339(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn a_pinned_thread_may_use_its_cpu_alone() {
        let last = *available_cpus().unwrap().last().unwrap();
        let seen = std::thread::spawn(move || pin(Some(last)).and_then(|()| available_cpus())).join().unwrap();
        assert_eq!(seen.unwrap(), [last]);
    }
}
