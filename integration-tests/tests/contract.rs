//! The contract and its citations: each promise is cited in the rustdoc of what keeps it, and whoever cites one means one that exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The top of the workspace.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace around this crate")
}

/// The numbers in the contract, in its order.
fn promises() -> Vec<String> {
    let contract = fs::read_to_string(top().join("docs/contract.md")).expect("the contract");
    let mut numbers = Vec::new();
    for line in contract.lines() {
        let Some((number, rest)) = line.strip_prefix("- **").and_then(|line| line.split_once("**")) else { continue };
        assert!(rest.starts_with(&format!("<a id=\"{number}\"></a> ")), "{number} has no anchor of its name: {line}");
        numbers.push(number.to_owned());
    }
    numbers
}

/// All files below `folder` whose names end so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry of a folder").path();
        if path.is_dir() {
            found.extend(files(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found
}

/// The sources of the published crates.
fn sources() -> Vec<PathBuf> {
    let crates =
        fs::read_dir(top()).expect("the workspace").map(|entry| entry.expect("an entry of the workspace").path());
    let published =
        crates.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("channel-")));
    published.flat_map(|folder| files(&folder.join("src"), ".rs")).collect()
}

/// The promises that `line` cites, `[[R1]]` or, where nothing is linked, `\[R1\]`.
fn citations(line: &str) -> impl Iterator<Item = &str> {
    let bracketed = line.split('[').skip(1).filter_map(|after| {
        let (inside, rest) = after.split_once(']')?;
        match inside.strip_suffix('\\') {
            Some(escaped) => Some(escaped),
            None => rest.starts_with(']').then_some(inside),
        }
    });
    bracketed.filter(|inside| {
        let mut letters = inside.chars();
        letters.next().is_some_and(|first| first.is_ascii_uppercase()) && letters.as_str().parse::<u8>().is_ok()
    })
}

#[test]
fn every_promise_is_cited_in_the_rustdoc_of_what_keeps_it() {
    let mut cited = BTreeSet::new();
    for path in sources() {
        if path.strip_prefix(top()).is_ok_and(|path| path.starts_with("channel-testkit")) {
            continue; // a clause checks its promise and does not keep it
        }
        let source = fs::read_to_string(&path).expect("a source");
        let rustdoc =
            source.lines().map(str::trim_start).filter(|line| line.starts_with("///") || line.starts_with("//!"));
        cited.extend(rustdoc.flat_map(citations).map(str::to_owned));
    }
    let promises = promises();
    assert!(promises.len() > 40, "the contract is not read as it should be: {promises:?}");
    let uncited: Vec<_> = promises.into_iter().filter(|number| !cited.contains(number)).collect();
    assert!(uncited.is_empty(), "no rustdoc cites {uncited:?}");
}

#[test]
fn whoever_cites_a_promise_means_one_that_exists() {
    let promises = promises();
    let mut unknown = Vec::new();
    for path in sources().into_iter().chain(files(&top().join("docs"), ".md")) {
        let text = fs::read_to_string(&path).expect("a text");
        for (line, text) in text.lines().enumerate() {
            let wrong = citations(text).filter(|number| !promises.iter().any(|known| known == number));
            unknown.extend(wrong.map(|number| format!("{}:{}: {number}", path.display(), line + 1)));
        }
    }
    assert!(unknown.is_empty(), "promises that there are not: {unknown:#?}");
}

#[test]
fn citations_are_seen_linked_and_escaped() {
    let line = r"/// Returns 0 [[R2]], or nothing \[W10\] \[A3\]: see [`T1`] and [Self], array[[0]], \[NI2\], [[E]].";
    assert_eq!(citations(line).collect::<Vec<_>>(), ["R2", "W10", "A3"]);
}
