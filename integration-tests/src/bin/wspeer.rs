//! Our end of a conversation with a foreign WebSocket program; `integration-tests/peers/run` drives it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    integration_tests::wspeer::main(std::env::args_os())
}
