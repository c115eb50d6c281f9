//! A thread of this process as the kernel sees it (proc(5), `/proc/PID/task/TID`).

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// What the kernel says of a thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadStatus {
    /// The CPUs it may run on, as a list such as `0-1,3`.
    pub cpus: Option<String>,
    /// CPU time it used.
    pub cpu_time: Option<Duration>,
}

/// The thread of this name; none if there is none.
pub fn thread_named(name: &str) -> Option<ThreadStatus> {
    let tasks = fs::read_dir("/proc/self/task").ok()?.flatten().map(|task| task.path());
    let is_named = |task: &PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
    let task = tasks.into_iter().find(is_named)?;
    let status = fs::read_to_string(task.join("status")).unwrap_or_default();
    let cpus = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    // Nanoseconds on a CPU come first (Linux Documentation/scheduler/sched-stats.rst).
    let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    let nanoseconds = schedstat.split_whitespace().next().and_then(|text| text.parse().ok());
    Some(ThreadStatus {
        cpus: cpus.map(|list| list.trim().to_owned()),
        cpu_time: nanoseconds.map(Duration::from_nanos),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_thread_is_found_by_its_name_and_its_cpu_time_grows() {
        let (say, hear) = mpsc::channel();
        let (answer, answered) = mpsc::channel();
        let named = thread::Builder::new().name("psw-looked-at".to_owned());
        let thread = named.spawn(move || {
            for _ in hear {
                let mut work = 0_u64;
                (0..1_000_000_u64).for_each(|n| work = std::hint::black_box(work ^ n));
                answer.send(work).unwrap();
            }
        });
        let time = || {
            say.send(()).unwrap();
            answered.recv().unwrap();
            thread_named("psw-looked-at").unwrap()
        };
        let (before, after) = (time(), time());
        assert!(before.cpu_time.unwrap() < after.cpu_time.unwrap());
        assert!(!after.cpus.unwrap().is_empty());
        drop(say);
        thread.unwrap().join().unwrap();
        assert_eq!(thread_named("psw-nobody"), None);
    }
}
