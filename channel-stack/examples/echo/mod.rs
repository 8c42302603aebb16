//! What the event-loop examples have in common: an echo server over wss that knows no event loop, and its clients.
//!
//! * `connection`: the server's side of one connection; `deadlines`: for loops that have no timers.
//! * `clients`: some clients, good and bad, in threads of the server's process.
//! * `crowd`: as many as descriptors allow, in a process of their own, which `process` starts.
//! * `pattern`: what clients say.
#![allow(dead_code, unreachable_pub, reason = "each example uses its part of this")]

pub(crate) mod clients;
pub(crate) mod connection;
pub(crate) mod crowd;
pub(crate) mod deadlines;
pub(crate) mod pattern;
pub(crate) mod process;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use channel_stack::tls::Provider;
use channel_stack::tls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use channel_stack::{
    ClientCredentials, ClientOptions, ClientStack, Limits, ServerCredentials, ServerOptions, ServerStack,
};

/// Why an example failed.
pub type Failure = Box<dyn Error + Send + Sync>;

/// How long the server waits for a peer to open: the silent ones among the clients find out.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// Whom the certificate is for.
const NAME: &str = "vm.example";

/// WebSocket over TLS for both ends, with a certificate made for this run and trusted by it alone.
pub(crate) fn stacks() -> Result<(ClientStack, ServerStack), Failure> {
    let (certificate, server) = server_stack()?;
    let limits = Limits { handshake: HANDSHAKE, ..Limits::default() };
    Ok((client_stack(certificate)?, server.limits(limits)))
}

/// A server's end, and its certificate, made for this run.
pub(crate) fn server_stack() -> Result<(CertificateDer<'static>, ServerStack), Failure> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let (certificate, key) = (made.cert.der().clone(), PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let identity =
        ServerCredentials::builder(Provider::AwsLcRs).identity(vec![certificate.clone()], key.into()).build()?;
    Ok((certificate, ServerStack::new().tls(&identity).websocket(ServerOptions::default())))
}

/// The end of a client that trusts `certificate` alone.
pub(crate) fn client_stack(certificate: CertificateDer<'static>) -> Result<ClientStack, Failure> {
    let trust = ClientCredentials::builder(Provider::AwsLcRs).roots([certificate]).build()?;
    Ok(ClientStack::new().tls(&trust, NAME).websocket(ClientOptions::new(NAME)))
}

/// What a server did, and what its event loop had to do for that.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Connections that were echoed to their clean end.
    pub echoed: usize,
    /// Connections ended because the peer did not open them in time.
    pub timed_out: usize,
    /// Connections that failed otherwise.
    pub failed: usize,
    /// Bytes sent back.
    pub bytes: u64,
    /// Connections whose peer took too long to hang up after both had ended.
    pub late: usize,
    /// Connections whose handshake was completed and that are not closed yet.
    pub open: usize,
    /// The most that were open at once.
    pub most_open: usize,
    /// Connections whose peer let us wait for room to write.
    pub stuck: usize,
    /// Accepts that met a shortage of descriptors or memory.
    pub shortages: usize,
    /// Returns of the loop's system call.
    pub polls: u64,
    /// Descriptors it said something about.
    pub events: u64,
    /// Times a connection was given a turn.
    pub turns: u64,
    /// Turns in which a connection got nowhere.
    pub idle_turns: u64,
}

impl Summary {
    /// Whether everybody was served as they should, and the loop slept when there was nothing to do.
    pub(crate) fn judged(self, clients: usize) -> Result<Self, Failure> {
        let expected = (clients + clients::GREEDY, clients::SILENT, 0);
        if (self.echoed, self.timed_out, self.failed) != expected {
            return Err(format!("not everybody was served: {self:?}").into());
        }
        if self.stuck == 0 {
            return Err(format!("no peer let the server wait for room to write: {self:?}").into());
        }
        self.slept(clients + clients::GREEDY + clients::SILENT)
    }

    /// Whether the loop slept when there was nothing to do.
    pub(crate) fn slept(self, connections: usize) -> Result<Self, Failure> {
        // A peer's bytes may come in as many pieces as it likes; those of these clients are of far more than 4 KiB.
        let most = 50 * connections as u64 + self.bytes / 4096;
        if self.polls.max(self.idle_turns) > most {
            return Err(format!("the loop spins: more than {most} polls or idle turns: {self:?}").into());
        }
        Ok(self)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { echoed, timed_out, bytes, stuck, polls, events, turns, idle_turns, .. } = self;
        write!(
            f,
            "{echoed} clients got their {bytes} bytes back, {stuck} of them let us wait for room; {timed_out} were silent and timed \
             out; {polls} polls, {events} events, {turns} turns, {idle_turns} of them idle"
        )
    }
}
