//! What our end is to do.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// What our end does once the connection is open.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Script {
    /// Who closes first
    #[arg(long, value_enum)]
    pub(super) turn: Turn,
    /// How our end closes
    #[arg(long, value_enum, default_value_t = Way::Half)]
    pub(super) way: Way,
    /// How our calls wait
    #[arg(long, value_enum, default_value_t = Mode::Blocking)]
    pub(super) mode: Mode,
    /// Bytes to send
    #[arg(long, default_value_t = 0)]
    pub(super) send: u64,
    /// Send back what comes, instead
    #[arg(long)]
    pub(super) echo: bool,
    /// Before all else, wait for the peer's first bytes
    #[arg(long)]
    pub(super) hear: bool,
    /// Send without end until this has happened, and only then the bytes of `--send`
    #[arg(long, value_enum)]
    pub(super) flood: Option<Flood>,
    /// How long `close` may take, in seconds; a handshake, too, if that is more than its own limit
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(super) linger: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Turn {
    /// We do, when all is sent
    First,
    /// The peer does; we when we have read its end
    Second,
    /// Neither waits for the other
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Way {
    /// `close_write`, reading to the end, then `close`
    Half,
    /// `close` right behind the last write
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Mode {
    /// Two threads, blocking calls
    Blocking,
    /// Two tasks on the event loop that ships
    Tasks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Flood {
    /// The peer's first bytes have come
    UntilHeard,
    /// The peer's end has come
    UntilEnd,
}

impl Script {
    /// Whether somebody reads while we write. Not so where `close` follows the last write and nothing need be heard.
    pub(super) fn reads(&self) -> bool {
        self.way == Way::Half || self.turn == Turn::Second || self.hear || self.flood.is_some()
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
