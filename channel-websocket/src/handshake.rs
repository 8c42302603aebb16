//! The HTTP upgrade (RFC 6455 §4) over byte slices, both roles.
//!
//! What follows the blank line is not looked at here: it is the decoder's, also when it arrived glued to the head.

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use channel_core::{Error, ErrorKind, Limits};
use tungstenite::handshake::headers::MAX_HEADERS;
use tungstenite::http::HeaderMap;

pub(crate) use client::ClientHandshake;
pub(crate) use server::ServerHandshake;

use crate::error;

/// What the handshake found out; set once, when the connection opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) subprotocol: Option<String>,
    pub(crate) path: String,
    pub(crate) origin: Option<String>,
    pub(crate) host: String,
}

pub(crate) type FactsCell = Arc<OnceLock<Facts>>;

/// Looks for the end of an HTTP head in bytes that come in pieces, each byte once, and stops at what cannot become one.
#[derive(Debug)]
struct Head {
    most_bytes: usize,
    /// The start line counts as one. No more than the parser takes, whatever the limit.
    most_lines: usize,
    scanned: usize,
    lines: usize,
    line_start: usize,
}

/// What is wrong with a head.
#[derive(Debug)]
enum Fault {
    Malformed(&'static str),
    TooLarge(&'static str),
}

impl Head {
    fn new(limits: &Limits) -> Self {
        Self {
            most_bytes: limits.header_bytes,
            most_lines: limits.header_count.min(MAX_HEADERS).saturating_add(1),
            scanned: 0,
            lines: 0,
            line_start: 0,
        }
    }

    /// How long the head at the front of `input` is, blank line included, once it is all there. `input` holds what was there
    /// before and more. The start line is put to `check` as soon as it is complete.
    fn scan(&mut self, input: &[u8], check: impl Fn(&[u8]) -> bool) -> Result<Option<usize>, Fault> {
        for (at, byte) in input.iter().enumerate().skip(self.scanned) {
            if at >= self.most_bytes {
                return Err(Fault::TooLarge("the HTTP head is larger than Limits::header_bytes"));
            }
            match byte {
                b'\n' => {
                    let line = input.get(self.line_start..at).unwrap_or_default();
                    let Some(line) = line.strip_suffix(b"\r") else {
                        return Err(Fault::Malformed("a line of the HTTP head does not end in CR LF"));
                    };
                    if line.is_empty() && self.lines > 0 {
                        return Ok(Some(at + 1));
                    }
                    if self.lines == 0 && !check(line) {
                        return Err(Fault::Malformed("the first line is not one of HTTP/1.1"));
                    }
                    self.lines += 1;
                    self.line_start = at + 1;
                    if self.lines > self.most_lines {
                        return Err(Fault::TooLarge("the HTTP head has more headers than Limits::header_count"));
                    }
                }
                b'\r' | b'\t' | b' '..=b'~' | 0x80.. => {}
                _ => return Err(Fault::Malformed("a control character in the HTTP head")),
            }
        }
        self.scanned = self.scanned.max(input.len());
        Ok(None)
    }
}

impl Fault {
    fn into_error(self) -> Error {
        match self {
            Self::Malformed(detail) => error(ErrorKind::Protocol, detail),
            Self::TooLarge(detail) => error(ErrorKind::LimitExceeded, detail),
        }
    }
}

/// The tokens of a header that is a comma-separated list and may be there more than once; `None` if it is no text.
fn tokens<'h>(headers: &'h HeaderMap, name: &str) -> Option<Vec<&'h str>> {
    let mut found = Vec::new();
    for value in headers.get_all(name) {
        found.extend(value.to_str().ok()?.split(',').map(str::trim).filter(|token| !token.is_empty()));
    }
    Some(found)
}

/// The value of a header that may be there once at most; `Err` if it is there more often, or is no text.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        _ => Err(()),
    }
}
