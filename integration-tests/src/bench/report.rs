//! Rounds of measurements, their medians, and the table of targets.

use std::fmt::Write as _;

use super::options::Sends;
use super::stream::Measurement;
use super::targets::{CASES, Case, TARGETS, Target};
use crate::Failure;

/// The measurements of all rounds.
#[derive(Debug, Default)]
pub struct Results(Vec<(Case, Sends, Measurement)>);

/// Both directions, in the order of the columns.
pub const DIRECTIONS: [Sends; 2] = [Sends::Client, Sends::Server];

impl Results {
    /// Adds one run.
    pub fn add(&mut self, case: Case, dir: Sends, measured: Measurement) {
        self.0.push((case, dir, measured));
    }

    /// The median of one figure over the rounds.
    ///
    /// # Errors
    /// If the case was never run.
    pub fn median(&self, case: Case, dir: Sends, figure: fn(&Measurement) -> f64) -> Result<f64, Failure> {
        let mut figures: Vec<f64> =
            self.0.iter().filter(|run| (run.0, run.1) == (case, dir)).map(|run| figure(&run.2)).collect();
        figures.sort_by(f64::total_cmp);
        let upper = *figures.get(figures.len() / 2).ok_or_else(|| format!("{case} was not measured"))?;
        Ok(if figures.len() % 2 == 0 { (upper + figures[figures.len() / 2 - 1]) / 2.0 } else { upper })
    }

    /// How many times as fast as its yardstick ours is: the yardstick's CPU time per KiB over ours.
    fn ratio(&self, target: Target, dir: Sends) -> Result<f64, Failure> {
        let cost = |case| self.median(case, dir, Measurement::busiest_cpu);
        Ok(cost(target.yardstick)? / cost(target.ours)?)
    }

    /// The targets beside what was measured, and below it the medians themselves, in Markdown.
    ///
    /// # Errors
    /// If a case was never run.
    pub fn tables(&self) -> Result<String, Failure> {
        let mut text = String::new();
        writeln!(text, "| ours | against | target | client sends | server sends | |")?;
        writeln!(text, "|---|---|---|---|---|---|")?;
        for target in TARGETS {
            let (there, back) = (self.ratio(target, Sends::Client)?, self.ratio(target, Sends::Server)?);
            let verdict = if there.min(back) >= target.at_least { "met" } else { "missed" };
            let Target { ours, yardstick, at_least } = target;
            writeln!(text, "| {ours} | {yardstick} | ≥ {at_least}× | {there:.2}× | {back:.2}× | {verdict} |")?;
        }
        writeln!(text, "\n| CPU ns per KiB, sending + receiving side (MB/s) | client sends | server sends |")?;
        writeln!(text, "|---|---|---|")?;
        for case in CASES {
            write!(text, "| {case} |")?;
            for dir in DIRECTIONS {
                let send = self.median(case, dir, |run| run.send_cpu)?;
                let receive = self.median(case, dir, |run| run.receive_cpu)?;
                let speed = self.median(case, dir, |run| run.mb_per_second)?;
                write!(text, " {send:.0} + {receive:.0} ({speed:.0}) |")?;
            }
            writeln!(text)?;
        }
        Ok(text)
    }
}

/// `page` with what lies between the two marker lines replaced by `text`.
///
/// # Errors
/// If the markers are not there.
pub fn replace_between_markers(page: &str, text: &str) -> Result<String, Failure> {
    const BEGIN: &str = "<!-- measured: begin -->\n";
    const END: &str = "<!-- measured: end -->";
    let (before, rest) = page.split_once(BEGIN).ok_or_else(|| format!("the page has no line `{}`", BEGIN.trim()))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("the page has no line `{END}`"))?;
    Ok(format!("{before}{BEGIN}{text}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costing(cpu: f64) -> Measurement {
        Measurement {
            mb_per_second: 1.0,
            messages_per_second: 1.0,
            send_cpu: cpu,
            receive_cpu: cpu / 2.0,
            cores: 1,
            lost: 0,
        }
    }

    #[test]
    fn one_bad_round_does_not_move_the_ratio() {
        let mut results = Results::default();
        for dir in DIRECTIONS {
            for case in CASES {
                let cost = if case == TARGETS[0].ours { 200.0 } else { 100.0 };
                for round in [1.0, 50.0, 1.0] {
                    results.add(case, dir, costing(cost * round));
                }
            }
        }
        assert!((results.ratio(TARGETS[0], Sends::Client).unwrap() - 0.5).abs() < 1e-9);
        let tables = results.tables().unwrap();
        assert!(tables.contains("| socket | bare system calls | ≥ 0.97× | 0.50× | 0.50× | missed |"), "{tables}");
    }

    #[test]
    fn only_what_lies_between_the_markers_changes() {
        let page = "a\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nb\n";
        let page = replace_between_markers(page, "new\n").unwrap();
        assert_eq!(page, "a\n<!-- measured: begin -->\nnew\n<!-- measured: end -->\nb\n");
        assert!(replace_between_markers("nothing", "new").is_err());
    }
}
