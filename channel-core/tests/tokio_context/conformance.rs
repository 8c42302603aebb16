//! The suite for event loops, over both kinds of runtime.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use channel_core::{AioContext, TokioContext};
use channel_testkit::aio_context::DrivenContext;
use tokio::runtime::{Builder, Runtime};

use crate::two_workers_runtime;

/// A runtime of one thread, which runs inside `turn` and nowhere else.
struct CurrentThread(Runtime);

impl DrivenContext for CurrentThread {
    fn context(&self) -> Arc<dyn AioContext> {
        TokioContext::of(self.0.handle()).unwrap()
    }

    fn turn(&mut self, timeout: Duration) {
        let slice = timeout.min(Duration::from_millis(1)); // nobody says that something has run
        self.0.block_on(async { tokio::time::sleep(slice).await });
    }
}

/// A runtime whose two workers are kept busy between the turns, so that nothing else runs.
struct TwoWorkers {
    runtime: Runtime,
    stopped: Arc<Barrier>,
    released: Arc<Barrier>,
}

impl TwoWorkers {
    fn new() -> Self {
        let [stopped, released] = [(); 2].map(|()| Arc::new(Barrier::new(3)));
        let this = Self { runtime: two_workers_runtime(), stopped, released };
        this.stop();
        this
    }

    fn stop(&self) {
        for _ in 0..2 {
            let (stopped, released) = (Arc::clone(&self.stopped), Arc::clone(&self.released));
            self.runtime.spawn(async move {
                stopped.wait();
                released.wait();
            });
        }
        self.stopped.wait();
    }
}

impl DrivenContext for TwoWorkers {
    fn context(&self) -> Arc<dyn AioContext> {
        TokioContext::of(self.runtime.handle()).unwrap()
    }

    fn turn(&mut self, timeout: Duration) {
        self.released.wait();
        thread::sleep(timeout.min(Duration::from_millis(1)));
        self.stop();
    }
}

impl Drop for TwoWorkers {
    fn drop(&mut self) {
        self.released.wait();
    }
}

channel_testkit::aio_context_conformance! {
    mod current_thread = || CurrentThread(Builder::new_current_thread().enable_all().build().unwrap());
    mod two_workers = TwoWorkers::new;
}
