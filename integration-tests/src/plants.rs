//! Mutation tests: mistakes planted in the crates, and whether the tests tell.
//!
//! * `own` reads the plants we thought of, `drawn` draws those of cargo-mutants; `field` has them all.
//! * `source` says where a plant can be put, `switch` puts all of them into one build, off until chosen.
//! * `tree` is the copy that is planted, `compile` builds it and hears what the compiler has against a plant.
//! * `trial` runs a test binary with one plant on, `course` takes a plant through the binaries that reach it.
//! * `journal` says how far it is, `report` is the score.

mod compile;
mod course;
mod drawn;
mod field;
mod journal;
mod own;
mod report;
mod source;
mod switch;
mod tree;
mod trial;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;

use crate::Failure;
use compile::{Cargo, TestBinary};
use course::{Known, Settings, Verdict, side_by_side};
use field::{Field, Growth, Plant};
use journal::Journal;
use tree::Tree;

/// The crates that are planted.
const PLANTED: [&str; 6] =
    ["channel-sys", "channel-core", "channel-socket", "channel-tls", "channel-websocket", "channel-file"];
/// The crates whose tests are those of the planted ones.
const NEAR: [&str; 6] =
    ["channel-core", "channel-socket", "channel-tls", "channel-websocket", "channel-file", "channel-testkit"];

/// Plants mistakes in the crates, one at a time, and tells which of them no test catches
///
/// A copy of the working tree, in the target directory, is built once with all plants in it; an environment variable turns one
/// on. A plant meets the tests of its own crate first and the others only if it survives, and of all of them only those that
/// reach it. Mutants that do not compile are not counted.
#[derive(Debug, Parser)]
#[command(name = "plants")]
#[command(
    after_help = "Exit status: 0 if all went well and enough was caught, 1 if not, 2 if the command line makes no sense."
)]
pub struct Options {
    /// Draws the mutants, the sample, and the tests of large suites
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// How many of our own to draw; all of them if not given
    #[arg(long, value_name = "COUNT")]
    own: Option<usize>,
    /// How many mutants to draw from those of cargo-mutants
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    draw: usize,
    /// Takes only so many plants, and them only through the tests of their own crates; writes no page
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// Takes only plants whose name or file contains this, or one of several; writes no page
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Runs large suites whole, rather than each promise in each mode once
    #[arg(long)]
    thorough: bool,
    /// Fails if less of the plants is caught, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0)]
    least: f64,
    /// How many test binaries to run at a time; one for each processor if not given
    #[arg(long, value_name = "COUNT")]
    workers: Option<usize>,
    /// Takes no further plant once so many have passed since the first
    #[arg(long, value_name = "COUNT")]
    minutes: Option<u64>,
    /// Ends when all plants compile, before the first test runs
    #[arg(long)]
    compile: bool,
}

/// A plant with its verdict.
struct Judged<'a> {
    plant: &'a Plant,
    verdict: Verdict,
}

/// Does all of it; the answer is whether enough was caught.
///
/// # Errors
/// A plant that no longer applies or does not compile, and whatever keeps the tests from running.
pub fn run(options: &Options) -> Result<bool, Failure> {
    let start = Instant::now();
    let root = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))?;
    let beds = root.join("integration-tests/plants");
    let target = compile::target_directory(&root)?;
    let place = target.join("plants");
    let workers = options.workers.map_or_else(|| std::thread::available_parallelism().map(Into::into), Ok)?;
    let tree = Tree::copy(&root, &place.join("tree"))?;
    let cargo = Cargo::new(&tree.root, &target, workers);

    let mut field = Field::new(&tree);
    field.add_own(own::read(&beds)?)?;
    if options.draw > 0 {
        field.add_drawn(drawn::list(&root, &PLANTED)?, options.seed, options.draw, &own::read_reasons(&beds)?)?;
        field.weed(&cargo)?;
    }
    let chosen = chosen(&field, options);
    eprintln!("{}; {} of them now", field.census(), chosen.len());
    let binaries = field.build(&cargo, options.sample.map(|_| NEAR.as_slice()))?;
    eprintln!("{} test binaries, after {} s", binaries.len(), start.elapsed().as_secs());
    if options.compile {
        return Ok(true);
    }

    let notes = place.join("reached");
    let _ = fs::remove_dir_all(&notes); // not there the first time
    fs::create_dir_all(&notes)?;
    let mut settings = Settings {
        workers,
        seed: options.seed,
        thorough: options.thorough,
        own_only: options.sample.is_some(),
        until: None,
    };
    let suite = without_plants(binaries, &settings, &notes)?;
    eprintln!("the tests without a plant, after {} s", start.elapsed().as_secs());
    settings.until = options.minutes.and_then(|minutes| Instant::now().checked_add(Duration::from_secs(minutes * 60)));
    let journal = Journal::new(&place.join("results.jsonl"), chosen.len())?;
    let mut verdicts = meet(&field, &chosen, &suite, &settings, &journal)?;
    verdicts.extend(meet_alone(&field, &chosen, &cargo, &settings, &journal)?);
    journal.finish();
    verdicts.sort_by_key(|(number, _)| *number);
    if verdicts.len() < chosen.len() {
        eprintln!("{} plants were not taken, for lack of time", chosen.len() - verdicts.len());
    }

    let judged: Vec<Judged<'_>> =
        verdicts.into_iter().map(|(number, verdict)| Judged { plant: &field.plants[number], verdict }).collect();
    let taken = judged.iter().filter(|judged| !judged.plant.is_drawn()).count();
    let census = format!("{}. {taken} of our own were taken. Seed {}.", field.census(), options.seed);
    let told = report::tell(&judged, &census, &suite);
    println!("{told}");
    eprintln!("{} s", start.elapsed().as_secs());
    if options.sample.is_none() && options.only.is_empty() && judged.len() == chosen.len() {
        report::write(&root.join("docs/quality.md"), &told)?;
    }
    Ok(report::percent(&judged) >= options.least)
}

