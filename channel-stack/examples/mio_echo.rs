//! A foreign event loop drives whole stacks by the readiness question alone: [mio](https://docs.rs/mio) serves an echo server over
//! WebSocket, TLS and a socket, on one thread.
//!
//! ```sh
//! cargo run -p channel-stack --example mio_echo
//! ```
//!
//! * [`Registered`] is the piece to take away: it brings a loop's registrations in line with what a channel waits for.
//! * `Server` is the loop: poll, give everybody a turn who has cause, follow what they say they wait for.
//! * `echo/connection.rs` is the protocol, which knows no loop; `echo/clients.rs` are the clients.
mod echo;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use channel_stack::{Direction, Interests, Readiness, ServerStack, SocketAddress, SocketChannel, SocketListener};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use echo::clients::Clients;
use echo::connection::{Connection, Turn};
use echo::deadlines::Deadlines;
pub use echo::{Failure, Summary};

/// What a poll watches for one channel or listener. Most wait for one descriptor, some for two or three: a channel may add an
/// eventfd that another thread's `shutdown` makes readable, and a stack may be built over two pipes.
///
/// [`Interests`] has an entry for each descriptor and direction, and mio wants each descriptor once, so directions are joined.
#[derive(Debug)]
pub struct Registered {
    token: Token,
    /// Counted descriptors: whatever becomes of the channel, these numbers cannot be given to other files while they are
    /// registered.
    fds: Vec<Arc<OwnedFd>>,
}

impl Registered {
    /// Nothing yet; events will carry `token`.
    #[must_use]
    pub fn new(token: Token) -> Self {
        Self { token, fds: Vec::new() }
    }

    /// Watches `wanted` and nothing else from now on. The deadline in there is the caller's to keep.
    ///
    /// mio is edge-triggered, and readiness is a question of levels: what it names may be ready by now, because one layer sent
    /// what another had found no room for. So all of it is registered anew each time, changed or not: epoll_ctl(2) looks at
    /// a descriptor when it is added or modified, and makes an edge of what it finds.
    ///
    /// # Errors
    /// What epoll_ctl(2) fails with, such as `ENOSPC`; some of it is watched then, and [`release`](Self::release) is due.
    pub fn follow(&mut self, registry: &Registry, wanted: &Interests) -> io::Result<()> {
        let mut next: Vec<(Arc<OwnedFd>, Interest)> = Vec::new();
        for interest in wanted.iter() {
            let kind = match interest.direction {
                Direction::Read => Interest::READABLE,
                Direction::Write => Interest::WRITABLE,
            };
            match next.iter_mut().find(|(fd, _)| same(fd, &interest.fd)) {
                Some((_, joined)) => *joined |= kind,
                None => next.push((Arc::clone(&interest.fd), kind)),
            }
        }
        let watched = std::mem::take(&mut self.fds);
        let (stay, go): (Vec<_>, Vec<_>) =
            watched.into_iter().partition(|fd| next.iter().any(|(wanted, _)| same(wanted, fd)));
        self.fds = stay;
        for fd in go {
            registry.deregister(&mut SourceFd(&fd.as_raw_fd()))?;
        }
        for (fd, kind) in next {
            let number = fd.as_raw_fd();
            if self.fds.iter().any(|known| same(known, &fd)) {
                registry.reregister(&mut SourceFd(&number), self.token, kind)?;
            } else {
                registry.register(&mut SourceFd(&number), self.token, kind)?;
                self.fds.push(fd);
            }
        }
        Ok(())
    }

    /// Watches nothing any more. Due before this is dropped: whoever else counts a descriptor keeps its registration alive.
    pub fn release(&mut self, registry: &Registry) {
        for fd in self.fds.drain(..) {
            // It is registered and open, so this has nothing to fail with.
            let _ = registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
        }
    }
}

/// Both are open, so equal numbers are the same descriptor.
fn same(one: &OwnedFd, other: &OwnedFd) -> bool {
    one.as_raw_fd() == other.as_raw_fd()
}

/// The loop and what it serves.
struct Server {
    poll: Poll,
    stack: ServerStack,
    listener: Arc<SocketListener>,
    listening: Registered,
    listener_closed: bool,
    connections: HashMap<Token, (Connection, Registered)>,
    /// mio has no timers: the earliest of these is the timeout of the next poll.
    deadlines: Deadlines<Token>,
    /// Those who would go on if it were not the others' turn.
    again: Vec<Token>,
    last: Token,
    summary: Summary,
}

const LISTENER: Token = Token(0);
/// Connections accepted in one turn.
const ACCEPTS: usize = 16;

