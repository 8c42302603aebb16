//! What goes out: bytes to frames.

use channel_core::engine::{self, Ending, Source};
use channel_core::{Buffer, ErrorKind, Result};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::header::LONGEST;
use super::{Shared, mask};
use crate::close::CloseFrame;
use crate::{Role, error};

/// How much is gathered for one frame while corked.
const UNIT: usize = 64 * 1024;

/// Makes one final binary frame of each piece it is given. A server's is sent as a header and the caller's own bytes; a
/// client's is masked while it is copied.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// Where a client's mask keys come from; a server masks nothing (RFC 6455 §5.1).
    keys: Option<Box<Keys>>,
    ending: Ending,
    shared: Shared,
}

impl Encoder {
    pub(super) fn new(role: Role, ending: Ending, shared: Shared) -> Self {
        Self { keys: (role == Role::Client).then(Box::default), ending, shared }
    }

    /// Puts the header of a frame into `out` and returns its mask key.
    fn header(&mut self, opcode: OpCode, length: usize, out: &mut Buffer) -> Result<Option<[u8; 4]>> {
        let mask = self.keys.as_mut().map(|keys| keys.next()).transpose()?;
        let header = FrameHeader { opcode, mask, ..FrameHeader::default() };
        let mut bytes = [0; LONGEST];
        let mut room = bytes.as_mut_slice();
        header
            .format(length as u64, &mut room)
            .map_err(|cause| error(ErrorKind::Internal, "a frame header does not fit").with_source(cause))?;
        let unused = room.len();
        out.extend(&bytes[..LONGEST - unused]);
        Ok(mask)
    }

    fn control(&mut self, opcode: Control, payload: &[u8], out: &mut Buffer) -> Result<()> {
        match self.header(OpCode::Control(opcode), payload.len(), out)? {
            Some(key) => mask_into(key, payload, out),
            None => out.extend(payload),
        }
        Ok(())
    }

    fn close(&mut self, close: &CloseFrame, out: &mut Buffer) -> Result<()> {
        self.control(Control::Close, close.payload().as_slice(), out)
    }
}

fn mask_into(key: [u8; 4], bytes: &[u8], out: &mut Buffer) {
    mask::copy(key, bytes, &mut out.space(bytes.len())[..bytes.len()]);
    out.commit(bytes.len());
}

impl engine::Encoder for Encoder {
    fn pump(&mut self, out: &mut Buffer) -> Result<()> {
        let mut notes = self.shared.lock();
        if !notes.close_made {
            if let Some((_, close)) = notes.failure.clone() {
                notes.close_made = true;
                drop(notes);
                return self.close(&close, out);
            }
        }
        // Behind our Close frame pings are still answered, until the peer's has come (RFC 6455 §5.5.2); nothing else follows it.
        let over = notes.close_made && (notes.peer_close.is_some() || notes.failure.is_some());
        let pong = notes.pong_due.take().filter(|_| !over);
        let ping = notes.ping_due.take().filter(|_| !notes.close_made);
        drop(notes);
        if let Some(payload) = pong {
            self.control(Control::Pong, payload.as_slice(), out)?;
        }
        if let Some(payload) = ping {
            self.control(Control::Ping, payload.as_slice(), out)?;
        }
        Ok(())
    }

    fn encode(&mut self, source: &mut Source<'_, '_>, out: &mut Buffer) -> Result<()> {
        self.shared.lock().may_send()?;
        let length = source.len();
        if length == 0 {
            return Ok(());
        }
        let Some(mut key) = self.header(OpCode::Data(Data::Binary), length, out)? else {
            // The machinery sends the caller's bytes behind the header as they are.
            return Ok(());
        };
        let mut room = &mut out.space(length)[..length];
        while !source.is_empty() {
            let chunk = source.chunk();
            let (here, later) = room.split_at_mut(chunk.len());
            key = mask::copy(key, chunk, here);
            room = later;
            source.consume(chunk.len());
        }
        out.commit(length);
        Ok(())
    }

    fn unit(&self) -> usize {
        UNIT
    }

    /// The Close frame: what the user chose, else the peer's code (RFC 6455 §5.5.1), else 1000.
    fn finish(&mut self, out: &mut Buffer) -> Result<()> {
        let mut notes = self.shared.lock();
        if notes.close_made {
            return Ok(());
        }
        let close = if let Some((_, close)) = &notes.failure {
            close.clone()
        } else if let Some(ours) = &notes.our_close {
            ours.clone()
        } else if let Some(theirs) = &notes.peer_close {
            CloseFrame { code: theirs.code, reason: String::new() }
        } else {
            CloseFrame::new(1000, "")
        };
        notes.close_made = true;
        drop(notes);
        self.close(&close, out)
    }

    fn ending(&self) -> Ending {
        self.ending
    }
}

/// Mask keys: a fresh one for each frame, that nobody who chooses the payload can predict (RFC 6455 §10.3). They come from the
/// operating system, a batch at a time, so that a frame costs no system call.
struct Keys {
    batch: [u8; 256],
    used: usize,
}

impl Keys {
    fn next(&mut self) -> Result<[u8; 4]> {
        if self.used == self.batch.len() {
            getrandom::fill(&mut self.batch).map_err(|cause| {
                error(ErrorKind::Io(std::io::ErrorKind::Other), "no random bytes for a mask key").with_source(cause)
            })?;
            self.used = 0;
        }
        let mut key = [0; 4];
        key.copy_from_slice(&self.batch[self.used..self.used + 4]);
        self.used += 4;
        Ok(key)
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self { batch: [0; 256], used: 256 }
    }
}

/// Keys that are still to be used stay secret.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").finish_non_exhaustive()
    }
}
