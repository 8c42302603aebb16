//! What silent connections keep: the memory of many that were used before and say nothing now, or that have yet to open.
//!
//! Both ends are in this process. What counts is what its heap has in use, that of C libraries and the allocator's own headers included;
//! what is resident is told beside it, which counts the holes that the allocator cannot give back, too. Memory of the kernel's is in
//! neither.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use channel_core::{AioChange, AioChannel, AioHandler, Channel, ChannelExt, EventLoop};
use channel_stack::{ClientStack, ServerStack, Stack};
use malloc_info::info::{SystemType, TotalType};
use malloc_info::malloc_info;
use serde_json::{Value, json};

use super::descriptors::raise_limit;
use super::options::{Cipher, Provider, key_and_value, number};
use super::peers::crypto;
use super::progress::Progress;
use crate::sockets::{Pairs, Socket, Transport};
use crate::words::{Refusal, words};
use crate::{Failure, content, stacks};

words! {
    /// How the connections were used, and how they wait.
    Idle {
        /// By calls that wait; nobody is in one now.
        Blocking = "blocking",
        /// With a read handler each, on one event loop.
        Handlers = "handlers",
        /// With a task each that waits in a read, on one event loop.
        Tasks = "tasks",
        /// Not at all: the handshake waits for the peer, which has sent one byte (servers) or nothing (clients).
        HalfOpen = "half-open",
    }
}

/// One run of `mem`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Over what.
    pub transport: Transport,
    /// Which layers.
    pub stack: Stack,
    /// How many connections, of two sides each.
    pub n: usize,
    /// How they were used.
    pub mode: Idle,
    /// Bytes that went each way.
    pub size: usize,
    /// How it is enciphered.
    pub cipher: Cipher,
    /// By what library.
    pub provider: Provider,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            transport: Transport::Unix,
            stack: Stack::Wss,
            n: 10_000,
            mode: Idle::Blocking,
            size: 16 * 1024,
            cipher: Cipher::Aes128,
            provider: Provider::Aws,
        }
    }
}

/// The keys of [`Options::parse`] and their values, for a usage line.
pub const KEYS: &str = "transport=unix|tcp stack=plain|tls|ws|wss n=CONNECTIONS mode=blocking|handlers|tasks|half-open \
                        size=BYTES cipher=aes128|aes256 provider=aws|ring";

impl Options {
    /// Reads `key=value` words over the defaults.
    ///
    /// # Errors
    /// An unknown key, a value out of range, or half-open connections without a handshake.
    pub fn parse(words: &[String]) -> Result<Self, Refusal> {
        let mut options = Self::default();
        for word in words {
            let (key, value) = key_and_value(word, KEYS)?;
            match key {
                "transport" => options.transport = Transport::parse(key, value)?,
                "stack" => options.stack = value.parse()?,
                "n" => options.n = number(key, value, 1, 1_000_000)?,
                "mode" => options.mode = Idle::parse(key, value)?,
                "size" => options.size = number(key, value, 1, 64 * 1024)?,
                "cipher" => options.cipher = Cipher::parse(key, value)?,
                "provider" => options.provider = Provider::parse(key, value)?,
                _ => return Err(Refusal(format!("mem has no key `{key}`; the keys are: {KEYS}"))),
            }
        }
        if options.mode == Idle::HalfOpen && options.stack == Stack::Plain {
            return Err(Refusal("mode=half-open: stack=plain has no handshake; choose tls, ws or wss".to_owned()));
        }
        Ok(options)
    }
}

/// What one run found.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// Connections that were measured.
    pub n: usize,
    /// Bytes of the heap in use for each side of each.
    pub a_side: f64,
    /// Bytes resident for each side of each.
    pub resident_a_side: f64,
}

impl Measurement {
    /// The line that `stackbench` prints.
    #[must_use]
    pub fn to_json(&self, options: &Options) -> Value {
        json!({
            "test": "mem",
            "peer": "project",
            "transport": options.transport.to_string(),
            "stack": options.stack.to_string(),
            "mode": options.mode.to_string(),
            "cipher": options.cipher.to_string(),
            "provider": options.provider.to_string(),
            "size": options.size,
            "n": self.n,
            "bytes_a_side": self.a_side.round(),
            "resident_a_side": self.resident_a_side.round(),
        })
    }
}