impl Server {
    fn new(listener: Arc<SocketListener>, stack: ServerStack) -> Result<Self, Failure> {
        listener.set_blocking(false);
        Ok(Self {
            poll: Poll::new()?,
            stack,
            listener,
            listening: Registered::new(LISTENER),
            listener_closed: false,
            connections: HashMap::new(),
            deadlines: Deadlines::new(),
            again: vec![LISTENER], // nobody may wait on what was never tried
            last: LISTENER,
            summary: Summary::default(),
        })
    }

    /// Serves until the listener was closed and everybody is gone.
    fn run(mut self) -> Result<Summary, Failure> {
        let mut events = Events::with_capacity(256);
        while !(self.listener_closed && self.connections.is_empty()) {
            let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
            let timeout = if self.again.is_empty() { self.deadlines.next().map(left) } else { Some(Duration::ZERO) };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue, // `events` is of the poll before
                polled => polled?,
            }
            // Readable, writable, hung up or late: whoever has cause has a turn, one, and finds out.
            let mut turns: Vec<Token> = events.iter().map(|event| event.token()).collect();
            self.summary.polls += 1;
            self.summary.events += turns.len() as u64;
            turns.append(&mut self.again);
            turns.extend(self.deadlines.take_due(Instant::now()));
            turns.sort_unstable();
            turns.dedup();
            for token in turns {
                self.turn(token)?;
            }
        }
        Ok(self.summary)
    }

    fn turn(&mut self, token: Token) -> Result<(), Failure> {
        if token == LISTENER {
            return self.accept();
        }
        let Some((connection, registered)) = self.connections.get_mut(&token) else {
            return Ok(());
        };
        match connection.turn(&mut self.summary) {
            Turn::Wait(interests) => {
                self.deadlines.set(token, interests.deadline());
                if let Err(error) = registered.follow(self.poll.registry(), &interests) {
                    // The kernel watches no more descriptors for us (`ENOSPC`, epoll_ctl(2)): this one goes, the others stay.
                    eprintln!("a connection cannot be watched: {error:#}");
                    self.summary.failed += 1;
                    self.forget(token);
                }
            }
            Turn::Again => {
                self.deadlines.set(token, None);
                self.again.push(token);
            }
            Turn::Over => self.forget(token),
        }
        Ok(())
    }

    fn forget(&mut self, token: Token) {
        self.deadlines.set(token, None);
        if let Some((_, mut registered)) = self.connections.remove(&token) {
            registered.release(self.poll.registry());
        }
    }

    fn accept(&mut self) -> Result<(), Failure> {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok(socket) => self.open(socket)?,
                Err(error) if error.is_would_block() => {
                    match self.listener.readiness() {
                        Readiness::Ready => break,
                        Readiness::Wait(interests) => {
                            self.deadlines.set(LISTENER, interests.deadline());
                            self.listening.follow(self.poll.registry(), &interests)?;
                        }
                    }
                    return Ok(());
                }
                Err(error) if error.is_closed() => {
                    self.listener_closed = true;
                    self.listening.release(self.poll.registry());
                    return Ok(());
                }
                // Told once; then the listener says would-block, and what it waits for is a deadline and not its descriptor,
                // which stays readable all the while.
                Err(_) => self.summary.shortages += 1,
            }
        }
        self.again.push(LISTENER);
        Ok(())
    }

    fn open(&mut self, socket: SocketChannel) -> Result<(), Failure> {
        let channel = self.stack.over(Box::new(socket))?;
        self.last = Token(self.last.0 + 1); // never used again, so an event cannot be for somebody who came later
        let connection = Connection::new(channel);
        self.connections.insert(self.last, (connection, Registered::new(self.last)));
        self.turn(self.last) // at once: the time a handshake may take runs from its first call
    }
}

/// Serves `clients` clients, `at_once` of them at a time, and a few that do not behave at `address`, in this process, to the end.
///
/// # Errors
/// What went wrong, at either end; also a loop that did not sleep when there was nothing to do.
pub fn serve(address: &SocketAddress, clients: usize, at_once: usize) -> Result<Summary, Failure> {
    let (client_stack, server_stack) = echo::stacks()?;
    let listener = Arc::new(SocketListener::bind(address)?);
    let server = Server::new(Arc::clone(&listener), server_stack)?;
    let connected = Clients::connect(listener.local_address(), clients)?;
    let running = connected.start(at_once, client_stack, Arc::clone(&listener));
    let served = server.run();
    listener.close(); // where the server failed, its clients are told
    let told = running.join().map_err(|_| "the clients panicked")?;
    let summary = served?;
    told?;
    summary.judged(clients)
}

fn main() -> Result<(), Failure> {
    let summary = serve(&SocketAddress::Inet(([127, 0, 0, 1], 0).into()), 50, 50)?;
    println!("{summary}");
    Ok(())
}
