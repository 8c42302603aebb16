//! A tokio runtime serves a thousand clients: an echo server over WebSocket, TLS and TCP, a task for each connection.
//!
//! ```sh
//! cargo run --release -p channel-stack --example tokio_echo
//! ```
//!
//! The clients, all open at the same time, are in a process of their own (`echo/crowd.rs`). An argument says how many; and as in
//! `event_loop_echo`, `--hold 60` has them stay for a minute.
//!
//! * `converse` is what to read: an [`AioChannel`] is tokio's `AsyncRead` and `AsyncWrite`, whatever its layers.
//! * Nothing names the runtime as the event loop of the channels: a task that waits finds it.
mod echo;

use std::io;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use channel_stack::{AioChannel, AioListener, Limits, ServerStack, SocketAddress, SocketListener};
use tokio::io::AsyncWriteExt;
use tokio::runtime::Builder;
use tokio::task::{JoinSet, spawn_blocking};

pub use self::echo::Failure;
pub use self::echo::crowd::{Served, run as run_clients};
pub use self::echo::process::Options;
use self::echo::process::{Order, Process};

/// Sends everything back, up to the end; how many bytes that was.
async fn echo(channel: AioChannel, open: Arc<Open>) -> io::Result<u64> {
    let echoed = converse(&channel, &open).await;
    // After a failure, too: closing is what lets the last words out, which tell the peer why.
    let since = Instant::now();
    let closed = channel.close().await;
    open.late.fetch_add(usize::from(since.elapsed() >= Limits::default().linger), Ordering::Relaxed);
    let bytes = echoed?;
    closed?;
    Ok(bytes)
}

async fn converse(channel: &AioChannel, open: &Open) -> io::Result<u64> {
    channel.handshake().await?;
    let _open = open.enter();
    // By reference a channel can be read and written at once, without the lock of `tokio::io::split`.
    let (mut reader, mut writer) = (channel, channel);
    let bytes = tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await?; // our end; what follows it below is for `close` to wait for
    Ok(bytes)
}

/// Accepts until the listener is closed, and waits for who is there.
async fn serve_all(listener: Arc<AioListener>, stack: ServerStack) -> Result<Served, Failure> {
    let start = Instant::now();
    let open = Arc::new(Open::default());
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok(socket) => {
                let channel = AioChannel::new(stack.over(Box::new(socket))?);
                connections.spawn(echo(channel, Arc::clone(&open)));
            }
            Err(error) if error.is_closed() => break,
            // Descriptors or memory ran out: the next call waits for a moment before it tries again.
            Err(error) => eprintln!("nobody can be accepted: {error:#}"),
        }
    }
    let (mut echoed, mut bytes) = (0, 0);
    while let Some(ended) = connections.join_next().await {
        match ended? {
            Ok(count) => (echoed, bytes) = (echoed + 1, bytes + count),
            Err(error) => eprintln!("a connection failed: {error:#}"),
        }
    }
    let (most_open, late) = (open.most.load(Ordering::Relaxed), open.late.load(Ordering::Relaxed));
    Ok(Served { echoed, most_open, bytes, late, took: start.elapsed() })
}

/// How many connections are open.
#[derive(Debug, Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
    /// Peers that took too long to hang up.
    late: AtomicUsize,
}

impl Open {
    fn enter(&self) -> Entered<'_> {
        self.most.fetch_max(self.now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        Entered(self)
    }
}

struct Entered<'a>(&'a Open);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves at `address`, in a runtime with two workers, the clients that `command` starts in a process of their own, to the end.
///
/// # Errors
/// What went wrong, at either end.
pub fn serve(address: &SocketAddress, options: Options, command: &mut Command) -> Result<Served, Failure> {
    let (certificate, stack) = echo::server_stack()?;
    let listener = SocketListener::bind(address)?;
    let order = Order { address: listener.local_address().clone(), certificate, options };
    let listener = Arc::new(AioListener::new(listener));
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let serving = tokio::spawn(serve_all(Arc::clone(&listener), stack));
        let clients = Process::start(command, &order)?;
        let verdict = spawn_blocking(|| clients.verdict()).await?;
        listener.listener().close();
        let served = serving.await??;
        verdict?;
        served.judged(options.clients)
    })
}

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("clients").is_some() {
        return run_clients();
    }
    let options = Options::parse(words)?;
    options.allow_descriptors()?;
    let address = SocketAddress::Inet(([127, 0, 0, 1], 0).into());
    let served = serve(&address, options, Command::new(std::env::current_exe()?).arg("clients"))?;
    println!("{served}");
    Ok(())
}
