//! What every channel refuses, in the same words everywhere.

use crate::{Channel, Error, ErrorKind, Features, ReadFlags, Result, WriteFlags};

impl Error {
    /// For a call that needs `feature`, which `channel` lacks; its own [`why_not`](Channel::why_not) says why [[D5]].
    #[doc = channel_core::promises!(D5)]
    #[must_use]
    pub fn unsupported(channel: &dyn Channel, operation: &'static str, feature: Features) -> Self {
        let why = channel.why_not(feature).unwrap_or_default();
        Self::new(ErrorKind::Unsupported, channel.layer(), why).during(operation).on(channel.name())
    }

    /// For a call after [`close`](Channel::close) [[S3]].
    #[doc = channel_core::promises!(S3)]
    #[must_use]
    pub fn closed(channel: &dyn Channel, operation: &'static str) -> Self {
        let detail = "close was called on it before";
        Self::new(ErrorKind::Closed, channel.layer(), detail).during(operation).on(channel.name())
    }

    /// For a write after [`close_write`](Channel::close_write), or [`shutdown`](Channel::shutdown) of writing [[E3]].
    #[doc = channel_core::promises!(E3)]
    #[must_use]
    pub fn output_ended(channel: &dyn Channel) -> Self {
        let detail = "our output was ended before";
        Self::new(ErrorKind::BrokenPipe, channel.layer(), detail).during("write").on(channel.name())
    }
}

/// Refuses a read that asks for what `channel` lacks: descriptors, if `wants_fds`, or a peek. What an implementation of
/// [`Channel::readv_full`] begins with [[D5]].
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported).
#[doc = channel_core::promises!(D5)]
pub fn check_read(channel: &dyn Channel, wants_fds: bool, flags: ReadFlags) -> Result<()> {
    let mut needed = Features::empty();
    needed.set(Features::FD_PASS, wants_fds);
    needed.set(Features::READ_MSG_PEEK, flags.contains(ReadFlags::MSG_PEEK));
    check(channel, "read", needed)
}

/// Refuses a write that asks for what `channel` lacks: descriptors, if `has_fds`, or no copy. What an implementation of
/// [`Channel::writev_full`] begins with [[D5]].
///
/// # Errors
/// [`Unsupported`](ErrorKind::Unsupported).
#[doc = channel_core::promises!(D5)]
pub fn check_write(channel: &dyn Channel, has_fds: bool, flags: WriteFlags) -> Result<()> {
    let mut needed = Features::empty();
    needed.set(Features::FD_PASS, has_fds);
    needed.set(Features::WRITE_ZERO_COPY, flags.contains(WriteFlags::ZERO_COPY));
    check(channel, "write", needed)
}

fn check(channel: &dyn Channel, operation: &'static str, needed: Features) -> Result<()> {
    // Most calls need nothing special; only the others ask the channel.
    if needed.is_empty() {
        return Ok(());
    }
    let missing = needed - channel.features();
    if missing.is_empty() { Ok(()) } else { Err(Error::unsupported(channel, operation, missing)) }
}
