//! `stackbench stream key=value…`: one measurement, one JSON object on one line.
//!
//! Exit status: 0, 1 if the run failed or lost bytes, 2 if the request makes no sense.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use integration_tests::Failure;
use integration_tests::bench::options::{KEYS, Options};
use integration_tests::bench::stream;
use integration_tests::words::Refusal;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let failure = match run(&words) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    eprintln!("stackbench: {failure}");
    if failure.is::<Refusal>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn run(words: &[String]) -> Result<(), Failure> {
    let keys = match words.split_first() {
        Some((test, keys)) if test == "stream" => keys,
        Some((test, _)) => {
            return Err(Refusal(format!("there is no test `{test}` (yet); the tests are: stream")).into());
        }
        None => return Err(Refusal(format!("which test? stream {KEYS}")).into()),
    };
    let options = Options::parse(keys)?;
    let measured = stream::run(&options)?;
    println!("{}", measured.to_json(&options));
    if measured.lost > 0 {
        return Err(format!("{} bytes were lost", measured.lost).into());
    }
    Ok(())
}
