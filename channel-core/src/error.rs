//! What goes wrong, on which channel, doing what, and why.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::{Channel, Direction};

/// A result whose error is an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of an [`Error`]: who is at fault and what can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Nothing can be done now without waiting. Ask [`Channel::readiness`](crate::Channel::readiness) what to wait for.
    #[error("would block")]
    WouldBlock,
    /// Another thread already waits in this direction; a channel has one reader and one writer.
    #[error("another caller already waits in this direction")]
    Busy,
    /// The handshake has not completed; call [`Channel::handshake`](crate::Channel::handshake) first.
    #[error("not open yet")]
    NotOpen,
    /// [`close`](crate::Channel::close) was called on this channel.
    #[error("closed")]
    Closed,
    /// The peer takes no more bytes (`EPIPE`), or we ended our own output.
    #[error("the peer takes no more data")]
    BrokenPipe,
    /// The connection was reset by the peer.
    #[error("connection reset")]
    Reset,
    /// The stream ended where its protocol does not allow an end: it may have been cut by an attacker.
    #[error("unexpected end of stream")]
    UnexpectedEof,
    /// A deadline of [`Limits`](crate::Limits), or of the caller, ran out.
    #[error("timed out")]
    TimedOut,
    /// The caller asked for something that makes no sense here.
    #[error("invalid input")]
    InvalidInput,
    /// This channel cannot do that; [`Channel::why_not`](crate::Channel::why_not) says why.
    #[error("not supported")]
    Unsupported,
    /// A bound of [`Limits`](crate::Limits) was passed.
    #[error("limit exceeded")]
    LimitExceeded,
    /// The peer broke the protocol.
    #[error("protocol violation by the peer")]
    Protocol,
    /// The peer ended the connection with an error of its own: a TLS alert, an HTTP status, a close code.
    #[error("refused by the peer")]
    Refused,
    /// The peer is not who it should be, or may not do this.
    #[error("authentication failed")]
    Authentication,
    /// A message carried more descriptors than could be received, or than are kept for a read that asks
    /// ([`Limits::kept_descriptors`](crate::Limits::kept_descriptors)); those that arrived were closed, the stream is dead.
    #[error("descriptors were lost")]
    DescriptorsLost,
    /// A task waits on an event loop, and there is none: attach the channel to one, or run the task on one.
    #[error("not attached to an event loop")]
    NotAttached,
    /// Waiting here could never end, because the caller is what it would wait for.
    #[error("waiting here would deadlock")]
    WouldDeadlock,
    /// A fault in this library or in a layer written on it; please report it.
    #[error("internal error")]
    Internal,
    /// Another error of the operating system; the source has it.
    #[error("{0}")]
    Io(io::ErrorKind),
}

impl ErrorKind {
    fn of_io(kind: io::ErrorKind) -> Self {
        use io::ErrorKind as Io;
        match kind {
            Io::WouldBlock => Self::WouldBlock,
            Io::ResourceBusy => Self::Busy,
            Io::BrokenPipe => Self::BrokenPipe,
            Io::ConnectionReset => Self::Reset,
            Io::UnexpectedEof => Self::UnexpectedEof,
            Io::TimedOut => Self::TimedOut,
            Io::InvalidInput => Self::InvalidInput,
            Io::InvalidData => Self::Protocol,
            Io::Unsupported => Self::Unsupported,
            Io::Deadlock => Self::WouldDeadlock,
            other => Self::Io(other),
        }
    }

