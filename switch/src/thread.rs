//! A thread as the kernel sees it (proc(5), `/proc/PID/task/TID`).

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

/// The thread of this name of the process with this folder, such as [`OWN`]; none if there is none.
pub fn thread_named(process: &str, name: &str) -> Option<ThreadStatus> {
    let tasks = fs::read_dir(format!("{process}/task")).ok()?.flatten().map(|task| task.path());
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

/// The folder of this process.
pub const OWN: &str = "/proc/self";

/// What the thread of a worker is called.
pub fn worker_thread(number: u16) -> String {
    format!("worker-{number}")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, TryRecvError};
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_is_found_by_its_name_and_its_cpu_time_grows() {
        let (stop, stopped) = mpsc::channel::<()>();
        let named = thread::Builder::new().name("psw-looked-at".to_owned());
        // Ends with this test, however that ends.
        let thread = named.spawn(move || while stopped.try_recv() == Err(TryRecvError::Empty) {}).unwrap();
        let look = || thread_named(OWN, "psw-looked-at");
        let began = Instant::now();
        let patience = || assert!(began.elapsed() < Duration::from_secs(30), "waited in vain");
        let before = loop {
            // The name is the thread's own first act.
            if let Some(status) = look() {
                break status;
            }
            patience();
        };
        while look().unwrap().cpu_time.unwrap() <= before.cpu_time.unwrap() {
            patience();
        }
        assert!(!before.cpus.unwrap().is_empty());
        drop(stop);
        thread.join().unwrap();
        assert_eq!(thread_named(OWN, "psw-nobody"), None);
    }
}
