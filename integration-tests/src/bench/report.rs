//! Rounds of measurements, their medians, and the table of targets.

use std::fmt::Write as _;

use super::options::Sends;
use super::stream::Measurement;
use super::targets::{CASES, Case, EVENT_AT_MOST, TARGETS, Target};
use super::wakeups;
use crate::Failure;

/// The measurements of all rounds.
#[derive(Debug, Default)]
pub struct Results {
    streams: Vec<(Case, Sends, Measurement)>,
    /// Has rounds of its own.
    wakeups: Option<wakeups::Measurement>,
}

/// Both directions, in the order of the columns.
pub const DIRECTIONS: [Sends; 2] = [Sends::Client, Sends::Server];

impl Results {
    /// Adds one run.
    pub fn add(&mut self, case: Case, dir: Sends, measured: Measurement) {
        self.streams.push((case, dir, measured));
    }

    /// Adds the run of the event loop.
    pub fn set_wakeups(&mut self, measured: wakeups::Measurement) {
        self.wakeups = Some(measured);
    }

    /// The median of one figure over the rounds.
    ///
    /// # Errors
    /// If the case was never run.
    pub fn median(&self, case: Case, dir: Sends, figure: fn(&Measurement) -> f64) -> Result<f64, Failure> {
        let mut figures: Vec<f64> =
            self.streams.iter().filter(|run| (run.0, run.1) == (case, dir)).map(|run| figure(&run.2)).collect();
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
        if let Some(loops) = &self.wakeups {
            let wakeups::Measurement { n, busy, ratio, many, few, .. } = loops;
            let verdict = if *ratio <= EVENT_AT_MOST { "met" } else { "missed" };
            write!(text, "| event loop: a 64 B message, {n} wss connections, {busy} of them busy | ")?;
            writeln!(text, "{busy} connections | cost ≤ {EVENT_AT_MOST}× | {ratio:.2}× | echoed | {verdict} |")?;
            let (many, few) = (many.ns_per_event, few.ns_per_event);
            write!(text, "\nThe event loop's messages cost {many:.0} ns each, echo included, and {few:.0} ns ")?;
            write!(text, "with {busy} connections. While nobody sends, a second with {n} connections costs ")?;
            writeln!(text, "{:.0} µs and wakes the loop {} times.", loops.idle_cpu / 1e3, loops.idle_wakeups)?;
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

/// `page` with what lies between the two lines that mark `part` replaced by `text`.
///
/// # Errors
/// If the markers are not there.
pub fn replace_between_markers(page: &str, part: &str, text: &str) -> Result<String, Failure> {
    let (begin, end) = (format!("<!-- {part}: begin -->\n"), format!("<!-- {part}: end -->"));
    let (before, rest) = page.split_once(&begin).ok_or_else(|| format!("the page has no line `{}`", begin.trim()))?;
    let (_, after) = rest.split_once(&end).ok_or_else(|| format!("the page has no line `{end}`"))?;
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    fn an_event_loop_that_minds_idle_connections_misses_its_target() {
        let mut results = Results::default();
        for (dir, case) in DIRECTIONS.into_iter().flat_map(|dir| CASES.map(|case| (dir, case))) {
            results.add(case, dir, costing(1.0));
        }
        assert!(!results.tables().unwrap().contains("event loop"));
        for (ratio, verdict) in [(1.19, "met"), (1.3, "missed")] {
            let cost = wakeups::Cost { events: 1, wakeups: 1, ns_per_event: 1.0 };
            results.set_wakeups(wakeups::Measurement {
                n: 10_000,
                busy: 100,
                many: cost,
                few: cost,
                ratio,
                idle_cpu: 0.0,
                idle_wakeups: 0,
                opening: Duration::ZERO,
                lost: 0,
            });
            let tables = results.tables().unwrap();
            assert!(tables.contains(&format!("| {ratio:.2}× | echoed | {verdict} |")), "{tables}");
        }
    }

    #[test]
    fn only_what_lies_between_the_markers_changes() {
        let page = "a\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nb\n";
        let page = replace_between_markers(page, "measured", "new\n").unwrap();
        assert_eq!(page, "a\n<!-- measured: begin -->\nnew\n<!-- measured: end -->\nb\n");
        assert!(replace_between_markers("nothing", "measured", "new").is_err());
    }
}
