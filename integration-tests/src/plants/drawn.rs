//! Mutants drawn from all that cargo-mutants can think of.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::source::{Place, Source};
use super::switch::Switch;
use crate::Failure;

/// One mutant, as `cargo mutants --list --json` tells it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Mutant {
    /// File, line, column, and what is changed.
    pub(super) name: String,
    /// The crate.
    pub(super) package: String,
    /// The file, from the root.
    pub(super) file: String,
    genre: String,
    replacement: String,
    span: Span,
}

#[derive(Clone, Debug, Deserialize)]
struct Span {
    start: Position,
    end: Position,
}

#[derive(Clone, Debug, Deserialize)]
struct Position {
    line: usize,
    column: usize,
}

/// What cargo-mutants could do to `packages`, in its own order.
pub(super) fn list(root: &Path, packages: &[&str]) -> Result<Vec<Mutant>, Failure> {
    let mut command = Command::new("cargo");
    command.args(["mutants", "--list", "--json"]).current_dir(root);
    for package in packages {
        command.args(["--package", package]);
    }
    let output = command.output()?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("cargo mutants (cargo install cargo-mutants --locked): {told}").into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// `count` of `all`, in the order in which they are drawn.
pub(super) fn draw<T>(mut all: Vec<T>, seed: u64, count: usize) -> Vec<T> {
    let mut state = seed;
    // SplitMix64, whose numbers stay the same wherever this runs; Fisher and Yates' shuffle.
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    };
    for at in 0..count.min(all.len()) {
        let left = (all.len() - at) as u64;
        all.swap(at, at + usize::try_from(next() % left).unwrap_or_default());
    }
    all.truncate(count);
    all
}

impl Mutant {
    /// Its name without the line and the column, which change more often than it does.
    pub(super) fn id(&self) -> String {
        let mut parts = self.name.splitn(4, ':');
        let file = parts.next().unwrap_or_default();
        let what = parts.nth(2).unwrap_or_default().trim();
        format!("{file}: {what}")
    }

    /// The text it replaces.
    pub(super) fn place(&self, source: &Source) -> Result<Place, Failure> {
        let byte = |position: &Position| source.byte(position.line, position.column);
        match (byte(&self.span.start), byte(&self.span.end)) {
            (Some(start), Some(end)) if start <= end && end <= source.text.len() => Ok(start..end),
            _ => Err(format!("{}: there is no such place", self.name).into()),
        }
    }

    /// What it puts there.
    pub(super) fn replacement(&self) -> &str {
        &self.replacement
    }

    /// It as a switch; none for the few kinds that are built one by one.
    pub(super) fn switch(&self, number: usize, source: &Source, place: &Place) -> Option<Switch> {
        let text = |place: &Place| &source.text[place.clone()];
        match self.genre.as_str() {
            "FnValue" => Some(Switch::early_return(number, source.body(place)?, &self.replacement)),
            "BinaryOperator" => {
                let whole = source.binary(place)?;
                let (left, right) = (text(&(whole.start..place.start)), text(&(place.end..whole.end)));
                Some(Switch::expression(number, whole, &format!("{left} {} {right}", self.replacement)))
            }
            "UnaryOperator" => {
                let whole = source.unary(place)?;
                let operand = text(&(place.end..whole.end));
                Some(Switch::expression(number, whole, &format!("{} {operand}", self.replacement)))
            }
            "MatchArmGuard" => {
                source.is_guard(place).then(|| Switch::expression(number, place.clone(), &self.replacement))
            }
            "MatchArm" => Some(match source.arm(place)? {
                (_, Some(guard)) => Switch::expression(number, guard, "false"),
                (pattern, None) => Switch::no_arm(number, pattern),
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_again_and_another_seed_others() {
        let all: Vec<u32> = (0..1000).collect();
        let some = draw(all.clone(), 7, 20);
        assert_eq!(some, draw(all.clone(), 7, 20));
        assert_eq!(some, draw(all.clone(), 7, 30)[..20]);
        assert_ne!(some, draw(all, 8, 20));
    }
}
