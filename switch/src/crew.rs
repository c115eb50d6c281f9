//! The crew: which CPU each worker or stage has, and which of a port's queues a frame comes in by.
//!
//! There is a worker on every CPU that the switch may use, or on those it is told; in `spin` mode on the last one alone,
//! since who never sleeps needs a CPU that is spared for it. Worker 3 owns queue 3 of every port, and frames come in by the
//! queue of the CPU that sends them, where the kernel can be told so. Where it cannot, the TAP spreads flows by itself.
//!
//! The three stages of a pipeline have the first three of those CPUs, in `spin` mode the last three, and ports have one queue.
//! With fewer CPUs the last one is the later stages': to receive and to depart are the most work, and are kept apart.

use std::io;

use control::Poll;
use host::{Steered, Steering, Tap, TunnelSocket};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::config::Config;
use crate::pipeline::{self, threads::STAGES};
use crate::worker::Waiting;

/// What all workers, or stages of a pipeline, have in common.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crew {
    /// The CPU of each.
    pub cpus: Vec<u16>,
    /// How they wait.
    pub waiting: Waiting,
    /// Frames come in by the queue of the CPU that sends them.
    pub steered: bool,
    /// They are the stages of a pipeline.
    pub pipeline: bool,
}

impl Crew {
    /// The crew that `config` asks for.
    ///
    /// # Errors
    /// What the kernel says of the CPUs this process may use.
    pub fn new(config: &Config) -> io::Result<Crew> {
        let mut cpus = if config.worker_cpus.is_empty() { allowed_cpus()? } else { config.worker_cpus.clone() };
        if config.worker_cpus.is_empty() && config.poll == Poll::Spin {
            cpus.drain(..cpus.len().saturating_sub(if config.pipeline { STAGES.len() } else { 1 }));
        }
        if config.pipeline {
            let last = cpus.len() - 1;
            cpus = (0..STAGES.len()).map(|stage| cpus[stage.min(last)]).collect();
        }
        let waiting = match config.poll {
            Poll::Adaptive => Waiting::Adaptive(config.spin),
            Poll::Spin => Waiting::Spin,
            Poll::Sleep => Waiting::Sleep,
        };
        let mut crew = Crew { cpus, waiting, steered: false, pipeline: config.pipeline };
        if crew.pipeline && (0..crew.cpus.len()).any(|thread| crew.shares_cpu(thread)) {
            let (cpus, wanted) = (&crew.cpus, STAGES.len());
            tracing::warn!("stages of the pipeline share a CPU ({cpus:?}): worker_cpus should have {wanted} for it");
        }
        // One queue needs no choice.
        crew.steered = crew.queues() > 1
            && crew
                .steering(Steered::Frames)
                .inspect_err(|error| tracing::info!("queues are not steered: {error}"))
                .is_ok();
        Ok(crew)
    }

    /// How many queues a port has.
    pub fn queues(&self) -> u16 {
        if self.pipeline { 1 } else { self.cpus.len() as u16 }
    }

    /// How many of its threads count at a port.
    pub fn writers(&self) -> usize {
        if self.pipeline { pipeline::WRITERS } else { self.cpus.len() }
    }

    /// Another of its threads has the same CPU.
    pub fn shares_cpu(&self, thread: usize) -> bool {
        self.cpus.iter().filter(|&&cpu| cpu == self.cpus[thread]).count() > 1
    }

    /// Has the queues of a TAP chosen by the sender's CPU, by what was made for it before if that is there; none where that cannot
    /// be, and then the TAP chooses.
    pub fn steer(&self, tap: &Tap, spare: Option<Steering>) -> Option<Steering> {
        if !self.steered || tap.queues().len() != self.cpus.len() {
            return None;
        }
        let steering = spare.map_or_else(|| self.steering(Steered::Frames), Ok);
        attached(steering, |steering| steering.attach(tap))
    }

    /// Steering for the next TAP, made while nobody waits for it: the kernel verifies its program, which takes a millisecond or two.
    pub fn spare_steering(&self) -> Option<Steering> {
        if self.steered { self.steering(Steered::Frames).ok() } else { None }
    }

    /// Has the sockets of a group chosen by the CPU that receives; none where that cannot be, and then their flow decides.
    pub fn steer_group(&self, sockets: &[TunnelSocket]) -> Option<Steering> {
        if !self.steered {
            return None;
        }
        attached(self.steering(Steered::Datagrams), |steering| steering.attach_to_group(&sockets[0]))
    }

    fn steering(&self, steered: Steered) -> Result<Steering, host::Error> {
        let last = self.cpus.iter().copied().max().unwrap_or(0);
        let queue_of = |cpu| self.cpus.iter().position(|&own| own == cpu).unwrap_or(usize::from(cpu) % self.cpus.len());
        let queue_of_cpu: Vec<u16> = (0..=last).map(|cpu| queue_of(cpu) as u16).collect();
        Steering::new(steered, &queue_of_cpu, self.queues())
    }
}

fn attached(
    steering: Result<Steering, host::Error>,
    attach: impl FnOnce(&Steering) -> Result<(), host::Error>,
) -> Option<Steering> {
    let attached = steering.and_then(|steering| attach(&steering).map(|()| steering));
    attached.inspect_err(|error| tracing::warn!("queues are not steered: {error}")).ok()
}

/// Binds the calling thread to a CPU.
pub fn bind(cpu: u16) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu.into())?;
    Ok(sched_setaffinity(Pid::from_raw(0), &cpus)?)
}

/// The CPUs this thread may use, at most [`WORKERS_MAX`] of them.
fn allowed_cpus() -> io::Result<Vec<u16>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).is_ok_and(|set| set));
    Ok(cpus.map(|cpu| cpu as u16).take(WORKERS_MAX).collect())
}

/// A TAP has no more queues than this (`MAX_TAP_QUEUES` of Linux `drivers/net/tun.c`).
pub const WORKERS_MAX: usize = 256;
