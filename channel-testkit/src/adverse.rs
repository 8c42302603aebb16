//! Adverse channels.

use channel_core::{Channel, Direction, Error};

/// Calls recorded.
#[derive(Clone, Debug, Default)]
pub struct Log;

/// .
#[must_use]
pub fn one_byte(inner: Box<dyn Channel>) -> Box<dyn Channel> {
    inner
}
/// .
#[must_use]
pub fn would_block_every_other(inner: Box<dyn Channel>) -> Box<dyn Channel> {
    inner
}
/// .
#[must_use]
pub fn random_cuts(inner: Box<dyn Channel>, seed: u64) -> Box<dyn Channel> {
    let _ = seed;
    inner
}
/// .
#[must_use]
pub fn fail_after(inner: Box<dyn Channel>, direction: Direction, n_calls: usize, error: Error) -> Box<dyn Channel> {
    let _ = (direction, n_calls, error);
    inner
}
/// .
#[must_use]
pub fn truncate_after(inner: Box<dyn Channel>, n_bytes: u64) -> Box<dyn Channel> {
    let _ = n_bytes;
    inner
}
/// .
#[must_use]
pub fn flip_bit_at(inner: Box<dyn Channel>, direction: Direction, byte_offset: u64) -> Box<dyn Channel> {
    let _ = (direction, byte_offset);
    inner
}
/// .
#[must_use]
pub fn record(inner: Box<dyn Channel>) -> (Box<dyn Channel>, Log) {
    (inner, Log)
}
/// .
#[must_use]
pub fn no_lend(inner: Box<dyn Channel>) -> Box<dyn Channel> {
    inner
}
