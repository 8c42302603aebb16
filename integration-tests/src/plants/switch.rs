//! Plants as switches: one build holds them all, and a number in the environment turns one on.

use std::fmt::Write as _;

use super::source::{Place, Source, Syntax, holds};
use crate::Failure;

/// The module that every planted crate gets; `on` in it is what the switches ask.
pub(super) const MODULE: &str = "plant_switch";
/// The environment variable with the number of the plant that is on.
pub(super) const CHOSEN: &str = "CHANNEL_PLANT";
/// The environment variable with the file that notes which plants are reached.
pub(super) const REACHED: &str = "CHANNEL_PLANTS_REACHED";

/// Text in front of and behind a place, which together make it do something else when the plant's number is chosen.
#[derive(Clone, Debug)]
pub(super) struct Switch {
    number: usize,
    place: Place,
    before: String,
    after: String,
}

impl Switch {
    /// Does `with` instead of what stands at `place`.
    pub(super) fn replace(number: usize, source: &Source, place: Place, with: &str) -> Result<Self, Failure> {
        match source.syntax(&place) {
            Some(Syntax::Statements) => Ok(Self {
                number,
                place,
                before: format!("if {} {{ {with} }} else {{ ", asks(number)),
                after: " }".to_owned(),
            }),
            Some(Syntax::Expression) => Ok(Self::expression(number, place, with)),
            None => Err("its code is neither whole statements nor a whole expression".into()),
        }
    }

    /// Has the value `with` instead of that of the expression at `place`.
    pub(super) fn expression(number: usize, place: Place, with: &str) -> Self {
        Self { number, place, before: format!("(if {} {{ {with} }} else {{ ", asks(number)), after: " })".to_owned() }
    }

    /// Returns `value` before anything at `place`, the body of a function.
    pub(super) fn early_return(number: usize, place: Place, value: &str) -> Self {
        Self { number, place, before: format!("if {} {{ return {value}; }} ", asks(number)), after: String::new() }
    }

    /// Passes over the match arm that has the pattern at `place` and no guard.
    pub(super) fn no_arm(number: usize, place: Place) -> Self {
        Self { number, place, before: String::new(), after: format!("{NO_ARM}{}", asks(number)) }
    }
}

/// Begins the guard of an arm that is passed over.
const NO_ARM: &str = " if !";

fn asks(number: usize) -> String {
    format!("crate::{MODULE}::on({number})")
}

/// A file with switches in it, and where in it each lies.
#[derive(Debug)]
pub(super) struct Switched {
    /// The new text.
    pub(super) text: String,
    regions: Vec<(usize, Place, Vec<Place>)>,
}

impl Switched {
    /// Whose text lies at `place` of the new text: the plant whose own words are there, or else the innermost around it.
    pub(super) fn blame(&self, place: &Place) -> Option<usize> {
        let own = self
            .regions
            .iter()
            .filter(|(_, _, own)| own.iter().any(|own| own.start < place.end && place.start < own.end));
        let around = self.regions.iter().filter(|(_, whole, _)| holds(whole, place));
        let smallest = |(_, whole, _): &&(usize, Place, Vec<Place>)| whole.len();
        own.min_by_key(smallest).or_else(|| around.min_by_key(smallest)).map(|(number, ..)| *number)
    }

    /// The plant that passes over an arm of the match that begins at `place`: without that arm the compiler says of the match itself that it
    /// is not exhaustive.
    pub(super) fn blame_arm(&self, place: &Place) -> Option<usize> {
        let passes_over = |own: &Place| self.text.get(own.clone()).is_some_and(|own| own.starts_with(NO_ARM));
        let behind =
            self.regions.iter().filter(|(_, whole, own)| whole.start >= place.end && own.iter().any(passes_over));
        behind.min_by_key(|(_, whole, _)| whole.start).map(|(number, ..)| *number)
    }
}

/// Puts `switches` into a file.
pub(super) fn insert(text: &str, switches: &[Switch]) -> Result<Switched, Failure> {
    let mut outer_first: Vec<&Switch> = switches.iter().collect();
    outer_first.sort_by_key(|switch| (switch.place.start, std::cmp::Reverse(switch.place.end), switch.number));
    let mut writer =
        Writer { text, out: String::with_capacity(text.len() * 2), read: 0, open: Vec::new(), regions: Vec::new() };
    for switch in outer_first {
        writer.close_until(switch.place.start);
        if let Some(around) = writer.open.last().filter(|around| !holds(&around.switch.place, &switch.place)) {
            let (one, other) = (around.switch.number, switch.number);
            return Err(format!("plants number {one} and {other} lie across each other").into());
        }
        writer.copy_to(switch.place.start);
        let start = writer.out.len();
        writer.out.push_str(&switch.before);
        writer.open.push(Open { switch, start });
    }
    writer.close_until(usize::MAX);
    writer.copy_to(text.len());
    Ok(Switched { text: writer.out, regions: writer.regions })
}

struct Open<'a> {
    switch: &'a Switch,
    start: usize,
}

struct Writer<'a> {
    text: &'a str,
    out: String,
    read: usize,
    open: Vec<Open<'a>>,
    regions: Vec<(usize, Place, Vec<Place>)>,
}

