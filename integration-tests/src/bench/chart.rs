//! The medians as bars: an SVG picture, written by hand.

use std::fmt::Write as _;

use super::options::Peer;
use super::report::{DIRECTIONS, Results};
use super::stream::Measurement;
use super::targets::CHART;
use crate::Failure;

// All in SVG user units, which a browser shows as pixels.
const WIDTH: f64 = 760.0;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 60.0;
const TOP: f64 = 56.0;
const BAR: f64 = 18.0;
const GROUP_GAP: f64 = 14.0;

/// CPU time per KiB of each stack's busiest side, in the direction that costs more; ours beside its yardstick.
///
/// # Errors
/// If a case was never run.
pub fn svg(results: &Results) -> Result<String, Failure> {
    let mut groups = Vec::new();
    for (title, cases) in CHART {
        let mut bars = Vec::new();
        for &case in cases {
            let mut cost = 0.0_f64;
            for dir in DIRECTIONS {
                cost = cost.max(results.median(case, dir, Measurement::busiest_cpu)?);
            }
            let label =
                if case.peer == Peer::Project { "this project".to_owned() } else { case.to_string().replace('`', "") };
            bars.push((label, case.peer == Peer::Project, cost));
        }
        groups.push((title, bars));
    }
    let longest = groups.iter().flat_map(|(_, bars)| bars).map(|bar| bar.2).fold(1.0, f64::max);
    let bars: usize = groups.iter().map(|(_, bars)| bars.len()).sum();
    let height = TOP + bars as f64 * BAR + groups.len() as f64 * GROUP_GAP + 10.0;

    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">"#
    )?;
    writeln!(svg, r##"<rect width="100%" height="100%" fill="#ffffff"/>"##)?;
    writeln!(
        svg,
        r##"<text x="16" y="24" font-size="15" font-weight="bold" fill="#222222">CPU time per KiB of the busiest side, in ns (shorter is better)</text>"##
    )?;
    writeln!(
        svg,
        r##"<text x="16" y="42" fill="#666666">64 KiB messages, unix socket, AES-128-GCM; the direction that costs more</text>"##
    )?;
    let mut y = TOP;
    for (title, bars) in groups {
        y += GROUP_GAP / 2.0;
        writeln!(svg, r##"<text x="16" y="{:.1}" font-weight="bold" fill="#222222">{title}</text>"##, y + BAR * 0.75)?;
        for (label, is_ours, cost) in bars {
            let length = (WIDTH - LEFT - RIGHT) * cost / longest;
            let (color, baseline) = (if is_ours { "#1f6f8b" } else { "#b8bfc6" }, y + BAR * 0.75);
            writeln!(
                svg,
                r##"<text x="{:.1}" y="{baseline:.1}" text-anchor="end" fill="#444444">{label}</text>"##,
                LEFT - 8.0
            )?;
            writeln!(
                svg,
                r#"<rect x="{LEFT:.1}" y="{:.1}" width="{length:.1}" height="{:.1}" fill="{color}"/>"#,
                y + 2.0,
                BAR - 4.0
            )?;
            writeln!(
                svg,
                r##"<text x="{:.1}" y="{baseline:.1}" fill="#222222">{cost:.0}</text>"##,
                LEFT + length + 6.0
            )?;
            y += BAR;
        }
        y += GROUP_GAP / 2.0;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}
