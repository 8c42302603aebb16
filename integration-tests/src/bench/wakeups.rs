//! Many connections on one event loop, most of them idle: what an event costs, and what silence costs.
//!
//! * `server`: the measured side, a loop with its connections.
//! * `clients`: the other side, in a process of its own, so that neither counts the other's descriptors.
//! * `control`: what the two processes tell each other.
//! * `options`: what is asked for.
//!
//! The loop with all connections and one with the busy ones alone are run in turn by the same thread.

mod clients;
mod control;
mod options;
mod process;
mod server;

use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::{Value, json};

pub use self::options::{KEYS, Options, Serving};
use self::process::Clients;
use self::server::Server;
use super::descriptors::raise_limit;
use super::peers::crypto;
use super::progress::Progress;
use super::threads::{Cores, pin_to, thread_cpu};
use crate::sockets::{Pairs, Transport};
use crate::words::words;
use crate::{Failure, stacks};

words! {
    /// The connections of one loop.
    Crowd {
        /// The busy ones alone: what the others are compared with.
        Few = "few",
        /// All of them.
        Many = "many",
    }
}

/// The first word that makes a program that calls [`run`] the clients of it; see [`clients`](fn@clients).
const CLIENTS: &str = "wakeups-clients";
/// Bytes in a message.
const MESSAGE: usize = 64;
/// Connections that keep a message in flight.
const BUSY: usize = 100;
/// Handshakes at a time.
const AT_ONCE: usize = 32;
/// How often each is measured, a share of the time each time: a noisy neighbour then spoils a round and not the run.
const ROUNDS: u32 = 5;
/// Runs before anything counts, so that caches are warm.
const WARM_UP: Duration = Duration::from_millis(50);
/// How long opening may stand still.
const STANDSTILL: Duration = Duration::from_secs(20);
/// Descriptors that are not connections: the program's own, those of two loops, and client ends on their way.
const OTHER_DESCRIPTORS: usize = 256;

/// What messages cost the thread of a loop.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Messages that came while it was measured.
    pub events: u64,
    /// In how many turns of the loop: returns of epoll_wait(2) with something to do.
    pub wakeups: u64,
    /// CPU time for a message and its echo, user and system, in nanoseconds: the median round.
    pub ns_per_event: f64,
}

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// Connections; fewer than asked for where the system does not grant so many.
    pub n: usize,
    /// Those that were busy.
    pub busy: usize,
    /// With all connections on one loop.
    pub many: Cost,
    /// With the busy ones alone.
    pub few: Cost,
    /// What an event costs, relative to what it costs with the busy ones alone: the median round.
    pub ratio: f64,
    /// CPU time of the loop's thread in a second without messages, in nanoseconds, all connections on the loop.
    pub idle_cpu: f64,
    /// Turns with something to do, in all the silence that was measured.
    pub idle_wakeups: u64,
    /// How long it took to open all connections, one message each.
    pub opening: Duration,
    /// Messages that were never answered.
    pub lost: u64,
}

impl Measurement {
    /// The line that `stackbench` prints.
    #[must_use]
    pub fn to_json(&self, options: &Options) -> Value {
        let digits = |value: f64, digits: i32| (value * 10f64.powi(digits)).round() / 10f64.powi(digits);
        json!({
            "test": "wakeups",
            "peer": "project",
            "transport": options.transport.to_string(),
            "stack": options.stack.to_string(),
            "mode": options.mode.to_string(),
            "cipher": options.cipher.to_string(),
            "provider": options.provider.to_string(),
            "n_asked": options.n,
            "n": self.n,
            "busy": self.busy,
            "secs": options.time.as_secs_f64(),
            "rounds": ROUNDS,
            "events": self.many.events,
            "wakeups": self.many.wakeups,
            "ns_per_event": digits(self.many.ns_per_event, 0),
            "events_100": self.few.events,
            "wakeups_100": self.few.wakeups,
            "ns_per_event_100": digits(self.few.ns_per_event, 0),
            "ratio": digits(self.ratio, 3),
            "idle_cpu_ns_per_s": digits(self.idle_cpu, 0),
            "idle_wakeups": self.idle_wakeups,
            "open_s": digits(self.opening.as_secs_f64(), 2),
            "lost": self.lost,
        })
    }
}

/// Opens all connections, and measures. The clients are this program once more, started with words that
/// [`clients`](fn@clients) understands: `main` has to ask that first. Raises the soft limit on descriptors.
///
/// # Errors
/// If connections cannot be had, a call fails, or wrong bytes arrive.
pub fn run(options: &Options) -> Result<Measurement, Failure> {
    let n = options.n.min(affordable(options.transport)?);
    if n < options.n {
        eprintln!("{n} connections instead of {}: more are not to be had here", options.n);
    }
    thread::scope(|scope| {
        // With a name, so that a profile can tell it apart; and a thread of its own, because it stays on one core.
        let server = thread::Builder::new().name("server".to_owned()).spawn_scoped(scope, || measure(options, n))?;
        server.join().map_err(|_| "the server's thread panicked")?
    })
}

/// If `words`, a program's arguments, come from [`run`]: is the clients, until the run is over.
///
/// # Errors
/// What went wrong there; the run ends then, too.
pub fn clients(words: &[String]) -> Option<Result<(), Failure>> {
    let (first, words) = words.split_first()?;
    (first == CLIENTS).then(|| clients::run(words))
}

