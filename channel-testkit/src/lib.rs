//! .
#![forbid(unsafe_code)]
pub mod adverse;
pub mod child;
pub mod fds;
pub mod recording;
pub mod script;
pub mod watchdog;
