//! The memory pair keeps every promise.

use channel_core::MemoryChannel;
use channel_testkit::suite::Options;

channel_testkit::conformance! {
    mod memory = |options: &Options| {
        MemoryChannel::pair_with_capacity(if options.small_buffers { 1 } else { 64 * 1024 })
    };
}
