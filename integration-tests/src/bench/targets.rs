//! What is compared with what, and how fast we want to be.

use std::fmt;

use channel_stack::Stack;

use super::options::{Mode, Options, Peer, Sends};

/// One kind of run; both directions of it are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// Whose code.
    pub peer: Peer,
    /// Which layers.
    pub stack: Stack,
    /// Which messages.
    pub load: Load,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// 64 KiB a message, each sent at once.
    Bulk,
    /// 64 bytes a message, gathered as far as the peer can.
    SmallCorked,
}

impl Case {
    /// The run of this case in one direction; the rest is as the targets say: unix socket, AES-128-GCM, 64 KiB to read into.
    #[must_use]
    pub fn options(self, dir: Sends) -> Options {
        let (size, mode) = match self.load {
            Load::Bulk => (64 * 1024, Mode::Send),
            Load::SmallCorked => (64, Mode::Write),
        };
        Options { peer: self.peer, stack: self.stack, dir, size, mode, ..Options::default() }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.peer, self.stack) {
            (Peer::Project, Stack::Plain) => "socket",
            (Peer::Project, Stack::Tls) => "TLS",
            (Peer::Project, Stack::Ws) => "WebSocket",
            (Peer::Project, Stack::Wss) => "wss",
            (Peer::Raw, _) => "bare system calls",
            (Peer::Rustls, _) => "`StreamOwned`",
            (Peer::Tungstenite, Stack::Wss) => "tungstenite over `StreamOwned`",
            (Peer::Tungstenite, _) => "tungstenite",
        })?;
        match (self.load, self.peer) {
            (Load::Bulk, _) => Ok(()),
            (Load::SmallCorked, Peer::Tungstenite) => f.write_str(", `write` and one flush"),
            (Load::SmallCorked, _) => f.write_str(", 64 B messages, corked"),
        }
    }
}

/// A speed we want, relative to a yardstick of the same run.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Ours.
    pub ours: Case,
    /// What it is measured by.
    pub yardstick: Case,
    /// The yardstick's CPU time per KiB over ours must be at least this, each taken at its busiest side.
    pub at_least: f64,
}

const fn bulk(peer: Peer, stack: Stack) -> Case {
    Case { peer, stack, load: Load::Bulk }
}

const fn small(peer: Peer) -> Case {
    Case { peer, stack: Stack::Wss, load: Load::SmallCorked }
}

const RAW: Case = bulk(Peer::Raw, Stack::Plain);
const SOCKET: Case = bulk(Peer::Project, Stack::Plain);
const TLS: Case = bulk(Peer::Project, Stack::Tls);
const STREAM_OWNED: Case = bulk(Peer::Rustls, Stack::Tls);
const WS: Case = bulk(Peer::Project, Stack::Ws);
const TUNGSTENITE: Case = bulk(Peer::Tungstenite, Stack::Ws);
const WSS: Case = bulk(Peer::Project, Stack::Wss);
const TUNGSTENITE_TLS: Case = bulk(Peer::Tungstenite, Stack::Wss);

/// All that is run, in the order of a round: what is compared runs close together.
pub const CASES: [Case; 10] = [
    RAW,
    SOCKET,
    TLS,
    STREAM_OWNED,
    WS,
    TUNGSTENITE,
    WSS,
    TUNGSTENITE_TLS,
    small(Peer::Project),
    small(Peer::Tungstenite),
];

/// The targets.
pub const TARGETS: [Target; 8] = [
    Target { ours: SOCKET, yardstick: RAW, at_least: 0.97 },
    Target { ours: TLS, yardstick: RAW, at_least: 0.44 },
    Target { ours: TLS, yardstick: STREAM_OWNED, at_least: 1.7 },
    Target { ours: WS, yardstick: RAW, at_least: 0.85 },
    Target { ours: WS, yardstick: TUNGSTENITE, at_least: 1.25 },
    Target { ours: WSS, yardstick: RAW, at_least: 0.42 },
    Target { ours: WSS, yardstick: TUNGSTENITE_TLS, at_least: 2.0 },
    Target { ours: small(Peer::Project), yardstick: small(Peer::Tungstenite), at_least: 3.0 },
];

/// What a message may cost where all connections of a `wakeups` run are on one loop, relative to the busy ones alone.
pub const EVENT_AT_MOST: f64 = 1.2;

/// The bars of the chart, a group a stack: the yardsticks beside ours.
pub const CHART: [(&str, &[Case]); 4] = [
    ("socket", &[RAW, SOCKET]),
    ("TLS", &[STREAM_OWNED, TLS]),
    ("WebSocket", &[TUNGSTENITE, WS]),
    ("wss", &[TUNGSTENITE_TLS, WSS]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_compared_or_drawn_is_run() {
        for target in TARGETS {
            assert!(CASES.contains(&target.ours) && CASES.contains(&target.yardstick), "{target:?}");
        }
        assert!(CHART.iter().flat_map(|(_, cases)| *cases).all(|case| CASES.contains(case)));
    }
}
