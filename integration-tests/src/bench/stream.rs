//! One direction at full speed: what a byte costs each side.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::options::Options;
use super::peers::{self, Ends, Sender, Talker};
use super::threads::{Cores, pin_to, thread_cpu};
use crate::Failure;
use crate::content::{self, Checker};

/// Runs before anything counts, so that buffers exist, windows are open and the caches are warm.
const WARM_UP: Duration = Duration::from_millis(300);

/// What one run cost.
#[derive(Clone, Copy, Debug)]
pub struct Measurement {
    /// What the receiver got, in 10⁶ bytes a second of wall time.
    pub mb_per_second: f64,
    /// The same in messages.
    pub messages_per_second: f64,
    /// CPU time of the sending thread, user and system, in nanoseconds per 1024 bytes.
    pub send_cpu: f64,
    /// CPU time of the receiving thread, content check included.
    pub receive_cpu: f64,
    /// How many cores the two threads had.
    pub cores: usize,
    /// Bytes sent that had not arrived when the stream ended.
    pub lost: u64,
}

impl Measurement {
    /// CPU time per KiB of the side that works harder; what limits a busy machine.
    #[must_use]
    pub fn busiest_cpu(&self) -> f64 {
        self.send_cpu.max(self.receive_cpu)
    }

    /// The line that `stackbench` prints.
    #[must_use]
    pub fn to_json(&self, options: &Options) -> Value {
        let tenths = |value: f64| (value * 10.0).round() / 10.0;
        json!({
            "test": "stream",
            "peer": options.peer.to_string(),
            "transport": options.transport.to_string(),
            "stack": options.stack.to_string(),
            "size": options.size,
            "dir": options.dir.to_string(),
            "mode": options.mode.to_string(),
            "reader": options.reader.to_string(),
            "cipher": options.cipher.to_string(),
            "provider": options.provider.to_string(),
            "secs": options.time.as_secs_f64(),
            "rsize": options.receive_buffer / 1024,
            "mb_s": tenths(self.mb_per_second),
            "msgs_s": self.messages_per_second.round(),
            "send_cpu_ns_per_kib": tenths(self.send_cpu),
            "recv_cpu_ns_per_kib": tenths(self.receive_cpu),
            "cores": self.cores,
            "lost": self.lost,
        })
    }
}

/// Connects both ends in this process, one thread each, and streams for the time asked for.
///
/// # Errors
/// If the ends cannot be connected, a call fails, or wrong bytes arrive.
pub fn run(options: &Options) -> Result<Measurement, Failure> {
    let Ends { sender, receiver } = peers::connect(options)?;
    let phase = Phase::default();
    let cores = Cores::of_this_process()?;
    let (opened, both_open) = mpsc::channel();
    let (sent, received) = thread::scope(|scope| -> Result<_, Failure> {
        // Names, so that a profile can tell the two sides apart.
        let sending = thread::Builder::new().name("sender".to_owned()).spawn_scoped(scope, {
            let (phase, opened) = (&phase, opened.clone());
            move || -> Result<_, Failure> {
                pin_to(cores.first)?;
                let mut sender = sender()?;
                opened.send(())?;
                let sent = send(&mut *sender, options.size, phase)?;
                // The end comes along: closing a TCP socket that holds unread input (session tickets) resets the
                // connection under the receiver.
                Ok((sent, sender))
            }
        })?;
        let receiving = thread::Builder::new().name("receiver".to_owned()).spawn_scoped(scope, {
            let phase = &phase;
            move || -> Result<_, Failure> {
                pin_to(cores.second)?;
                let mut receiver = receiver()?;
                opened.send(())?;
                receive(&mut *receiver, phase)
            }
        })?;
        // An end that fails before it is open drops its sender; then there is nothing to time.
        if both_open.recv().and_then(|()| both_open.recv()).is_ok() {
            thread::sleep(WARM_UP);
            phase.set(Phase::COUNTS);
            thread::sleep(options.time);
        }
        phase.set(Phase::OVER);
        Ok((sending.join(), receiving.join()))
    })?;
    let sent = sent.map_err(|_| "the sending thread panicked")?;
    let received = received.map_err(|_| "the receiving thread panicked")?;
    let (((sent, total_sent), _end), (received, total_received)) = match (sent, received) {
        (Ok(sent), Ok(received)) => (sent, received),
        (Err(failure), Ok(_)) => return Err(format!("sender: {failure}").into()),
        (Ok(_), Err(failure)) => return Err(format!("receiver: {failure}").into()),
        // One is the other's consequence; who reads this sees which.
        (Err(sending), Err(receiving)) => return Err(format!("sender: {sending}; receiver: {receiving}").into()),
    };
    let seconds = received.wall.as_secs_f64();
    Ok(Measurement {
        mb_per_second: received.bytes as f64 / 1e6 / seconds,
        messages_per_second: received.bytes as f64 / options.size as f64 / seconds,
        send_cpu: sent.cpu_per_kib()?,
        receive_cpu: received.cpu_per_kib()?,
        cores: cores.count(),
        lost: total_sent.abs_diff(total_received),
    })
}

fn send(sender: &mut dyn Sender, size: usize, phase: &Phase) -> Result<(Window, u64), Failure> {
    let mut window = Window::default();
    let mut offset = 0;
    while !window.is_over_at(phase, offset)? {
        sender.send(content::at(offset, size))?;
        offset += size as u64;
    }
    sender.end()?;
    Ok((window, offset))
}

fn receive(receiver: &mut dyn Talker, phase: &Phase) -> Result<(Window, u64), Failure> {
    let mut window = Window::default();
    let mut checker = Checker::default();
    while receiver.receive(&mut checker)? {
        window.is_over_at(phase, checker.offset())?;
    }
    // The sender may have seen that it is over, and ended, between two looks of ours.
    window.is_over_at(phase, checker.offset())?;
    Ok((window, checker.offset()))
}

/// Where the run is; set by the thread that started it, looked at by both ends once a message.
#[derive(Debug, Default)]
struct Phase(AtomicU8);

impl Phase {
    const COUNTS: u8 = 1;
    const OVER: u8 = 2;

    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }
}

/// What one thread did while it counted.
#[derive(Debug, Default)]
struct Window {
    begun: Option<(Instant, Duration, u64)>,
    is_over: bool,
    wall: Duration,
    cpu: Duration,
    bytes: u64,
}

impl Window {
    /// Opens and closes the window as the phase says; `bytes` is how many went by so far. The clocks are read twice in all.
    fn is_over_at(&mut self, phase: &Phase, bytes: u64) -> Result<bool, Failure> {
        match (phase.0.load(Ordering::Relaxed), self.begun) {
            (Phase::COUNTS, None) => self.begun = Some((Instant::now(), thread_cpu()?, bytes)),
            (Phase::OVER, Some((wall, cpu, bytes_before))) if !self.is_over => {
                self.is_over = true;
                self.wall = wall.elapsed();
                self.cpu = thread_cpu()? - cpu;
                self.bytes = bytes - bytes_before;
            }
            (Phase::OVER, None) => self.is_over = true,
            _ => {}
        }
        Ok(self.is_over)
    }

    fn cpu_per_kib(&self) -> Result<f64, Failure> {
        if self.bytes == 0 {
            return Err("nothing moved while it was measured; give it more time (secs=)".into());
        }
        Ok(self.cpu.as_nanos() as f64 * 1024.0 / self.bytes as f64)
    }
}
