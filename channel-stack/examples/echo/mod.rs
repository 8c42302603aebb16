//! What the event-loop examples have in common: an echo server over wss that knows no event loop, and its clients.

pub(crate) mod clients;
pub(crate) mod connection;
pub(crate) mod deadlines;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use channel_stack::tls::Provider;
use channel_stack::tls::pki_types::PrivatePkcs8KeyDer;
use channel_stack::{
    ClientCredentials, ClientOptions, ClientStack, Limits, ServerCredentials, ServerOptions, ServerStack,
};

/// Why an example failed.
pub type Failure = Box<dyn Error + Send + Sync>;

/// How long the server waits for a peer to open: the silent ones among the clients find out.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// WebSocket over TLS for both ends, with a certificate made for this run and trusted by it alone.
pub(crate) fn stacks() -> Result<(ClientStack, ServerStack), Failure> {
    let made = rcgen::generate_simple_self_signed(["vm.example".to_owned()])?;
    let (certificate, key) = (made.cert.der().clone(), PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let trust = ClientCredentials::builder(Provider::AwsLcRs).roots([certificate.clone()]).build()?;
    let identity = ServerCredentials::builder(Provider::AwsLcRs).identity(vec![certificate], key.into()).build()?;
    let limits = Limits { handshake: HANDSHAKE, ..Limits::default() };
    let client = ClientStack::new().tls(&trust, "vm.example").websocket(ClientOptions::new("vm.example"));
    let server = ServerStack::new().tls(&identity).websocket(ServerOptions::default()).limits(limits);
    Ok((client, server))
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
        // A peer's bytes may come in as many pieces as it likes; those of these clients are of far more than 4 KiB.
        let most = 50 * (clients + clients::GREEDY + clients::SILENT) as u64 + self.bytes / 4096;
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
