//! What the cross-layer tests and the benchmarks share: throw-away certificates, connected sockets, our stacks over them,
//! content whose order can be checked, the peers that our stacks are judged by, and the mistakes that the tests are judged by.

#![forbid(unsafe_code)]

pub mod bench;
pub mod certificates;
pub mod content;
pub mod peers;
pub mod plants;
pub mod sockets;
pub mod stacks;
pub mod words;
pub mod wspeer;

/// Anything that ends a test or a benchmark.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