/// Opened before anything counts, so that what all share exists: pools, configurations, the buffers of session caches.
const WARM_UP: usize = 300;
/// Descriptors that are not connections.
const OTHER_DESCRIPTORS: usize = 64;

/// Opens the connections, has a message go each way, and measures what stays. Raises the soft limit on descriptors.
///
/// # Errors
/// If connections cannot be had, a call fails, or wrong bytes arrive.
pub fn run(options: &Options) -> Result<Measurement, Failure> {
    let needed = 2 * (options.n + WARM_UP) + OTHER_DESCRIPTORS;
    let limit = raise_limit()?;
    if limit < needed {
        return Err(format!("n={} needs {needed} descriptors, and the limit is {limit} (ulimit -Hn)", options.n).into());
    }
    let provider = crypto(options.provider, options.cipher);
    let ends = Ends {
        client: stacks::client(options.stack, provider.clone())?,
        server: stacks::server(options.stack, provider)?,
        // The first of a ClientHello, or of `GET`.
        first: if options.stack.has_tls() { 0x16 } else { b'G' },
        pairs: Pairs::new(options.transport)?,
        message: content::at(0, options.size),
    };
    match options.mode {
        Idle::HalfOpen => measure(options.n, || ends.half_open()),
        Idle::Blocking => thread::scope(|scope| {
            let (to_server, accepted) = mpsc::channel();
            let (served, from_server) = mpsc::channel();
            scope.spawn(|| ends.serve(accepted, served));
            measure(options.n, || ends.blocking(&to_server, &from_server)).inspect(|_| drop(to_server))
        }),
        Idle::Handlers | Idle::Tasks => {
            let event_loop = EventLoop::new()?;
            measure(options.n, || ends.on_a_loop(&event_loop, options.mode))
        }
    }
}

fn measure<T>(n: usize, mut open: impl FnMut() -> Result<T, Failure>) -> Result<Measurement, Failure> {
    let warm = (0..WARM_UP.min(n)).map(|_| open()).collect::<Result<Vec<T>, Failure>>()?;
    let mut open_now = Vec::with_capacity(n);
    let mut progress = Progress::new(n);
    let before = (in_use()?, resident()?);
    for done in 1..=n {
        open_now.push(open()?);
        progress.set(done);
    }
    let after = (in_use()?, resident()?);
    drop((warm, open_now));
    let a_side = |before: u64, after: u64| after.saturating_sub(before) as f64 / (2 * n) as f64;
    Ok(Measurement { n, a_side: a_side(before.0, after.0), resident_a_side: a_side(before.1, after.1) })
}

