//! What a tokio runtime promises as an event loop.
#![cfg(feature = "tokio")]

mod callbacks;
mod conformance;
mod runtime;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use channel_core::{Callback, TokioContext};
use channel_testkit::watchdog;
use tokio::runtime::{Builder, Runtime};

pub(crate) fn current_thread_runtime() -> Runtime {
    Builder::new_current_thread().enable_io().build().unwrap()
}

pub(crate) fn two_workers_runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_io().build().unwrap()
}

/// Runs a test on both kinds of runtime.
pub(crate) fn on_each(test: impl Fn(&Runtime, &Arc<TokioContext>) + Send + Sync + 'static, name: &'static str) {
    watchdog::run(name, move || {
        for runtime in [current_thread_runtime(), two_workers_runtime()] {
            let context = TokioContext::of(runtime.handle()).unwrap();
            test(&runtime, &context);
        }
    });
}

/// A descriptor, and the far end of it.
pub(crate) fn pair() -> (Arc<OwnedFd>, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    (Arc::new(near.into()), far)
}

pub(crate) fn read_one(fd: &OwnedFd) -> rustix::io::Result<usize> {
    rustix::io::read(fd, &mut [0; 1])
}

pub(crate) fn callback(call: impl Fn() + Send + Sync + 'static) -> Callback {
    Arc::new(call)
}
