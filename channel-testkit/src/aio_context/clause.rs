//! One obligation and how it is tested.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::{CLAUSES, DrivenContext, Driver};
use crate::patience::{Patience, Progress, patience};
use crate::watchdog;

/// What a clause runs on: a maker of event loops.
#[derive(Clone)]
pub struct Setup {
    maker: Arc<dyn Fn() -> Box<dyn DrivenContext> + Send + Sync>,
    patience: Duration,
}

impl Setup {
    /// Runs clauses over the loops that `maker` makes, each over one of its own.
    pub fn new<C: DrivenContext + 'static>(maker: impl Fn() -> C + Send + Sync + 'static) -> Self {
        Self { maker: Arc::new(move || Box::new(maker())), patience: patience() }
    }

    /// Waits for one thing no longer than `patience`. Without this it is what [`patience`](crate::patience::patience()) says.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// The test of one obligation.
#[derive(Clone, Copy)]
pub struct Clause {
    name: &'static str,
    test: fn(&mut Driver),
}

impl Clause {
    pub(super) const fn new(name: &'static str, test: fn(&mut Driver)) -> Self {
        Self { name, test }
    }

    /// What the clause is called: the obligation in short.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the clause, on a thread of its own so that a hang becomes a failure that says where.
    ///
    /// # Panics
    /// If the loop does not do what it must.
    pub fn run(&self, setup: &Setup) {
        let (done, finished) = mpsc::channel();
        let progress = Progress::new();
        let (test, given, told) = (self.test, setup.clone(), progress.clone());
        let body = move || {
            test(&mut Driver::new((given.maker)(), given.patience).telling(&told));
            let _ = done.send(());
        };
        let worker = thread::Builder::new().name(self.name.to_owned()).spawn(body).expect("a thread for the clause");
        // Each wait of the clause ends before that, unless the loop itself hangs.
        let mut patience = Patience::new(setup.patience * 3, &progress);
        let seen = loop {
            match finished.recv_timeout(patience.slice()) {
                Ok(()) => return,
                Err(RecvTimeoutError::Disconnected) => match worker.join() {
                    Ok(()) => return,
                    Err(panic) => break words(&*panic).to_owned(),
                },
                Err(RecvTimeoutError::Timeout) if patience.is_lost() => break "the loop hangs".to_owned(),
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        panic!("{}: {seen}", self.name);
    }
}

impl fmt::Debug for Clause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<String>() {
        return text;
    }
    panic.downcast_ref::<&str>().copied().unwrap_or("it panicked without words")
}

/// What a test made by [`aio_context_conformance!`](crate::aio_context_conformance) does: runs one clause inside the [watchdog].
///
/// # Panics
/// If the loop does not do what it must, or there is no clause of that name.
pub fn check(module: &str, clause: &str, setup: &Setup) {
    let Some(clause) = CLAUSES.iter().find(|known| known.name == clause) else {
        panic!("no clause is called `{clause}`");
    };
    watchdog::run(&format!("{module}::{}", clause.name), || clause.run(setup));
}
