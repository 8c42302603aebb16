//! The trait.

use std::any::Any;
use std::fmt::Debug;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{AioChange, Direction, Features, ReadFlags, Readiness, Removed, Result, WriteFlags};

/// One end of a byte stream, which may be a leaf such as a socket or a layer over another channel.
///
/// # The contract
/// The [contract](crate::contract) numbers every promise; the numbers in brackets below are those. In short:
///
/// * **Object.** It is dyn-compatible, and a `Box` or an `Arc` of a channel is one that behaves like it [[O1]].
/// * **Threads.** Every method takes `&self`. One reader and one writer may be inside at the same time, any thread may call
///   [`shutdown`](Self::shutdown) and [`readiness`](Self::readiness) [[O2]]. A second *waiter* in one direction gets
///   [`Busy`](crate::ErrorKind::Busy) [[O3]].
/// * **Modes.** [`set_blocking`](Self::set_blocking) is a flag of the channel that is called, never of a descriptor; channels
///   start out blocking [[M1]]. `DONT_WAIT` makes one call non-blocking [[M2]].
/// * **Would-block** means that nothing was done and nothing is wrong.
///
/// No method has a default body, so that a wrapper which forgets one does not compile. The conveniences are in
/// [`ChannelExt`](crate::ChannelExt). A channel does I/O only inside a call made to it: no hidden threads [[O4]].
///
/// # Cancel safety
/// Would-block leaves every operation as it was; it may be repeated later, or with other arguments, or never.
#[doc = channel_core::promises!(O1 O2 O3 M1 M2 O4)]
pub trait Channel: Debug + Send + Sync + 'static {
    /// The layer's kind, a lower-case noun such as `socket` or `tls`; what errors call it.
    fn layer(&self) -> &'static str;

    /// The name of this channel, if it was given one.
    fn name(&self) -> Option<Arc<str>>;

    /// Names this channel; the name shows in errors, watches and traces from then on. (QEMU: `qio_channel_set_name`.)
    fn set_name(&self, name: &str);

    /// What this channel can do, fixed since its constructor returned [[F1]].
    #[doc = channel_core::promises!(F1)]
    fn features(&self) -> Features;

    /// Why `feature` is missing, in words for a person; `None` if it is there [[F2]].
    #[doc = channel_core::promises!(F2)]
    fn why_not(&self, feature: Features) -> Option<String>;

    /// One line for this layer alone: addresses, versions, roles. [`describe`](crate::describe) joins the lines of a stack.
    fn describe_layer(&self) -> String;

    /// Reads into `bufs`, filling each before the next [[R1]], and appends received descriptors to `fds`.
    ///
    /// Returns how many bytes were read; 0 means the clean end of the stream [[R2]], or that `bufs` has no room, in which case
    /// nothing was touched [[R3]]. Data in hand is returned rather than held back to fill a later buffer [[R4]].
    /// Every byte arrives once and in order, however the stream was cut [[R5]], whether or not we can write [[W11]].
    ///
    /// Descriptors are close-on-exec, and blocking unless [`ReadFlags::PRESERVE_BLOCKING`] [[D2]]; they never come with 0
    /// bytes. Those that arrive on a read without `fds` are kept for the next one that asks, up to
    /// [`Limits::kept_descriptors`](crate::Limits::kept_descriptors) [[D4]].
    ///
    /// # Blocking
    /// In blocking mode it waits for at least one byte or the end, no longer than [`set_read_timeout`](Self::set_read_timeout) says. With
    /// [`ReadFlags::DONT_WAIT`], or in non-blocking mode, it never waits.
    ///
    /// # Errors
    /// [`WouldBlock`](crate::ErrorKind::WouldBlock) with nothing to give and no waiting;
    /// [`UnexpectedEof`](crate::ErrorKind::UnexpectedEof) for an end the protocol does not allow, unless
    /// [`ReadFlags::RELAXED_EOF`] or our own `shutdown` of reading [[E2]]; [`Unsupported`](crate::ErrorKind::Unsupported) before any
    /// byte if `fds` is given without [`Features::FD_PASS`], or `MSG_PEEK` without [`Features::READ_MSG_PEEK`] [[D5]];
    /// [`DescriptorsLost`](crate::ErrorKind::DescriptorsLost) where descriptors came that found no room [[D4]];
    /// [`TimedOut`](crate::ErrorKind::TimedOut) where the time of [`set_read_timeout`](Self::set_read_timeout) has passed [[T1]] [[T2]].
    #[doc = channel_core::promises!(R1 R2 R3 R4 R5 W11 D2 D4 E2 D5 T1 T2)]
    fn readv_full(
        &self,
        bufs: &mut [IoSliceMut<'_>],
        fds: Option<&mut Vec<OwnedFd>>,
        flags: ReadFlags,
    ) -> Result<usize>;

    /// Writes from `bufs`, with `fds` attached to the first byte.
    ///
    /// Returns exactly how many bytes were taken; from then on they are the channel's responsibility [[W1]], which
    /// holds no more than a bound of them [[W9]]. All of `fds` went if at least one byte was taken, none otherwise [[D3]]. No bytes to
    /// write: 0, touching nothing [[W3]]. A list longer than the system takes at once is a short write [[W4]].
    ///
    /// # Blocking
    /// In blocking mode it waits until at least one byte was taken, and the taken bytes have left for the inner channel before
    /// it returns, unless corked [[W5]]; no longer than [`set_write_timeout`](Self::set_write_timeout) says.
    ///
    /// # Errors
    /// An error means that no byte was taken [[W1]]. [`WouldBlock`](crate::ErrorKind::WouldBlock): a retry with other data is
    /// legal [[W2]]. [`BrokenPipe`](crate::ErrorKind::BrokenPipe) when the peer is gone, and after our own `close_write`; never a signal [[W6]]. A failure after
    /// bytes were taken is reported by the next call [[W7]]. [`Unsupported`](crate::ErrorKind::Unsupported) before any byte if
    /// `fds` is not empty without [`Features::FD_PASS`] [[D5]]. [`TimedOut`](crate::ErrorKind::TimedOut) where the time of
    /// [`set_write_timeout`](Self::set_write_timeout) has passed [[T1]] [[T2]].
    #[doc = channel_core::promises!(W1 W9 D3 W3 W4 W5 W2 W6 W7 D5 T1 T2)]
    fn writev_full(&self, bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize>;

    /// Pushes everything held, through every layer, corked or not; the only call that promises the bytes have gone [[W8]].
    ///
    /// # Errors
    /// [`WouldBlock`](crate::ErrorKind::WouldBlock) in non-blocking mode until all has gone: call it again when
    /// `readiness(Write)` says so. [`TimedOut`](crate::ErrorKind::TimedOut) where the time of [`set_write_timeout`](Self::set_write_timeout) has
    /// passed: what has not gone is still held, and another call goes on with it [[T1]] [[T2]]. A failure of bytes that were taken before.
    #[doc = channel_core::promises!(W8 T1 T2)]
    fn flush(&self) -> Result<()>;

    /// Sets whether calls on *this* channel wait; from the next call on [[M1]].
    ///
    /// A layer puts the channel it owns into non-blocking mode and does its waiting itself.
    #[doc = channel_core::promises!(M1)]
    fn set_blocking(&self, blocking: bool);

    /// How long a call on this channel that reads may take. Channels start out with `None`: as long as it takes.
    ///
    /// It bounds one call, and an `_all` form as a whole: [`TimedOut`](crate::ErrorKind::TimedOut) where nothing was read in that time, and
    /// the `_all` forms say how many bytes were done. The channel is as usable as before, and [`is_passing`](crate::Error::is_passing) is true of
    /// the error, as it is not of one that comes from [`Limits`](crate::Limits) [[T1]]. In non-blocking mode the time runs from the
    /// last read that was more than would-block, and from when a handler was set, the channel opened, or this was called: when it passes,
    /// reading is ready, and the next read that would block says `TimedOut` instead, once [[T2]]. A call with `DONT_WAIT` in blocking mode never
    /// does.
    ///
    /// Of a stack, that of the channel which is called counts. `handshake` has [`Limits::handshake`](crate::Limits::handshake), and
    /// `close` has [`Limits::linger`](crate::Limits::linger). A change applies from the next call on. (The std types: `SO_RCVTIMEO`, which
    /// bounds one read(2).)
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for zero, as in std.
    #[doc = channel_core::promises!(T1 T2)]
    fn set_read_timeout(&self, timeout: Option<Duration>) -> Result<()>;

    /// What [`set_read_timeout`](Self::set_read_timeout) has set.
    fn read_timeout(&self) -> Option<Duration>;

    /// How long a call on this channel that writes may take, `flush` and `close_write` among them; as
    /// [`set_read_timeout`](Self::set_read_timeout) for reading.
    ///
    /// A write that has taken bytes returns their number when the time passes, and what is left of them leaves later: the exception of W5
    /// [[T1]]. So it is the next write, or `flush`, that shows a peer which takes nothing.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for zero.
    #[doc = channel_core::promises!(T1)]
    fn set_write_timeout(&self, timeout: Option<Duration>) -> Result<()>;

    /// What [`set_write_timeout`](Self::set_write_timeout) has set.
    fn write_timeout(&self) -> Option<Duration>;

    /// A layer takes this channel, and is the only one to read and write it from now on.
    ///
    /// Descriptors that it kept are closed, and from now on a read that asks for none takes none: nobody above could be given them, and a
    /// peer that sends them does not pin them here [[D6]]. Nothing changes for a channel that passes none.
    #[doc = channel_core::promises!(D6)]
    fn take_over(&self);

    /// Hint: `false` sends small segments at once (`TCP_NODELAY`). Passed down [[C3]].
    #[doc = channel_core::promises!(C3)]
    fn set_delay(&self, delay: bool);

    /// Hint: while `true`, small writes gather at the top corked layer until its bounded buffer is full [[C1]]; `false` pushes
    /// what was gathered as far as it goes, without blocking [[C2]]; the next call pushes the rest, or whoever sleeps
    /// in a read [[W10]]. Passed down (`TCP_CORK`).
    #[doc = channel_core::promises!(C1 C2 W10)]
    fn set_cork(&self, cork: bool);

    /// Ends our output politely: flushes, then our end from the top down: close_notify and FIN [[E3]]. Idempotent.
    ///
    /// Reading goes on, and so may the peer's writing, with [`Features::HALF_CLOSE`] [[E4]]. Without it the protocol has a closing
    /// handshake, as WebSocket has: our Close is sent, the layers below stay open, what the peer sends in front of its own Close can be read,
    /// and [`Limits::linger`](crate::Limits::linger) without a byte from it ends reading with [`TimedOut`](crate::ErrorKind::TimedOut)
    /// [[E5]]. The layers below are ended by the calls that follow, once both have closed, or by [`close`](Self::close). A layer over a
    /// channel without `HALF_CLOSE` sends its own end, and ends what is below when both its directions have ended.
    ///
    /// # Errors
    /// [`WouldBlock`](crate::ErrorKind::WouldBlock) in non-blocking mode until it is done: call it again when
    /// `readiness(Write)` says so. [`TimedOut`](crate::ErrorKind::TimedOut) where the time of [`set_write_timeout`](Self::set_write_timeout) has
    /// passed: our output has ended, and another call goes on with what has not gone.
    /// [`NotOpen`](crate::ErrorKind::NotOpen) before `handshake` has completed.
    /// [`Unsupported`](crate::ErrorKind::Unsupported) without [`Features::CLOSE_WRITE`].
    #[doc = channel_core::promises!(E3 E4 E5)]
    fn close_write(&self) -> Result<()>;

    /// Ends one or both directions abruptly and wakes whoever is blocked in them [[S1]].
    ///
    /// Never blocks and takes no lock that a blocked call holds; any thread may call it [[S2]].
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) without [`Features::SHUTDOWN`].
    #[doc = channel_core::promises!(S1 S2)]
    fn shutdown(&self, how: Shutdown) -> Result<()>;

    /// Closes the channel: ends our output politely within [`Limits::linger`](crate::Limits::linger), then shuts both directions
    /// down, then releases everything. Idempotent [[S3]].
    ///
    /// It is an operation of its own, neither reader nor writer, and never [`Busy`](crate::ErrorKind::Busy). From the moment it began new
    /// calls say [`Closed`](crate::ErrorKind::Closed), and so does a write under way that has taken nothing; what was taken before
    /// still goes out. Any number of threads, handlers and tasks may close; they and all that come later get the one result [[S5]].
    ///
    /// What still comes is thrown away. Where the protocol has a closing handshake (WebSocket), the peer's end is waited for; where the
    /// peer has ended its stream, also the ends of the layers below: TCP answers what meets a socket that is gone with a reset, and then
    /// what we sent and the peer has yet to read is lost. All of it takes one linger, that of the channel that was called,
    /// whatever the limits of those below [[S6]].
    ///
    /// Dropping a channel instead is abrupt and never blocks [[S4]].
    ///
    /// # Errors
    /// [`WouldBlock`](crate::ErrorKind::WouldBlock) in non-blocking mode until it is done or the linger has passed: call it again
    /// when `readiness(Write)` says so, or drop the channel. Any other error is the result, and the channel is closed all the same. It is
    /// never `Ok` when bytes that a channel of the stack still held were dropped, nor when the other end of a closing handshake had not
    /// come: [`TimedOut`](crate::ErrorKind::TimedOut), where nothing worse is known [[S7]]. What the kernel took is the kernel's: a peer
    /// that never reads it, or a machine that goes down, is not seen here.
    /// [`WouldDeadlock`](crate::ErrorKind::WouldDeadlock) inside the drop of what another call of `close` on this thread lets go of.
    #[doc = channel_core::promises!(S3 S5 S6 S4 S7)]
    fn close(&self) -> Result<()>;

    /// [`close`](Self::close) with a deadline in place of the linger; the earliest of several counts, and one that has passed makes it
    /// abrupt. What a layer calls on the channel below, so that the whole stack has one linger.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    fn close_by(&self, deadline: Instant) -> Result<()>;

    /// Moves the one position that reads and writes of a seekable channel share, and returns the new one, in bytes from the start [[P1]].
    ///
    /// # Errors
    /// [`Unsupported`](crate::ErrorKind::Unsupported) without [`Features::SEEKABLE`].
    #[doc = channel_core::promises!(P1)]
    fn seek(&self, position: SeekFrom) -> Result<u64>;

    /// What must happen before `direction` can make progress? Does no I/O; never blocks; any thread may ask [[Q1]].
    ///
    /// Bytes held in any layer count, and so do an end and a latched error. While a layer holds output that is not corked, both
    /// directions also wait for the descriptor to become writable [[Q2]]. `Ready` may be wrong once and then turns into `Wait`,
    /// so nothing spins [[Q3]]. The answer holds until the next call on the channel by anyone.
    #[doc = channel_core::promises!(Q1 Q2 Q3)]
    fn readiness(&self, direction: Direction) -> Readiness;

    /// Sets, changes or clears the handlers an event loop calls when a direction can make progress. (QEMU:
    /// `qio_channel_set_aio_fd_handler`.)
    ///
    /// A layer forwards the registration down and schedules the handler itself while it holds bytes [[H1]]. Each direction may
    /// live on a context of its own [[H6]]. Calls of one handler never overlap [[H4]], and none starts after its removal [[H2]]; removal is
    /// legal anywhere, inside the handler too, and waits for nothing [[H3]]: [`Removed::wait`] does, for whoever moves the channel to
    /// another loop [[H7]]. A handler is also called when the limit of a handshake passes [[H9]], and however the
    /// stream below is cut [[H10]].
    ///
    /// One that returns without calling the channel is soon left alone until somebody does, and so is one whose direction is over:
    /// nothing spins [[H5]].
    ///
    /// [`Called`](AioChange::Called) counts as a call on the channel and does nothing else; `Keep` for both does not even that, and only says
    /// whether the channel was closed.
    ///
    /// # Errors
    /// What the context fails with: both directions are without a handler then. [`Closed`](crate::ErrorKind::Closed) after `close`. [`Busy`](crate::ErrorKind::Busy) for a
    /// [`Claim`](AioChange::Claim) where there is a handler, and [`Unsupported`](crate::ErrorKind::Unsupported) where nothing can be
    /// polled: nothing was changed.
    #[doc = channel_core::promises!(H1 H6 H4 H2 H3 H7 H9 H10 H5)]
    fn set_aio_fd_handler(&self, read: AioChange, write: AioChange) -> Result<Removed>;

    /// Drives this layer and all below it to open, in every mode and however the bytes are cut [[N2]]. At once `Ok` where there is nothing to
    /// do [[N1]]. Counts as the reader.
    ///
    /// # Errors
    /// [`WouldBlock`](crate::ErrorKind::WouldBlock) in non-blocking mode: call it again when `readiness(Read)` says so.
    /// [`TimedOut`](crate::ErrorKind::TimedOut) after [`Limits::handshake`](crate::Limits::handshake) [[N3]]. Any other error is final,
    /// and the peer was told why in its protocol's words; call [`close`](Self::close) so that these words get out.
    #[doc = channel_core::promises!(N2 N1 N3)]
    fn handshake(&self) -> Result<()>;

    /// Lends bytes the channel holds decoded, without a copy: `take` is called with what there is and returns how many of
    /// those bytes it consumed. It is called again, with the bytes that follow, only if it consumed all. What it leaves
    /// comes first in the next read [[R7]].
    ///
    /// Returns how many bytes were consumed in all; if `take` was never called, 0 means the clean end. Never waits, whatever the mode.
    ///
    /// `take` runs under locks of the channel and of those below. It must not call any of them, not even to ask what they are, and it must not
    /// wait: as long as it runs, calls of others that never block are held up, `shutdown` and those of a memory channel's peer too. Who passes
    /// the bytes on to something that may block copies them.
    ///
    /// # Errors
    /// As a `DONT_WAIT` read; [`Unsupported`](crate::ErrorKind::Unsupported) without [`Features::READ_BUF`].
    #[doc = channel_core::promises!(R7)]
    fn with_read_buf(&self, take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize>;

    /// The channel below, to look at and never to poke: reading or writing it would break this layer's protocol.
    fn next_layer(&self) -> Option<&dyn Channel>;

    /// This channel as its concrete type; see [`find_layer`](crate::find_layer).
    fn as_any(&self) -> &dyn Any;

    /// This channel as its concrete type, by value; see [`downcast`](crate::downcast). A shared `Arc` is itself, and no more what it points to.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// Implements [`Channel`] for a type by passing every method on to another channel, given as an expression of `self`, but for those
/// that are written out behind it. `as_any` and `into_any` are the type's own.
///
/// For newtypes around [`Layered`](crate::Layered) or a [`LeafChannel`](crate::leaf::LeafChannel), and for channels that change something
/// about another.
///
/// ```
/// # use channel_core::{Channel, MemoryChannel};
/// #[derive(Debug)]
/// struct Named(MemoryChannel);
/// channel_core::forward_channel!(Named => |self| &self.0);
///
/// #[derive(Debug)]
/// struct Uncorked(Box<dyn Channel>);
/// channel_core::forward_channel!(Uncorked => |self| &*self.0;
///     fn set_cork(&self, _: bool) {}
///     fn describe_layer(&self) -> String {
///         format!("{}, never corked", self.0.describe_layer())
///     }
/// );
/// ```
#[macro_export]
macro_rules! forward_channel {
    ($type:ty => |$this:ident| $inner:expr $(;
        $($(#[$attribute:meta])* fn $name:ident $arguments:tt $(-> $result:ty)? $body:block)*
    )?) => {
        impl $crate::Channel for $type {
            $($($(#[$attribute])* fn $name $arguments $(-> $result)? $body)*)?
            $crate::__unless! { [$($($name)*)?] as_any { fn as_any(&self) -> &dyn ::std::any::Any { self } } }
            $crate::__unless! { [$($($name)*)?] into_any {
                fn into_any(self: ::std::boxed::Box<Self>) -> ::std::boxed::Box<dyn ::std::any::Any> { self }
            } }
            $crate::__forward_methods! { [as_any $($($name)*)?] |$this| $inner }
        }
    };
}

/// The methods of [`Channel`](crate::Channel) passed on, all but those named; what [`forward_channel!`] is made of.
#[doc(hidden)]
#[macro_export]
macro_rules! __forward_methods {
    ($own:tt |$this:ident| $inner:expr) => {
        $crate::__unless! { $own layer {
            fn layer(&$this) -> &'static str {
                $crate::Channel::layer($inner)
            }
        } }
        $crate::__unless! { $own name {
            fn name(&$this) -> ::std::option::Option<::std::sync::Arc<str>> {
                $crate::Channel::name($inner)
            }
        } }
        $crate::__unless! { $own set_name {
            fn set_name(&$this, name: &str) {
                $crate::Channel::set_name($inner, name);
            }
        } }
        $crate::__unless! { $own features {
            fn features(&$this) -> $crate::Features {
                $crate::Channel::features($inner)
            }
        } }
        $crate::__unless! { $own why_not {
            fn why_not(&$this, feature: $crate::Features) -> ::std::option::Option<::std::string::String> {
                $crate::Channel::why_not($inner, feature)
            }
        } }
        $crate::__unless! { $own describe_layer {
            fn describe_layer(&$this) -> ::std::string::String {
                $crate::Channel::describe_layer($inner)
            }
        } }
        $crate::__unless! { $own readv_full {
            fn readv_full(
                &$this,
                bufs: &mut [::std::io::IoSliceMut<'_>],
                fds: ::std::option::Option<&mut ::std::vec::Vec<::std::os::fd::OwnedFd>>,
                flags: $crate::ReadFlags,
            ) -> $crate::Result<usize> {
                $crate::Channel::readv_full($inner, bufs, fds, flags)
            }
        } }
        $crate::__unless! { $own writev_full {
            fn writev_full(
                &$this,
                bufs: &[::std::io::IoSlice<'_>],
                fds: &[::std::os::fd::BorrowedFd<'_>],
                flags: $crate::WriteFlags,
            ) -> $crate::Result<usize> {
                $crate::Channel::writev_full($inner, bufs, fds, flags)
            }
        } }
        $crate::__unless! { $own flush {
            fn flush(&$this) -> $crate::Result<()> {
                $crate::Channel::flush($inner)
            }
        } }
        $crate::__unless! { $own set_blocking {
            fn set_blocking(&$this, blocking: bool) {
                $crate::Channel::set_blocking($inner, blocking);
            }
        } }
        $crate::__unless! { $own set_read_timeout {
            fn set_read_timeout(&$this, timeout: ::std::option::Option<::std::time::Duration>) -> $crate::Result<()> {
                $crate::Channel::set_read_timeout($inner, timeout)
            }
        } }
        $crate::__unless! { $own read_timeout {
            fn read_timeout(&$this) -> ::std::option::Option<::std::time::Duration> {
                $crate::Channel::read_timeout($inner)
            }
        } }
        $crate::__unless! { $own set_write_timeout {
            fn set_write_timeout(&$this, timeout: ::std::option::Option<::std::time::Duration>) -> $crate::Result<()> {
                $crate::Channel::set_write_timeout($inner, timeout)
            }
        } }
        $crate::__unless! { $own write_timeout {
            fn write_timeout(&$this) -> ::std::option::Option<::std::time::Duration> {
                $crate::Channel::write_timeout($inner)
            }
        } }
        $crate::__unless! { $own take_over {
            fn take_over(&$this) {
                $crate::Channel::take_over($inner);
            }
        } }
        $crate::__unless! { $own set_delay {
            fn set_delay(&$this, delay: bool) {
                $crate::Channel::set_delay($inner, delay);
            }
        } }
        $crate::__unless! { $own set_cork {
            fn set_cork(&$this, cork: bool) {
                $crate::Channel::set_cork($inner, cork);
            }
        } }
        $crate::__unless! { $own close_write {
            fn close_write(&$this) -> $crate::Result<()> {
                $crate::Channel::close_write($inner)
            }
        } }
        $crate::__unless! { $own shutdown {
            fn shutdown(&$this, how: $crate::Shutdown) -> $crate::Result<()> {
                $crate::Channel::shutdown($inner, how)
            }
        } }
        $crate::__unless! { $own close {
            fn close(&$this) -> $crate::Result<()> {
                $crate::Channel::close($inner)
            }
        } }
        $crate::__unless! { $own close_by {
            fn close_by(&$this, deadline: ::std::time::Instant) -> $crate::Result<()> {
                $crate::Channel::close_by($inner, deadline)
            }
        } }
        $crate::__unless! { $own seek {
            fn seek(&$this, position: ::std::io::SeekFrom) -> $crate::Result<u64> {
                $crate::Channel::seek($inner, position)
            }
        } }
        $crate::__unless! { $own readiness {
            fn readiness(&$this, direction: $crate::Direction) -> $crate::Readiness {
                $crate::Channel::readiness($inner, direction)
            }
        } }
        $crate::__unless! { $own set_aio_fd_handler {
            fn set_aio_fd_handler(&$this, read: $crate::AioChange, write: $crate::AioChange) -> $crate::Result<$crate::Removed> {
                $crate::Channel::set_aio_fd_handler($inner, read, write)
            }
        } }
        $crate::__unless! { $own handshake {
            fn handshake(&$this) -> $crate::Result<()> {
                $crate::Channel::handshake($inner)
            }
        } }
        $crate::__unless! { $own with_read_buf {
            fn with_read_buf(&$this, take: &mut dyn ::std::ops::FnMut(&[u8]) -> usize) -> $crate::Result<usize> {
                $crate::Channel::with_read_buf($inner, take)
            }
        } }
        $crate::__unless! { $own next_layer {
            fn next_layer(&$this) -> ::std::option::Option<&dyn $crate::Channel> {
                $crate::Channel::next_layer($inner)
            }
        } }
        $crate::__unless! { $own as_any {
            fn as_any(&$this) -> &dyn ::std::any::Any {
                $crate::Channel::as_any($inner)
            }
        } }
    };
}

/// The item, unless the method it is called for is among those named.
#[doc(hidden)]
#[macro_export]
macro_rules! __unless {
    ([layer $($more:ident)*] layer $item:tt) => {};
    ([name $($more:ident)*] name $item:tt) => {};
    ([set_name $($more:ident)*] set_name $item:tt) => {};
    ([features $($more:ident)*] features $item:tt) => {};
    ([why_not $($more:ident)*] why_not $item:tt) => {};
    ([describe_layer $($more:ident)*] describe_layer $item:tt) => {};
    ([readv_full $($more:ident)*] readv_full $item:tt) => {};
    ([writev_full $($more:ident)*] writev_full $item:tt) => {};
    ([flush $($more:ident)*] flush $item:tt) => {};
    ([set_blocking $($more:ident)*] set_blocking $item:tt) => {};
    ([set_read_timeout $($more:ident)*] set_read_timeout $item:tt) => {};
    ([read_timeout $($more:ident)*] read_timeout $item:tt) => {};
    ([set_write_timeout $($more:ident)*] set_write_timeout $item:tt) => {};
    ([write_timeout $($more:ident)*] write_timeout $item:tt) => {};
    ([take_over $($more:ident)*] take_over $item:tt) => {};
    ([set_delay $($more:ident)*] set_delay $item:tt) => {};
    ([set_cork $($more:ident)*] set_cork $item:tt) => {};
    ([close_write $($more:ident)*] close_write $item:tt) => {};
    ([shutdown $($more:ident)*] shutdown $item:tt) => {};
    ([close $($more:ident)*] close $item:tt) => {};
    ([close_by $($more:ident)*] close_by $item:tt) => {};
    ([seek $($more:ident)*] seek $item:tt) => {};
    ([readiness $($more:ident)*] readiness $item:tt) => {};
    ([set_aio_fd_handler $($more:ident)*] set_aio_fd_handler $item:tt) => {};
    ([handshake $($more:ident)*] handshake $item:tt) => {};
    ([with_read_buf $($more:ident)*] with_read_buf $item:tt) => {};
    ([next_layer $($more:ident)*] next_layer $item:tt) => {};
    ([as_any $($more:ident)*] as_any $item:tt) => {};
    ([into_any $($more:ident)*] into_any $item:tt) => {};
    ([$other:ident $($more:ident)*] $name:ident $item:tt) => { $crate::__unless! { [$($more)*] $name $item } };
    ([] $name:ident { $($item:tt)* }) => { $($item)* };
}

impl<C: Channel + ?Sized> Channel for Box<C> {
    crate::__forward_methods! { [] |self| &**self }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        (*self).into_any()
    }
}

impl<C: Channel + ?Sized> Channel for Arc<C> {
    crate::__forward_methods! { [] |self| &**self }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