    fn to_io(self) -> io::ErrorKind {
        use io::ErrorKind as Io;
        match self {
            Self::WouldBlock => Io::WouldBlock,
            Self::Busy => Io::ResourceBusy,
            Self::NotOpen | Self::Closed => Io::NotConnected,
            Self::BrokenPipe => Io::BrokenPipe,
            Self::Reset => Io::ConnectionReset,
            Self::UnexpectedEof => Io::UnexpectedEof,
            Self::TimedOut => Io::TimedOut,
            Self::InvalidInput => Io::InvalidInput,
            Self::Unsupported => Io::Unsupported,
            Self::LimitExceeded | Self::Protocol | Self::DescriptorsLost => Io::InvalidData,
            Self::Refused => Io::ConnectionAborted,
            Self::Authentication => Io::PermissionDenied,
            Self::WouldDeadlock => Io::Deadlock,
            Self::NotAttached | Self::Internal => Io::Other,
            Self::Io(kind) => kind,
        }
    }
}

/// An error of a channel: the operation, the channel's name, its layer, the kind, and the source [[X1]].
///
/// It is one word wide. [`WouldBlock`](ErrorKind::WouldBlock) is stored in that word and costs nothing; every other error
/// is shared, so cloning is cheap and an error that ended a stream can be reported by every later call.
///
/// ```
/// use channel_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::UnexpectedEof, "tls", "the peer closed without close_notify")
///     .during("read")
///     .on(Some("migration".into()));
/// assert_eq!(
///     error.to_string(),
///     "read on tls channel `migration`: unexpected end of stream: the peer closed without close_notify"
/// );
/// let io = std::io::Error::from(error);
/// assert_eq!(io.kind(), std::io::ErrorKind::UnexpectedEof);
/// assert!(Error::from(io).is_truncated()); // nothing was lost on the way
/// ```
#[doc = channel_core::promises!(X1)]
#[derive(Clone)]
pub struct Error(Option<Arc<Report>>);

#[derive(Clone)]
struct Report {
    kind: ErrorKind,
    layer: &'static str,
    operation: &'static str,
    channel: Option<Arc<str>>,
    detail: Cow<'static, str>,
    done: Option<usize>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    /// The stream is as good as before.
    passing: bool,
    /// What `layer` names is no channel.
    is_part: bool,
}

impl Error {
    /// The error that is no failure: nothing can be done now without waiting.
    pub const WOULD_BLOCK: Self = Self(None);

    /// An error of `kind` in `layer` (a lower-case noun such as `tls`); `detail` says what happened and what to do.
    ///
    /// For who writes a layer or a leaf; it is shown as one of the "`layer` channel". A protocol on top of channels has errors of its own.
    ///
    /// [`ErrorKind::WouldBlock`] gives [`Error::WOULD_BLOCK`] and drops the rest.
    #[must_use]
    pub fn new(kind: ErrorKind, layer: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        if kind == ErrorKind::WouldBlock {
            return Self::WOULD_BLOCK;
        }
        Self(Some(Arc::new(Report {
            kind,
            layer,
            operation: "",
            channel: None,
            detail: detail.into(),
            done: None,
            source: None,
            passing: false,
            is_part: false,
        })))
    }

