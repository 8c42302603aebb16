//! One place that moves bytes.

pub mod engine;

use crate::{Channel, Limits, Result};
use engine::{Decoder, Encoder, Handshake};

/// A protocol over another channel: implements [`Channel`] once for every engine.
pub struct Layered<D, E> {
    _p: std::marker::PhantomData<fn(D, E)>,
}

impl<D, E> std::fmt::Debug for Layered<D, E> {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

impl<D: Decoder, E: Encoder> Layered<D, E> {
    /// A layer that is open from the start.
    #[must_use]
    pub fn open(_layer: &'static str, _inner: Box<dyn Channel>, _decoder: D, _encoder: E, _limits: Limits) -> Self {
        todo!()
    }

    /// A layer that opens with a handshake.
    #[must_use]
    pub fn with_handshake(
        _layer: &'static str,
        _inner: Box<dyn Channel>,
        _handshake: Box<dyn Handshake<D, E>>,
        _limits: Limits,
    ) -> Self {
        todo!()
    }

    /// Runs `with` on the encoder, under its lock, then pushes what it queued (see `Encoder::pump`): for a ping, a key update.
    ///
    /// # Errors
    /// `NotOpen`, or a latched error
    pub fn control<R>(&self, _with: impl FnOnce(&mut E) -> R) -> Result<R> {
        todo!()
    }
}

impl<D: Decoder, E: Encoder> Channel for Layered<D, E> {
    crate::forward_methods!(|self| todo!() as &crate::NullChannel);
    fn describe_layer(&self) -> String {
        todo!()
    }
    fn as_any(&self) -> &dyn std::any::Any {
        todo!()
    }
}
