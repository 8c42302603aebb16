//! The event loop that ships serves a thousand clients on one thread: an echo server over WebSocket, TLS and TCP, made of handlers.
//!
//! ```sh
//! cargo run --release -p channel-stack --example event_loop_echo
//! ```
//!
//! The clients, all open at the same time, are tasks on another such loop, in a process of their own. An argument says how many.
//!
//! A server with nothing to do sleeps in one system call. To see that with strace(1), let the clients stay for a minute:
//!
//! ```sh
//! cargo run --release -p channel-stack --example event_loop_echo -- 1000 --hold 60
//! strace -f -p <the process it names>
//! ```
//!
//! * `Server` is listener, connections and the handlers that the loop calls for them.
//! * `echo/connection.rs` is the protocol, which knows no loop; `echo/crowd.rs` are the clients.
mod echo;

use std::collections::HashMap;
use std::fmt;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use channel_stack::{
    AioChange, AioContext, AioHandler, Callback, Direction, EventLoop, ServerStack, SocketAddress, SocketChannel,
    SocketListener,
};

use echo::connection::{Connection, Turn};
pub use echo::crowd::{Served, run as run_clients};
pub use echo::process::Options;
use echo::process::{Order, Process};
pub use echo::{Failure, Summary};

/// What the loop calls. Handlers know it weakly: it has the channels, which have the handlers.
struct Server {
    context: Arc<dyn AioContext>,
    stack: ServerStack,
    listener: SocketListener,
    /// One thread runs the loop, so nobody ever waits here.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    peers: HashMap<u64, Peer>,
    last: u64,
    clients_ended: bool,
    summary: Summary,
}

/// A connection, and what is set on its channel.
struct Peer {
    connection: Connection,
    /// Gives it a turn.
    handler: AioHandler,
    /// Whether the handler is set for reading, and for writing.
    handled: (bool, bool),
}

/// Connections accepted in one call of the listener's handler: it is called again, and others are in between.
const ACCEPTS: usize = 16;

impl Server {
    fn new(context: Arc<dyn AioContext>, address: &SocketAddress, stack: ServerStack) -> Result<Arc<Self>, Failure> {
        let listener = SocketListener::bind(address)?;
        listener.set_blocking(false);
        let server = Arc::new(Self { context, stack, listener, state: Mutex::default() });
        let accept = AioHandler { context: Arc::clone(&server.context), callback: server.callback(Self::accept) };
        server.listener.set_aio_fd_handler(AioChange::Set(accept))?;
        Ok(server)
    }

    /// Has the loop tell us when the clients have ended: it polls what it is given, a process for example.
    fn await_end(self: &Arc<Self>, clients: &Process) -> Result<(), Failure> {
        let ended = Arc::clone(clients.ended());
        let callback = self.callback(move |server| {
            server.state().clients_ended = true;
            // It stays readable, and we know now.
            let _ = server.context.set_fd_handler(&ended, Direction::Read, None);
        });
        Ok(self.context.set_fd_handler(clients.ended(), Direction::Read, Some(callback))?)
    }

    /// Does `what`, as long as there is a server.
    fn callback(self: &Arc<Self>, what: impl Fn(&Arc<Self>) + Send + Sync + 'static) -> Callback {
        let server = Arc::downgrade(self);
        Arc::new(move || {
            if let Some(server) = server.upgrade() {
                what(&server);
            }
        })
    }

    fn accept(self: &Arc<Self>) {
        for _ in 0..ACCEPTS {
            match self.listener.accept() {
                Ok(socket) => self.open(socket),
                Err(error) if error.is_would_block() => return,
                // Descriptors or memory ran out. The listener takes this handler off the loop for a moment; others may end by then.
                Err(error) => eprintln!("nobody can be accepted: {error:#}"),
            }
        }
    }

    fn open(self: &Arc<Self>, socket: SocketChannel) {
        let channel = match self.stack.over(Box::new(socket)) {
            Ok(channel) => channel,
            Err(error) => return eprintln!("a connection was dropped: {error:#}"),
        };
        let mut state = self.state();
        state.last += 1;
        let key = state.last;
        let callback = self.callback(move |server| server.turn(key));
        let handler = AioHandler { context: Arc::clone(&self.context), callback };
        let connection = Connection::new(channel);
        state.peers.insert(key, Peer { connection, handler, handled: (false, false) });
        drop(state);
        self.turn(key); // at once: the time a handshake may take runs from its first call
    }

