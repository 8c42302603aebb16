//! The two halves of an open session over byte slices: what comes in, what goes out.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use channel_core::engine::{Decoded, Decoder, Encoder, Ending, Sink, Source, Stopped};
use channel_core::{Buffer, ErrorKind, Result};
use rustls_pki_types::CertificateDer;

use crate::fault;
use crate::session::{RECORD, Session, record_len};

/// An open session, shared: rustls 0.23 keeps both directions in one object. The lock is held for memory work only.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Session>>);

impl Shared {
    pub(crate) fn new(session: Session) -> Self {
        Self(Arc::new(Mutex::new(session)))
    }

    /// The peer's certificate chain; what a panic left of the session does not change that.
    pub(crate) fn peer_certificates(&self) -> Vec<CertificateDer<'static>> {
        let session = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        session.common().peer_certificates().unwrap_or_default().to_vec()
    }

    fn lock(&self) -> Result<MutexGuard<'_, Session>> {
        self.0.lock().map_err(|_| fault::error(ErrorKind::Internal, "an earlier call panicked inside this session"))
    }
}

/// Nothing of what it holds: keys are among that.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

/// The halves of an open session; whether tickets are `owed` to us.
pub(crate) fn split(session: &Shared, owed: bool) -> (TlsDecoder, TlsEncoder) {
    (TlsDecoder { shared: session.clone(), owed }, TlsEncoder { shared: session.clone(), scratch: Vec::new() })
}

/// Records to plaintext.
pub(crate) struct TlsDecoder {
    shared: Shared,
    /// The peer's tickets are still to come.
    owed: bool,
}

impl Decoder for TlsDecoder {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let mut session = self.shared.lock()?;
        let early = session.take_early();
        if !early.is_empty() {
            sink.put(early.as_slice());
        }
        let mut consumed = 0;
        let stopped = loop {
            if session.peer_closed() {
                break Stopped::End; // what follows a close_notify is none of the session's (RFC 8446 §6.1)
            }
            let rest = &mut input[consumed..];
            let Some(len) = record_len(rest) else {
                session.still_works()?;
                break Stopped::NeedInput;
            };
            if sink.is_full() || !sink.begin_unit() {
                break Stopped::SinkFull;
            }
            session.receive(&mut rest[..len], &mut |plaintext| sink.put(plaintext))?;
            consumed += len;
            self.owed = false;
        };
        session.shrink();
        Ok(Decoded { consumed, stopped, reply: session.has_replies() })
    }

    fn end(&mut self, left: usize) -> Result<()> {
        let session = self.shared.lock()?;
        session.still_works()?;
        if session.peer_closed() {
            return Ok(());
        }
        let detail = if left == 0 {
            "the peer's stream ended without close_notify: it may have been truncated"
        } else {
            "the peer's stream ended inside a record: it was truncated"
        };
        Err(fault::error(ErrorKind::UnexpectedEof, detail))
    }

    fn owed(&self) -> bool {
        self.owed
    }
}

/// How much memory for gathering is kept between records: enough for small messages; a session that is idle after a large one
/// holds no record's worth.
const KEPT_SCRATCH: usize = 4096;

/// RFC 8446 §6.1: a close_notify ends its direction alone. (In TLS 1.2 a peer may answer it at once, RFC 5246 §7.2.1; few do.)
pub(crate) const ENDING: Ending = Ending::Own;

/// Plaintext to records.
pub(crate) struct TlsEncoder {
    shared: Shared,
    /// Where plaintext that lies in several pieces is gathered into one record.
    scratch: Vec<u8>,
}

impl TlsEncoder {
    /// See [`TlsChannel::request_key_update`](crate::TlsChannel::request_key_update).
    pub(crate) fn request_key_update(&mut self) -> Result<()> {
        self.shared.lock()?.request_key_update()
    }
}

impl Encoder for TlsEncoder {
    fn pump(&mut self, out: &mut Buffer) -> Result<()> {
        self.shared.lock()?.pump(out);
        Ok(())
    }

    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        let sealed = self.shared.lock()?.seal(source, &mut self.scratch, out);
        if self.scratch.capacity() > KEPT_SCRATCH {
            self.scratch = Vec::new();
        }
        sealed
    }

    fn unit(&self) -> usize {
        RECORD
    }

    fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        self.shared.lock()?.finish(out)
    }

    fn ending(&self) -> Ending {
        ENDING
    }
}

#[cfg(test)]
impl TlsDecoder {
    /// How many bytes rustls keeps hold of.
    pub(crate) fn pending(&self) -> usize {
        self.shared.lock().map_or(0, |session| session.pending())
    }
}

#[cfg(test)]
impl TlsEncoder {
    /// How much memory is kept to gather records in.
    pub(crate) fn scratch(&self) -> usize {
        self.scratch.capacity()
    }
}
