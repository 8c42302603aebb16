//! Adverse channels: conforming channels that use every freedom the contract leaves, and hurt with it.
//!
//! Each wraps any channel and is a layer over it: in [`describe`](channel_core::describe), for
//! [`find_layer`](channel_core::find_layer), in both modes, and with an event loop. What they prove is one claim, *a layer over any
//! conforming channel is a conforming channel*: so the suite runs over stacks with an adverse channel at every depth. They
//! compose:
//!
//! ```
//! use channel_core::{ChannelExt, MemoryChannel, describe};
//! use channel_testkit::adverse;
//!
//! let (near, far) = MemoryChannel::pair()?;
//! let near = adverse::would_block_every_other(adverse::one_byte(Box::new(near)));
//! assert_eq!(describe(&near), "would-block: every other call / one-byte: one byte per call / memory");
//! near.write_all(b"hello")?;
//! let mut heard = [0; 5];
//! far.read_all(&mut heard)?;
//! assert_eq!(&heard, b"hello");
//! # Ok::<(), channel_core::Error>(())
//! ```
//!
//! Those of [`HARMLESS`] change nothing that a correct program could see. [`fail_after`], [`truncate_after`] and [`flip_bit_at`]
//! do damage, at a place that the test chooses. [`gated`] holds back. [`record`] watches.

mod channel;
mod endings;
mod gate;
mod lane;
mod log;
mod policy;
mod timing;

use std::sync::Arc;

use channel_core::{Channel, Direction, Error, Features};

pub use channel::Adverse;
pub use endings::Flip;
pub use gate::Gate;
pub use log::{Called, Log};

use channel::Kind;
use endings::{Fail, Truncate};
use gate::Gated;
use policy::{Honest, Policy};
use timing::{EveryOther, OneByte, RandomCuts};

/// A way to wrap a channel.
pub type Wrap = fn(Box<dyn Channel>) -> Box<dyn Channel>;

/// The wrappers that a correct layer above never notices, each with its name: to be put at every depth of a stack.
pub const HARMLESS: &[(&str, Wrap)] = &[
    ("one_byte", one_byte),
    ("would_block_every_other", would_block_every_other),
    ("random_cuts", |inner| random_cuts(inner, 0x5eed)),
    ("no_lend", no_lend),
];

/// Reads, lends and writes at most one byte per call.
#[must_use]
pub fn one_byte(inner: Box<dyn Channel>) -> Box<dyn Channel> {
    let kind = Kind::new("one-byte", "one byte per call");
    Adverse::boxed(inner, kind, Box::new(OneByte), Box::new(OneByte))
}

/// Reads, lends and writes at most as many bytes per call as a random number says, the same ones for the same `seed`: mostly
/// few, sometimes many.
#[must_use]
pub fn random_cuts(inner: Box<dyn Channel>, seed: u64) -> Box<dyn Channel> {
    let kind = Kind::new("cuts", format!("random cuts, seed {seed:#x}"));
    Adverse::boxed(inner, kind, Box::new(RandomCuts::new(seed)), Box::new(RandomCuts::new(!seed)))
}

/// Says would-block, though progress is possible, to every other call of a direction: to reads, lends and handshakes, and to
/// writes, flushes and `close_write`.
///
/// Readiness then says `Ready`, a registered handler is called again, and the next call goes through; so nothing is lost, and
/// a caller that does not wait when nothing is to be had is never told `Ready`. In blocking mode it waits as any channel does.
/// Once an end or an error has been reported, or the channel was shut down or closed, it holds nothing up any more.
#[must_use]
pub fn would_block_every_other(inner: Box<dyn Channel>) -> Box<dyn Channel> {
    let kind = Kind::new("would-block", "every other call");
    let open = is_open_from_the_start(&*inner);
    Adverse::boxed(inner, kind, Box::new(EveryOther::new(open)), Box::new(EveryOther::new(open)))
}

