//! One rustls connection: the only file that steps it.
//!
//! rustls' unbuffered API hands out one state at a time, keeps offsets into input that it has not discarded, and panics when
//! a later call is not given those bytes again. The rules that keep it content, all of them here:
//!
//! * It is shown *one complete record at a time*, and stepped until it wants nothing but more input. So what it has looked at
//!   and not discarded is always a number of whole records: pieces of a handshake message that is not complete yet.
//! * Those bytes move into `pending`, and every later step is given `pending`, whoever takes it. It is empty nearly always;
//!   then records are decrypted where the caller has them.
//! * A writer's step therefore sees only bytes that have been worked through: it meets no plaintext, no error and no change of
//!   keys in them. Plaintext that came to light there all the same would be kept for the reader.
//! * After an error nothing more is shown to it or encrypted, though rustls would; what it has to send (an alert) is fetched
//!   without touching the input. After our close_notify nothing more is sent at all.

use std::panic::{AssertUnwindSafe, catch_unwind};

use channel_core::engine::Source;
use channel_core::{Buffer, Error, ErrorKind, Result};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
use rustls::{CommonState, ProtocolVersion};

use crate::fault;

/// The type of records with application data, and of every encrypted record of TLS 1.3 (RFC 8446 §5.2).
const APPLICATION_DATA: u8 = 0x17;
/// The most plaintext in one record (RFC 8446 §5.1).
pub(crate) const RECORD: usize = 16 * 1024;
/// Type, version and length in front of every record (RFC 8446 §5.1).
const HEADER: usize = 5;
/// What a record adds to its plaintext, generously: the header, TLS 1.2's explicit nonce, the content type, the tag.
const OVERHEAD: usize = 64;
/// rustls takes no record as long as this: plaintext and the expansion TLS 1.2 allows (RFC 5246 §6.2.3).
const TOO_LONG: usize = RECORD + 2048;

/// A session that both directions share.
pub(crate) struct Session {
    connection: Connection,
    /// Whole records that rustls has looked at and still refers to by their place here.
    pending: Buffer,
    /// How large `pending` may become.
    most_pending: usize,
    /// Plaintext that came to light where no reader was at hand: never, by the rules above; but it is not ours to lose.
    early: Buffer,
    /// What rustls wants sent and no writer has fetched yet: an alert, tickets, our key update.
    replies: Buffer,
    /// A key update that somebody asked for is among `replies`.
    update_waits: bool,
    peer_closed: bool,
    finished: bool,
    failed: Option<Error>,
}

/// Either side of rustls.
pub(crate) enum Connection {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

/// What a writer wants done once rustls lets it write.
enum Errand<'e, 's, 'b> {
    Nothing,
    Seal { source: &'e mut Source<'s, 'b>, scratch: &'e mut Vec<u8> },
    CloseNotify,
    KeyUpdate,
}

/// Whether rustls has more to say about the same input.
enum Step {
    Again,
    Settled,
}

impl Session {
    /// A session that has not begun; at most `most_pending` bytes of a handshake message in pieces are kept.
    pub(crate) fn new(connection: Connection, most_pending: usize) -> Self {
        Self {
            connection,
            pending: Buffer::new(),
            most_pending,
            early: Buffer::new(),
            replies: Buffer::new(),
            update_waits: false,
            peer_closed: false,
            finished: false,
            failed: None,
        }
    }

    /// Lets rustls go on without new input: how a client's first flight comes about.
    pub(crate) fn begin(&mut self) -> Result<()> {
        self.still_works()?;
        let mut replies = std::mem::take(&mut self.replies);
        let result = self.step_on_pending(&mut replies, Errand::Nothing);
        self.replies = replies;
        result
    }

    /// Shows rustls one record as [`record_len`] measured it; plaintext goes to `deliver`.
    pub(crate) fn receive(&mut self, record: &mut [u8], deliver: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.still_works()?;
        let refusable = misread(record);
        if !refusable && self.is_mislabelled(record) {
            return Err(self.refuse_mislabelled());
        }
        let mut replies = std::mem::take(&mut self.replies);
        let result = if self.pending.is_empty() {
            self.drive(record, deliver, &mut replies, Errand::Nothing).map(|used| {
                self.pending.extend(record.get(used..).unwrap_or_default());
            })
        } else {
            let mut pending = std::mem::take(&mut self.pending);
            pending.extend(record);
            let result = self
                .drive(pending.as_mut_slice(), deliver, &mut replies, Errand::Nothing)
                .map(|used| pending.consume(used.min(pending.len())));
            self.pending = pending;
            result
        };

        self.replies = replies;
        result?;
        if self.pending.len() > self.most_pending {
            let detail = "a handshake message in too many pieces; `Limits::input_bytes` bounds them";
            return Err(self.fail(fault::error(ErrorKind::LimitExceeded, detail)));
        }
        if refusable {
            // rustls was expected to refuse it, and to tell the peer; without that there is no telling where the next begins.
            return Err(self.fail(fault::error(ErrorKind::Protocol, "what came is not a TLS record")));
        }
        Ok(())
    }

