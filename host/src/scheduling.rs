//! How the kernel schedules the calling thread.

use crate::Error;

/// A thread's scheduling class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheduling {
    /// The ordinary, fair class (`SCHED_OTHER`), at the thread's nice value.
    Fair,
    /// Before every fair thread of its CPU until it blocks or gives it up (`SCHED_FIFO` at the lowest priority). Not
    /// inherited by threads and processes started from it.
    RealTime,
}

/// Puts the calling thread into a scheduling class; sched_setscheduler(2).
///
/// # Errors
/// [`Error::Call`]: real time needs `CAP_SYS_NICE`, and a share of it in the thread's cgroup where the kernel hands those out.
pub fn set_scheduling(class: Scheduling) -> Result<(), Error> {
    let (policy, priority) = match class {
        // Taking the flag off again would need a permission of its own.
        Scheduling::Fair => (libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, 0),
        Scheduling::RealTime => (libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, 1),
    };
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the kernel only reads the structure, which lives until the call returns.
    match unsafe { libc::sched_setscheduler(0, policy, &parameters) } {
        0 => Ok(()),
        _ => Err(Error::call("sched_setscheduler", "the calling thread", std::io::Error::last_os_error())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_goes_to_real_time_and_back() {
        let policy = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let after_name = stat.rsplit_once(')').unwrap().1;
            after_name.split_whitespace().nth(38).unwrap().parse::<i32>().unwrap()
        };
        set_scheduling(Scheduling::RealTime).unwrap();
        assert_eq!(policy(), libc::SCHED_FIFO);
        set_scheduling(Scheduling::Fair).unwrap();
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}