impl Writer<'_> {
    fn copy_to(&mut self, end: usize) {
        self.out.push_str(&self.text[self.read..end]);
        self.read = end;
    }

    /// Ends every switch whose place lies in front of `start`.
    fn close_until(&mut self, start: usize) {
        while self.open.last().is_some_and(|open| open.switch.place.end <= start) {
            let Some(Open { switch, start }) = self.open.pop() else { return };
            self.copy_to(switch.place.end);
            let tail = self.out.len();
            self.out.push_str(&switch.after);
            let own = vec![start..start + switch.before.len(), tail..self.out.len()];
            self.regions.push((switch.number, start..self.out.len(), own));
        }
    }
}

/// The module itself, for plants numbered below `count`. The first time a plant is reached is noted, if there is a file for that.
pub(super) fn module(count: usize) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "//! Written by the plant runner: which plant is on.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{{Path, PathBuf}};
use std::sync::atomic::{{AtomicBool, Ordering}};
use std::sync::{{Mutex, OnceLock, PoisonError}};

pub(crate) fn on(number: usize) -> bool {{
    static CHOSEN: OnceLock<(Option<usize>, Option<PathBuf>)> = OnceLock::new();
    static REACHED: [AtomicBool; {count}] = [const {{ AtomicBool::new(false) }}; {count}];
    let (chosen, note) = CHOSEN.get_or_init(|| {{
        let chosen = std::env::var(\"{CHOSEN}\").ok().and_then(|number| number.parse().ok());
        (chosen, std::env::var_os(\"{REACHED}\").map(PathBuf::from))
    }});
    if let Some(note) = note {{
        let first = !REACHED[number].swap(true, Ordering::Relaxed);
        if first || LEFT.load(Ordering::Relaxed) {{
            write(note, first.then_some(number));
        }}
    }}
    *chosen == Some(number)
}}

/// Whether there is more to write: a test may have left no descriptor for it.
static LEFT: AtomicBool = AtomicBool::new(false);

fn write(note: &Path, number: Option<usize>) {{
    static UNWRITTEN: Mutex<String> = Mutex::new(String::new());
    let mut unwritten = UNWRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    unwritten.extend(number.map(|number| format!(\"{{number}}\\n\")));
    let file = OpenOptions::new().append(true).create(true).open(note);
    if file.and_then(|mut file| file.write_all(unwritten.as_bytes())).is_ok() {{
        unwritten.clear();
    }}
    LEFT.store(!unwritten.is_empty(), Ordering::Relaxed);
}}
"
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, wanted: &str) -> Place {
        let start = text.find(wanted).unwrap();
        start..start + wanted.len()
    }

    #[test]
    fn a_switch_in_a_switch_is_in_what_was_there() {
        let text = "fn a() { b(c + d); }";
        let source = Source::parse(text.to_owned()).unwrap();
        let outer = Switch::replace(0, &source, place(text, "b(c + d);"), "").unwrap();
        let inner = Switch::replace(1, &source, place(text, "c + d"), "c - d").unwrap();
        let first = Switch::early_return(2, place(text, "b(c + d);"), "e");
        let switched = insert(text, &[inner, first, outer]).unwrap();
        let (zero, one, two) = (asks(0), asks(1), asks(2));
        let wanted = format!(
            "fn a() {{ if {zero} {{  }} else {{ if {two} {{ return e; }} b((if {one} {{ c - d }} else {{ c + d }})); }} }}"
        );
        assert_eq!(switched.text, wanted);
        Source::parse(switched.text).unwrap();
    }

    #[test]
    fn the_compiler_is_heard_of_the_plant_it_means() {
        let text = "fn a() { b(); c(); }";
        let source = Source::parse(text.to_owned()).unwrap();
        let whole = Switch::replace(0, &source, place(text, "b(); c();"), "d();").unwrap();
        let part = Switch::replace(1, &source, place(text, "c()"), "e()").unwrap();
        let switched = insert(text, &[whole, part]).unwrap();
        let blame = |wanted| switched.blame(&place(&switched.text, wanted));
        assert_eq!(blame("d()"), Some(0));
        assert_eq!(blame("e()"), Some(1));
        assert_eq!(blame("c()"), Some(1));
        assert_eq!(blame("b()"), Some(0));
        assert_eq!(blame("fn a"), None);
    }

    #[test]
    fn a_match_without_one_of_its_arms_is_the_fault_of_who_passes_over_that() {
        let text = "fn a() { match b { Ok(1) => c(), Ok(_) => d(), Err(_) => {} } }";
        let source = Source::parse(text.to_owned()).unwrap();
        let call = Switch::replace(0, &source, place(text, "c()"), "e()").unwrap();
        let arm = Switch::no_arm(1, place(text, "Ok(_)"));
        let switched = insert(text, &[call, arm]).unwrap();
        let scrutinee = place(&switched.text, "b");
        assert_eq!((switched.blame(&scrutinee), switched.blame_arm(&scrutinee)), (None, Some(1)));
    }

    #[test]
    fn plants_that_lie_across_each_other_are_refused() {
        let text = "fn a() { b(); c(); d(); }";
        let source = Source::parse(text.to_owned()).unwrap();
        let one = Switch::replace(0, &source, place(text, "b(); c();"), "").unwrap();
        let other = Switch::replace(1, &source, place(text, "c(); d();"), "").unwrap();
        assert!(insert(text, &[one, other]).unwrap_err().to_string().contains("across"));
    }
}
