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

/// What a read needs that asks for descriptors, if `wants_fds`, or a peek \[D5\].
pub(crate) fn needed_to_read(wants_fds: bool, flags: ReadFlags) -> Features {
    let mut needed = Features::empty();
    needed.set(Features::FD_PASS, wants_fds);
    needed.set(Features::READ_MSG_PEEK, flags.contains(ReadFlags::MSG_PEEK));
    needed
}

/// What a write needs that comes with descriptors, if `has_fds`, or asks for no copy \[D5\].
pub(crate) fn needed_to_write(has_fds: bool, flags: WriteFlags) -> Features {
    let mut needed = Features::empty();
    needed.set(Features::FD_PASS, has_fds);
    needed.set(Features::WRITE_ZERO_COPY, flags.contains(WriteFlags::ZERO_COPY));
    needed
}

/// Refuses a call that needs what `channel` lacks \[D5\].
pub(crate) fn check(channel: &dyn Channel, operation: &'static str, needed: Features) -> Result<()> {
    // Most calls need nothing special; only the others ask the channel.
    if needed.is_empty() {
        return Ok(());
    }
    let missing = needed - channel.features();
    if missing.is_empty() { Ok(()) } else { Err(Error::unsupported(channel, operation, missing)) }
}