    /// Gives back what a call needed for itself: nobody knows when the next one comes.
    pub(crate) fn shrink(&mut self) {
        self.pending.shrink(self.most_pending);
    }

    /// Keeps plaintext that came to light where no reader was at hand.
    pub(crate) fn keep_early(&mut self, plaintext: &[u8]) {
        self.early.extend(plaintext);
    }

    /// What was kept; it comes before anything newly received.
    pub(crate) fn take_early(&mut self) -> Buffer {
        std::mem::take(&mut self.early)
    }

    /// Moves what rustls wants sent into `out`.
    pub(crate) fn pump(&mut self, out: &mut Buffer) {
        out.extend(self.replies.as_slice());
        self.update_waits = false;
        self.replies.clear();
        self.replies.release();
    }

    /// Whether [`pump`](Self::pump) has anything to move.
    pub(crate) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Seals all of `source` into `out`, in records as full as can be; nothing of it if that fails.
    pub(crate) fn seal(&mut self, source: &mut Source<'_, '_>, scratch: &mut Vec<u8>, out: &mut Buffer) -> Result<()> {
        self.may_send()?;
        self.pump(out);
        let before = out.len();
        let sealed = self.step_on_pending(out, Errand::Seal { source, scratch });
        if sealed.is_err() {
            // The caller is told that nothing was taken, so nothing may leave; and no alert either, for its number in the
            // sequence follows records that the peer will never see.
            out.truncate_by(out.len() - before);
            self.replies.clear();
            self.finished = true;
        }
        sealed
    }

