//! A virtual machine monitor's event loop drives whole stacks by the readiness question alone: rust-vmm's
//! [event-manager](https://docs.rs/event-manager) serves an echo server over WebSocket, TLS and a socket, on one thread.
//!
//! ```sh
//! cargo run -p channel-stack --example event_manager_echo
//! ```
//!
//! * [`Registered`] is the piece to take away: it brings a subscriber's events in line with what a channel waits for.
//! * `Server` is a subscriber as a device would be: it has a listener, connections and a timer, and asks nothing of the loop that
//!   runs it, which is the monitor's.
//! * `echo/connection.rs` is the protocol, which knows no loop; `echo/clients.rs` are the clients.
mod echo;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use channel_stack::{Direction, Interests, Readiness, ServerStack, SocketAddress, SocketChannel, SocketListener};
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use echo::clients::Clients;
use echo::connection::{Connection, Turn};
use echo::deadlines::Deadlines;
pub use echo::{Failure, Summary};

/// The events a subscriber has for one channel or listener. Most wait for one descriptor, some for two or three: a channel may
/// add an eventfd that another thread's `shutdown` makes readable, and a stack may be built over two pipes.
///
/// [`Interests`] has an entry for each descriptor and direction, and event-manager wants each descriptor once, so directions
/// are joined.
#[derive(Debug)]
pub struct Registered {
    data: u32,
    /// Counted descriptors: whatever becomes of the channel, these numbers cannot be given to other files while they have
    /// events. event-manager panics on an event it has no subscriber for, so they must not be closed before.
    fds: Vec<(Arc<OwnedFd>, EventSet)>,
}

impl Registered {
    /// Nothing yet; events will carry `data`.
    #[must_use]
    pub fn new(data: u32) -> Self {
        Self { data, fds: Vec::new() }
    }

    /// Has events for `wanted` and nothing else from now on. The deadline in there is the caller's to keep.
    ///
    /// Events are level-triggered, and a hang-up or an error is told even where nothing was asked for (epoll_ctl(2)): a
    /// descriptor nobody waits for must go, or the loop would spin on it.
    ///
    /// # Errors
    /// What event-manager fails with, such as `ENOSPC` of epoll_ctl(2); some of it has events then, and
    /// [`release`](Self::release) is due.
    pub fn follow(&mut self, ops: &mut EventOps<'_>, wanted: &Interests) -> event_manager::Result<()> {
        let mut next: Vec<(Arc<OwnedFd>, EventSet)> = Vec::new();
        for interest in wanted.iter() {
            let kind = match interest.direction {
                Direction::Read => EventSet::IN,
                Direction::Write => EventSet::OUT,
            };
            match next.iter_mut().find(|(fd, _)| same(fd, &interest.fd)) {
                Some((_, joined)) => *joined |= kind,
                None => next.push((Arc::clone(&interest.fd), kind)),
            }
        }
        let watched = std::mem::take(&mut self.fds);
        let (stay, go): (Vec<_>, Vec<_>) =
            watched.into_iter().partition(|(fd, _)| next.iter().any(|(wanted, _)| same(wanted, fd)));
        self.fds = stay;
        for (fd, kind) in go {
            ops.remove(Events::with_data(&fd, self.data, kind))?;
        }
        for (fd, kind) in next {
            match self.fds.iter_mut().find(|(known, _)| same(known, &fd)) {
                Some((_, known)) if *known == kind => {}
                Some((_, known)) => {
                    ops.modify(Events::with_data(&fd, self.data, kind))?;
                    *known = kind;
                }
                None => {
                    ops.add(Events::with_data(&fd, self.data, kind))?;
                    self.fds.push((fd, kind));
                }
            }
        }
        Ok(())
    }

    /// Has no events any more. Due before this is dropped.
    pub fn release(&mut self, ops: &mut EventOps<'_>) {
        for (fd, kind) in self.fds.drain(..) {
            // It has events and is open, so this has nothing to fail with.
            let _ = ops.remove(Events::with_data(&fd, self.data, kind));
        }
    }
}

/// Both are open, so equal numbers are the same descriptor.
fn same(one: &OwnedFd, other: &OwnedFd) -> bool {
    one.as_raw_fd() == other.as_raw_fd()
}

/// The subscriber.
struct Server {
    stack: ServerStack,
    listener: Arc<SocketListener>,
    listening: Registered,
    listener_closed: bool,
    connections: HashMap<u32, (Connection, Registered)>,
    deadlines: Deadlines<u32>,
    /// Those who would go on if it were not the others' turn.
    again: Vec<u32>,
    /// event-manager has no timers, and the timeout of its poll is not ours to choose: a timerfd is a descriptor like others.
    timer: OwnedFd,
    timer_at: Option<Instant>,
    last: u32,
    /// `process` cannot fail; this ends us.
    failure: Option<Failure>,
    summary: Summary,
}

const LISTENER: u32 = 0;
const TIMER: u32 = 1;
/// Connections accepted in one turn.
const ACCEPTS: usize = 16;

impl MutEventSubscriber for Server {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        let result = ops.add(Events::with_data(&self.timer, TIMER, EventSet::IN));
        self.conclude(result.map_err(Failure::from));
    }

    /// Readable, writable or hung up: whoever has an event has a turn, and finds out.
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        self.summary.events += 1;
        let result = match events.data() {
            TIMER => self.serve_late(ops),
            key => self.turn(key, ops),
        };
        self.conclude(result);
    }
}

