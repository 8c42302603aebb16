//! Many clients at once: tasks on one thread of a process of their own.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::process;
use std::sync::Arc;
use std::time::{Duration, Instant};

use channel_stack::{AioChannel, AioContext, ClientStack, EventLoop, PipeChannel, SocketAddress, SocketChannel, Timer};
use rustix::process::getppid;

use super::Failure;
use super::pattern::{PIECES, Pattern};
use super::process::{Options, Order};

/// How long the clients may take, beside the time they say nothing.
const LIMIT: Duration = Duration::from_secs(45);

/// What one of them says before anybody hears what comes back: more than all the buffers on the way and back hold.
const MUCH: [usize; 256] = [64 * 1024; 256];

/// What a process of clients runs: connects them all, has them converse when all of them are open, and ends them when all have
/// conversed, so that all are open at the same time. One does not read until the others are done, who must not notice.
///
/// # Errors
/// What the first of them met. Where the server goes away, or takes too long, the process exits with status 1.
pub fn run() -> Result<(), Failure> {
    let Order { address, certificate, options } = Order::receive()?;
    options.allow_descriptors()?;
    let event_loop = EventLoop::new()?;
    let context: Arc<dyn AioContext> = event_loop.handle();
    event_loop.spawn(leave_with_the_server()?).detach();
    let _limit = Timer::set(&context, Instant::now() + LIMIT + options.hold, || give_up("the server takes too long"));

    let stack = Arc::new(super::client_stack(certificate)?);
    let connecting = (0..options.clients).map(|_| open(Arc::clone(&stack), address.clone()));
    let mut channels = together(&event_loop, connecting)?;
    let greedy = channels.pop();
    let speaking = greedy.as_ref().map(|greedy| event_loop.spawn(say(Arc::clone(greedy), u64::MAX, &MUCH)));
    let conversing = (0..).zip(&channels).map(|(number, channel)| converse(&event_loop, channel, number));
    together(&event_loop, conversing)?;
    together(&event_loop, greedy.iter().map(|greedy| hear(Arc::clone(greedy), u64::MAX, &MUCH)))?;
    together(&event_loop, speaking.into_iter().map(|speaking| async { speaking.await? }))?;
    hold(&event_loop, options)?;
    together(&event_loop, channels.into_iter().chain(greedy).map(end))?;
    Ok(())
}

/// Runs a task for each of `futures`, all at once, up to the end of the last one.
fn together<F, T>(event_loop: &EventLoop, futures: impl Iterator<Item = F>) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<T, Failure>> + Send + 'static,
    T: Send + 'static,
{
    let tasks: Vec<_> = futures.map(|future| event_loop.spawn(future)).collect();
    event_loop.block_on(async {
        let mut done = Vec::with_capacity(tasks.len());
        for task in tasks {
            done.push(task.await??);
        }
        Ok(done)
    })?
}

async fn open(stack: Arc<ClientStack>, address: SocketAddress) -> Result<Arc<AioChannel>, Failure> {
    let socket = SocketChannel::connect(&address)?; // blocks, which on one machine takes no time
    let channel = AioChannel::new(stack.over(Box::new(socket))?);
    channel.handshake().await?;
    Ok(Arc::new(channel))
}

/// Says something, and hears it come back, at the same time.
fn converse(
    event_loop: &EventLoop,
    channel: &Arc<AioChannel>,
    number: u64,
) -> impl Future<Output = Result<(), Failure>> + use<> {
    let speaking = event_loop.spawn(say(Arc::clone(channel), number, &PIECES));
    let hearing = hear(Arc::clone(channel), number, &PIECES);
    async {
        hearing.await?;
        speaking.await?
    }
}

async fn say(channel: Arc<AioChannel>, number: u64, pieces: &[usize]) -> Result<(), Failure> {
    let mut said = Pattern::new(number);
    for length in pieces {
        let mut bytes = vec![0; *length];
        said.fill(&mut bytes);
        channel.write_all(&bytes).await?;
    }
    Ok(channel.flush().await?)
}

async fn hear(channel: Arc<AioChannel>, number: u64, pieces: &[usize]) -> Result<(), Failure> {
    let mut heard = Pattern::new(number);
    for length in pieces {
        let mut bytes = vec![0; *length];
        channel.read_all(&mut bytes).await?;
        heard.check(&bytes)?;
    }
    Ok(())
}

/// All are open, and nothing happens.
fn hold(event_loop: &EventLoop, Options { clients, hold }: Options) -> Result<(), Failure> {
    if hold.is_zero() {
        return Ok(());
    }
    let server = getppid().map_or(0, |server| server.as_raw_nonzero().get());
    eprintln!("{clients} clients are open, and say nothing for {hold:?}; see the server sleep: strace -f -p {server}");
    let (context, stop): (Arc<dyn AioContext>, _) = (event_loop.handle(), event_loop.handle());
    let _over = Timer::set(&context, Instant::now() + hold, move || stop.stop());
    Ok(event_loop.run()?)
}

/// Ends our output, and hears nothing but the end of theirs.
async fn end(channel: Arc<AioChannel>) -> Result<(), Failure> {
    channel.close_write().await?;
    match channel.read(&mut [0]).await? {
        0 => Ok(channel.close().await?),
        _ => Err("more came back than was said".into()),
    }
}

/// The server says nothing more at our standard input, and holds the other end: it ends with the server, whatever ended that.
fn leave_with_the_server() -> Result<impl Future<Output = ()>, Failure> {
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let stdin = AioChannel::new(PipeChannel::from_fds(Some(stdin), None)?);
    Ok(async move {
        let _ = stdin.read(&mut [0]).await;
        give_up("the server has gone");
    })
}

fn give_up(why: &str) -> ! {
    eprintln!("{why}");
    process::exit(1)
}

/// What a server did for a crowd.
#[derive(Clone, Debug)]
pub struct Served {
    /// Connections that were echoed to their clean end.
    pub echoed: usize,
    /// The most that were open at once.
    pub most_open: usize,
    /// Bytes sent back.
    pub bytes: u64,
    /// Connections whose peer took too long to hang up after both had ended: or nobody told the server.
    pub late: usize,
    /// From the first start of a client to the last end.
    pub took: Duration,
}

impl Served {
    /// Whether all clients were there at once, and got back what they had said.
    pub(crate) fn judged(self, clients: usize) -> Result<Self, Failure> {
        let greedy = clients.min(1);
        let bytes = ((clients - greedy) * PIECES.iter().sum::<usize>() + greedy * MUCH.iter().sum::<usize>()) as u64;
        if (self.echoed, self.most_open, self.bytes, self.late) == (clients, clients, bytes, 0) {
            Ok(self)
        } else {
            Err(format!("not {clients} clients with {bytes} bytes, all at once: {self:?}").into())
        }
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { echoed, most_open, bytes, took, .. } = self;
        write!(f, "{echoed} clients, {most_open} of them open at once, got their {bytes} bytes back in {took:.2?}")
    }
}
