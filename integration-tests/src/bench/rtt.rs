//! A message and its echo, again and again: what a round trip takes, and what it costs both ends together.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::options::Options;
use super::peers::{self, Talker};
use super::threads::{Cores, pin_to, thread_cpu};
use crate::Failure;
use crate::content::{self, Checker};

/// Runs before anything counts, so that buffers exist and the caches are warm.
const WARM_UP: Duration = Duration::from_millis(100);

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// Round trips that were measured.
    pub trips: u64,
    /// What half of them took at most.
    pub p50: Duration,
    /// What 99 of 100 took at most.
    pub p99: Duration,
    /// CPU time of both ends for one, in microseconds.
    pub cpu: f64,
}

impl Measurement {
    /// The line that `stackbench` prints.
    #[must_use]
    pub fn to_json(&self, options: &Options) -> Value {
        let hundredths = |micros: f64| (micros * 100.0).round() / 100.0;
        let micros = |time: Duration| hundredths(time.as_secs_f64() * 1e6);
        json!({
            "test": "rtt",
            "peer": options.peer.to_string(),
            "transport": options.transport.to_string(),
            "stack": options.stack.to_string(),
            "size": options.size,
            "cipher": options.cipher.to_string(),
            "provider": options.provider.to_string(),
            "secs": options.time.as_secs_f64(),
            "trips": self.trips,
            "p50_us": micros(self.p50),
            "p99_us": micros(self.p99),
            "cpu_us_per_rtt": hundredths(self.cpu),
        })
    }
}

/// Connects both ends in this process, one thread each, both on one core: on two, a run's figures depend on how deep the other
/// core sleeps.
///
/// # Errors
/// If the ends cannot be connected, a call fails, or wrong bytes arrive.
pub fn run(options: &Options) -> Result<Measurement, Failure> {
    let [client, server] = peers::connect_talkers(options)?;
    let core = Cores::of_this_process()?.first;
    thread::scope(|scope| {
        let serving = thread::Builder::new().name("server".to_owned()).spawn_scoped(scope, move || {
            pin_to(core)?;
            echo(&mut *server()?, options.size)
        })?;
        let calling = thread::Builder::new().name("client".to_owned()).spawn_scoped(scope, move || {
            pin_to(core)?;
            call(&mut *client()?, options)
        })?;
        let called = calling.join().map_err(|_| "the client's thread panicked")?;
        let served = serving.join().map_err(|_| "the server's thread panicked")?;
        let (mut trips, client_cpu) = called.map_err(|failure| format!("client: {failure}"))?;
        let (all_trips, server_cpu) = served.map_err(|failure| format!("server: {failure}"))?;
        trips.sort_unstable();
        let at = |share: usize| trips.get(trips.len() * share / 100).copied();
        let (Some(p50), Some(p99)) = (at(50), at(99)) else {
            return Err("nothing moved while it was measured; give it more time (secs=)".into());
        };
        let count = trips.len() as u64;
        let micros = |cpu: Duration, trips: u64| cpu.as_secs_f64() * 1e6 / trips as f64;
        Ok(Measurement { trips: count, p50, p99, cpu: micros(client_cpu, count) + micros(server_cpu, all_trips) })
    })
}

/// Sends messages, each after the answer to the one before: what each took, and the CPU time of all of them.
fn call(talker: &mut dyn Talker, options: &Options) -> Result<(Vec<Duration>, Duration), Failure> {
    let mut checker = Checker::default();
    let begun = Instant::now();
    while begun.elapsed() < WARM_UP {
        trip(talker, &mut checker, options.size)?;
    }
    let mut trips = Vec::with_capacity(1 << 20);
    let (begun, cpu) = (Instant::now(), thread_cpu()?);
    let mut before = begun;
    while before - begun < options.time {
        trip(talker, &mut checker, options.size)?;
        let now = Instant::now();
        trips.push(now - before);
        before = now;
    }
    let cpu = thread_cpu()? - cpu;
    talker.end()?;
    Ok((trips, cpu))
}

fn trip(talker: &mut dyn Talker, checker: &mut Checker, size: usize) -> Result<(), Failure> {
    let offset = checker.offset();
    talker.send(content::at(offset, size))?;
    if receive(talker, checker, size)? { Ok(()) } else { Err("the server ended the stream".into()) }
}

/// Answers until the client ends: how often, and the CPU time of all that.
fn echo(talker: &mut dyn Talker, size: usize) -> Result<(u64, Duration), Failure> {
    let (mut trips, mut checker, cpu) = (0, Checker::default(), thread_cpu()?);
    loop {
        let offset = checker.offset();
        if !receive(talker, &mut checker, size)? {
            break;
        }
        talker.send(content::at(offset, size))?;
        trips += 1;
    }
    Ok((trips.max(1), thread_cpu()? - cpu))
}

/// Receives `size` bytes, or the end in front of them.
fn receive(talker: &mut dyn Talker, checker: &mut Checker, size: usize) -> Result<bool, Failure> {
    let begun = checker.offset();
    while checker.offset() - begun < size as u64 {
        if !talker.receive(checker)? {
            return if checker.offset() == begun { Ok(false) } else { Err("the stream ended in a message".into()) };
        }
    }
    Ok(true)
}