impl Server {
    fn new(listener: Arc<SocketListener>, stack: ServerStack) -> Result<Self, Failure> {
        listener.set_blocking(false);
        Ok(Self {
            stack,
            listener,
            listening: Registered::new(LISTENER),
            listener_closed: false,
            connections: HashMap::new(),
            deadlines: Deadlines::new(),
            again: vec![LISTENER], // nobody may wait on what was never tried
            timer: timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?,
            timer_at: None,
            last: TIMER,
            failure: None,
            summary: Summary::default(),
        })
    }

    /// Whether the listener was closed and everybody is gone.
    fn is_over(&self) -> bool {
        self.failure.is_some() || self.listener_closed && self.connections.is_empty()
    }

    fn conclude(&mut self, result: Result<(), Failure>) {
        if let Err(error) = result.and_then(|()| self.set_timer()) {
            self.failure.get_or_insert(error);
        }
    }

    /// Sets the timer for the earliest deadline, or for at once while somebody would go on: a turn of the loop later.
    fn set_timer(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let at = if self.again.is_empty() { self.deadlines.next() } else { Some(now) };
        if at == self.timer_at {
            return Ok(());
        }
        self.timer_at = at;
        // All zero would switch it off (timerfd_create(2)).
        let left = at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now).max(Duration::from_nanos(1)));
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let first = Timespec { tv_sec: left.as_secs().try_into()?, tv_nsec: left.subsec_nanos().into() };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: first })?;
        Ok(())
    }

    /// Gives turns to those whose deadline has passed, and to those who waited for the others.
    fn serve_late(&mut self, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        // Setting it again, as every change of `timer_at` does, is what makes it unreadable; this is for where nothing changes.
        match rustix::io::read(&self.timer, &mut [0; 8]) {
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.timer_at = None;
        let mut turns = std::mem::take(&mut self.again);
        turns.extend(self.deadlines.take_due(Instant::now()));
        turns.into_iter().try_for_each(|key| self.turn(key, ops))
    }

    fn turn(&mut self, key: u32, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        if key == LISTENER {
            return self.accept(ops);
        }
        let Some((connection, registered)) = self.connections.get_mut(&key) else {
            return Ok(());
        };
        match connection.turn(&mut self.summary) {
            Turn::Wait(interests) => {
                self.deadlines.set(key, interests.deadline());
                if let Err(error) = registered.follow(ops, &interests) {
                    // The kernel watches no more descriptors for us (`ENOSPC`, epoll_ctl(2)): this one goes, the others stay.
                    eprintln!("a connection cannot be watched: {error:#}");
                    self.summary.failed += 1;
                    self.forget(key, ops);
                }
            }
            Turn::Again => {
                self.deadlines.set(key, None);
                self.again.push(key);
            }
            Turn::Over => self.forget(key, ops),
        }
        Ok(())
    }

    fn forget(&mut self, key: u32, ops: &mut EventOps<'_>) {
        self.deadlines.set(key, None);
        if let Some((_, mut registered)) = self.connections.remove(&key) {
            registered.release(ops);
        }
    }

    fn accept(&mut self, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok(socket) => self.open(socket, ops)?,
                Err(error) if error.is_would_block() => {
                    match self.listener.readiness() {
                        Readiness::Ready => break,
                        Readiness::Wait(interests) => {
                            self.deadlines.set(LISTENER, interests.deadline());
                            self.listening.follow(ops, &interests)?;
                        }
                    }
                    return Ok(());
                }
                Err(error) if error.is_closed() => {
                    self.listener_closed = true;
                    self.listening.release(ops);
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

    fn open(&mut self, socket: SocketChannel, ops: &mut EventOps<'_>) -> Result<(), Failure> {
        let channel = self.stack.over(Box::new(socket))?;
        // Long-lived monitors come round; a turn too many, should an old key still be in a list, does nothing.
        while self.last <= TIMER || self.connections.contains_key(&self.last) {
            self.last = self.last.wrapping_add(1);
        }
        let connection = Connection::new(channel);
        self.connections.insert(self.last, (connection, Registered::new(self.last)));
        self.turn(self.last, ops) // at once: the time a handshake may take runs from its first call
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
    let served = run(server);
    listener.close(); // where the server failed, its clients are told
    let told = running.join().map_err(|_| "the clients panicked")?;
    let summary = served?;
    told?;
    summary.judged(clients)
}

/// The monitor's part.
fn run(server: Server) -> Result<Summary, Failure> {
    let mut manager = EventManager::new()?;
    let id = manager.add_subscriber(server);
    let mut polls = 0;
    while !manager.subscriber_mut(id)?.is_over() {
        manager.run()?;
        polls += 1;
    }
    let server = manager.remove_subscriber(id)?;
    server.failure.map_or(Ok(Summary { polls, ..server.summary }), Err)
}

fn main() -> Result<(), Failure> {
    let summary = serve(&SocketAddress::Inet(([127, 0, 0, 1], 0).into()), 50, 50)?;
    println!("{summary}");
    Ok(())
}
