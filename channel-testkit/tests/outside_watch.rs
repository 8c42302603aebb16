//! A watch and a task of one's own, from outside.

mod outside;

#[test]
fn a_watch_and_a_task_of_ones_own_need_only_what_is_public() {
    outside::passes_its_tests("own-watch");
}