    /// Puts close_notify into `out`; from then on nothing more is sent.
    pub(crate) fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        if self.finished {
            return Ok(());
        }
        self.still_works()?;
        self.pump(out);
        let result = self.step_on_pending(out, Errand::CloseNotify);
        self.finished = true;
        result
    }

    /// Makes new keys for what we send and asks the peer for the same; the message is a reply to [`pump`](Self::pump).
    pub(crate) fn request_key_update(&mut self) -> Result<()> {
        self.may_send()?;
        if self.common().protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return Err(fault::error(ErrorKind::Unsupported, "keys can be updated in TLS 1.3 only"));
        }
        if self.update_waits {
            return Ok(()); // a peer that takes nothing makes us hold one
        }
        let mut replies = std::mem::take(&mut self.replies);
        let result = self.step_on_pending(&mut replies, Errand::KeyUpdate);
        self.replies = replies;
        self.update_waits = result.is_ok();
        result
    }

    /// Whether all that we have to send on opening is session tickets: a TLS 1.3 server opens with the client's last word
    /// (RFC 8446 §2). A client that does not read yet must not keep the server from opening, so tickets go with what comes next.
    pub(crate) fn has_only_tickets_to_send(&self) -> bool {
        matches!(self.connection, Connection::Server(_))
            && self.common().protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Whether session tickets may be on their way to us: the peer sends them behind our last word (RFC 8446 §4.6.1), in front of
    /// whatever it has to say.
    pub(crate) fn expects_tickets(&self) -> bool {
        matches!(self.connection, Connection::Client(_))
            && self.common().protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// What is known of the session.
    pub(crate) fn common(&self) -> &CommonState {
        match &self.connection {
            Connection::Client(connection) => connection,
            Connection::Server(connection) => connection,
        }
    }

    /// Whether the peer ended its output with close_notify.
    pub(crate) fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Fails as the session failed, if it did.
    pub(crate) fn still_works(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    #[cfg(test)]
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    fn may_send(&self) -> Result<()> {
        self.still_works()?;
        if self.finished {
            return Err(fault::error(ErrorKind::BrokenPipe, "our output was ended with close_notify"));
        }
        Ok(())
    }

    /// Whether a record says in the clear what it may not say any more: once TLS 1.3 is open every record is marked as
    /// application data (RFC 8446 §5.2), change_cipher_spec included (§5). rustls decrypts records whatever the mark says.
    fn is_mislabelled(&self, record: &[u8]) -> bool {
        record.first() != Some(&APPLICATION_DATA)
            && !self.common().is_handshaking()
            && self.common().protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Ends the session. rustls is shown a change_cipher_spec in place of the record: it refuses that with the alert which is
    /// due for any unexpected type (RFC 8446 §5), unexpected_message.
    fn refuse_mislabelled(&mut self) -> Error {
        const CHANGE_CIPHER_SPEC: [u8; 6] = [0x14, 3, 3, 0, 1, 1];
        let mut shown = std::mem::take(&mut self.pending);
        shown.extend(&CHANGE_CIPHER_SPEC);
        let mut replies = std::mem::take(&mut self.replies);
        // Whatever rustls says of it, the session ends with our own words.
        let _ = self.drive(shown.as_mut_slice(), &mut |_| {}, &mut replies, Errand::Nothing);
        self.replies = replies;
        let detail = "RFC 8446 §5.2: a record that is not marked as application data in an open session";
        let error = fault::error(ErrorKind::Protocol, detail);
        self.failed = Some(error.clone());
        error
    }

    /// A step of anyone who has no new input.
    fn step_on_pending(&mut self, out: &mut Buffer, errand: Errand<'_, '_, '_>) -> Result<()> {
        let mut pending = std::mem::take(&mut self.pending);
        let mut early = std::mem::take(&mut self.early);
        let result = self.drive(pending.as_mut_slice(), &mut |plaintext| early.extend(plaintext), out, errand);
        if let Ok(used) = result {
            pending.consume(used.min(pending.len()));
        }
        self.early = early;
        self.pending = pending;
        result.map(drop)
    }

    /// Steps rustls until it wants nothing but more input, and runs `errand` when it may write. Returns how many bytes of
    /// `input` rustls is done with.
    fn drive(
        &mut self,
        input: &mut [u8],
        deliver: &mut dyn FnMut(&[u8]),
        out: &mut Buffer,
        mut errand: Errand<'_, '_, '_>,
    ) -> Result<usize> {
        let mut used = 0;
        loop {
            let rest = input.get_mut(used..).unwrap_or_default();
            let step = self.step(rest, deliver, out, &mut errand);
            match step {
                Ok((discard, Step::Again)) => used += discard,
                Ok((discard, Step::Settled)) => return Ok(used + discard),
                Err(error) => {
                    let error = self.fail(error);
                    out.extend(self.replies.as_slice());
                    self.replies.clear();
                    return Err(error);
                }
            }
        }
    }

    /// Asks rustls for its next state and handles it, whatever it is.
    fn step(
        &mut self,
        input: &mut [u8],
        deliver: &mut dyn FnMut(&[u8]),
        out: &mut Buffer,
        errand: &mut Errand<'_, '_, '_>,
    ) -> Result<(usize, Step)> {
        let quiet = self.finished;
        match &mut self.connection {
            Connection::Client(connection) => {
                let status = contained(quiet, || connection.process_tls_records(input))?;
                handle(status, deliver, (!quiet).then_some(out), &mut self.peer_closed, errand)
            }
            Connection::Server(connection) => {
                let status = contained(quiet, || connection.process_tls_records(input))?;
                handle(status, deliver, (!quiet).then_some(out), &mut self.peer_closed, errand)
            }
        }
    }

    /// Latches `error` and fetches the alert that tells the peer.
    fn fail(&mut self, error: Error) -> Error {
        self.failed = Some(error.clone());
        let mut replies = std::mem::take(&mut self.replies);
        // While it has something to send rustls does not look at its input, so it may be given none.
        while self.common().wants_write() {
            if self.step(&mut [], &mut |_| {}, &mut replies, &mut Errand::Nothing).is_err() {
                break;
            }
        }
        self.replies = replies;
        error
    }
}

/// How many bytes at the front of `input` to show to rustls next: a whole record, or, where the header cannot be right,
/// everything, so that rustls refuses it at once; `None` while the record is incomplete.
pub(crate) fn record_len(input: &[u8]) -> Option<usize> {
    let header = input.first_chunk::<HEADER>()?;
    if misread(header) {
        return Some(input.len());
    }
    let len = HEADER + usize::from(u16::from_be_bytes([header[3], header[4]]));
    (len <= input.len()).then_some(len)
}

/// Whether a record is a close_notify in the clear (RFC 8446 §6); in cipher text it would be longer.
pub(crate) fn is_close_notify(record: &[u8]) -> bool {
    matches!(record, [0x15, 3, _, 0, 2, _, 0])
}

/// Whether rustls refuses the record that begins here for its header alone.
fn misread(input: &[u8]) -> bool {
    let Some([kind, major, _, high, low]) = input.first_chunk::<HEADER>() else {
        return false;
    };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    !(0x14..=0x18).contains(kind) || *major != 3 || len >= TOO_LONG || (len == 0 && *kind != APPLICATION_DATA)
}

/// Runs `step`. After our close_notify a panic of it counts as the peer's fault: rustls then asserts, in builds with debug
/// assertions, that it has no second alert to send, and a peer that sends garbage makes it want to.
pub(crate) fn contained<T>(contain: bool, step: impl FnOnce() -> T) -> Result<T> {
    if !contain {
        return Ok(step());
    }
    catch_unwind(AssertUnwindSafe(step))
        .map_err(|_| fault::error(ErrorKind::Protocol, "the peer broke the protocol after our close_notify"))
}

/// Handles one state of rustls. What is to be sent goes to `out`, or nowhere once our output has ended.
fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    deliver: &mut dyn FnMut(&[u8]),
    out: Option<&mut Buffer>,
    peer_closed: &mut bool,
    errand: &mut Errand<'_, '_, '_>,
) -> Result<(usize, Step)> {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state.map_err(fault::of_session)? {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record.map_err(fault::of_session)?;
                discard += record.discard;
                deliver(record.payload);
            }
            Step::Again
        }
        ConnectionState::EncodeTlsData(mut data) => {
            if let Some(out) = out {
                emit(&mut data, out)?;
            }
            Step::Again
        }
        // What was encoded is in `out`, in its place in the order; that is as good as sent.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Step::Again
        }
        ConnectionState::PeerClosed => {
            *peer_closed = true;
            Step::Again
        }
        ConnectionState::WriteTraffic(traffic) => match (std::mem::replace(errand, Errand::Nothing), out) {
            (Errand::Nothing, _) | (_, None) => Step::Settled,
            (Errand::Seal { source, scratch }, Some(out)) => {
                seal(traffic, source, scratch, out)?;
                Step::Settled
            }
            (Errand::CloseNotify, Some(out)) => {
                close_notify(traffic, out)?;
                Step::Settled
            }
            (Errand::KeyUpdate, Some(_)) => {
                traffic.refresh_traffic_keys().map_err(fault::of_session)?;
                Step::Again
            }
        },
        ConnectionState::BlockedHandshake | ConnectionState::Closed => match errand {
            Errand::Nothing => Step::Settled,
            _ => return Err(fault::error(ErrorKind::Internal, "the session cannot send now")),
        },
        // Early data is refused when credentials are made.
        _ => return Err(fault::error(ErrorKind::Internal, "the TLS engine is in a state this layer does not know")),
    };
    Ok((discard, step))
}

