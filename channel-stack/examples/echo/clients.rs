//! The clients: blocking stacks, a thread each, beside the event loop that serves them.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, ScopedJoinHandle};

use channel_stack::{
    Channel, ChannelExt, ClientStack, Error, Result, Shutdown, SocketAddress, SocketChannel, SocketListener,
};

use super::Failure;
use super::pattern::{PIECES, Pattern};

/// Clients that say much and read nothing for a long time.
pub(crate) const GREEDY: usize = 1;
/// Clients that say nothing.
pub(crate) const SILENT: usize = 1;

/// What the greedy one says: more than all the buffers on the way and back hold for somebody who does not read.
const MUCH: usize = 16 * 1024 * 1024;

/// Connected, and in the queue of the listener.
#[derive(Debug)]
pub(crate) struct Clients {
    polite: Vec<SocketChannel>,
    greedy: SocketChannel,
    silent: SocketChannel,
}

impl Clients {
    /// Connects `polite` clients that take turns with the server, and a few that do not behave.
    pub(crate) fn connect(address: &SocketAddress, polite: usize) -> Result<Self> {
        let connect = |_| SocketChannel::connect(address);
        let polite = (0..polite).map(connect).collect::<Result<_>>()?;
        Ok(Self { polite, greedy: connect(0)?, silent: connect(0)? })
    }

    /// Starts them, `at_once` of the polite ones at a time in the order in which they connected, and closes the listener once they are
    /// done, which is how the server's loop knows.
    pub(crate) fn start(
        self,
        at_once: usize,
        stack: ClientStack,
        listener: Arc<SocketListener>,
    ) -> JoinHandle<Result<(), Failure>> {
        thread::spawn(move || {
            let (stack, polite) = (&stack, &Mutex::new(self.polite.into_iter().enumerate()));
            let next = move || polite.lock().unwrap_or_else(PoisonError::into_inner).next();
            let result = thread::scope(|scope| {
                let mut under_way: Vec<ScopedJoinHandle<'_, Result<(), Failure>>> = Vec::new();
                let (tell, told) = mpsc::channel();
                under_way.push(scope.spawn(|| keep_silent(self.silent, tell)));
                under_way.push(scope.spawn(move || be_greedy(open(stack, self.greedy)?, told)));
                for _ in 0..at_once {
                    under_way.push(scope.spawn(move || {
                        while let Some((number, socket)) = next() {
                            converse(open(stack, socket)?, number as u64)?;
                        }
                        Ok(())
                    }));
                }
                under_way.into_iter().try_for_each(|client| client.join().map_err(|_| "a client panicked")?)
            });
            listener.close();
            result
        })
    }
}

fn open(stack: &ClientStack, socket: SocketChannel) -> Result<Box<dyn Channel>> {
    let channel = stack.over(Box::new(socket))?;
    channel.handshake()?;
    Ok(channel)
}

/// Says something, waits for it to come back, and so on; ends its own output with the last piece and reads to the end.
fn converse(channel: Box<dyn Channel>, number: u64) -> Result<(), Failure> {
    let mut said = Pattern::new(number);
    let mut heard = Pattern::new(number);
    for (round, length) in PIECES.into_iter().enumerate() {
        let mut bytes = vec![0; length];
        said.fill(&mut bytes);
        channel.write_all(&bytes)?;
        if round + 1 == PIECES.len() {
            channel.close_write()?;
        }
        channel.read_all(&mut bytes)?;
        heard.check(&bytes)?;
    }
    expect_end(&*channel)
}

/// Says more than fits on the way, but reads nothing until the silent one was hung up on; then all must come back, without
/// another word from here.
fn be_greedy(channel: Box<dyn Channel>, silent_is_gone: Receiver<()>) -> Result<(), Failure> {
    let (mut said, mut heard) = (Pattern::new(u64::MAX), Pattern::new(u64::MAX));
    let pieces = || std::iter::repeat_n(64 * 1024, MUCH / (64 * 1024));
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            pieces().try_for_each(|length| {
                let mut bytes = vec![0; length];
                said.fill(&mut bytes);
                channel.write_all(&bytes)
            })
        });
        let _ = silent_is_gone.recv(); // told, or failed
        let read = pieces().try_for_each(|length| {
            let mut bytes = vec![0; length];
            channel.read_all(&mut bytes)?;
            heard.check(&bytes)
        });
        if read.is_err() {
            channel.shutdown(Shutdown::Both)?; // the writer would wait for ever
        }
        read.and(writer.join().map_err(|_| "the writer panicked")?.map_err(Failure::from))
    })?;
    channel.close_write()?;
    expect_end(&*channel)
}

fn expect_end(channel: &dyn Channel) -> Result<(), Failure> {
    match channel.read(&mut [0])? {
        0 => Ok(channel.close()?),
        _ => Err("more came back than was said".into()),
    }
}

/// Says nothing, is hung up on, and tells the greedy one.
fn keep_silent(socket: SocketChannel, tell: Sender<()>) -> Result<(), Failure> {
    while socket.read(&mut [0; 256]).or_else(hung_up)? > 0 {}
    let _ = tell.send(()); // it may have failed before
    Ok(())
}

fn hung_up(error: Error) -> Result<usize> {
    if error.is_disconnected() { Ok(0) } else { Err(error) }
}
