//! What stands alone in memory keeps every promise that it can.

use channel_core::{BufferChannel, MemoryChannel, NullChannel};

channel_testkit::conformance_of_one! {
    mod null = || (NullChannel::new(), ());
    mod buffer = || (BufferChannel::from_bytes(b"some bytes".to_vec()), ());
    mod memory_of_a_page = || MemoryChannel::pair_with_capacity(4096);
}
