//! The process of the clients: one thread, one loop, which does as it is told.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use channel_core::{AioChange, AioContext, AioHandler, Channel, ChannelExt, EventLoop, LoopHandle, Timer};
use channel_stack::ClientStack;
use rustls::pki_types::CertificateDer;

use super::super::options::{Cipher, Provider};
use super::super::peers::crypto;
use super::super::threads::pin_to;
use super::control::{Control, Message};
use super::{Crowd, MESSAGE, Options};
use crate::content::{self, Checker};
use crate::{Failure, stacks};

/// How long a message may be on its way once all are to rest; it is lost then.
const PATIENCE: Duration = Duration::from_secs(5);

/// The words that [`run`] understands. `root` is whom to trust; `core`, where to run.
pub(super) fn words(options: &Options, core: usize, root: &CertificateDer<'_>) -> Result<[String; 5], Failure> {
    let mut hex = String::new();
    for byte in root.as_ref() {
        write!(hex, "{byte:02x}")?;
    }
    let Options { stack, cipher, provider, .. } = options;
    Ok([stack.to_string(), cipher.to_string(), provider.to_string(), core.to_string(), hex])
}

/// Is the clients until the server hangs up.
pub(super) fn run(words: &[String]) -> Result<(), Failure> {
    let [stack, cipher, provider, core, root] = words else {
        return Err("these are words of `stackbench wakeups` to itself".into());
    };
    let control = Control::inherited()?;
    pin_to(core.parse()?)?;
    let root: Result<Vec<u8>, _> =
        (0..root.len() / 2).map(|at| u8::from_str_radix(root.get(2 * at..2 * at + 2).unwrap_or(""), 16)).collect();
    let provider = crypto(Provider::parse("provider", provider)?, Cipher::parse("cipher", cipher)?);
    let event_loop = EventLoop::new()?;
    let clients = Arc::new(Clients {
        stack: stacks::client_that_trusts(CertificateDer::from(root?), stack.parse()?, provider)?,
        context: event_loop.handle(),
        control,
        talking: [AtomicBool::new(false), AtomicBool::new(false)],
        sent: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        book: Mutex::default(),
        failure: OnceLock::new(),
    });
    let listener = Arc::clone(&clients);
    clients.control.listen(event_loop.handle(), move || listener.attempt(listener.obey()))?;
    event_loop.run()?;
    clients.let_go();
    clients.failure.get().map_or(Ok(()), |failure| Err(format!("clients: {failure}").into()))
}

/// All connections of this process.
struct Clients {
    stack: ClientStack,
    context: Arc<LoopHandle>,
    control: Arc<Control>,
    /// Whether a crowd keeps messages in flight.
    talking: [AtomicBool; 2],
    /// Messages of all connections.
    sent: AtomicU64,
    answered: AtomicU64,
    book: Mutex<Book>,
    failure: OnceLock<String>,
}

#[derive(Default)]
struct Book {
    clients: Vec<Arc<Client>>,
    /// Somebody waits to hear that no message is in flight; until this ends.
    resting: Option<Timer>,
}

/// One connection.
struct Client {
    all: Arc<Clients>,
    crowd: Crowd,
    busy: bool,
    channel: Box<dyn Channel>,
    state: Mutex<Exchange>,
}

struct Exchange {
    is_open: bool,
    /// Where in the content the next message begins. Each connection starts elsewhere, so that what is mixed up shows.
    next: u64,
    echo: Checker,
}

impl Clients {
    /// Ends the run if something went wrong.
    fn attempt(&self, result: Result<(), Failure>) {
        if let Err(failure) = result {
            // What went wrong first is what is told.
            let _ = self.failure.set(failure.to_string());
            self.context.stop();
        }
    }

    fn obey(self: &Arc<Self>) -> Result<(), Failure> {
        let received = self.control.receive()?;
        for message in received.messages {
            match message {
                (Message::Open(crowd, busy), Some(socket)) => self.open(crowd, busy, socket)?,
                (Message::Talk(crowd), _) => self.talk(crowd)?,
                (Message::Rest, _) => self.rest()?,
                (other, _) => return Err(format!("the server said `{other}`").into()),
            }
        }
        if received.ended {
            self.context.stop();
        }
        Ok(())
    }

