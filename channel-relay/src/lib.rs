//! The command-line tool `relay`: layered I/O channels to try, to measure and to use from a shell.
//!
//! `relay demo` carries real data through a whole stack, both directions at once, and proves that it arrived: [`demo`]. The
//! binary is a thin `main` over [`main()`] here.
//!
//! Where things are: `cli.rs` the command line and what bad input gets; `demo.rs` one run from set-up to verdict; `exchange.rs` the four
//! threads that move the bytes; `verdict.rs` who caught what; `input.rs` the data, `digest.rs` its proof; `transport.rs`,
//! `certificate.rs` and `damage.rs` what stands below the stack.
#![forbid(unsafe_code)]

mod certificate;
mod cli;
mod damage;
pub mod demo;
mod digest;
mod exchange;
mod input;
mod progress;
mod size;
mod transport;
mod verdict;

pub use cli::main;
