//! Whether a limit is kept, on a loop, however late the loop itself is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use channel_core::AioContext;

use crate::recording::Recorder;

/// A timer of the same loop that passes long after a limit. A loop calls its timers in the order of their deadlines, so that this one
/// tells what came late from what a busy machine came to late.
pub(super) struct Late(Arc<AtomicBool>);

impl Late {
    /// For a limit that has begun already.
    pub(super) fn after(recorder: &Arc<Recorder>, limit: Duration) -> Self {
        let come = Arc::new(AtomicBool::new(false));
        let (told, home) = (Arc::clone(&come), Arc::clone(recorder));
        recorder.set_timer(Instant::now() + 2 * limit, Box::new(move || wait_turns(home, 20, told)));
        Self(come)
    }

    pub(super) fn has_come(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// What was due before may need a few turns.
fn wait_turns(home: Arc<Recorder>, turns: usize, told: Arc<AtomicBool>) {
    if turns == 0 {
        return told.store(true, Ordering::SeqCst);
    }
    let again = Arc::clone(&home);
    home.schedule(Box::new(move || wait_turns(again, turns - 1, told)));
}
