//! Connected pairs for tests of adapters, and what to send through them.

use channel_core::{AioChannel, Channel, MemoryChannel};
use channel_testkit::adverse;

use crate::support::plain;

/// Makes a connected pair.
pub(crate) type Pair = fn() -> (Box<dyn Channel>, Box<dyn Channel>);

/// A leaf, and stacks: one with held bytes and small room below, and one with everything that may happen.
pub(crate) const PAIRS: &[(&str, Pair)] = &[
    ("memory", || boxed(MemoryChannel::pair().unwrap(), |leaf| Box::new(leaf))),
    ("plain over plain over a small pipe", || {
        boxed(MemoryChannel::pair_with_capacity(300).unwrap(), |leaf| Box::new(plain("upper", plain("lower", leaf))))
    }),
    ("adverse", || {
        boxed(MemoryChannel::pair_with_capacity(5000).unwrap(), |leaf| {
            let below = adverse::would_block_every_other(adverse::random_cuts(Box::new(leaf), 7));
            adverse::would_block_every_other(Box::new(plain("middle", below)))
        })
    }),
];

fn boxed<T>((near, far): (T, T), wrap: impl Fn(T) -> Box<dyn Channel>) -> (Box<dyn Channel>, Box<dyn Channel>) {
    (wrap(near), wrap(far))
}

/// A pair of memory channels.
pub(crate) fn memory() -> (AioChannel, AioChannel) {
    let (near, far) = MemoryChannel::pair().unwrap();
    (AioChannel::new(near), AioChannel::new(far))
}

/// Bytes that show when some are lost, doubled or exchanged.
pub(crate) fn bytes(count: usize, mut seed: u32) -> Vec<u8> {
    let next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}
