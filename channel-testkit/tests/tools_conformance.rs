//! An adverse channel over a conforming channel is a conforming channel.

use channel_core::{Channel, Direction, Error, ErrorKind, MemoryChannel, Result};
use channel_testkit::adverse::{
    Gate, Wrap, fail_after, flip_bit_at, gated, no_lend, one_byte, random_cuts, record, truncate_after,
    would_block_every_other,
};
use channel_testkit::suite::Options;

fn memory(options: &Options, wrap: Wrap) -> Result<(Box<dyn Channel>, MemoryChannel)> {
    let (near, far) = MemoryChannel::pair_with_capacity(if options.small_buffers { 1 } else { 64 * 1024 })?;
    Ok((wrap(Box::new(near)), far))
}

/// More than any clause moves or calls.
const NEVER: u32 = u32::MAX;

// Each wrapper in each mode, and the two that change most in all of them; the layers over and under them are in `integration-tests`.
channel_testkit::conformance! {
    mod one_byte_per_call [] in [blocking, event_loop] = |options: &Options| memory(options, one_byte);
    mod every_other_call_would_block [hesitates] in [non_blocking, tokio] = |options: &Options| memory(options, would_block_every_other);
    mod cut_at_random [] in [blocking, tokio] = |options: &Options| memory(options, |inner| random_cuts(inner, 1));
    mod nothing_lent [] in [non_blocking] = |options: &Options| memory(options, no_lend);
    mod behind_an_open_gate = |options: &Options| memory(options, |inner| gated(inner, Gate::new()));
    mod recorded [] in [non_blocking] = |options: &Options| memory(options, |inner| record(inner).0);
    mod one_byte_that_would_block [hesitates] = |options: &Options| memory(options, |inner| would_block_every_other(one_byte(inner)));
    mod not_failing_yet [] in [blocking] = |options: &Options| memory(options, |inner| {
        let error = Error::new(ErrorKind::Reset, "test", "too early");
        fail_after(inner, Direction::Read, NEVER as usize, error)
    });
    mod not_truncated_yet [] in [event_loop] = |options: &Options| memory(options, |inner| truncate_after(inner, NEVER.into()));
    mod not_corrupted_yet [] in [tokio] = |options: &Options| memory(options, |inner| flip_bit_at(inner, Direction::Write, NEVER.into()).0);
}