/// Whether `channel` is a leaf, perhaps below other adverse channels: it then never says `NotOpen`.
fn is_open_from_the_start(channel: &dyn Channel) -> bool {
    channel.next_layer().is_none_or(|next| channel.as_any().is::<Adverse>() && is_open_from_the_start(next))
}

/// Fails the `n_calls`-th call of `direction` (1 is the first; so is 0) and every later one with `error`.
///
/// Counted are reads, lends and handshakes, or writes, flushes and `close_write`; a call that says would-block is not, nor
/// is one of no bytes.
///
/// # Panics
/// If `error` is would-block, which is no failure.
#[must_use]
pub fn fail_after(inner: Box<dyn Channel>, direction: Direction, n_calls: usize, error: Error) -> Box<dyn Channel> {
    assert!(!error.is_would_block(), "would-block is no failure; see would_block_every_other");
    let way = match direction {
        Direction::Read => "read",
        Direction::Write => "write",
    };
    let kind = Kind::new("fail", format!("{way} call {n_calls} and all later ones"));
    one_way(inner, kind, direction, Box::new(Fail::new(n_calls, error)))
}

/// Ends the incoming stream after `n_bytes`: cleanly at this level, which to a protocol above is a stream cut short.
#[must_use]
pub fn truncate_after(inner: Box<dyn Channel>, n_bytes: u64) -> Box<dyn Channel> {
    let kind = Kind::new("truncate", format!("the incoming stream ends after {n_bytes} bytes"))
        .without(Features::SEEKABLE, "it counts the bytes of a stream, which has no position to move");
    one_way(inner, kind, Direction::Read, Box::new(Truncate::new(n_bytes)))
}

/// Flips the lowest bit of the byte at `byte_offset`, counted from 0, of the stream that goes in `direction`. The [`Flip`] tells whether
/// the stream got that far.
#[must_use]
pub fn flip_bit_at(inner: Box<dyn Channel>, direction: Direction, byte_offset: u64) -> (Box<dyn Channel>, Flip) {
    let (stream, lost) = match direction {
        Direction::Read => ("incoming", Features::SEEKABLE),
        Direction::Write => ("outgoing", Features::SEEKABLE | Features::WRITE_ZERO_COPY),
    };
    let kind = Kind::new("corrupt", format!("flips one bit at byte {byte_offset} of the {stream} stream"))
        .without(lost, "it changes one byte at a place of a stream, in a copy");
    let flip = Flip::new(byte_offset);
    (one_way(inner, kind, direction, Box::new(flip.clone())), flip)
}

/// Lends nothing ([`Channel::with_read_buf`]), so that the layer above must read.
#[must_use]
pub fn no_lend(inner: Box<dyn Channel>) -> Box<dyn Channel> {
    let kind =
        Kind::new("no-lend", "reads only").without(Features::READ_BUF, "taken away to see the layer above without it");
    Adverse::boxed(inner, kind, Box::new(Honest), Box::new(Honest))
}

/// Gives its reader only what `gate` lets pass, and nothing else to a waiter or a handler: below the layers of a stack it cuts
/// their stream at any byte.
#[must_use]
pub fn gated(inner: Box<dyn Channel>, gate: Arc<Gate>) -> Box<dyn Channel> {
    let kind = Kind::new("gate", "gives what the test lets pass");
    Adverse::boxed(inner, kind, Box::new(Gated::new(gate)), Box::new(Honest))
}

/// Changes nothing and writes down every call that moves bytes or changes something, in the [`Log`].
#[must_use]
pub fn record(inner: Box<dyn Channel>) -> (Box<dyn Channel>, Log) {
    let log = Log::default();
    let kind = Kind::new("record", "writes down every call").logging(log.clone());
    (Adverse::boxed(inner, kind, Box::new(Honest), Box::new(Honest)), log)
}

fn one_way(inner: Box<dyn Channel>, kind: Kind, direction: Direction, policy: Box<dyn Policy>) -> Box<dyn Channel> {
    match direction {
        Direction::Read => Adverse::boxed(inner, kind, policy, Box::new(Honest)),
        Direction::Write => Adverse::boxed(inner, kind, Box::new(Honest), policy),
    }
}
