//! The layer of the example, put through the conformance suite: over memory, and over itself.

#[path = "../examples/own_layer.rs"]
#[allow(dead_code, unreachable_pub, reason = "the example is a program, whose main is not called here")]
mod own_layer;

use channel_core::{Channel, Layered, MemoryChannel, Result};
use channel_testkit::suite::Options;
use own_layer::{InvertDecoder, InvertEncoder, invert};

type Inverted = Layered<InvertDecoder, InvertEncoder>;

fn memory(options: &Options) -> Result<(Box<dyn Channel>, MemoryChannel)> {
    let (near, far) = MemoryChannel::pair_with_capacity(if options.small_buffers { 1 } else { 64 * 1024 })?;
    Ok((options.behind_gate(near), far))
}

fn inverted(options: &Options) -> Result<(Inverted, Inverted)> {
    let (near, far) = memory(options)?;
    Ok((invert(near, options.limits.clone()), invert(Box::new(far), options.limits.clone())))
}

fn inverted_twice(options: &Options) -> Result<(Inverted, Inverted)> {
    let (near, far) = inverted(options)?;
    Ok((invert(Box::new(near), options.limits.clone()), invert(Box::new(far), options.limits.clone())))
}

channel_testkit::conformance! {
    mod own_layer_over_memory [gate] = |options: &Options| inverted(options);
    mod own_layer_over_own_layer_over_memory [gate] in [non_blocking, event_loop] = |options: &Options| inverted_twice(options);
}
