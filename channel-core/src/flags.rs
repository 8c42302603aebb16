//! The sets: what a channel can do, and what one call asks for.

use bitflags::bitflags;

bitflags! {
    /// What a channel can do. Fixed when its constructor returns; a layer clears what it cannot carry.
    ///
    /// Callers only look: a channel declares its own. [`Channel::why_not`](crate::Channel::why_not) says why a feature is
    /// missing. The conformance suite checks that each bit and the behaviour agree. (QEMU: `QIOChannelFeature`.)
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Features: u32 {
        /// Descriptors can be passed along with data (`SCM_RIGHTS`): unix sockets.
        const FD_PASS = 1 << 0;
        /// [`Channel::shutdown`](crate::Channel::shutdown) works and wakes blocked calls.
        const SHUTDOWN = 1 << 1;
        /// The object listens for connections; never set on a connected channel.
        const LISTEN = 1 << 2;
        /// Writes can hand pages to the kernel without a copy (`MSG_ZEROCOPY`).
        const WRITE_ZERO_COPY = 1 << 3;
        /// Reads can look without consuming ([`ReadFlags::MSG_PEEK`]).
        const READ_MSG_PEEK = 1 << 4;
        /// [`Channel::seek`](crate::Channel::seek) works.
        const SEEKABLE = 1 << 5;
        /// [`Channel::with_read_buf`](crate::Channel::with_read_buf) lends bytes that the channel holds in memory.
        const READ_BUF = 1 << 6;
        /// [`Channel::close_write`](crate::Channel::close_write) exists: our output can be ended politely, by itself.
        const CLOSE_WRITE = 1 << 7;
        /// After [`Channel::close_write`](crate::Channel::close_write) reading goes on, and so may the peer's writing, for as long as
        /// it likes. Missing where the protocol has a closing handshake: there the peer is to end soon, too [[E5]].
        #[doc = channel_core::promises!(E5)]
        const HALF_CLOSE = 1 << 8;
    }

    /// How one read behaves.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ReadFlags: u32 {
        /// Do not consume what is read [[R6]]. Needs [`Features::READ_MSG_PEEK`].
        #[doc = channel_core::promises!(R6)]
        const MSG_PEEK = 1 << 0;
        /// Take an end without close_notify or Close frame as a clean end: `Ok(0)`.
        const RELAXED_EOF = 1 << 1;
        /// Leave `O_NONBLOCK` of received descriptors as the sender had it; otherwise they are made blocking.
        const PRESERVE_BLOCKING = 1 << 2;
        /// This call does not wait, whatever [`Channel::set_blocking`](crate::Channel::set_blocking) says.
        const DONT_WAIT = 1 << 3;
    }

    /// How one write behaves.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct WriteFlags: u32 {
        /// Hand the pages to the kernel without a copy; they must not change until `flush`. Needs
        /// [`Features::WRITE_ZERO_COPY`].
        const ZERO_COPY = 1 << 0;
        /// This call does not wait, whatever [`Channel::set_blocking`](crate::Channel::set_blocking) says.
        const DONT_WAIT = 1 << 1;
    }
}
