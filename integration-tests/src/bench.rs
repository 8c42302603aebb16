//! The benchmarks: what to measure, how, and the report. Content is checked; time never fails a run.

pub mod chart;
pub mod options;
pub mod peers;
pub mod report;
pub mod rtt;
pub mod stream;
pub mod targets;
mod threads;
pub mod wakeups;
