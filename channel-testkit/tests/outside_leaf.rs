//! A leaf of one's own, from outside, and the guide that shows it.

mod outside;

#[test]
fn a_leaf_of_ones_own_needs_only_what_is_public_and_keeps_every_promise() {
    outside::passes_its_tests("own-leaf");
}

/// What stands in the guide as code stands in the crate, letter by letter.
#[test]
fn the_guide_shows_the_leaf_that_is_tested() {
    let guide = include_str!("../../docs/guide/own-leaf.md");
    let sources = [include_str!("outside/own-leaf/src/lib.rs"), include_str!("outside/own-leaf/tests/conformance.rs")];
    let blocks = guide.split("```").skip(1).step_by(2).map(|block| block.trim_start_matches("rust\n"));
    let blocks: Vec<&str> = blocks.collect();
    assert!(blocks.len() > 3, "the guide is not read as it should be");
    for block in blocks {
        assert!(sources.iter().any(|source| source.contains(block)), "this is not in the crate:\n{block}");
    }
}
