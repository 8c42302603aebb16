//! Where the threads of a measurement run, and what they have cost.

use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::Failure;

/// Where two threads run: on two cores where this process may use two. Left to the scheduler they share one core in some runs
/// and not in others, and a copy out of the cache of the own core costs a fraction of one across.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cores {
    pub(super) first: usize,
    pub(super) second: usize,
}

impl Cores {
    pub(super) fn of_this_process() -> Result<Self, Failure> {
        let allowed = sched_getaffinity(None)?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        let first = allowed.next().ok_or("this process may use no core")?;
        Ok(Self { first, second: allowed.next().unwrap_or(first) })
    }

    /// How many the two threads have.
    pub(super) fn count(self) -> usize {
        if self.first == self.second { 1 } else { 2 }
    }
}

/// Keeps this thread on one core.
pub(super) fn pin_to(core: usize) -> Result<(), Failure> {
    if core >= CpuSet::MAX_CPU {
        return Err(format!("there is no core {core}").into());
    }
    let mut only = CpuSet::new();
    only.set(core);
    Ok(sched_setaffinity(None, &only)?)
}

/// CPU time of this thread, user and system.
pub(super) fn thread_cpu() -> Result<Duration, Failure> {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Ok(Duration::new(u64::try_from(time.tv_sec)?, u32::try_from(time.tv_nsec)?))
}