/// What the heap of this process has in use, in bytes: what it has of the system less what is free (malloc_info(3), which only glibc has).
fn in_use() -> Result<u64, Failure> {
    let info = malloc_info()?;
    let total = |kind| info.total.iter().filter(|total| total.r#type == kind).map(|total| total.size).sum::<usize>();
    let of_the_system: usize =
        info.system.iter().filter(|system| system.r#type == SystemType::Current).map(|system| system.size).sum();
    let free = total(TotalType::Fast) + total(TotalType::Rest);
    Ok((of_the_system + total(TotalType::Mmap)).saturating_sub(free) as u64)
}

/// What this process has resident, in bytes (`VmRSS`, proc_pid_status(5)).
fn resident() -> Result<u64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(1024 * line.trim().trim_end_matches(" kB").parse::<u64>()?)
}

/// What connections are made of.
struct Ends {
    client: ClientStack,
    server: ServerStack,
    /// What a client says first.
    first: u8,
    pairs: Pairs,
    message: &'static [u8],
}

type End = Box<dyn Channel>;

impl Ends {
    fn client(&self, socket: Socket) -> Result<End, Failure> {
        Ok(self.client.over(stacks::leaf(socket)?)?)
    }

    fn server(&self, socket: Socket) -> Result<End, Failure> {
        Ok(self.server.over(stacks::leaf(socket)?)?)
    }

    /// A server and a client that wait for their peers.
    fn half_open(&self) -> Result<[(End, Socket); 2], Failure> {
        let (near, mut far) = self.pairs.connect()?;
        far.write_all(&[self.first])?;
        let server = (self.server(near)?, far);
        let (near, far) = self.pairs.connect()?;
        let client = (self.client(near)?, far);
        for (end, _) in [&server, &client] {
            end.set_blocking(false);
            match end.handshake() {
                Err(error) if error.is_would_block() => {}
                done => return Err(format!("a handshake without a peer gave {done:?}").into()),
            }
        }
        Ok([server, client])
    }

    /// A connection that was used by calls that wait, the server's on a thread of its own.
    fn blocking(
        &self,
        to_server: &Sender<End>,
        served: &Receiver<Result<End, Failure>>,
    ) -> Result<(End, End), Failure> {
        let (near, far) = self.pairs.connect()?;
        let client = self.client(near)?;
        to_server.send(self.server(far)?)?;
        client.handshake()?;
        client.write_all(self.message)?;
        let mut answer = vec![0; self.message.len()];
        client.read_all(&mut answer)?;
        check(&answer, self.message)?;
        Ok((client, served.recv()??))
    }

    fn serve(&self, accepted: Receiver<End>, served: Sender<Result<End, Failure>>) {
        let mut message = vec![0; self.message.len()];
        for server in accepted {
            let answered = server
                .handshake()
                .and_then(|()| server.read_all(&mut message))
                .and_then(|()| server.write_all(&message))
                .map_or_else(|error| Err(error.into()), |()| Ok(server));
            if served.send(answered).is_err() {
                return;
            }
        }
    }

    /// A connection both ends of which wait on `event_loop`.
    fn on_a_loop(&self, event_loop: &EventLoop, mode: Idle) -> Result<[Arc<dyn Channel>; 2], Failure> {
        let (near, far) = self.pairs.connect()?;
        let ends: [Arc<dyn Channel>; 2] = [self.client(near)?.into(), self.server(far)?.into()];
        let [client, server] = ends.each_ref().map(|end| AioChannel::from_arc(Arc::clone(end)));
        let expected = self.message;
        let serving = event_loop.spawn(async move {
            server.handshake().await?;
            let mut message = vec![0; expected.len()];
            server.read_all(&mut message).await?;
            server.write_all(&message).await?;
            server.flush().await.map(|()| server)
        });
        let (client, server, answer) = event_loop.block_on(async {
            client.handshake().await?;
            client.write_all(expected).await?;
            client.flush().await?;
            let mut answer = vec![0; expected.len()];
            client.read_all(&mut answer).await?;
            Ok::<_, Failure>((client, serving.await??, answer))
        })??;
        check(&answer, expected)?;
        for (end, waiting) in ends.iter().zip([client, server]) {
            if mode == Idle::Tasks {
                event_loop.spawn(async move { waiting.read(&mut [0]).await }).detach();
                continue;
            }
            drop(waiting);
            let reader = Arc::downgrade(end);
            let handler = AioHandler::new(event_loop.handle(), move || {
                if let Some(end) = reader.upgrade() {
                    let _ = end.read(&mut [0; 64]); // the end, in the end
                }
            });
            drop(end.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep)?);
        }
        while event_loop.run_once(Some(Duration::ZERO))? > 0 {}
        Ok(ends)
    }
}

fn check(answer: &[u8], expected: &[u8]) -> Result<(), Failure> {
    if answer == expected { Ok(()) } else { Err("other bytes came back than were sent".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_in_one_line_that_helps() {
        let refusal = |words: &str| {
            let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
            Options::parse(&words).unwrap_err().to_string()
        };
        assert_eq!(refusal("mode=open"), "mode=open: choose one of blocking, handlers, tasks, half-open");
        assert!(refusal("mode=half-open stack=plain").contains("no handshake"));
        assert!(refusal("secs=1").starts_with("mem has no key `secs`"));
    }
}
