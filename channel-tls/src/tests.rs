//! The engine over byte slices: no channel, no I/O, every cut.

#[path = "../tests/common/mod.rs"]
mod common;
mod end;
mod endings;
mod exchange;
mod exhausted;
mod refusals;
mod replies;
mod traps;