    /// What the handlers of a connection do: which event it was does not matter.
    fn turn(self: &Arc<Self>, key: u64) {
        let mut state = self.state();
        let State { peers, summary, .. } = &mut *state;
        let Some(peer) = peers.get_mut(&key) else { return };
        match peer.connection.turn(summary) {
            Turn::Wait(_) => {
                if let Err(error) = peer.wait() {
                    // The kernel watches no more descriptors for us (`ENOSPC`, epoll_ctl(2)): this one goes, the others stay.
                    eprintln!("a connection cannot be watched: {error:#}");
                    summary.failed += 1;
                    peers.remove(&key);
                }
            }
            Turn::Again => {
                let again = Arc::clone(&peer.handler.callback);
                self.context.schedule(Box::new(move || again()));
            }
            Turn::Over => {
                peers.remove(&key);
            }
        }
    }

    /// Whether the clients have ended, and everybody was served.
    fn is_over(&self) -> bool {
        let state = self.state();
        state.clients_ended && state.peers.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    /// Sets the handler for what the connection waits for now, and clears it for what it does not: most sockets can be written to
    /// most of the time, and who set a handler for that would be called all the time.
    fn wait(&mut self) -> channel_stack::Result<()> {
        let change = |is_set: bool, wanted: bool| match (is_set, wanted) {
            (false, true) => AioChange::Set(self.handler.clone()),
            (true, false) => AioChange::Clear,
            _ => AioChange::Keep,
        };
        let wanted = self.connection.waits_for();
        if wanted != self.handled {
            let (read, write) = (change(self.handled.0, wanted.0), change(self.handled.1, wanted.1));
            self.connection.channel().set_aio_fd_handler(read, write)?;
            self.handled = wanted;
        }
        Ok(()) // the limits of the layers are theirs: they call the handler
    }
}

/// What was served, and what the loop had to do for that.
#[derive(Clone, Debug)]
pub struct Report {
    served: Served,
    summary: Summary,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { served, summary: Summary { stuck, polls, events, idle_turns, .. } } = self;
        write!(
            f,
            "{served}; {stuck} of them let us wait for room; {polls} turns of the loop, {events} handler calls, {idle_turns} of \
             them idle"
        )
    }
}

/// Serves at `address`, on this thread, the clients that `command` starts in a process of their own, to the end.
///
/// # Errors
/// What went wrong, at either end; also a loop that did not sleep when there was nothing to do.
pub fn serve(address: &SocketAddress, options: Options, command: &mut Command) -> Result<Report, Failure> {
    let (certificate, stack) = echo::server_stack()?;
    let event_loop = EventLoop::new()?;
    let server = Server::new(event_loop.handle(), address, stack)?;
    let start = Instant::now();
    let order = Order { address: server.listener.local_address().clone(), certificate, options };
    let clients = Process::start(command, &order)?;
    server.await_end(&clients)?;
    let (mut polls, mut events) = (0, 0);
    while !server.is_over() {
        events += event_loop.run_once(None)? as u64;
        polls += 1;
    }
    clients.verdict()?; // they have ended
    let summary = Summary { polls, events, ..server.state().summary.clone() };
    let Summary { echoed, most_open, bytes, late, .. } = summary;
    let served = Served { echoed, most_open, bytes, late, took: start.elapsed() }.judged(options.clients)?;
    Ok(Report { served, summary: summary.slept(options.clients)? })
}

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1).peekable();
    if words.next_if_eq("clients").is_some() {
        return run_clients();
    }
    let options = Options::parse(words)?;
    options.allow_descriptors()?;
    let address = SocketAddress::Inet(([127, 0, 0, 1], 0).into());
    let report = serve(&address, options, Command::new(std::env::current_exe()?).arg("clients"))?;
    println!("{report}");
    Ok(())
}
