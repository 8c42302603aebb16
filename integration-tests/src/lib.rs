//! What the cross-layer tests and the benchmarks share: throw-away certificates, connected sockets, content whose order can be
//! checked, and the peers that our stacks are judged by.

#![forbid(unsafe_code)]

pub mod bench;
pub mod certificates;
pub mod content;
pub mod peers;
pub mod sockets;

/// Anything that ends a test or a benchmark.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
