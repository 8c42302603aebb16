//! Looks for cases that fail, and makes them smaller.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::case::Case;
use super::play::play;

/// Where an ordinary run begins.
const SEED: u64 = 7;

/// How long nothing may happen where something must.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same while a case is made smaller, which takes many that hang.
const SHORT_PATIENCE: Duration = Duration::from_millis(1000);

/// How long a case is made smaller.
const SHRINK: Duration = Duration::from_secs(90);

/// How often a smaller case is tried: which thread comes first is chance.
const TRIES: usize = 20;

/// How often a case of the corpus is played.
const REPLAYS: u64 = 20;

/// What the environment asks for.
pub(crate) struct Search {
    cases: u64,
    seed: u64,
    keep_going: bool,
}

impl Search {
    /// `cases` of them, unless the environment says otherwise.
    pub(crate) fn new(cases: u64) -> Self {
        let chosen = number("CHANNEL_RANDOM_CASES");
        let anywhere =
            || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(SEED, |now| now.as_secs() << 20);
        let seed = number("CHANNEL_RANDOM_SEED").unwrap_or_else(|| if chosen.is_some() { anywhere() } else { SEED });
        let keep_going = std::env::var_os("CHANNEL_RANDOM_KEEP_GOING").is_some();
        Self { cases: chosen.unwrap_or(cases), seed, keep_going }
    }

    /// Plays cases of `strategy`.
    ///
    /// # Panics
    /// With the smallest case that failed.
    pub(crate) fn run(&self, strategy: &impl Strategy<Value = Case>) {
        let patience = patience();
        if let Ok(text) = std::env::var("CHANNEL_RANDOM_CASE") {
            return replay_times(&text, self.cases);
        }
        let (began, mut told) = (Instant::now(), Instant::now());
        let mut ended = [0; 3];
        let (mut kinds, mut reports) = (BTreeSet::new(), String::new());
        for (done, seed) in (0..self.cases).map(|number| (number, self.seed.wrapping_add(number))) {
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                eprintln!("{done} of {} cases in {:.0?}, {} faults", self.cases, began.elapsed(), kinds.len());
            }
            let mut tree = strategy.new_tree(&mut runner(seed)).expect("a case of every seed");
            let fault = match play(&tree.current(), patience) {
                Ok(stage) => {
                    ended[stage as usize] += 1;
                    continue;
                }
                Err(fault) => fault,
            };
            if !kinds.insert(kind(&fault)) {
                continue;
            }
            let found = tree.current();
            if self.keep_going {
                eprintln!("seed {seed}: {}", fault.lines().next().unwrap_or_default());
            }
            let (case, fault, tried) = shrink(&mut tree, fault, patience);
            let report = format!(
                "\nfound by seed {seed}, and made smaller in {tried} steps:\n\n{case}\n{fault}\n\nwhat was found first:\n\n{found}\n"
            );
            if !self.keep_going {
                panic!("{report}");
            }
            eprintln!("{report}");
            let _ = writeln!(reports, "{report}"); // to a string
        }
        let [whole, hurried, cut] = ended;
        eprintln!("{} cases from seed {} in {:.1?}", self.cases, self.seed, began.elapsed());
        eprintln!(
            "{whole} to the end, {hurried} after nobody waited for the other thread any more, {cut} after both ends were shut down"
        );
        assert!(kinds.is_empty(), "{} kinds of faults\n\n{reports}", kinds.len());
    }
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// The smallest case found that fails in the same way, how it does, and how many were tried.
fn shrink(tree: &mut impl ValueTree<Value = Case>, fault: String, patience: Duration) -> (Case, String, usize) {
    let hasty = SHORT_PATIENCE.min(patience);
    let until = Instant::now() + SHRINK;
    let same = kind(&fault);
    let (mut best, mut tried) = ((tree.current(), fault), 0);
    let mut smaller = tree.simplify();
    while smaller && Instant::now() < until {
        tried += 1;
        let case = tree.current();
        let again = |_| play(&case, hasty).err().filter(|fault| kind(fault) == same);
        match (0..TRIES).take_while(|_| Instant::now() < until).find_map(again) {
            Some(fault) => {
                best = (case, fault);
                smaller = tree.simplify();
            }
            None => smaller = tree.complicate(),
        }
    }
    (best.0, best.1, tried)
}

/// What a fault has in common with others like it: its first line without numbers and names of threads.
fn kind(fault: &str) -> String {
    let line = fault.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    line.replace("near", "").replace("far", "")
}

/// Plays a case of the corpus some times.
pub(crate) fn replay(text: &str) {
    replay_times(text, REPLAYS);
}

fn replay_times(text: &str, times: u64) {
    let case: Case = text.parse().unwrap_or_else(|error| panic!("this is no case: {error}\n{text}"));
    for time in 1..=times {
        if let Err(fault) = play(&case, patience()) {
            panic!("time {time}:\n\n{case}\n{fault}");
        }
    }
}

fn patience() -> Duration {
    number("CHANNEL_RANDOM_PATIENCE").map_or(PATIENCE, Duration::from_secs)
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = text.trim().parse();
    Some(parsed.unwrap_or_else(|_| panic!("{variable} must be a whole number, not `{text}`")))
}
