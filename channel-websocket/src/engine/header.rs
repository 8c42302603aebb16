//! A frame's header (RFC 6455 §5.2), in whatever pieces it comes, and the rules it must keep.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;

use super::Violation;
use crate::Role;

/// The longest header: two bytes, a 64-bit length and a mask key.
pub(super) const LONGEST: usize = 14;

/// The bytes of a header that have come so far.
#[derive(Debug, Default)]
pub(super) struct HeaderReader {
    bytes: [u8; LONGEST],
    have: usize,
}

/// What a header is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Our role: a server takes masked frames only, a client unmasked ones only.
    pub(super) role: Role,
    /// A fragmented message is under way.
    pub(super) in_message: bool,
    /// The most payload a frame may have.
    pub(super) frame_bytes: u64,
}

impl HeaderReader {
    /// Whether a header has begun.
    pub(super) fn is_partial(&self) -> bool {
        self.have > 0
    }

    /// Takes header bytes from the front of `input`; gives the header and the payload's length once all have come.
    pub(super) fn advance(
        &mut self,
        input: &mut &[u8],
        rules: &Rules,
    ) -> Result<Option<(FrameHeader, u64)>, Violation> {
        if !self.have_all(2, input) {
            return Ok(None);
        }
        let [first, second, ..] = self.bytes;
        rules.check_start(first, second)?;
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let whole = 2 + length_bytes + if second & 0x80 == 0 { 0 } else { 4 };
        if !self.have_all(whole, input) {
            return Ok(None);
        }
        self.have = 0;
        let Ok(Some((header, length))) = FrameHeader::parse(&mut Cursor::new(&self.bytes[..whole])) else {
            return Err(Violation::protocol("RFC 6455 §5.2: a frame header that cannot be read"));
        };
        rules.check_length(length_bytes, length)?;
        Ok(Some((header, length)))
    }

    fn have_all(&mut self, count: usize, input: &mut &[u8]) -> bool {
        let take = count.saturating_sub(self.have).min(input.len());
        let (now, later) = input.split_at(take);
        self.bytes[self.have..self.have + take].copy_from_slice(now);
        self.have += take;
        *input = later;
        self.have >= count
    }
}

impl Rules {
    /// What the first two bytes show.
    fn check_start(&self, first: u8, second: u8) -> Result<(), Violation> {
        let is_final = first & 0x80 != 0;
        let masked = second & 0x80 != 0;
        if first & 0x70 != 0 {
            return Err(Violation::protocol("RFC 6455 §5.2: a reserved bit is set, and no extension was agreed on"));
        }
        match (first & 0x0f, self.in_message) {
            (0x0, true) | (0x2, false) => {}
            (0x0, false) => {
                return Err(Violation::protocol("RFC 6455 §5.4: a continuation of a message that was not begun"));
            }
            (0x1 | 0x2, true) => {
                return Err(Violation::protocol("RFC 6455 §5.4: a new message inside a fragmented one"));
            }
            (0x1, false) => {
                return Err(Violation::unsupported("RFC 6455 §7.4.1: a text message; this endpoint takes binary only"));
            }
            (0x8..=0xa, _) => {
                if !is_final {
                    return Err(Violation::protocol("RFC 6455 §5.5: a fragmented control frame"));
                }
                if second & 0x7f > 125 {
                    return Err(Violation::protocol("RFC 6455 §5.5: a control frame of more than 125 bytes"));
                }
            }
            _ => return Err(Violation::protocol("RFC 6455 §5.2: a reserved opcode")),
        }
        match (self.role, masked) {
            (Role::Server, false) => Err(Violation::protocol("RFC 6455 §5.1: a frame from a client without a mask")),
            (Role::Client, true) => Err(Violation::protocol("RFC 6455 §5.1: a masked frame from a server")),
            _ => Ok(()),
        }
    }

    /// What a length shows that took `length_bytes` beyond the first two.
    fn check_length(&self, length_bytes: usize, length: u64) -> Result<(), Violation> {
        if length >> 63 != 0 {
            return Err(Violation::protocol("RFC 6455 §5.2: a 64-bit length with the top bit set"));
        }
        let least = match length_bytes {
            0 => 0,
            2 => 126,
            _ => 1 << 16,
        };
        if length < least {
            return Err(Violation::protocol("RFC 6455 §5.2: a length that is not in its shortest form"));
        }
        if length > self.frame_bytes {
            return Err(Violation::too_big("a frame larger than Limits::frame_bytes"));
        }
        Ok(())
    }
}
