//! A thread that is known to sleep.

use std::sync::mpsc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use crate::thread_state;

/// Runs `body` on a thread of its own and returns once that sleeps, as `/proc` sees it, or has ended. Where that cannot be seen it
/// returns at once: a test holds all the same if the thread does not sleep yet.
///
/// ```
/// use channel_core::{ChannelExt, MemoryChannel};
/// use channel_testkit::asleep::asleep;
///
/// let (near, far) = MemoryChannel::pair()?;
/// std::thread::scope(|scope| {
///     let reader = asleep(scope, || near.read(&mut [0; 5]));
///     far.write_all(b"hello")?; // and not before the reader waits for it
///     assert_eq!(reader.join().unwrap()?, 5);
///     Ok::<(), channel_core::Error>(())
/// })?;
/// # Ok::<(), channel_core::Error>(())
/// ```
///
/// # Panics
/// If the thread cannot be started.
pub fn asleep<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    body: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    /// In a row: before that it may have slept on the way.
    const LOOKS: u32 = 3;
    let (tell, told) = mpsc::channel();
    let handle = scope.spawn(move || {
        let _ = tell.send(thread_state::own());
        drop(tell);
        body()
    });
    let Ok(thread) = told.recv() else { return handle };
    let mut seen = 0;
    while seen < LOOKS && !handle.is_finished() {
        match thread_state::sleeps(&thread) {
            Some(true) => seen += 1,
            Some(false) => seen = 0,
            None => break,
        }
        thread::sleep(Duration::from_micros(100));
    }
    handle
}