    fn open(self: &Arc<Self>, crowd: Crowd, busy: bool, socket: OwnedFd) -> Result<(), Failure> {
        let channel = self.stack.over(stacks::leaf(socket)?)?;
        channel.set_blocking(false);
        let mut book = self.book();
        let start = book.clients.len() as u64 * 997;
        let state = Exchange { is_open: false, next: start, echo: Checker::starting_at(start) };
        let client = Arc::new(Client { all: Arc::clone(self), crowd, busy, channel, state: Mutex::new(state) });
        book.clients.push(Arc::clone(&client));
        drop(book);
        let called = Arc::clone(&client);
        let handler = AioHandler::new(self.context.clone(), move || called.all.attempt(called.progress()));
        drop(client.channel.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep)?);
        client.progress()
    }

    fn talk(&self, crowd: Crowd) -> Result<(), Failure> {
        self.talking[crowd as usize].store(true, Ordering::Relaxed);
        for client in &self.book().clients {
            let mut exchange = client.exchange();
            if client.busy && client.crowd == crowd && !exchange.is_under_way() {
                client.say(&mut exchange)?;
            }
        }
        Ok(())
    }

    fn rest(self: &Arc<Self>) -> Result<(), Failure> {
        for talking in &self.talking {
            talking.store(false, Ordering::Relaxed);
        }
        let context: Arc<dyn AioContext> = self.context.clone();
        let us = Arc::clone(self);
        let timer = Timer::set(&context, Instant::now() + PATIENCE, move || us.attempt(us.say_rested()));
        let old = self.book().resting.replace(timer);
        drop(old);
        self.note_answer()
    }

    /// Says that all rest, when they are to and do.
    fn note_answer(&self) -> Result<(), Failure> {
        let in_flight = self.sent.load(Ordering::Relaxed) - self.answered.load(Ordering::Relaxed);
        if in_flight == 0 && self.book().resting.is_some() { self.say_rested() } else { Ok(()) }
    }

    fn say_rested(&self) -> Result<(), Failure> {
        let timer = self.book().resting.take();
        drop(timer);
        let (sent, answered) = (self.sent.load(Ordering::Relaxed), self.answered.load(Ordering::Relaxed));
        self.control.send(Message::Rested(sent, answered), None)
    }

    /// Handlers hold their connections, which hold the handlers.
    fn let_go(&self) {
        self.control.ignore();
        let clients = std::mem::take(&mut self.book().clients);
        for client in clients {
            let _ = client.channel.set_aio_fd_handler(AioChange::Clear, AioChange::Clear);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Goes on as far as the channel can.
    fn progress(&self) -> Result<(), Failure> {
        let mut exchange = self.exchange();
        if !exchange.is_open {
            match self.channel.handshake() {
                Ok(()) => exchange.is_open = true,
                Err(error) if error.is_would_block() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            return self.say(&mut exchange);
        }
        let mut echo = [0; MESSAGE];
        let count = match self.channel.read(&mut echo) {
            Ok(0) => return Err("the server ended a connection".into()),
            Ok(count) => count,
            Err(error) if error.is_would_block() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        exchange.echo.take(&echo[..count])?;
        if exchange.echo.offset() > exchange.next {
            return Err("the server said something on its own".into());
        }
        if exchange.is_under_way() {
            return Ok(());
        }
        self.all.answered.fetch_add(1, Ordering::Relaxed);
        if self.busy && self.all.talking[self.crowd as usize].load(Ordering::Relaxed) {
            return self.say(&mut exchange);
        }
        drop(exchange);
        self.all.note_answer()
    }

    /// Sends the next message. All before it were answered, so there is room for it.
    fn say(&self, exchange: &mut Exchange) -> Result<(), Failure> {
        self.all.sent.fetch_add(1, Ordering::Relaxed);
        let message = content::at(exchange.next, MESSAGE);
        exchange.next += MESSAGE as u64;
        Ok(self.channel.write_all(message)?)
    }

    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exchange {
    /// Whether a message, or part of it, has yet to come back.
    fn is_under_way(&self) -> bool {
        self.echo.offset() < self.next
    }
}
