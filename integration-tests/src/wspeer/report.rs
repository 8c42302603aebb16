//! What is told on the way, and at the end.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use channel_stack::websocket::WebSocketChannel;
use channel_stack::{Channel, Error, Result, find_layer};
use serde_json::{Value, json};

use super::conversation::Outcome;

/// How many bytes move between two lines of progress.
const STEP: u64 = 512 * 1024;

/// Tells what happens, as it happens.
pub(super) struct Journal {
    began: Instant,
    moved: AtomicU64,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), moved: AtomicU64::new(0) }
    }

    /// Prints one line of JSON.
    pub(super) fn line(&self, line: &Value) {
        // Nobody is left to be told if this fails.
        let _ = writeln!(io::stdout().lock(), "{line}");
    }

    /// Tells an event, with the time of day, so that it can be put in order with those of the peer.
    pub(super) fn event(&self, event: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.line(&json!({ "at": now.as_secs_f64(), "event": event }));
    }

    /// Counts bytes that moved in either direction.
    pub(super) fn moved(&self, count: u64) {
        let before = self.moved.fetch_add(count, Ordering::Relaxed);
        if before / STEP != (before + count) / STEP {
            self.line(&json!({ "progress": before + count }));
        }
    }

    pub(super) fn milliseconds(&self) -> u128 {
        self.began.elapsed().as_millis()
    }
}

/// A result in words: `ok`, or what went wrong.
pub(super) fn words(result: &Result<()>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => error_words(error),
    }
}

pub(super) fn error_words(error: &Error) -> String {
    format!("{:?}: {error}", error.kind())
}

/// The line at the end.
pub(super) fn report(channel: &dyn Channel, outcome: &Outcome, journal: &Journal) -> Value {
    let close = find_layer::<WebSocketChannel>(channel).and_then(WebSocketChannel::peer_close);
    let (reading, writing) = (&outcome.reading, &outcome.writing);
    json!({
        "opening": outcome.opening,
        "sent": writing.sent,
        "writing": writing.error,
        "received": reading.received,
        "wrong": reading.wrong,
        "reading": reading.how,
        "close_write": writing.close_write,
        "close": writing.close,
        "closing_ms": writing.closing_ms,
        "code": close.as_ref().and_then(|close| close.code),
        "reason": close.as_ref().map(|close| &close.reason),
        "ms": journal.milliseconds(),
    })
}
