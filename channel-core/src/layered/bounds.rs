//! The part of the limits that a layer keeps.

use std::time::Duration;

use crate::Limits;

/// The limits that concern every layer; the others are its engine's.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) handshake: Duration,
    pub(super) linger: Duration,
    pub(super) queued_bytes: usize,
    pub(super) input_bytes: usize,
}

impl Bounds {
    pub(super) fn of(limits: &Limits) -> Self {
        let &Limits { handshake, linger, queued_bytes, input_bytes, .. } = limits;
        Self { handshake, linger, queued_bytes, input_bytes }
    }
}
