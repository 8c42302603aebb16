//! How far a run is: a bar on a terminal, a line for each plant anywhere else, and a file with all of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::course::Verdict;
use super::field::Plant;
use crate::Failure;

/// Hears of every verdict.
pub(super) struct Journal {
    file: Mutex<(File, usize)>,
    last: BTreeMap<String, String>,
    total: usize,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Journal {
    /// A journal for `total` plants, kept at `path`: one JSON object a line. The one that is there tells of the run before.
    pub(super) fn new(path: &Path, total: usize) -> Result<Self, Failure> {
        let before = fs::read_to_string(path).unwrap_or_default(); // not there the first time
        let last = before.lines().filter_map(told_by).collect();
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} plants, {eta} left, {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Ok(Self { file: Mutex::new((File::create(path)?, 0)), last, total, start: Instant::now(), bar })
    }

    /// The test binary that told of a plant in the run before.
    pub(super) fn last(&self, plant: &Plant) -> Option<&str> {
        self.last.get(&plant.id).map(String::as_str)
    }

    /// Notes what became of a plant.
    pub(super) fn note(&self, plant: &Plant, verdict: &Verdict) -> Result<(), Failure> {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, done) = &mut *guard;
        *done += 1;
        let seconds = self.start.elapsed().as_secs();
        let (binary, by) = match verdict {
            Verdict::Caught { binary, test, how, .. } => (Some(binary), format!("{binary} {test} ({how:?})")),
            Verdict::Escaped { note } => (None, (*note).to_owned()),
        };
        let caught = binary.is_some();
        let line = json!({ "plant": plant.id, "note": plant.note, "binary": binary, "by": by, "after": seconds });
        writeln!(file, "{line}")?;
        let word = if caught { "caught" } else { "ESCAPED" };
        let told = format!("{done} of {}, {seconds} s: {word} {}: {by}", self.total, plant.id);
        match &self.bar {
            Some(bar) => {
                bar.inc(1);
                bar.set_message(plant.id.clone());
                if !caught {
                    bar.println(told);
                }
            }
            None => eprintln!("{told}"),
        }
        Ok(())
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The plant that a line is about, and the binary that told.
fn told_by(line: &str) -> Option<(String, String)> {
    let line: Value = serde_json::from_str(line).ok()?;
    Some((line["plant"].as_str()?.to_owned(), line["binary"].as_str()?.to_owned()))
}
