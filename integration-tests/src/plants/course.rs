//! The course of a run: the tests without a plant, then each plant through the tests that reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::compile::{LOOM, TestBinary};
use super::drawn::draw;
use super::trial::{Ended, Run, Trial, Which, tests_of};
use crate::Failure;

/// A test binary, and how it is without a plant.
pub(super) struct Known {
    /// The binary.
    pub(super) binary: TestBinary,
    /// Those of its tests that are run, in the order in which they run.
    tests: Vec<String>,
    /// Whether that is all of them.
    whole: bool,
    /// Tests that fail without a plant.
    pub(super) left_out: Vec<String>,
    /// What all of it takes.
    pub(super) took: Duration,
    silence: Duration,
    /// The numbers of the plants it reaches.
    pub(super) reached: BTreeSet<usize>,
}

/// What became of a plant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A test told.
    Caught {
        /// The test binary, with its crate.
        binary: String,
        /// The test's name.
        test: String,
        /// Whether it is one of the plant's own crate.
        by_own: bool,
        /// How it told.
        how: How,
    },
    /// No test told.
    Escaped {
        /// What is to be said of it.
        note: &'static str,
    },
}

/// How a test told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It failed.
    Failed,
    /// It hung.
    Hung,
    /// The process died.
    Died,
}

/// How the runs are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// How many at a time.
    pub(super) workers: usize,
    /// For what is drawn.
    pub(super) seed: u64,
    /// Whether large binaries run whole, rather than each promise in each mode once.
    pub(super) thorough: bool,
    /// Whether a plant meets only the tests of its own crate.
    pub(super) own_only: bool,
    /// When to take no further plant.
    pub(super) until: Option<Instant>,
}

impl Settings {
    /// Whether there is no time for another plant.
    pub(super) fn is_late(&self) -> bool {
        self.until.is_some_and(|until| until <= Instant::now())
    }
}

/// Whoever is quiet for this long without a plant hangs.
const PATIENCE: Duration = Duration::from_secs(300);
/// The least that a plant's run is waited for without progress.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);
/// A binary with more tests than this is large.
const LARGE: usize = 200;
/// How often a test that told is run alone, to see whether it tells again.
const CONFIRMATIONS: usize = 3;

/// Runs `each` over `items`, several at a time, and gives the results in the order of the items.
pub(super) fn side_by_side<T: Sync, R: Send>(
    workers: usize,
    items: &[T],
    each: impl Fn(&T) -> Result<R, Failure> + Sync,
) -> Result<Vec<R>, Failure> {
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, Result<R, Failure>>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..workers.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { return };
                    let result = each(item);
                    if result.is_err() {
                        next.store(items.len(), Ordering::Relaxed);
                    }
                    results.lock().unwrap_or_else(PoisonError::into_inner).insert(at, result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// Runs a binary without a plant; `told` hears of what fails all the same.
pub(super) fn without_a_plant(
    binary: TestBinary,
    notes: &Path,
    settings: &Settings,
    told: impl Fn(String),
) -> Result<Known, Failure> {
    let note = notes.join(format!("{}-{}", binary.package, binary.name));
    let mut known = Known::unknown(binary, settings)?;
    if known.tests.is_empty() {
        return Ok(known);
    }
    for _ in 0..3 {
        // What it reached before it hung was reached, too.
        let run = known.trial(None, known.all(&known.left_out), Some(&note), true).run()?;
        known.took = run.took;
        known.silence = run.silence;
        let suspects = match &run.ended {
            Ended::Passed => Vec::new(),
            Ended::Failed(names) => names.clone(),
            Ended::Hung | Ended::Died(_) | Ended::Slow => known.running(&run),
        };
        for name in suspects {
            let alone = known.trial(None, Which::Only(vec![name.clone()]), None, true).run()?;
            let place = format!("{} {} {name}", known.binary.package, known.binary.name);
            if alone.ended == Ended::Passed {
                told(format!("failed without a plant, and passed when it ran alone: {place}"));
            } else {
                told(format!("LEFT OUT, for it fails without a plant: {place}"));
                known.left_out.push(name);
            }
        }
        if matches!(run.ended, Ended::Passed | Ended::Failed(_)) {
            known.reached = std::fs::read_to_string(&note)
                .unwrap_or_default()
                .lines()
                .filter_map(|number| number.parse().ok())
                .collect();
            return Ok(known);
        }
    }
    Err(format!("{} {} hangs or dies without a plant", known.binary.package, known.binary.name).into())
}

impl Known {
    /// A binary that was never run. Of a large one each promise in each mode is run once, over a stack that the seed draws.
    pub(super) fn unknown(binary: TestBinary, settings: &Settings) -> Result<Self, Failure> {
        let all = tests_of(&binary)?;
        let whole = binary.name != LOOM && (settings.thorough || all.len() <= LARGE);
        Ok(Self {
            tests: if whole { all } else { each_promise_once(&all, settings.seed) },
            whole,
            binary,
            left_out: Vec::new(),
            took: Duration::ZERO,
            silence: Duration::ZERO,
            reached: BTreeSet::new(),
        })
    }

    /// All tests that are run, but `without` those.
    fn all(&self, without: &[String]) -> Which {
        if self.whole {
            return Which::Except(without.to_vec());
        }
        Which::Only(self.tests.iter().filter(|name| !without.contains(name)).cloned().collect())
    }

    fn trial<'a>(
        &'a self,
        plant: Option<usize>,
        which: Which,
        reached: Option<&'a Path>,
        to_the_end: bool,
    ) -> Trial<'a> {
        let (patience, bound) = match plant {
            None => (PATIENCE, PATIENCE * 10),
            Some(_) => (LEAST_PATIENCE.max(self.silence * 4), Duration::from_secs(120).max(self.took * 10)),
        };
        Trial { binary: &self.binary, which, plant, reached, patience, bound, to_the_end }
    }

    /// The tests that were running when `run` stopped: the first in order that were not done, one a thread.
    fn running(&self, run: &Run) -> Vec<String> {
        let done: BTreeSet<&String> = run.done.iter().chain(&self.left_out).collect();
        let threads = thread::available_parallelism().map_or(1, Into::into);
        self.tests.iter().filter(|name| !done.contains(name)).take(threads).cloned().collect()
    }

    /// What the tests say of the plant `number`.
    fn meets(&self, number: usize, by_own: bool) -> Result<Option<Verdict>, Failure> {
        // Tests that told once and never again.
        let mut doubted = self.left_out.clone();
        for _ in 0..CONFIRMATIONS {
            let run = self.trial(Some(number), self.all(&doubted), None, false).run()?;
            let (suspects, how) = match &run.ended {
                Ended::Passed => return Ok(None),
                Ended::Slow => return Ok(Some(Verdict::Escaped { note: "tests pass, far too slowly" })),
                Ended::Failed(names) => (names.clone(), How::Failed),
                Ended::Hung => (self.running(&run), How::Hung),
                Ended::Died(_) => (self.running(&run), How::Died),
            };
            for name in &suspects {
                for _ in 0..CONFIRMATIONS {
                    let alone = self.trial(Some(number), Which::Only(vec![name.clone()]), None, false).run()?;
                    if alone.ended != Ended::Passed {
                        let (binary, test) = (self.binary.title(), name.clone());
                        return Ok(Some(Verdict::Caught { binary, test, by_own, how }));
                    }
                }
            }
            if suspects.is_empty() {
                break;
            }
            doubted.extend(suspects);
        }
        Ok(Some(Verdict::Escaped { note: "tests failed, each of them once and not again" }))
    }
}

