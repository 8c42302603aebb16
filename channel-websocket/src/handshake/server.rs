//! The server's side of the upgrade.

use channel_core::engine::{Advance, Ending, Handshake};
use channel_core::{Buffer, Error, ErrorKind, Limits, Result};
use tungstenite::error::{Error as Cause, ProtocolError};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, Response, create_response, write_response};
use tungstenite::http::header::{self, HeaderValue};
use tungstenite::http::{HeaderMap, StatusCode};

use super::{Facts, FactsCell, Fault, Head, single, tokens};
use crate::engine::{self, Decoder, Encoder, Shared};
use crate::{Role, ServerOptions, error};

/// Judges the request and answers it.
#[derive(Debug)]
pub(crate) struct ServerHandshake {
    options: ServerOptions,
    head: Head,
    frame_bytes: u64,
    /// A response has been made: there is no second one.
    answered: bool,
    shared: Shared,
    facts: FactsCell,
}

/// Why a request is not served, and the status that says so.
struct Rejection {
    status: StatusCode,
    error: Error,
}

impl Rejection {
    fn new(status: StatusCode, kind: ErrorKind, detail: impl std::fmt::Display) -> Self {
        Self { status, error: error(kind, format!("{detail}; answered {}", status.as_u16())) }
    }

    fn bad_request(detail: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorKind::Protocol, detail)
    }
}

impl From<Fault> for Rejection {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Malformed(detail) => Self::bad_request(detail),
            Fault::TooLarge(detail) => {
                Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, ErrorKind::LimitExceeded, detail)
            }
        }
    }
}

impl From<Cause> for Rejection {
    fn from(cause: Cause) -> Self {
        let status = match &cause {
            Cause::Protocol(ProtocolError::WrongHttpMethod) => StatusCode::METHOD_NOT_ALLOWED,
            Cause::Protocol(
                ProtocolError::MissingSecWebSocketVersionHeader
                | ProtocolError::MissingUpgradeWebSocketHeader
                | ProtocolError::MissingConnectionUpgradeHeader,
            ) => StatusCode::UPGRADE_REQUIRED,
            _ => StatusCode::BAD_REQUEST,
        };
        let rejection = Self::new(status, ErrorKind::Protocol, "no WebSocket upgrade");
        Self { error: rejection.error.with_source(cause), ..rejection }
    }
}

impl ServerHandshake {
    pub(crate) fn new(options: ServerOptions, limits: &Limits, shared: Shared, facts: FactsCell) -> Result<Self> {
        options.check()?;
        let head = Head::new(limits);
        Ok(Self { options, head, frame_bytes: limits.frame_bytes, answered: false, shared, facts })
    }

    fn judge(&self, head: &[u8]) -> Result<(Response, Facts), Rejection> {
        let mut request = match Request::try_parse(head)? {
            Some((length, request)) if length == head.len() => request,
            _ => return Err(Rejection::bad_request("the request is no HTTP request")),
        };
        gather_tokens(request.headers_mut());
        let headers = request.headers();
        if headers.contains_key(header::TRANSFER_ENCODING)
            || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0")
        {
            return Err(Rejection::bad_request("a body in an upgrade request"));
        }
        let Ok(Some(host)) = single(headers, "host") else {
            return Err(Rejection::bad_request("RFC 6455 §4.2.1: not exactly one Host header"));
        };
        if headers.get_all("sec-websocket-key").iter().count() > 1 {
            return Err(Rejection::bad_request("RFC 6455 §11.3.1: more than one Sec-WebSocket-Key header"));
        }
        if headers.get_all("sec-websocket-version").iter().count() > 1 {
            return Err(Rejection::bad_request("RFC 6455 §11.3.5: more than one Sec-WebSocket-Version header"));
        }
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        if !path.starts_with('/') {
            return Err(Rejection::bad_request("RFC 6455 §4.2.1: the request names no path"));
        }
        // Method, Upgrade, Connection, key and version; makes the answer to the key.
        let mut response = create_response(&request)?;
        if self.options.path.as_deref().is_some_and(|served| served != request.uri().path()) {
            let detail = format!("the path `{}` is not served here", path.escape_debug());
            return Err(Rejection::new(StatusCode::NOT_FOUND, ErrorKind::Protocol, detail));
        }
        let origin = self.judge_origin(headers)?;
        let subprotocol = self.choose_subprotocol(headers)?;
        if let Some(name) = &subprotocol {
            let value = HeaderValue::from_str(name).map_err(|cause| Rejection::from(Cause::from(cause)))?;
            response.headers_mut().insert("sec-websocket-protocol", value);
        }
        Ok((response, Facts { subprotocol, path: path.to_owned(), origin, host: host.to_owned() }))
    }

