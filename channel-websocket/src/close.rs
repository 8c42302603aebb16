//! What a Close frame says (RFC 6455 §5.5.1, §7.4).

use channel_core::{ErrorKind, Result};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::engine::{ControlPayload, Violation};
use crate::error;

/// What a Close frame says: why its sender ends the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseFrame {
    /// The status code, if one was given (RFC 6455 §7.4).
    pub code: Option<u16>,
    /// Words for a person; often empty. They are the sender's, so escape them before showing them.
    pub reason: String,
}

/// What fits beside the code: a control frame's payload is at most 125 bytes.
const LONGEST_REASON: usize = 123;

impl CloseFrame {
    /// What we may say: a code that is allowed on the wire, and a reason that fits.
    pub(crate) fn checked(code: u16, reason: &str) -> Result<Self> {
        if !allowed(code) {
            let detail = format!("{code} is no close code to send; use 1000, or 3000 to 4999 for an application's own");
            return Err(error(ErrorKind::InvalidInput, detail));
        }
        if reason.len() > LONGEST_REASON {
            let detail = format!("a close reason of {} bytes; at most {LONGEST_REASON} fit", reason.len());
            return Err(error(ErrorKind::InvalidInput, detail));
        }
        Ok(Self { code: Some(code), reason: reason.to_owned() })
    }

    pub(crate) fn new(code: u16, reason: &str) -> Self {
        Self { code: Some(code), reason: reason.to_owned() }
    }

    pub(crate) fn parse(payload: &[u8]) -> Result<Self, Violation> {
        let Some((code, reason)) = payload.split_first_chunk() else {
            return match payload {
                [] => Ok(Self::default()),
                _ => Err(Violation::protocol("RFC 6455 §5.5.1: a Close frame with half a status code")),
            };
        };
        let code = u16::from_be_bytes(*code);
        if !allowed(code) {
            return Err(Violation::protocol("RFC 6455 §7.4: a Close frame with a status code that is not allowed"));
        }
        match std::str::from_utf8(reason) {
            Ok(reason) => Ok(Self { code: Some(code), reason: reason.to_owned() }),
            Err(_) => Err(Violation::not_utf8("RFC 6455 §5.5.1: a close reason that is not UTF-8")),
        }
    }

    /// The payload of the frame; a reason that does not fit is cut between characters.
    pub(crate) fn payload(&self) -> ControlPayload {
        let mut payload = ControlPayload::default();
        if let Some(code) = self.code {
            payload.extend(&code.to_be_bytes());
            let mut end = self.reason.len().min(LONGEST_REASON);
            while !self.reason.is_char_boundary(end) {
                end -= 1;
            }
            payload.extend(&self.reason.as_bytes()[..end]);
        }
        payload
    }

    /// Whether it says that the peer failed, or that we did, rather than that the stream is over. The codes of applications
    /// (3000 and up) are theirs to interpret.
    pub(crate) fn is_failure(&self) -> bool {
        !matches!(self.code, None | Some(1000 | 1001 | 3000..=4999))
    }
}

/// Whether `code` may appear on the wire. 1014 (Bad Gateway) was registered with IANA after the RFC.
fn allowed(code: u16) -> bool {
    code == 1014 || CloseCode::from(code).is_allowed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_only_describe_an_end_are_never_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert_eq!(CloseFrame::checked(code, "").unwrap_err().kind(), ErrorKind::InvalidInput, "{code}");
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999] {
            let frame = CloseFrame::checked(code, "bye").unwrap();
            assert_eq!(CloseFrame::parse(frame.payload().as_slice()).unwrap(), frame);
        }
    }

    #[test]
    fn a_reason_that_does_not_fit_is_refused_or_cut_between_characters() {
        assert_eq!(CloseFrame::checked(1000, &"é".repeat(62)).unwrap_err().kind(), ErrorKind::InvalidInput);
        let long = CloseFrame::new(1002, &"é".repeat(100)).payload();
        assert_eq!(CloseFrame::parse(long.as_slice()).unwrap().reason, "é".repeat(61));
    }
}