/// Takes the plant `number`, of `package`, through the tests that reach it: those of its own crate first, and of them the binary
/// that told `last` time. A plant without a number is in the code already, and nobody knows which tests reach it.
pub(super) fn meets(
    number: Option<usize>,
    package: &str,
    last: Option<&str>,
    suite: &[Known],
    settings: &Settings,
) -> Result<Verdict, Failure> {
    let reaches = |known: &&Known| match number {
        Some(number) => known.reached.contains(&number),
        None => !known.tests.is_empty(),
    };
    let mut course: Vec<(bool, &Known)> =
        suite.iter().filter(reaches).map(|known| (is_own(package, &known.binary), known)).collect();
    if course.is_empty() {
        return Ok(Verdict::Escaped { note: "no test reaches it" });
    }
    course.retain(|(own, _)| *own || !settings.own_only);
    let told_last = |known: &Known| last.is_some_and(|last| last == known.binary.title());
    course.sort_by_key(|(own, known)| (!told_last(known), !own, known.took));
    let mut note = if settings.own_only { "the tests of its own crate pass" } else { "all tests pass" };
    for (own, known) in course {
        match known.meets(number.unwrap_or(usize::MAX), own)? {
            None => {}
            Some(caught @ Verdict::Caught { .. }) => return Ok(caught),
            Some(Verdict::Escaped { note: other }) => note = other,
        }
    }
    Ok(Verdict::Escaped { note })
}

/// One test for each two last parts of a name, a mode and a promise.
fn each_promise_once(all: &[String], seed: u64) -> Vec<String> {
    let mut by_promise: BTreeMap<Vec<&str>, Vec<&String>> = BTreeMap::new();
    for name in all {
        by_promise.entry(name.rsplit("::").take(2).collect()).or_default().push(name);
    }
    let drawn = by_promise.into_values().enumerate().flat_map(|(at, names)| draw(names, seed ^ at as u64, 1));
    let drawn: BTreeSet<&String> = drawn.collect();
    all.iter().filter(|name| drawn.contains(name)).cloned().collect()
}

/// Whether a binary has the tests of `package` itself. Those of channel-core are the kit's and a layer's conformance, too.
fn is_own(package: &str, binary: &TestBinary) -> bool {
    binary.package == package
        || (package == "channel-core"
            && (binary.package == "channel-testkit"
                || (binary.package == "channel-websocket" && binary.name == "conformance")))
}