    /// An operating system's error in `layer`, its kind kept and itself as the source.
    ///
    /// An `io::Error` that carries an [`Error`] gives that error back.
    #[must_use]
    pub fn from_io(error: io::Error, layer: &'static str) -> Self {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Self::WOULD_BLOCK;
        }
        match error.downcast::<Self>() {
            Ok(ours) => ours,
            Err(error) => Self::new(ErrorKind::of_io(error.kind()), layer, "").with_source(error),
        }
    }

    /// Of a part of the machinery that is no channel, such as an event loop.
    pub(crate) fn of_part(self) -> Self {
        self.amend(|report| report.is_part = true)
    }

    /// Adds the operation that was tried, unless one is known already: the innermost layer knows best.
    #[must_use]
    pub fn during(self, operation: &'static str) -> Self {
        self.amend(|report| {
            if report.operation.is_empty() {
                report.operation = operation;
            }
        })
    }

    /// Adds the name of the channel, unless one is known already.
    #[must_use]
    pub fn on(self, channel: Option<Arc<str>>) -> Self {
        self.amend(|report| {
            if report.channel.is_none() {
                report.channel = channel;
            }
        })
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.amend(|report| report.source = Some(Arc::from(source.into())))
    }

    /// Says how many bytes were done before the error.
    #[must_use]
    pub fn with_bytes_done(self, done: usize) -> Self {
        self.amend(|report| report.done = Some(done))
    }

    fn amend(mut self, change: impl FnOnce(&mut Report)) -> Self {
        if let Some(report) = &mut self.0 {
            change(Arc::make_mut(report));
        }
        self
    }

    /// The kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.as_ref().map_or(ErrorKind::WouldBlock, |report| report.kind)
    }

    /// The layer the error arose in, such as `socket` or `tls`; empty for would-block.
    #[must_use]
    pub fn layer(&self) -> &'static str {
        self.0.as_ref().map_or("", |report| report.layer)
    }

    /// What was tried, such as `read`; empty where unknown.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.0.as_ref().map_or("", |report| report.operation)
    }

    /// The name of the channel, if it has one.
    #[must_use]
    pub fn channel(&self) -> Option<&str> {
        self.0.as_ref()?.channel.as_deref()
    }

    /// How many bytes an `_all` operation had done before the error.
    #[must_use]
    pub fn bytes_done(&self) -> Option<usize> {
        self.0.as_ref()?.done
    }

    /// Whether waiting would help: nothing was done, and nothing is wrong.
    #[must_use]
    pub fn is_would_block(&self) -> bool {
        self.0.is_none()
    }

    /// Whether a later call may do better, on a stream that is as good as before: would-block, busy, not open yet, or that the time of
    /// [`set_read_timeout`](crate::Channel::set_read_timeout) or [`set_write_timeout`](crate::Channel::set_write_timeout) has passed.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.kind(), ErrorKind::WouldBlock | ErrorKind::Busy | ErrorKind::NotOpen)
            || self.0.as_ref().is_some_and(|report| report.passing)
            || self.is_shortage()
    }

    /// For a call that took as long as the timeout of `channel` lets it \[T1\].
    pub(crate) fn timed_out<C: Channel + ?Sized>(direction: Direction, channel: &C) -> Self {
        let detail = match direction {
            Direction::Read => "the time of set_read_timeout has passed",
            Direction::Write => "the time of set_write_timeout has passed",
        };
        let error = Self::new(ErrorKind::TimedOut, channel.layer(), detail).on(channel.name());
        error.amend(|report| report.passing = true)
    }

    /// Whether the system is short of something for the moment, descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`): the channel
    /// is as it was, and the call may be made again later.
    #[must_use]
    pub fn is_shortage(&self) -> bool {
        let source = self.source().and_then(|source| source.downcast_ref::<io::Error>());
        source
            .and_then(io::Error::raw_os_error)
            .map(Errno::from_raw_os_error)
            .is_some_and(|errno| matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
    }

    /// Whether another thread already waits in this direction.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.kind() == ErrorKind::Busy
    }

    /// Whether the handshake has yet to complete.
    #[must_use]
    pub fn is_not_open(&self) -> bool {
        self.kind() == ErrorKind::NotOpen
    }

    /// Whether [`close`](crate::Channel::close) was called on this channel.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.kind() == ErrorKind::Closed
    }

    /// Whether the stream ended where its protocol does not allow an end.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.kind() == ErrorKind::UnexpectedEof
    }

    /// Whether the peer is gone: broken pipe, reset, or a refusal. A write after our own end is a broken pipe, too.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        matches!(self.kind(), ErrorKind::BrokenPipe | ErrorKind::Reset | ErrorKind::Refused)
    }

    /// Whether a deadline ran out.
    #[must_use]
    pub fn is_timed_out(&self) -> bool {
        self.kind() == ErrorKind::TimedOut
    }

    /// Whether the channel lacks what was asked for.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        self.kind() == ErrorKind::Unsupported
    }

    /// Whether the peer is to blame: it broke the protocol, passed a limit, or cut the stream short.
    #[must_use]
    pub fn is_peer_misbehaviour(&self) -> bool {
        matches!(self.kind(), ErrorKind::Protocol | ErrorKind::LimitExceeded | ErrorKind::UnexpectedEof)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(report) = &self.0 else {
            return ErrorKind::WouldBlock.fmt(f);
        };
        if !report.operation.is_empty() {
            write!(f, "{} on ", report.operation)?;
        }
        f.write_str(report.layer)?;
        if !report.is_part {
            f.write_str(" channel")?;
        }
        if let Some(name) = &report.channel {
            write!(f, " `{name}`")?;
        }
        write!(f, ": {}", report.kind)?;
        if !report.detail.is_empty() {
            write!(f, ": {}", report.detail)?;
        }
        if let Some(done) = report.done {
            write!(f, " (after {done} bytes)")?;
        }
        let mut source = self.source().filter(|_| f.alternate());
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self:#})", self.kind())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.0.as_ref()?.source.as_ref()?;
        Some(source.as_ref() as &(dyn StdError + 'static))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::WouldBlock => Self::from(io::ErrorKind::WouldBlock),
            kind => Self::new(kind.to_io(), error),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::from_io(error, "io")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word_and_would_block_is_free() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Result<()>>(), 2 * size_of::<usize>());
        assert!(Error::WOULD_BLOCK.is_would_block());
        assert_eq!(io::Error::from(Error::WOULD_BLOCK).kind(), io::ErrorKind::WouldBlock);
        assert!(Error::from(io::Error::from(io::ErrorKind::WouldBlock)).is_would_block());
    }

    #[test]
    fn the_source_survives_both_conversions() {
        let os = io::Error::from_raw_os_error(104);
        let ours = Error::from_io(os, "socket").during("read");
        assert_eq!(ours.kind(), ErrorKind::Reset);
        let back = Error::from(io::Error::from(ours.clone()));
        assert_eq!(back.layer(), "socket");
        let source = back.source().and_then(|e| e.downcast_ref::<io::Error>());
        assert_eq!(source.and_then(io::Error::raw_os_error), Some(104));
    }

    #[test]
    fn the_innermost_layer_names_the_operation() {
        let error = Error::new(ErrorKind::Protocol, "websocket", "bad opcode").during("decode").during("read");
        assert_eq!(error.operation(), "decode");
        assert_eq!(error.clone().with_bytes_done(7).bytes_done(), Some(7));
        assert_eq!(error.bytes_done(), None);
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_stays() {
        let of = |kind| Error::new(kind, "layer", "").is_passing();
        assert!([ErrorKind::WouldBlock, ErrorKind::Busy, ErrorKind::NotOpen].into_iter().all(of));
        assert!(Error::from_io(io::Error::from_raw_os_error(12), "socket").is_passing(), "ENOMEM");
        assert!(![ErrorKind::BrokenPipe, ErrorKind::Closed, ErrorKind::TimedOut].into_iter().any(of));
    }

    #[test]
    fn an_error_tells_what_it_comes_from_when_it_is_asked_to() {
        let error = Error::from_io(io::Error::from_raw_os_error(111), "socket").during("connect");
        assert_eq!(error.to_string(), "connect on socket channel: connection refused");
        assert_eq!(
            format!("{error:#}"),
            "connect on socket channel: connection refused: Connection refused (os error 111)"
        );
        let wrapped = io::Error::from(error);
        assert!(format!("{wrapped:#}").ends_with("(os error 111)"), "{wrapped:#}");
        let error = Error::new(ErrorKind::Busy, "event loop", "another thread runs it").of_part().during("run");
        assert!(error.to_string().starts_with("run on event loop: "), "{error}");
    }

    #[test]
    fn an_error_shows_how_many_bytes_were_done() {
        let error = Error::new(ErrorKind::TimedOut, "socket", "").during("read").with_bytes_done(7);
        assert!(error.to_string().ends_with("(after 7 bytes)"), "{error}");
    }
}
