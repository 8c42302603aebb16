//! The program `relay`; the library does the work.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    channel_relay::main(std::env::args_os())
}
