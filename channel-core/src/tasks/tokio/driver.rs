//! The task that runs a context.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::runtime::Handle;
use ::tokio::task::yield_now;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use super::{LAYER, TokioContext, failed};
use crate::{Error, ErrorKind, LoopHandle, Result, enter_context};

/// Runs the loop of a context until the runtime shuts down, which drops this.
pub(super) struct Driver {
    polled: AsyncFd<Polled>,
    alarm: Alarm,
    context: Arc<TokioContext>,
}

/// The epoll instance of a loop, which stays open as long as the loop is held.
struct Polled(Arc<LoopHandle>);

impl AsRawFd for Polled {
    fn as_raw_fd(&self) -> RawFd {
        self.0.polled().as_raw_fd()
    }
}

impl Driver {
    /// A driver that does not run yet.
    pub(super) fn new(context: Arc<TokioContext>, runtime: &Handle) -> Result<Self> {
        let alarm = Alarm::new(&context.event_loop)?;
        let polled = Polled(Arc::clone(&context.event_loop));
        let _entered = runtime.enter();
        // tokio deprecates this because a type may let the descriptor go too early, which this one does not; the constructor it
        // offers instead has its caller swear so, in an unsafe block.
        #[allow(deprecated)]
        let polled = catch_unwind(AssertUnwindSafe(|| AsyncFd::with_interest(polled, Interest::READABLE)));
        match polled {
            Ok(Ok(polled)) => Ok(Self { polled, alarm, context }),
            // Only what tokio itself says is no error of the system.
            Ok(Err(error)) if error.raw_os_error().is_none() => Err(failed(ErrorKind::Closed, "it has shut down")),
            Ok(Err(error)) => Err(Error::from_io(error, LAYER).during("of")),
            Err(_) => Err(failed(ErrorKind::Unsupported, "it has no I/O driver; build it with enable_io()")),
        }
    }

    pub(super) async fn run(mut self) {
        while self.sleep().await.is_ok() && self.turn().is_ok() {
            yield_now().await;
        }
    }

    /// Waits until it is time for a turn.
    ///
    /// # Errors
    /// The runtime shuts down.
    async fn sleep(&mut self) -> io::Result<()> {
        if !self.context.event_loop.fall_asleep() {
            return Ok(());
        }
        self.alarm.set(self.context.event_loop.first_deadline());
        loop {
            let mut readable = self.polled.readable().await?;
            // What tokio knows is the last edge: the turn after it may have seen to everything already.
            if is_readable(&self.context.event_loop)? {
                readable.retain_ready();
                return Ok(());
            }
            readable.clear_ready();
        }
    }

    fn turn(&self) -> Result<usize> {
        let _entered = enter_context(Arc::clone(&self.context) as _);
        self.context.event_loop.turn_now()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.context.event_loop.close();
    }
}

fn is_readable(event_loop: &LoopHandle) -> io::Result<bool> {
    let mut entries = [PollFd::from_borrowed_fd(event_loop.polled(), PollFlags::IN)];
    match poll(&mut entries, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(true), // the turn will see
        Err(errno) => Err(errno.into()),
    }
}

/// A timerfd(2) that ends the sleep of a loop when its first timer is due.
struct Alarm {
    timer: OwnedFd,
    set_to: Option<Instant>,
}

impl Alarm {
    fn new(event_loop: &LoopHandle) -> Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)
            .map_err(|errno| Error::from_io(errno.into(), LAYER).during("of"))?;
        event_loop.wake_by(&timer)?;
        Ok(Self { timer, set_to: None })
    }

    fn set(&mut self, deadline: Option<Instant>) {
        if self.set_to == deadline {
            return;
        }
        self.set_to = deadline;
        // Zero would mean never.
        let left = deadline.map_or(Duration::ZERO, |deadline| {
            deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1))
        });
        let it_value =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A valid time for a timer of our own: it cannot fail.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value });
    }
}
