//! The benchmarks: what to measure, how, and the report. Content is checked; time never fails a run.

pub mod chart;
mod descriptors;
pub mod mem;
pub mod options;
pub mod peers;
mod progress;
pub mod report;
pub mod rtt;
pub mod stream;
pub mod targets;
mod threads;
pub mod wakeups;
