//! Channels in memory: a connected pair, a growing buffer, and nothing at all.

mod buffer;
mod null;
mod pair;

pub use buffer::BufferChannel;
pub use null::NullChannel;
pub use pair::MemoryChannel;
