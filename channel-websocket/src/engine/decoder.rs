//! What comes in: frames to bytes.

use channel_core::engine::{self, Decoded, Sink, Stopped};
use channel_core::{Error, ErrorKind, Result};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, OpCode};

use super::header::{HeaderReader, Rules};
use super::{ControlPayload, Shared, Violation, mask};
use crate::close::CloseFrame;
use crate::{Role, error};

/// Takes frames apart as they come: payload is delivered while its frame still arrives, and nothing is held but a partial
/// header or control frame.
#[derive(Debug)]
pub(crate) struct Decoder {
    rules: Rules,
    header: HeaderReader,
    stage: Stage,
    shared: Shared,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum Stage {
    Header,
    /// The payload of a data frame, of which `left` bytes are still to come, the first masked with `key[0]`.
    Data {
        left: u64,
        key: Option<[u8; 4]>,
    },
    Control {
        opcode: Control,
        left: usize,
        key: [u8; 4],
        payload: ControlPayload,
    },
    /// After the peer's Close nothing counts.
    Closed,
    Failed(Error),
}

impl Decoder {
    pub(super) fn new(role: Role, frame_bytes: u64, shared: Shared) -> Self {
        let rules = Rules { role, in_message: false, frame_bytes };
        Self { rules, header: HeaderReader::default(), stage: Stage::Header, shared }
    }

    fn run(&mut self, input: &[u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        let mut rest = input;
        let mut reply = false;
        let stopped = loop {
            match &mut self.stage {
                Stage::Header if !self.header.is_partial() && !rest.is_empty() && !sink.begin_unit() => {
                    break Stopped::SinkFull;
                }
                Stage::Header => match self.header.advance(&mut rest, &self.rules) {
                    Ok(Some((header, length))) => self.begin(&header, length),
                    Ok(None) => break Stopped::NeedInput,
                    Err(violation) => return Err(self.violated(violation)),
                },
                Stage::Data { left: 0, .. } => self.stage = Stage::Header,
                Stage::Data { left, key } => {
                    if rest.is_empty() {
                        break Stopped::NeedInput;
                    }
                    if sink.is_full() {
                        break Stopped::SinkFull;
                    }
                    let count = deliver(*left, key, rest, sink);
                    rest = &rest[count..];
                    *left -= count as u64;
                }
                Stage::Control { opcode, left: 0, payload, .. } => {
                    let (opcode, payload) = (*opcode, std::mem::take(payload));
                    self.stage = Stage::Header;
                    reply |= self.control(opcode, payload)?;
                }
                Stage::Control { left, key, payload, .. } => {
                    if rest.is_empty() {
                        break Stopped::NeedInput;
                    }
                    let (now, later) = rest.split_at(rest.len().min(*left));
                    for byte in now {
                        payload.extend(&[byte ^ key[0]]);
                        key.rotate_left(1);
                    }
                    *left -= now.len();
                    rest = later;
                }
                Stage::Closed => break Stopped::End,
                Stage::Failed(error) => return Err(error.clone()),
            }
        };
        Ok(Decoded { consumed: input.len() - rest.len(), stopped, reply })
    }

    /// Begins the frame of a header that keeps the rules.
    fn begin(&mut self, header: &FrameHeader, length: u64) {
        self.stage = match header.opcode {
            OpCode::Data(_) => {
                self.rules.in_message = !header.is_final;
                Stage::Data { left: length, key: header.mask }
            }
            OpCode::Control(opcode) => Stage::Control {
                opcode,
                left: usize::try_from(length).unwrap_or(usize::MAX),
                key: header.mask.unwrap_or_default(),
                payload: ControlPayload::default(),
            },
        };
    }

    /// Acts on a control frame that is complete, and says whether it asks for a reply.
    fn control(&mut self, opcode: Control, payload: ControlPayload) -> Result<bool> {
        match opcode {
            Control::Ping => {
                self.shared.lock().pong_due = Some(payload);
                Ok(true)
            }
            Control::Pong => {
                self.shared.lock().pong_seen = Some(payload);
                Ok(false)
            }
            Control::Close | Control::Reserved(_) => match CloseFrame::parse(payload.as_slice()) {
                Ok(close) => self.closed(close).map(|()| false),
                Err(violation) => Err(self.violated(violation)),
            },
        }
    }

    /// The peer's Close: the clean end \[E1\], unless its code says that something went wrong. Our own Close is sent when our
    /// side ends, for it may still have data to write \[E3\]; RFC 6455 §5.5.1 lets an endpoint wait so.
    fn closed(&mut self, close: CloseFrame) -> Result<()> {
        self.shared.lock().peer_close = Some(close.clone());
        if !close.is_failure() {
            if !self.rules.in_message {
                self.stage = Stage::Closed;
                return Ok(());
            }
            // What is missing of a message will not come (RFC 6455 §5.4); what we still write may.
            let cause = error(ErrorKind::UnexpectedEof, "the peer closed inside a fragmented message");
            self.stage = Stage::Failed(cause.clone());
            return Err(cause);
        }
        let code = close.code.unwrap_or_default();
        let cause =
            error(ErrorKind::Refused, format!("the peer closed with code {code} and reason {:?}", close.reason));
        let echo = CloseFrame { reason: String::new(), ..close };
        Err(self.fail(cause, echo))
    }

    fn violated(&mut self, violation: Violation) -> Error {
        let (error, close) = violation.into_parts();
        self.fail(error, close)
    }

    /// Fails the connection (RFC 6455 §7.1.7): the encoder sends `close` and no data any more.
    fn fail(&mut self, error: Error, close: CloseFrame) -> Error {
        self.shared.lock().failure = Some((error.clone(), close));
        self.stage = Stage::Failed(error.clone());
        error
    }
}

/// Moves payload from `input` into the next piece of the caller's memory, unmasked on the way, and says how much.
fn deliver(left: u64, key: &mut Option<[u8; 4]>, input: &[u8], sink: &mut Sink<'_, '_>) -> usize {
    let most = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
    let space = sink.space(most);
    let count = space.len();
    match key {
        Some(key) => *key = mask::copy(*key, &input[..count], space),
        None => space.copy_from_slice(&input[..count]),
    }
    sink.commit(count);
    count
}

impl engine::Decoder for Decoder {
    fn decode(&mut self, input: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        self.run(input, sink)
    }

    fn decodes_lent(&self) -> bool {
        true
    }

    fn decode_lent(&mut self, input: &[u8], sink: &mut Sink<'_, '_>) -> Result<Decoded> {
        self.run(input, sink)
    }

    fn end(&mut self, _left: usize) -> Result<()> {
        let detail = match &self.stage {
            Stage::Closed => return Ok(()),
            Stage::Failed(error) => return Err(error.clone()),
            Stage::Header if !self.header.is_partial() && !self.rules.in_message => {
                "the peer ended the stream without a Close frame"
            }
            Stage::Header if !self.header.is_partial() => "the peer ended the stream inside a fragmented message",
            _ => "the peer ended the stream in the middle of a frame",
        };
        Err(error(ErrorKind::UnexpectedEof, detail))
    }
}
