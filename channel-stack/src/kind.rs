//! The usual stacks, by name.

use std::fmt;
use std::str::FromStr;

use channel_tls::{ClientCredentials, ServerCredentials};
use channel_websocket::{ClientOptions, ServerOptions};

use crate::{ClientStack, ServerStack};

/// One of the four usual stacks over a connection; parses from and prints as `plain`, `tls`, `ws`, `wss`.
///
/// ```
/// use channel_stack::Stack;
///
/// assert_eq!("wss".parse(), Ok(Stack::Wss));
/// assert_eq!(
///     "ssl".parse::<Stack>().unwrap_err().to_string(),
///     "unknown stack `ssl`; choose one of plain, tls, ws, wss"
/// );
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stack {
    /// The connection as it is.
    Plain,
    /// TLS.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Stack {
    /// All of them, from the simplest to the tallest.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Tls, Self::Ws, Self::Wss];

    /// The client's side of this stack. What it has no use for is left aside: `server_name` and `credentials` without TLS,
    /// `options` without WebSocket.
    #[must_use]
    pub fn client(self, credentials: &ClientCredentials, server_name: &str, options: ClientOptions) -> ClientStack {
        let mut stack = ClientStack::new();
        if self.has_tls() {
            stack = stack.tls(credentials, server_name);
        }
        if self.has_websocket() {
            stack = stack.websocket(options);
        }
        stack
    }

    /// The server's side of this stack. What it has no use for is left aside.
    #[must_use]
    pub fn server(self, credentials: &ServerCredentials, options: ServerOptions) -> ServerStack {
        let mut stack = ServerStack::new();
        if self.has_tls() {
            stack = stack.tls(credentials);
        }
        if self.has_websocket() {
            stack = stack.websocket(options);
        }
        stack
    }

    /// Whether TLS is in it.
    #[must_use]
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    /// Whether WebSocket is in it.
    #[must_use]
    pub fn has_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Stack {
    type Err = UnknownStack;

    fn from_str(name: &str) -> Result<Self, UnknownStack> {
        let known = Self::ALL.into_iter().find(|stack| stack.as_str() == name);
        known.ok_or_else(|| UnknownStack { name: name.to_owned() })
    }
}

/// No stack has this name; the message lists those there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownStack {
    name: String,
}

impl fmt::Display for UnknownStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let choices = Stack::ALL.map(Stack::as_str).join(", ");
        write!(f, "unknown stack `{}`; choose one of {choices}", self.name.escape_debug())
    }
}

impl std::error::Error for UnknownStack {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stack_parses_from_what_it_prints() {
        for stack in Stack::ALL {
            assert_eq!(stack.to_string().parse(), Ok(stack));
        }
    }

    #[test]
    fn an_unknown_stack_is_told_the_choices() {
        for name in ["", "WSS", "tls ", "wss\n"] {
            let message = name.parse::<Stack>().unwrap_err().to_string();
            assert!(message.ends_with("; choose one of plain, tls, ws, wss"), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}