/// How many connections a process can have, its soft limit on descriptors raised as far as it goes.
fn affordable(transport: Transport) -> Result<usize, Failure> {
    let descriptors = raise_limit()?;
    let mut most = descriptors.saturating_sub(OTHER_DESCRIPTORS + BUSY);
    if transport == Transport::Tcp {
        // Every connection goes to one port of one address and comes from a port of its own. Some are others' already.
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
        let (first, last) = range.trim().split_once('\t').ok_or("the range of local ports has no end")?;
        let ports = last.parse::<usize>()?.saturating_sub(first.parse()?);
        most = most.min((ports - ports / 8).saturating_sub(BUSY));
    }
    if most == 0 { Err(format!("{descriptors} descriptors are too few").into()) } else { Ok(most) }
}

fn measure(options: &Options, n: usize) -> Result<Measurement, Failure> {
    let busy = n.min(BUSY);
    let cores = Cores::of_this_process()?;
    // Before this thread is pinned, which its children inherit.
    let clients = Clients::start(options, cores.second)?;
    pin_to(cores.first)?;
    let begun = Instant::now();
    let few = open(options, &clients, Crowd::Few, busy)?;
    let many = open(options, &clients, Crowd::Many, n)?;
    let opening = begun.elapsed();

    let time = options.time / ROUNDS;
    let [mut busy_few, mut busy_many, mut silent] = [(); 3].map(|()| Vec::new());
    let mut lost = 0;
    for round in 0..ROUNDS {
        // Each goes first as often as the other, but for one round.
        for turn in 0..2 {
            let (crowd, server, windows) = match (round + turn) % 2 {
                0 => (Crowd::Few, &few, &mut busy_few),
                _ => (Crowd::Many, &many, &mut busy_many),
            };
            clients.listen_on(server)?;
            clients.talk(crowd)?;
            server.run(WARM_UP.min(time), || false)?;
            windows.push(Window::busy(server, time)?);
            lost = clients.rest(server)?;
        }
        clients.listen_on(&many)?;
        silent.push(Window::of(&many, || many.run(time, || false))?);
    }
    clients.finish()?;

    let (costs_few, costs_many) = (costs(&busy_few)?, costs(&busy_many)?);
    let ratios = costs_many.iter().zip(&costs_few).map(|(many, few)| many / few).collect();
    let in_silence = silent.iter().map(|window| window.cpu.as_nanos() as f64 / window.wall.as_secs_f64()).collect();
    Ok(Measurement {
        n,
        busy,
        many: Cost::of(&busy_many, costs_many),
        few: Cost::of(&busy_few, costs_few),
        ratio: median(ratios),
        idle_cpu: median(in_silence),
        idle_wakeups: silent.iter().map(|window| window.wakeups).sum(),
        opening,
        lost,
    })
}

/// CPU time for a message, in each window.
fn costs(windows: &[Window]) -> Result<Vec<f64>, Failure> {
    windows.iter().map(Window::cpu_per_event).collect()
}

impl Cost {
    fn of(windows: &[Window], costs: Vec<f64>) -> Self {
        Self {
            events: windows.iter().map(|window| window.events).sum(),
            wakeups: windows.iter().map(|window| window.wakeups).sum(),
            ns_per_event: median(costs),
        }
    }
}

/// Opens the connections of a loop, a few dozen at a time, and has one message echoed on each.
fn open(options: &Options, clients: &Clients, crowd: Crowd, n: usize) -> Result<Server, Failure> {
    let stack = stacks::server(options.stack, crypto(options.provider, options.cipher))?;
    let pairs = Pairs::new(options.transport)?;
    let mut server = Server::new()?;
    clients.listen_on(&server)?;
    let mut progress = Progress::new(n);
    let (mut begun, mut open) = (0, 0);
    while open < n {
        while begun < n && begun - open < AT_ONCE {
            let (near, far) = pairs.connect()?;
            // The busy ones are spread evenly over all.
            let busy = n.min(BUSY);
            let is_busy = (begun + 1) * busy / n > begun * busy / n;
            server.add(stack.over(stacks::leaf(near)?)?, options.mode)?;
            clients.open(crowd, is_busy, far)?;
            begun += 1;
        }
        server.run(STANDSTILL, || server.greeted() > open)?;
        if server.greeted() == open {
            return Err(format!("handshakes stand still, with {open} of {n} connections open").into());
        }
        open = server.greeted();
        progress.set(open);
    }
    Ok(server)
}

/// What a loop did in a stretch of time.
struct Window {
    wall: Duration,
    cpu: Duration,
    events: u64,
    wakeups: u64,
}

impl Window {
    /// Runs `server` for `time`; where so busy a machine gave the clients no time at all, until they had some.
    fn busy(server: &Server, time: Duration) -> Result<Self, Failure> {
        let before = server.events();
        Self::of(server, || Ok(server.run(time, || false)? + server.run(STANDSTILL, || server.events() > before)?))
    }

    fn of(server: &Server, run: impl FnOnce() -> Result<u64, Failure>) -> Result<Self, Failure> {
        let (begun, cpu, events) = (Instant::now(), thread_cpu()?, server.events());
        let wakeups = run()?;
        Ok(Self { wall: begun.elapsed(), cpu: thread_cpu()? - cpu, events: server.events() - events, wakeups })
    }

    /// In nanoseconds.
    fn cpu_per_event(&self) -> Result<f64, Failure> {
        if self.events == 0 {
            return Err("the clients sent nothing while it was measured".into());
        }
        Ok(self.cpu.as_nanos() as f64 / self.events as f64)
    }
}

/// The middle one of an odd number of figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
