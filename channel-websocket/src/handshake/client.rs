//! The client's side of the upgrade.

use channel_core::engine::{Advance, Ending, Handshake};
use channel_core::{Buffer, Error, ErrorKind, Limits, Result};
use tungstenite::handshake::client::{Request, Response, generate_key, generate_request};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;
use tungstenite::http::StatusCode;
use tungstenite::http::header::{HeaderName, HeaderValue};

use super::{Facts, FactsCell, Head, single, tokens};
use crate::engine::{self, Decoder, Encoder, Shared};
use crate::{ClientOptions, Role, error};

/// Sends the request and judges the response.
pub(crate) struct ClientHandshake {
    options: ClientOptions,
    /// The request, until it is sent.
    request: Option<Vec<u8>>,
    /// What `Sec-WebSocket-Accept` must be.
    accept: String,
    head: Head,
    frame_bytes: u64,
    shared: Shared,
    facts: FactsCell,
}

const START: &[u8] = b"HTTP/1.1 ";

impl ClientHandshake {
    pub(crate) fn new(options: ClientOptions, limits: &Limits, shared: Shared, facts: FactsCell) -> Result<Self> {
        options.check()?;
        let (request, key) = request(&options)?;
        Ok(Self {
            options,
            request: Some(request),
            accept: derive_accept_key(key.as_bytes()),
            head: Head::new(limits),
            frame_bytes: limits.frame_bytes,
            shared,
            facts,
        })
    }

    /// Checks a response by RFC 6455 §4.1 and gives the subprotocol that was chosen.
    fn judge(&self, head: &[u8]) -> Result<Option<String>> {
        let broken = |detail: &'static str| Err(error(ErrorKind::Protocol, detail));
        let response = match Response::try_parse(head) {
            Ok(Some((length, response))) if length == head.len() => response,
            Ok(_) => return broken("the server's response is no HTTP response"),
            Err(cause) => {
                return Err(error(ErrorKind::Protocol, "the server's response is no HTTP response").with_source(cause));
            }
        };
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let detail = format!("the server answered {} instead of 101 to the upgrade", response.status());
            return Err(error(ErrorKind::Refused, detail));
        }
        let headers = response.headers();
        let names = |header, token| {
            tokens(headers, header).is_some_and(|found| found.iter().any(|name| name.eq_ignore_ascii_case(token)))
        };
        if !names("upgrade", "websocket") {
            return broken("RFC 6455 §4.1: the response does not say `Upgrade: websocket`");
        }
        if !names("connection", "upgrade") {
            return broken("RFC 6455 §4.1: the response does not say `Connection: Upgrade`");
        }
        if single(headers, "sec-websocket-accept") != Ok(Some(&self.accept)) {
            return broken("RFC 6455 §4.1: Sec-WebSocket-Accept does not answer our key; is this a cached response?");
        }
        if headers.contains_key("sec-websocket-extensions") {
            return broken("RFC 6455 §4.1: the server chose an extension, and none was offered");
        }
        match single(headers, "sec-websocket-protocol") {
            Ok(None) => Ok(None),
            Ok(Some(name)) if self.options.subprotocols.iter().any(|offered| offered == name) => {
                Ok(Some(name.to_owned()))
            }
            _ => broken("RFC 6455 §4.1: the server chose a subprotocol that was not offered"),
        }
    }
}

impl Handshake<Decoder, Encoder> for ClientHandshake {
    fn advance(&mut self, input: &mut [u8], ended: bool, out: &mut Buffer) -> Result<Advance<Decoder, Encoder>> {
        if let Some(request) = self.request.take() {
            out.extend(&request);
        }
        let compared = input.len().min(START.len());
        if input[..compared] != START[..compared] {
            return Err(error(ErrorKind::Protocol, "the server does not speak HTTP/1.1"));
        }
        let Some(length) = self.head.scan(input, |_| true).map_err(super::Fault::into_error)? else {
            if ended {
                return Err(error(ErrorKind::UnexpectedEof, "the server closed before its response was complete"));
            }
            return Ok(Advance::NeedInput { consumed: 0 });
        };
        let subprotocol = self.judge(&input[..length])?;
        // The handshake completes once, so nothing is there yet.
        let _ = self.facts.set(Facts {
            subprotocol,
            path: self.options.path.clone(),
            origin: self.options.origin.clone(),
            host: self.options.host.clone(),
        });
        let (decoder, encoder) = engine::open(Role::Client, self.options.half_close, self.frame_bytes, &self.shared);
        Ok(Advance::Open { consumed: length, decoder, encoder })
    }

    /// HTTP has no word for it.
    fn abort(&mut self, _: &Error, _: &mut Buffer) {}

    fn ending(&self) -> Ending {
        engine::ending(Role::Client, self.options.half_close)
    }
}

/// The request may hold credentials: it is not shown.
impl std::fmt::Debug for ClientHandshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientHandshake")
            .field("options", &self.options)
            .field("sent", &self.request.is_none())
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// The request and its key. The options have been checked, so that nothing here fails on them.
fn request(options: &ClientOptions) -> Result<(Vec<u8>, String)> {
    let invalid =
        |cause: tungstenite::Error| error(ErrorKind::InvalidInput, "no request can be made").with_source(cause);
    let mut request = Request::builder()
        .uri(&options.path)
        .header("Host", &options.host)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key());
    if !options.subprotocols.is_empty() {
        request = request.header("Sec-WebSocket-Protocol", options.subprotocols.join(", "));
    }
    if let Some(origin) = &options.origin {
        request = request.header("Origin", origin);
    }
    for (name, value) in &options.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|cause| invalid(cause.into()))?;
        request = request.header(name, HeaderValue::from_str(value).map_err(|cause| invalid(cause.into()))?);
    }
    generate_request(request.body(()).map_err(|cause| invalid(cause.into()))?).map_err(invalid)
}
