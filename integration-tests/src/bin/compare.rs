//! `compare [rounds] [secs]`: the project and its peers in turn, medians, and the table of targets, which it also writes into
//! `docs/performance.md` with a chart beside it.
//!
//! Exit status: 0 whether or not the targets are met, 1 if a run failed or lost bytes, 2 if the request makes no sense.

#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use integration_tests::Failure;
use integration_tests::bench::options::seconds;
use integration_tests::bench::report::{DIRECTIONS, Results, replace_between_markers};
use integration_tests::bench::targets::CASES;
use integration_tests::bench::{chart, stream, wakeups};
use integration_tests::words::Refusal;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let failure = match run(&words) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(failure) => failure,
    };
    eprintln!("compare: {failure:#}");
    if failure.is::<Refusal>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

fn run(words: &[String]) -> Result<(), Failure> {
    if let Some(done) = wakeups::clients(words) {
        return done;
    }
    let (rounds, time) = parse(words)?;
    let results = measure(rounds, time)?;
    let tables = results.tables()?;
    print!("{tables}");

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = docs.join("performance.md");
    let told = format!("Medians of {rounds} rounds of {} s a run, on {}.\n\n{tables}", time.as_secs_f64(), processor());
    let text = replace_between_markers(&std::fs::read_to_string(&page)?, "measured", &told)?;
    std::fs::write(&page, text)?;
    std::fs::write(docs.join("performance.svg"), chart::svg(&results)?)?;
    Ok(())
}

fn parse(words: &[String]) -> Result<(usize, Duration), Refusal> {
    let refuse = || Refusal("usage: compare [rounds, 1 to 1000, default 5] [seconds a run, default 1]".to_owned());
    if words.len() > 2 {
        return Err(refuse());
    }
    let rounds = words.first().map_or(Ok(5), |word| word.parse()).map_err(|_| refuse())?;
    if !(1..=1000).contains(&rounds) {
        return Err(refuse());
    }
    Ok((rounds, words.get(1).map_or(Ok(Duration::from_secs(1)), |word| seconds(word))?))
}

fn measure(rounds: usize, time: Duration) -> Result<Results, Failure> {
    let mut results = Results::default();
    eprintln!("event loop");
    results
        .set_wakeups(event_loop(time * u32::try_from(rounds)?).map_err(|failure| format!("event loop: {failure:#}"))?);
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for dir in DIRECTIONS {
            for case in CASES {
                let mut options = case.options(dir);
                options.time = time;
                let measured = stream::run(&options).map_err(|failure| format!("{case}, {dir}: {failure:#}"))?;
                if measured.lost > 0 {
                    return Err(format!("{case}, {dir}: {} bytes were lost", measured.lost).into());
                }
                results.add(case, dir, measured);
            }
        }
    }
    Ok(results)
}

fn event_loop(time: Duration) -> Result<wakeups::Measurement, Failure> {
    let measured = wakeups::run(&wakeups::Options { time, ..wakeups::Options::default() })?;
    if measured.lost > 0 { Err(format!("{} messages were lost", measured.lost).into()) } else { Ok(measured) }
}

/// The processor's own name, so that a reader can tell which machine the absolute figures are of.
fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| "an unnamed processor".to_owned(), |(_, name)| name.trim().to_owned())
}
