//! A gate that a test opens byte by byte.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use channel_core::{AioChange, AioHandler, Channel, Error, Registration, Removed, Result};
use rustix::event::{EventfdFlags, eventfd};

use super::policy::{Attempt, Call, Passed, Policy, Verdict};

/// How much of what arrives a [`gated`](super::gated) channel gives to its reader. One gate, one channel.
///
/// While nothing may pass, a read says would-block, readiness waits for the gate alone, and no handler is called, however much
/// the channel below has; its end is held back, too. Shutting down reading, or closing, opens the gate for good.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    /// Readable while something may pass.
    opened: Arc<OwnedFd>,
    /// Held while the channel below is told of a change.
    below: Mutex<Below>,
}

#[derive(Debug)]
struct State {
    /// Bytes that may still pass; `None` for all that come.
    left: Option<u64>,
    passed: u64,
    shows_open: bool,
}

/// The handler of the gated channel, which the channel below has while something may pass.
#[derive(Debug, Default)]
struct Below {
    inner: Option<Weak<dyn Channel>>,
    registration: Option<Arc<Registration>>,
    armed: bool,
}

impl Gate {
    /// A gate that is open.
    ///
    /// # Panics
    /// If no eventfd can be had.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let opened = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd for the gate");
        Arc::new(Self {
            state: Mutex::new(State { left: None, passed: 0, shows_open: true }),
            opened: Arc::new(opened),
            below: Mutex::default(),
        })
    }

    /// Lets nothing pass from now on.
    pub fn close(&self) {
        self.set(|left| *left = Some(0));
    }

    /// Lets `bytes` more pass, and then no more; nothing changes while all pass anyway.
    pub fn let_through(&self, bytes: u64) {
        self.set(|left| {
            if let Some(left) = left {
                *left = left.saturating_add(bytes);
            }
        });
    }

    /// Lets everything pass.
    pub fn open(&self) {
        self.set(|left| *left = None);
    }

    /// How many bytes have passed so far. 0 after something arrived: nobody put the gate in its way.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.lock().passed
    }

    fn set(&self, change: impl FnOnce(&mut Option<u64>)) {
        {
            let mut state = self.lock();
            change(&mut state.left);
            self.show(&mut state);
        }
        // A loop that refuses the descriptor now refused it when the handler was set, or forgot it.
        let _ = self.settle();
    }

    fn took(&self, bytes: u64) {
        let mut state = self.lock();
        state.passed += bytes;
        state.left = state.left.map(|left| left.saturating_sub(bytes));
        self.show(&mut state);
    }

    /// Brings the eventfd in line with the state; it only ever counts 0 or 1, so neither call can block or fail.
    fn show(&self, state: &mut State) {
        let open = state.left != Some(0);
        if open != state.shows_open {
            let one = 1u64.to_ne_bytes();
            let _ =
                if open { rustix::io::write(&self.opened, &one) } else { rustix::io::read(&self.opened, &mut [0; 8]) };
            state.shows_open = open;
        }
    }

    /// What to wait for, if nothing may pass.
    pub(super) fn closed(&self) -> Option<&Arc<OwnedFd>> {
        (self.lock().left == Some(0)).then_some(&self.opened)
    }

    /// The channel whose handler this sets and clears.
    pub(super) fn attach(&self, inner: &Arc<dyn Channel>) {
        self.below().inner = Some(Arc::downgrade(inner));
    }

    /// The handler to be called while something may pass, and the channel below has it.
    pub(super) fn change(&self, registration: Option<Arc<Registration>>) -> Result<Removed> {
        let mut below = self.below();
        let disarmed = below.disarm();
        // Let go of, too, where the channel below is closed and refuses to hear of it.
        let old = std::mem::replace(&mut below.registration, registration);
        drop(below);
        drop(old);
        let mut removed = disarmed?;
        removed.extend(self.settle()?);
        Ok(removed)
    }

    /// Sets the handler of the channel below while something may pass, and clears it while not: its descriptor may be readable
    /// all the time.
    pub(super) fn settle(&self) -> Result<Removed> {
        let mut below = self.below();
        if self.closed().is_some() { below.disarm() } else { below.arm() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn below(&self) -> MutexGuard<'_, Below> {
        self.below.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Below {
    fn arm(&mut self) -> Result<Removed> {
        let Some(registration) = self.registration.as_ref().filter(|_| !self.armed) else {
            return Ok(Removed::nothing());
        };
        let (context, callback) = (Arc::clone(registration.context()), registration.callback());
        let set = self.tell(AioChange::Set(AioHandler { context, callback }));
        self.armed = set.is_ok();
        set
    }

    fn disarm(&mut self) -> Result<Removed> {
        if !std::mem::replace(&mut self.armed, false) {
            return Ok(Removed::nothing());
        }
        self.tell(AioChange::Clear)
    }

    fn tell(&self, change: AioChange) -> Result<Removed> {
        match self.inner.as_ref().and_then(Weak::upgrade) {
            Some(inner) => inner.set_aio_fd_handler(change, AioChange::Keep),
            None => Ok(Removed::nothing()),
        }
    }
}

/// Lets pass what the gate lets pass.
#[derive(Debug)]
pub(super) struct Gated {
    gate: Arc<Gate>,
    /// Bytes that have passed.
    at: u64,
}

impl Gated {
    pub(super) fn new(gate: Arc<Gate>) -> Self {
        Self { gate, at: 0 }
    }
}

impl Policy for Gated {
    fn judge(&mut self, attempt: &Attempt<'_>) -> Verdict {
        let left = self.gate.lock().left;
        match left {
            Some(0) if attempt.call.moves_bytes() && !attempt.ending => Verdict::Instead(Err(Error::WOULD_BLOCK)),
            Some(left) if attempt.call.moves_bytes() && !attempt.ending => Verdict::at_most(left),
            _ => Verdict::PASS,
        }
    }

    fn passed(&mut self, _: Call, _: &Result<Passed>, at: u64) {
        self.gate.took(at - self.at);
        self.at = at;
    }

    fn is_due(&self, _: u64) -> bool {
        false
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        Some(&self.gate)
    }
}
