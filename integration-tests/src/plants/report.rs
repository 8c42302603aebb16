//! The score, as the page `docs/quality.md` has it.

use std::fmt::Write as _;
use std::path::Path;

use super::course::{How, Known, Verdict};
use super::{Judged, PLANTED};
use crate::Failure;
use crate::bench::report::replace_between_markers;

/// The score as text for the page.
pub(super) fn tell(judged: &[Judged<'_>], census: &str, suite: &[Known]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{census} **Caught: {} of {} that change something, {:.1} %.** {} more change nothing which a test could see.\n",
        caught(judged),
        telling(judged),
        percent(judged),
        judged.len() - telling(judged)
    );
    text.push_str("| crate | plants | caught by its own tests | by others' | escaped |\n|---|---|---|---|---|\n");
    for package in PLANTED {
        let here: Vec<&Judged<'_>> = judged.iter().filter(|judged| judged.plant.package == package).collect();
        if here.is_empty() {
            continue;
        }
        let of = |own| here.iter().filter(|judged| is_caught_by(judged, own)).count();
        let (own, others) = (of(true), of(false));
        let escaped = here.len() - own - others;
        let _ = writeln!(text, "| `{package}` | {} | {own} | {others} | {escaped} |", here.len());
    }
    let told = |wanted| {
        judged.iter().filter(|judged| matches!(&judged.verdict, Verdict::Caught { how, .. } if *how == wanted)).count()
    };
    let _ = writeln!(
        text,
        "\n{} were caught by a test that failed, {} by one that hung, {} by a process that died.",
        told(How::Failed),
        told(How::Hung),
        told(How::Died)
    );
    let left_out: Vec<String> = suite
        .iter()
        .flat_map(|known| known.left_out.iter().map(|name| format!("{} {name}", known.binary.name)))
        .collect();
    if !left_out.is_empty() {
        let _ = writeln!(text, "\nLeft out, because they fail without a plant: {}.", left_out.join(", "));
    }
    let escapes: Vec<(&Judged<'_>, &str)> = judged
        .iter()
        .filter_map(|judged| match &judged.verdict {
            Verdict::Escaped { note } => Some((judged, *note)),
            Verdict::Caught { .. } => None,
        })
        .collect();
    let mistaken: Vec<String> = judged
        .iter()
        .filter(|judged| is_caught(judged) && judged.plant.is_equivalent())
        .map(|judged| format!("`{}`", cell(&judged.plant.id)))
        .collect();
    if !mistaken.is_empty() {
        let _ = writeln!(text, "\nSaid to change nothing, and caught: {}.", mistaken.join(", "));
    }
    if !escapes.is_empty() {
        text.push_str("\n| escaped | what goes wrong | seen | why |\n|---|---|---|---|\n");
        for (Judged { plant, .. }, seen) in escapes {
            let what = if plant.is_drawn() { "" } else { &plant.note };
            let reason = plant.reason.as_ref().map_or("a test is missing", |reason| &reason.text);
            let reason = format!("{}{reason}", if plant.is_equivalent() { "equivalent: " } else { "" });
            let _ = writeln!(text, "| `{}` | {} | {seen} | {} |", cell(&plant.id), cell(what), cell(&reason));
        }
    }
    text
}

/// Puts the score into the page.
pub(super) fn write(page: &Path, told: &str) -> Result<(), Failure> {
    let text = std::fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
    Ok(std::fs::write(page, replace_between_markers(&text, "plants", told)?)?)
}

/// How many were caught of a hundred that change something which a test could see: the mutation score.
#[allow(clippy::cast_precision_loss, reason = "there are not that many")]
pub(super) fn percent(judged: &[Judged<'_>]) -> f64 {
    let telling = telling(judged);
    if telling == 0 { 100.0 } else { caught(judged) as f64 * 100.0 / telling as f64 }
}

/// How many change something. What was caught does, whatever was said of it before.
fn telling(judged: &[Judged<'_>]) -> usize {
    let telling = |judged: &&Judged<'_>| is_caught(judged) || !judged.plant.is_equivalent();
    judged.iter().filter(telling).count()
}

fn is_caught(judged: &Judged<'_>) -> bool {
    matches!(judged.verdict, Verdict::Caught { .. })
}

fn caught(judged: &[Judged<'_>]) -> usize {
    judged.iter().filter(|judged| is_caught(judged)).count()
}

fn is_caught_by(judged: &Judged<'_>, own: bool) -> bool {
    matches!(&judged.verdict, Verdict::Caught { by_own, .. } if *by_own == own)
}

/// Text that stays in its cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
