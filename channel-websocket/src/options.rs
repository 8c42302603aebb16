//! What a user chooses for either side of the upgrade.

use channel_core::{ErrorKind, Result};
use tungstenite::http::header::{HeaderName, HeaderValue};
use tungstenite::http::uri::{Authority, PathAndQuery};

use crate::error;

/// What a client asks for.
///
/// ```
/// use channel_websocket::ClientOptions;
///
/// let options = ClientOptions::new("vm.example:8443")
///     .path("/console?vm=7")
///     .origin("https://vm.example")
///     .subprotocols(["binary"])
///     .header("Authorization", "Bearer 1234");
/// ```
#[derive(Clone)]
pub struct ClientOptions {
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) origin: Option<String>,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) half_close: bool,
}

impl ClientOptions {
    /// Asks `host`, as it stands in a URL: a name or an address, with `:port` unless it is the default one, an IPv6 address in
    /// brackets. It goes into the `Host` header; nothing is resolved or connected.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            path: "/".to_owned(),
            origin: None,
            subprotocols: Vec::new(),
            headers: Vec::new(),
            half_close: false,
        }
    }

    /// The path to ask for, with a query if there is one. Default: `/`.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// The `Origin` header, which browsers send and servers may check. Default: none.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// The subprotocols to offer, the preferred one first. Default: none; most servers of byte streams know `binary`.
    #[must_use]
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a header of your own, such as `Authorization` or `Cookie`. Those of the upgrade itself are not for choosing.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Whether an end of our stream leaves the other direction open for as long as the peer likes
    /// ([`Features::HALF_CLOSE`](channel_core::Features::HALF_CLOSE)), as TLS and TCP have it. Default: no.
    ///
    /// RFC 6455 knows no such thing: its Close frames ask for each other. It changes how this end behaves, and is not negotiated: choose it at
    /// the end that is first to [`close_write`](channel_core::Channel::close_write), where the other end goes on behind our Close, as
    /// channels of this kind do, and no proxy that reads WebSocket stands between: the end of TCP follows right behind our Close.
    #[must_use]
    pub fn half_close(mut self, half_close: bool) -> Self {
        self.half_close = half_close;
        self
    }

    /// Refuses what could not be sent, or would smuggle something into the request.
    pub(crate) fn check(&self) -> Result<()> {
        if self.host.contains('@') || self.host.parse::<Authority>().is_err() {
            return Err(invalid(format!(
                "`{}` is no host; give name:port, or [address]:port",
                self.host.escape_debug()
            )));
        }
        check_path(&self.path)?;
        check_subprotocols(&self.subprotocols)?;
        if let Some(origin) = &self.origin {
            check_value("Origin", origin)?;
        }
        for (name, value) in &self.headers {
            match HeaderName::from_bytes(name.as_bytes()) {
                Ok(known) if is_ours(known.as_str()) => {
                    return Err(invalid(format!("the header {known} is set by the upgrade itself")));
                }
                Ok(_) => check_value(name, value)?,
                Err(_) => return Err(invalid(format!("`{}` is no header name", name.escape_debug()))),
            }
        }
        Ok(())
    }
}

/// Extra headers may be credentials: their values are not shown.
impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("ClientOptions")
            .field("host", &self.host)
            .field("path", &self.path)
            .field("origin", &self.origin)
            .field("subprotocols", &self.subprotocols)
            .field("headers", &headers)
            .field("half_close", &self.half_close)
            .finish()
    }
}

/// What a server accepts.
///
/// ```
/// use channel_websocket::ServerOptions;
///
/// let options = ServerOptions::default().path("/console").origins(["https://vm.example"]);
/// ```
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub(crate) path: Option<String>,
    pub(crate) origins: Option<Vec<String>>,
    pub(crate) require_origin: bool,
    pub(crate) subprotocols: Vec<String>,
    pub(crate) half_close: bool,
}

impl Default for ServerOptions {
    /// Any path, any origin, subprotocol `binary` or none.
    fn default() -> Self {
        Self {
            path: None,
            origins: None,
            require_origin: false,
            subprotocols: vec!["binary".to_owned()],
            half_close: false,
        }
    }
}

impl ServerOptions {
    /// Serves this path alone, whatever the query; others are answered 404. Default: any.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Serves pages of these origins (`https://host[:port]`) alone; others are answered 403. Default: any.
    ///
    /// A browser names the page that connects, so that one site cannot use another's sessions (RFC 6455 §10.2). A request
    /// without an `Origin` does not come from a browser and is served, unless [`require_origin`](Self::require_origin).
    #[must_use]
    pub fn origins<S: Into<String>>(mut self, origins: impl IntoIterator<Item = S>) -> Self {
        self.origins = Some(origins.into_iter().map(Into::into).collect());
        self
    }

