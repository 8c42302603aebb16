//! Random stacks: two threads at each end of a random stack make random calls, and two byte queues are the model. Nothing is lost, repeated
//! or reordered; an end comes only where somebody made one; `close` is `Ok` only if everything has arrived; nothing hangs, nothing spins.
//!
//! A case that fails is made smaller and printed, with its seed, as a short program. The environment says what is tried:
//!
//! * `CHANNEL_RANDOM_CASES`: how many cases;
//! * `CHANNEL_RANDOM_SEED`: of the first; each further case has the next number. Unless it is set, a run of a chosen number of cases begins
//!   anywhere, and an ordinary one always at the same place;
//! * `CHANNEL_RANDOM_CASE`: one case, as it was printed, in place of random ones; it is played so many times;
//! * `CHANNEL_RANDOM_KEEP_GOING`: does not stop at the first that fails;
//! * `CHANNEL_RANDOM_PATIENCE`: seconds that nothing may happen where something must.

#[path = "random_stacks/case.rs"]
mod case;
#[path = "random_stacks/content.rs"]
mod content;
#[path = "random_stacks/corpus.rs"]
mod corpus;
#[path = "random_stacks/generate.rs"]
mod generate;
#[path = "random_stacks/model.rs"]
mod model;
#[path = "random_stacks/play.rs"]
mod play;
#[path = "random_stacks/search.rs"]
mod search;
#[path = "random_stacks/stack.rs"]
mod stack;
#[path = "random_stacks/waiting.rs"]
mod waiting;

use search::Search;

/// Few enough for every run of the tests.
const CASES: u64 = 300;

#[test]
fn a_random_stack_loses_nothing_repeats_nothing_and_never_hangs() {
    Search::new(CASES).run(&generate::cases());
}

#[test]
fn a_sleeping_reader_sees_to_what_another_thread_leaves() {
    Search::new(CASES / 4).run(&generate::sleepers());
}
