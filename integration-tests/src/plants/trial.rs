//! Running a test binary with a plant in it, until a test fails.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use channel_testkit::patience::PATIENCE_VARIABLE;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, prlimit, waitid};

use super::compile::{LOOM, TestBinary};
use super::switch::{CHOSEN, REACHED};
use crate::Failure;

/// What a test program may use of memory and of a file before it is stopped: a plant may well ask for more, and more.
const ADDRESS_SPACE: u64 = 16 << 30;
const FILE: u64 = 8 << 30;
/// How long the kit's clauses wait without progress, in seconds: many a plant makes one of them hang.
const CLAUSE_PATIENCE: u64 = 5;

/// Which tests of a binary.
#[derive(Clone, Debug)]
pub(super) enum Which {
    /// All but those.
    Except(Vec<String>),
    /// These alone.
    Only(Vec<String>),
}

/// One run of a binary.
#[derive(Clone, Debug)]
pub(super) struct Trial<'a> {
    /// The binary.
    pub(super) binary: &'a TestBinary,
    /// Which of its tests.
    pub(super) which: Which,
    /// The number of the plant that is on.
    pub(super) plant: Option<usize>,
    /// The file for the numbers of plants that are reached.
    pub(super) reached: Option<&'a Path>,
    /// How long nothing may come of it before it counts as hung.
    pub(super) patience: Duration,
    /// How long all of it may take.
    pub(super) bound: Duration,
    /// Whether it goes on after a test failed.
    pub(super) to_the_end: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All tests passed.
    Passed,
    /// These failed: the first, unless it went on to the end.
    Failed(Vec<String>),
    /// Nothing came of it any more; among those that were not done the first were running.
    Hung,
    /// The process ended without a word.
    Died(String),
    /// Tests went on passing, far too slowly.
    Slow,
}

/// A run, and what it took.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// How it ended.
    pub(super) ended: Ended,
    /// How long it took.
    pub(super) took: Duration,
    /// The longest time between two tests.
    pub(super) silence: Duration,
    /// The tests that passed or were ignored.
    pub(super) done: Vec<String>,
}

impl Trial<'_> {
    /// Runs it.
    pub(super) fn run(&self) -> Result<Run, Failure> {
        let mut child = self.start()?;
        let stdout = child.stdout.take().ok_or("the program has no output")?;
        let (sender, lines) = channel();
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let start = Instant::now();
        let mut last = start;
        let mut run = Run { ended: Ended::Passed, took: Duration::ZERO, silence: Duration::ZERO, done: Vec::new() };
        let mut failed = Vec::new();
        let early = loop {
            match lines.recv_timeout(self.patience) {
                Ok(line) => match verdict(&line) {
                    Some((name, "FAILED")) => {
                        failed.push(name.to_owned());
                        if !self.to_the_end {
                            break None;
                        }
                    }
                    Some((name, _)) => run.done.push(name.to_owned()),
                    None => {}
                },
                // What it started may hold its output open.
                Err(RecvTimeoutError::Timeout) if has_ended(&child, WaitIdOptions::NOHANG) => break None,
                Err(RecvTimeoutError::Timeout) => break Some(Ended::Hung),
                Err(RecvTimeoutError::Disconnected) => break None,
            }
            run.silence = run.silence.max(last.elapsed());
            last = Instant::now();
            if start.elapsed() > self.bound {
                break Some(Ended::Slow);
            }
        };
        if early.is_some() || (!failed.is_empty() && !self.to_the_end) {
            kill(&child);
        }
        // What it started, and left behind, goes with it: while it has not been waited for, no other group gets its number.
        has_ended(&child, WaitIdOptions::empty());
        kill(&child);
        let status = child.wait()?;
        drop(lines);
        reader.join().map_err(|_| "reading a test's output panicked")?;
        run.took = start.elapsed();
        run.ended = match early {
            _ if !failed.is_empty() => Ended::Failed(failed),
            Some(ended) => ended,
            None if status.success() => Ended::Passed,
            None => Ended::Died(how(status)),
        };
        Ok(run)
    }

    fn start(&self) -> Result<Child, Failure> {
        let mut command = Command::new(&self.binary.path);
        command.current_dir(&self.binary.directory).env("CARGO_MANIFEST_DIR", &self.binary.directory);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.arg("--exact");
        match &self.which {
            Which::Except(names) => command.args(names.iter().flat_map(|name| ["--skip", name])),
            Which::Only(names) => command.args(names),
        };
        command.env_remove(CHOSEN).env_remove(REACHED);
        command.env(PATIENCE_VARIABLE, CLAUSE_PATIENCE.to_string());
        if let Some(number) = self.plant {
            command.env(CHOSEN, number.to_string());
        }
        if let Some(path) = self.reached {
            command.env(REACHED, path);
        }
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|error| format!("{}: {error}", self.binary.path.display()))?;
        for (resource, most) in [(Resource::As, ADDRESS_SPACE), (Resource::Fsize, FILE), (Resource::Core, 0)] {
            // It may be gone already.
            let _ = prlimit(pid(&child), resource, Rlimit { current: Some(most), maximum: Some(most) });
        }
        Ok(child)
    }
}

/// All tests of a binary, in the order in which it runs them.
pub(super) fn tests_of(binary: &TestBinary) -> Result<Vec<String>, Failure> {
    let mut command = Command::new(&binary.path);
    let output = command.args(["--list", "--format", "terse"]).current_dir(&binary.directory).output()?;
    if !output.status.success() {
        return Err(format!("{} does not list its tests", binary.name).into());
    }
    let listed = String::from_utf8(output.stdout)?;
    let all = listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned);
    // Under loom the others have no model to run in.
    Ok(all.filter(|name| binary.name != LOOM || name.contains(LOOM)).collect())
}

/// The name and the word of a line about a test that is done.
fn verdict(line: &str) -> Option<(&str, &str)> {
    let (name, word) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    let word = if word.starts_with("ignored") { "ignored" } else { word };
    matches!(word, "ok" | "FAILED" | "ignored").then_some((name, word))
}

fn how(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("signal {signal}"),
        (None, code) => format!("exit status {}", code.unwrap_or_default()),
    }
}

fn pid(child: &Child) -> Option<Pid> {
    Pid::from_raw(i32::try_from(child.id()).ok()?)
}

/// Whether it ended, which leaves it to be waited for.
fn has_ended(child: &Child, how: WaitIdOptions) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | how;
    pid(child).is_some_and(|pid| matches!(retry_on_intr(|| waitid(WaitId::Pid(pid), options)), Ok(Some(_))))
}

fn kill(child: &Child) {
    if let Some(group) = pid(child) {
        // Nobody may be left.
        let _ = kill_process_group(group, Signal::KILL);
    }
}
