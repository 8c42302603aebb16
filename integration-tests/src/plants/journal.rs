//! How far a run is: a bar on a terminal, a line for each plant anywhere else, and a file with all of it.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::course::Verdict;
use super::field::Plant;
use crate::Failure;

/// Hears of every verdict.
pub(super) struct Journal {
    file: Mutex<(File, usize)>,
    total: usize,
    start: Instant,
    bar: Option<ProgressBar>,
}

impl Journal {
    /// A journal for `total` plants, kept at `path`: one JSON object a line.
    pub(super) fn new(path: &Path, total: usize) -> Result<Self, Failure> {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total as u64);
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} plants, {eta} left, {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Ok(Self { file: Mutex::new((File::create(path)?, 0)), total, start: Instant::now(), bar })
    }

    /// Notes what became of a plant.
    pub(super) fn note(&self, plant: &Plant, verdict: &Verdict) -> Result<(), Failure> {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, done) = &mut *guard;
        *done += 1;
        let seconds = self.start.elapsed().as_secs();
        let (caught, by) = match verdict {
            Verdict::Caught { package, test, how, .. } => (true, format!("{package} {test} ({how:?})")),
            Verdict::Escaped { note } => (false, (*note).to_owned()),
        };
        let line = json!({ "plant": plant.id, "note": plant.note, "caught": caught, "by": by, "after": seconds });
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