/// The numbers of the plants that are asked for.
fn chosen(field: &Field<'_>, options: &Options) -> Vec<usize> {
    let wanted = |plant: &Plant| {
        let holds = |text: &String| plant.id.contains(text) || plant.file.contains(text);
        let named = options.only.is_empty() || options.only.iter().any(holds);
        named && !matches!(plant.growth, Growth::Unviable)
    };
    let numbered = field.plants.iter().enumerate();
    let numbers = numbered.filter(|(_, plant)| wanted(plant)).map(|(number, _)| number);
    let (mut numbers, mut own): (Vec<_>, Vec<_>) = numbers.partition(|number| field.plants[*number].is_drawn());
    if let Some(count) = options.own {
        own = drawn::draw(own, options.seed, count);
        own.sort_unstable();
    }
    numbers.extend(own);
    match options.sample {
        Some(count) => drawn::draw(numbers, options.seed, count),
        None => numbers,
    }
}

fn without_plants(binaries: Vec<TestBinary>, settings: &Settings, notes: &Path) -> Result<Vec<Known>, Failure> {
    let told = |line: String| eprintln!("{line}");
    side_by_side(settings.workers, &binaries, |binary| course::without_a_plant(binary.clone(), notes, settings, told))
}

/// Takes the plants that are in the one build through the tests.
fn meet(
    field: &Field<'_>,
    chosen: &[usize],
    suite: &[Known],
    settings: &Settings,
    journal: &Journal,
) -> Result<Vec<(usize, Verdict)>, Failure> {
    let is_switch = |number: &usize| matches!(field.plants[*number].growth, Growth::Switch(_));
    let numbers: Vec<usize> = chosen.iter().copied().filter(is_switch).collect();
    let verdicts = side_by_side(settings.workers, &numbers, |number| {
        if settings.is_late() {
            return Ok(None);
        }
        let plant = &field.plants[*number];
        let verdict = course::meets(Some(*number), &plant.package, journal.last(plant), suite, settings)?;
        journal.note(plant, &verdict)?;
        Ok(Some((*number, verdict)))
    })?;
    Ok(verdicts.into_iter().flatten().collect())
}

/// Builds each of the others and takes it through the tests, one by one.
fn meet_alone(
    field: &Field<'_>,
    chosen: &[usize],
    cargo: &Cargo,
    settings: &Settings,
    journal: &Journal,
) -> Result<Vec<(usize, Verdict)>, Failure> {
    let mut verdicts = Vec::new();
    for number in chosen {
        let plant = &field.plants[*number];
        if !matches!(plant.growth, Growth::Alone) || settings.is_late() {
            continue;
        }
        field.plant_alone(*number)?;
        let mut verdict = Verdict::Escaped { note: "its tests do not build" };
        for packages in [Some(NEAR.as_slice()), None] {
            if packages.is_none() && settings.own_only {
                break;
            }
            let compiled = cargo.tests(packages)?;
            if !compiled.success {
                break;
            }
            let own_only = packages.is_some();
            let known = compiled.binaries.into_iter().map(|binary| Known::unknown(binary, settings));
            let suite: Vec<Known> = known.collect::<Result<_, _>>()?;
            verdict = course::meets(None, &plant.package, None, &suite, &Settings { own_only, ..*settings })?;
            if matches!(verdict, Verdict::Caught { .. }) {
                break;
            }
        }
        journal.note(plant, &verdict)?;
        verdicts.push((*number, verdict));
    }
    Ok(verdicts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plant_of_our_own_applies() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        if root.join(format!("channel-core/src/{}.rs", switch::MODULE)).exists() {
            return; // they are in it already: this is the copy that is planted
        }
        let tree = Tree::uncopied(&root);
        let beds = root.join("integration-tests/plants");
        own::read_reasons(&beds).expect("reasons");
        let plants = own::read(&beds).expect("plants");
        Field::new(&tree).add_own(plants).expect("plants that apply");
    }
}