    fn judge_origin(&self, headers: &HeaderMap) -> Result<Option<String>, Rejection> {
        let forbidden = |detail: String| Rejection::new(StatusCode::FORBIDDEN, ErrorKind::Authentication, detail);
        match single(headers, "origin") {
            // An empty value names no page either.
            Ok(None | Some("")) if self.options.require_origin => {
                Err(forbidden("a request without an Origin".to_owned()))
            }
            Ok(None) => Ok(None),
            Ok(Some(origin)) => match &self.options.origins {
                Some(allowed) if !allowed.iter().any(|name| name.eq_ignore_ascii_case(origin)) => {
                    Err(forbidden(format!("the origin `{}` is not on the list", origin.escape_debug())))
                }
                _ => Ok(Some(origin.to_owned())),
            },
            Err(()) => Err(Rejection::bad_request("more than one Origin, or one that is no text")),
        }
    }

    fn choose_subprotocol(&self, headers: &HeaderMap) -> Result<Option<String>, Rejection> {
        let Some(offered) = tokens(headers, "sec-websocket-protocol") else {
            return Err(Rejection::bad_request("a Sec-WebSocket-Protocol that is no text"));
        };
        let chosen = self.options.subprotocols.iter().find(|name| offered.contains(&name.as_str()));
        if chosen.is_none() && !offered.is_empty() {
            let ours = self.options.subprotocols.join(", ");
            return Err(Rejection::bad_request(format!(
                "the client offers no subprotocol that is served here ({ours})"
            )));
        }
        Ok(chosen.cloned())
    }

    /// One attempt at the request: `None` while it is incomplete, else its length and what was made of it.
    fn examine(&mut self, input: &[u8]) -> Result<Option<(usize, Response, Facts)>, Rejection> {
        let Some(length) = self.head.scan(input, |line| line.ends_with(b" HTTP/1.1"))? else {
            return Ok(None);
        };
        let (response, facts) = self.judge(&input[..length])?;
        Ok(Some((length, response, facts)))
    }

    fn answer(&mut self, response: &Response, out: &mut Buffer) -> Result<()> {
        self.answered = true;
        let mut bytes = Vec::new();
        write_response(&mut bytes, response)
            .map_err(|cause| error(ErrorKind::Internal, "no response can be written").with_source(cause))?;
        out.extend(&bytes);
        Ok(())
    }

    fn reject(&mut self, status: StatusCode, out: &mut Buffer) -> Result<()> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        match status {
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
            }
            StatusCode::UPGRADE_REQUIRED => {
                // RFC 9110 §7.8: who sends Upgrade names it in Connection.
                headers.insert(header::CONNECTION, HeaderValue::from_static("close, Upgrade"));
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            _ => {}
        }
        self.answer(&response, out)
    }
}

impl Handshake<Decoder, Encoder> for ServerHandshake {
    fn advance(&mut self, input: &mut [u8], ended: bool, out: &mut Buffer) -> Result<Advance<Decoder, Encoder>> {
        match self.examine(input) {
            Ok(Some((length, response, facts))) => {
                self.answer(&response, out)?;
                // The handshake completes once, so nothing is there yet.
                let _ = self.facts.set(facts);
                let (decoder, encoder) =
                    engine::open(Role::Server, self.options.half_close, self.frame_bytes, &self.shared);
                Ok(Advance::Open { consumed: length, decoder, encoder })
            }
            Ok(None) if ended => {
                Err(error(ErrorKind::UnexpectedEof, "the client closed before its request was complete"))
            }
            Ok(None) => Ok(Advance::NeedInput { consumed: 0 }),
            Err(rejection) => {
                self.reject(rejection.status, out)?;
                Err(rejection.error)
            }
        }
    }

    fn abort(&mut self, cause: &Error, out: &mut Buffer) {
        let status = match cause.kind() {
            _ if self.answered => return,
            ErrorKind::TimedOut => StatusCode::REQUEST_TIMEOUT,
            ErrorKind::LimitExceeded => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => return,
        };
        // It can only fail on a response that cannot be written, and this one can.
        let _ = self.reject(status, out);
    }

    fn ending(&self) -> Ending {
        engine::ending(Role::Server, self.options.half_close)
    }
}

/// Puts the word of the upgrade alone into `Upgrade` and `Connection` where the client sent it among others, or over several
/// lines: RFC 6455 §4.2.1 asks for lists that *contain* it, tungstenite for a single line, and for `websocket` as all of it.
fn gather_tokens(headers: &mut HeaderMap) {
    for (name, word) in [(header::UPGRADE, "websocket"), (header::CONNECTION, "upgrade")] {
        let found = tokens(headers, name.as_str());
        if found.is_some_and(|found| found.iter().any(|token| token.eq_ignore_ascii_case(word))) {
            headers.insert(name, HeaderValue::from_static(word));
        }
    }
}
