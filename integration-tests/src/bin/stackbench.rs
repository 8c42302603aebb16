//! `stackbench TEST key=value…`: one measurement, one JSON object on one line.
//!
//! Exit status: 0, 1 if the run failed or lost anything, 2 if the request makes no sense.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use integration_tests::Failure;
use integration_tests::bench::options::{KEYS, Options};
use integration_tests::bench::{mem, rtt, stream, wakeups};
use integration_tests::words::Refusal;
use serde_json::Value;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let failure = match run(&words) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    eprintln!("stackbench: {failure:#}");
    if failure.is::<Refusal>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn run(words: &[String]) -> Result<(), Failure> {
    if let Some(done) = wakeups::clients(words) {
        return done;
    }
    match words.split_first() {
        Some((test, keys)) if test == "stream" => {
            let options = Options::parse(keys)?;
            let measured = stream::run(&options)?;
            print(&measured.to_json(&options), measured.lost, "bytes")
        }
        Some((test, keys)) if test == "rtt" => {
            let options = Options::parse_round_trips(keys)?;
            print(&rtt::run(&options)?.to_json(&options), 0, "bytes")
        }
        Some((test, keys)) if test == "wakeups" => {
            let options = wakeups::Options::parse(keys)?;
            let measured = wakeups::run(&options)?;
            print(&measured.to_json(&options), measured.lost, "messages")
        }
        Some((test, keys)) if test == "mem" => {
            let options = mem::Options::parse(keys)?;
            print(&mem::run(&options)?.to_json(&options), 0, "bytes")
        }
        Some((test, _)) => {
            Err(Refusal(format!("there is no test `{test}` (yet); the tests are: stream, rtt, wakeups, mem")).into())
        }
        None => {
            let (wakeups, mem) = (wakeups::KEYS, mem::KEYS);
            let tests = format!("stream {KEYS}, or rtt with the same keys, or wakeups {wakeups}, or mem {mem}");
            Err(Refusal(format!("which test? {tests}")).into())
        }
    }
}

fn print(measured: &Value, lost: u64, what: &str) -> Result<(), Failure> {
    println!("{measured}");
    if lost > 0 { Err(format!("{lost} {what} were lost").into()) } else { Ok(()) }
}