    /// Whether a request without an `Origin` is answered 403. Default: no.
    #[must_use]
    pub fn require_origin(mut self, require: bool) -> Self {
        self.require_origin = require;
        self
    }

    /// The subprotocols to serve, the preferred one first. Default: `binary`.
    ///
    /// The first that the client offers is answered; a client that offers only others is answered 400; one that offers none gets
    /// none.
    #[must_use]
    pub fn subprotocols<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.subprotocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Whether an end of our stream leaves the other direction open for as long as the peer likes
    /// ([`Features::HALF_CLOSE`](channel_core::Features::HALF_CLOSE)), as TLS and TCP have it. Default: no.
    ///
    /// RFC 6455 knows no such thing: its Close frames ask for each other. It changes how this end behaves, and is not negotiated: choose it at
    /// the end that is first to [`close_write`](channel_core::Channel::close_write), where the other end goes on behind our Close, as
    /// channels of this kind do, and no proxy that reads WebSocket stands between: the end of TCP follows right behind our Close.
    #[must_use]
    pub fn half_close(mut self, half_close: bool) -> Self {
        self.half_close = half_close;
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if let Some(path) = &self.path {
            check_path(path)?;
            if path.contains('?') {
                return Err(invalid(format!("`{path}` has a query; a server's path is matched without one")));
            }
        }
        check_subprotocols(&self.subprotocols)
    }
}

fn check_path(path: &str) -> Result<()> {
    let sound = path.starts_with('/') && path.is_ascii() && !path.contains('#') && path.parse::<PathAndQuery>().is_ok();
    if sound {
        return Ok(());
    }
    Err(invalid(format!("`{}` is no path; it starts with / and is percent-encoded", path.escape_debug())))
}

fn check_subprotocols(names: &[String]) -> Result<()> {
    for (at, name) in names.iter().enumerate() {
        if !is_token(name) || names[..at].contains(name) {
            let name = name.escape_debug();
            return Err(invalid(format!("subprotocol `{name}` is no token, or named twice (RFC 6455 §4.1)")));
        }
    }
    Ok(())
}

fn check_value(name: &str, value: &str) -> Result<()> {
    match HeaderValue::from_str(value) {
        Ok(_) => Ok(()),
        Err(_) => Err(invalid(format!("the value of the header {name} holds a control character"))),
    }
}

/// A token of HTTP (RFC 9110 §5.6.2).
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// `name` in lower case.
fn is_ours(name: &str) -> bool {
    const OURS: [&str; 6] = ["host", "connection", "upgrade", "origin", "content-length", "transfer-encoding"];
    OURS.contains(&name) || name.starts_with("sec-websocket-")
}

fn invalid(detail: String) -> channel_core::Error {
    error(ErrorKind::InvalidInput, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_be_smuggled_into_a_request() {
        let fine = || ClientOptions::new("vm.example:80");
        let bad = [
            ClientOptions::new(""),
            ClientOptions::new("vm.example\r\nX: y"),
            ClientOptions::new("vm.example/path"),
            ClientOptions::new("user:secret@vm.example"),
            ClientOptions::new("vm example"),
            fine().path(""),
            fine().path("console"),
            fine().path("/a b"),
            fine().path("/a\r\nX: y"),
            fine().path("/a HTTP/1.1\r\n\r\n"),
            fine().path("/a#b"),
            fine().path("/ä"),
            fine().origin("https://x\r\nX: y"),
            fine().subprotocols(["binary, other"]),
            fine().subprotocols([""]),
            fine().subprotocols(["binary", "binary"]),
            fine().subprotocols(["bin\r\nary"]),
            fine().header("X-A", "b\r\nX-C: d"),
            fine().header("X-A", "b\nc"),
            fine().header("X A", "b"),
            fine().header("X-A:", "b"),
            fine().header("", "b"),
            fine().header("Host", "other"),
            fine().header("SEC-WebSocket-Key", "x"),
            fine().header("Content-Length", "5"),
        ];
        for options in bad {
            let error = options.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{options:?}");
            assert!(!error.to_string().contains(['\r', '\n']), "{error:?}");
        }
        for host in ["vm.example", "vm.example:443", "127.0.0.1:80", "[::1]:80", "[fe80::1]"] {
            ClientOptions::new(host).path("/a/b?c=d%20e").header("Cookie", "k=v; ü").check().unwrap();
        }
    }

    #[test]
    fn a_server_names_paths_and_tokens() {
        for options in [
            ServerOptions::default().path("console"),
            ServerOptions::default().path("/console?vm=1"),
            ServerOptions::default().subprotocols(["a b"]),
        ] {
            assert_eq!(options.check().unwrap_err().kind(), ErrorKind::InvalidInput, "{options:?}");
        }
    }

    #[test]
    fn the_values_of_extra_headers_are_not_shown() {
        let options = ClientOptions::new("h").header("Authorization", "Bearer 1234");
        assert!(!format!("{options:?}").contains("1234"));
    }
}
