//! `plants`: mistakes planted in the crates, and which of them no test catches; see `--help`.
//!
//! Exit status: 0 if all went well and enough was caught, 1 if not, 2 if the command line makes no sense.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use integration_tests::plants::{Options, run};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("plants: too many escaped");
            ExitCode::FAILURE
        }
        Err(failure) => {
            eprintln!("plants: {failure:#}");
            ExitCode::FAILURE
        }
    }
}
