//! `relay demo`: real data through a whole stack, both directions at once, and proof that it arrived.

use std::error::Error;
use std::fmt;
use std::io::Write;

use channel_stack::{Channel, ClientOptions, Limits, ServerOptions, SocketChannel, Stack, describe, layers};

use crate::certificate;
use crate::damage::{self, Flip};
use crate::exchange::{self, End, Flow};
use crate::verdict::{Corruption, Failures, Side};

pub use crate::input::Input;
pub use crate::progress::Progress;
pub use crate::transport::Transport;
pub use crate::verdict::Verdict;

/// One run: what goes through which stack, and what is done to it.
#[derive(Debug)]
pub struct Demo {
    /// The layers.
    pub stack: Stack,
    /// What they stand on.
    pub transport: Transport,
    /// What is sent.
    pub input: Input,
    /// How many bytes of it go each way.
    pub bytes: u64,
    /// Flips one bit of this byte, counted from 0, of what goes over the wire from client to server.
    pub corrupt_at: Option<u64>,
    /// What either side may make the other spend. The client has half the time for its handshake: where both wait for what a
    /// damaged length swallowed it gives up first, and the server, whose input it is, can say in which layer that broke off.
    pub limits: Limits,
    /// Whether to show a progress bar where stderr is a terminal.
    pub progress: bool,
}

/// Why a run could not even begin, or its results not be told.
pub type SetUpError = Box<dyn Error + Send + Sync>;

impl Demo {
    /// Makes a certificate, connects within this machine, opens both sides, streams both ways at once and closes, telling `out`
    /// the facts on the way.
    ///
    /// # Errors
    /// Only what keeps it from beginning, and what writing to `out` fails with. All that goes wrong with the connection is in the
    /// [`Verdict`].
    ///
    /// # Blocking
    /// Until all is done. Whatever byte is corrupted, both sides come to an end: a handshake by
    /// [`Limits::handshake`], a stream when the sender has ended it.
    pub fn run(&self, out: &mut dyn Write) -> Result<Verdict, SetUpError> {
        let wire = self.connect()?;
        let failures = Failures::default();
        let client = End { side: Side::Client, channel: &*wire.client, failures: &failures };
        let server = End { side: Side::Server, channel: &*wire.server, failures: &failures };

        exchange::open(client, server);
        for end in [client, server] {
            say(out, format_args!("{:18} {}", end.side.to_string(), describe(end.channel)))?;
        }

        let mut flows = Vec::new();
        if failures.is_empty() {
            let progress =
                if self.progress { Progress::on_terminal(self.bytes.saturating_mul(2)) } else { Progress::hidden() };
            flows.extend(exchange::stream(client, server, &self.input, self.bytes, &progress));
        }
        if failures.is_empty() {
            exchange::close(client, server);
        }
        for flow in &flows {
            tell(flow, out)?;
        }
        let corruption = wire.flip.zip(self.corrupt_at).map(|(flip, at)| Corruption {
            at,
            happened: flip.happened(),
            wire_bytes: flip.gone(),
        });
        Ok(Verdict::of(failures, &flows, corruption))
    }

    fn connect(&self) -> Result<Wire, SetUpError> {
        let (trust, identity) = certificate::throw_away()?;
        let (near, far) = self.transport.connect()?;
        let (near, flip) = self.below_client(near)?;

        let name = certificate::SERVER_NAME;
        let options = ClientOptions::new(name).subprotocols(["binary"]);
        let hasty = Limits { handshake: self.limits.handshake / 2, ..self.limits.clone() };
        let client = self.stack.client(&trust, name, options).limits(hasty).over(near)?;
        let server = self.stack.server(&identity, ServerOptions::default());
        let server = server.limits(self.limits.clone()).over(Box::new(far))?;
        for (name, top) in [("client", &client), ("server", &server)] {
            layers(top).for_each(|layer| layer.set_name(name));
        }
        Ok(Wire { client, server, flip })
    }

    /// What the client's stack stands on: the socket, or what damages its output.
    fn below_client(&self, socket: SocketChannel) -> Result<(Box<dyn Channel>, Option<Flip>), SetUpError> {
        let socket = Box::new(socket);
        let Some(at) = self.corrupt_at else {
            return Ok((socket, None));
        };
        let (damaging, flip) = damage::flip_bit_at(socket, at, self.limits.clone())?;
        Ok((damaging, Some(flip)))
    }
}

/// Both ends of a connection, and what became of the bit that was to be flipped between them.
struct Wire {
    client: Box<dyn Channel>,
    server: Box<dyn Channel>,
    flip: Option<Flip>,
}

fn tell(flow: &Flow, out: &mut dyn Write) -> Result<(), SetUpError> {
    let speed = if flow.received.bytes < flow.sent.bytes {
        "broken off".to_owned()
    } else {
        format!("{:.1} MB/s, {:.2} s", flow.megabytes_per_second(), flow.elapsed.as_secs_f64())
    };
    say(out, format_args!("{:18} {speed}", flow.label))?;
    for (what, digest) in [("sent", &flow.sent), ("received", &flow.received)] {
        say(out, format_args!("  {what:16} {} bytes, SHA-256 {digest}", digest.bytes))?;
    }
    Ok(())
}

/// One line of the results, at once.
fn say(out: &mut dyn Write, line: fmt::Arguments<'_>) -> Result<(), SetUpError> {
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.map_err(|error| format!("the results cannot be written: {error}").into())
}
