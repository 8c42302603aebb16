//! What others build on the public interface, in crates that are no members of the workspace: each passes its own tests, which are those of
//! the suite.

use std::path::Path;
use std::process::Command;

/// Tests the crate in `tests/outside/name`, built beside everything else and from what is there already.
fn passes(name: &str) {
    let testkit = Path::new(env!("CARGO_MANIFEST_DIR"));
    let krate = testkit.join("tests/outside").join(name);
    // The versions that the workspace has, which are there already.
    std::fs::copy(testkit.join("../Cargo.lock"), krate.join("Cargo.lock")).expect("the lock file of the workspace");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["test", "--offline", "--quiet", "--manifest-path"]).arg(krate.join("Cargo.toml"));
    let run = cargo.env("CARGO_TARGET_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/outside")).output().expect("cargo");
    let said = [run.stdout, run.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(run.status.success(), "the tests of {name} failed:\n{}\n{}", said[0], said[1]);
}

#[test]
fn a_leaf_of_ones_own_keeps_every_promise() {
    passes("own-leaf");
}

/// The guide shows the leaf as it is: what stands in it as code stands in the crate, line by line.
#[test]
fn the_guide_shows_the_leaf_that_is_tested() {
    let guide = include_str!("../../docs/guide/own-leaf.md");
    let sources = [include_str!("outside/own-leaf/src/lib.rs"), include_str!("outside/own-leaf/tests/conformance.rs")];
    let blocks: Vec<&str> =
        guide.split("```").skip(1).step_by(2).map(|block| block.trim_start_matches("rust\n")).collect();
    assert!(blocks.len() > 3, "the guide is not read as it should be");
    for block in blocks {
        assert!(sources.iter().any(|source| source.contains(block)), "this is not in the crate:\n{block}");
    }
}