fn emit<Data>(data: &mut EncodeTlsData<'_, Data>, out: &mut Buffer) -> Result<()> {
    let mut needed = 0;
    loop {
        match data.encode(out.space(needed)) {
            Ok(count) => {
                out.commit(count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) => needed = grown(needed, size)?,
            Err(error @ EncodeError::AlreadyEncoded) => {
                return Err(
                    fault::error(ErrorKind::Internal, "the TLS engine encoded a message twice").with_source(error)
                );
            }
        }
    }
}

fn seal<Data>(
    mut traffic: WriteTraffic<'_, Data>,
    source: &mut Source<'_, '_>,
    scratch: &mut Vec<u8>,
    out: &mut Buffer,
) -> Result<()> {
    let records = source.len().div_ceil(RECORD);
    out.space(source.len() + records * OVERHEAD);
    while !source.is_empty() {
        let plaintext = source.take(source.len().min(RECORD), scratch);
        fitted(out, plaintext.len() + OVERHEAD, |space| traffic.encrypt(plaintext, space))?;
    }
    Ok(())
}

fn close_notify<Data>(mut traffic: WriteTraffic<'_, Data>, out: &mut Buffer) -> Result<()> {
    fitted(out, OVERHEAD, |space| traffic.queue_close_notify(space))
}

/// Encrypts into `out`, with as much room as that turns out to need: a key update may have to go first.
fn fitted(
    out: &mut Buffer,
    mut needed: usize,
    mut encrypt: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<()> {
    loop {
        match encrypt(out.space(needed)) {
            Ok(count) => {
                out.commit(count);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(size)) => needed = grown(needed, size)?,
            Err(error @ EncryptError::EncryptExhausted) => {
                let detail =
                    "the keys of this session have protected all they may; TLS 1.2 cannot change them: reconnect";
                return Err(fault::error(ErrorKind::LimitExceeded, detail).with_source(error));
            }
        }
    }
}

/// The room to try next; never the same twice.
fn grown(tried: usize, size: InsufficientSizeError) -> Result<usize> {
    if size.required_size <= tried {
        return Err(fault::error(ErrorKind::Internal, "the TLS engine has no use for the room it asked for"));
    }
    Ok(size.required_size)
}
