//! The bounds of a whole stack.

use std::time::{Duration, Instant};

/// What a peer may make a stack spend: one struct for all layers, with safe defaults.
///
/// ```
/// use channel_core::Limits;
/// use std::time::Duration;
///
/// let limits = Limits { handshake: Duration::from_secs(3), ..Limits::default() };
/// assert_eq!(limits.queued_bytes, 256 * 1024);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a layer's handshake may take, from its first call, with those of the layers below. Of a stack that is as long as all of it may
    /// take. Default: 10 seconds.
    pub handshake: Duration,
    /// How long [`Channel::close`](crate::Channel::close) may spend being polite; and where the protocol has a closing handshake
    /// (WebSocket), how long a peer may send nothing after our [`close_write`](crate::Channel::close_write) before reading ends with
    /// [`TimedOut`](crate::ErrorKind::TimedOut). Of a stack, that of the channel that was called counts. Default: 2 seconds.
    pub linger: Duration,
    /// Bytes of an HTTP head: request or status line and all headers. Default: 16 KiB.
    pub header_bytes: usize,
    /// HTTP headers in a head. Default: 64.
    pub header_count: usize,
    /// Payload bytes of one incoming frame; frames are streamed, not gathered, so this bounds arithmetic rather than memory.
    /// Default: 1 GiB.
    pub frame_bytes: u64,
    /// Bytes of output a layer holds before writes say would-block. Default: 256 KiB.
    pub queued_bytes: usize,
    /// Bytes of input a layer holds while a unit of its protocol is incomplete. Default: 256 KiB.
    pub input_bytes: usize,
    /// Received descriptors kept for the next read that asks for them. With 0, and below a layer, which hands none on, a read that does not
    /// ask takes none: the kernel closes them, and the stream goes on. Default: 253, what one message can carry.
    pub kept_descriptors: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            linger: Duration::from_secs(2),
            header_bytes: 16 * 1024,
            header_count: 64,
            frame_bytes: 1 << 30,
            queued_bytes: 256 * 1024,
            input_bytes: 256 * 1024,
            kept_descriptors: 253,
        }
    }
}

/// When a limit that starts now runs out; a limit beyond what the clock can tell is a century.
pub(crate) fn deadline_in(limit: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    let now = Instant::now();
    now.checked_add(limit).or_else(|| now.checked_add(CENTURY)).unwrap_or(now)
}
