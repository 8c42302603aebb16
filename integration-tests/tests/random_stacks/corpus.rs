//! Cases that failed once, each as small as it was found, and what was wrong.

use super::search::replay;

/// The wrapper waited, behind the handshake, for session tickets that nobody read.
#[test]
fn a_handshake_does_not_wait_for_what_follows_it() {
    replay(
        "leaf memory 1
         layers tls client, one_byte far
         limits linger 60000 ms, queued 262144, input 262144
         near blocking
            1:
            2:
         far blocking
            1:
            2:",
    );
}

/// One thread's write met the end, and the task that waited to write was never told.
#[test]
fn a_task_that_waits_learns_of_an_end_that_another_call_met() {
    replay(
        "leaf memory 1388
         layers
         limits linger 60000 ms, queued 262144, input 262144
         near blocking
            1: meet, close
            2: write_now 30, meet, close
         far tasks
            1: write 17844, close, lend 9, write 25077, close_by 46
            2: read 86259, write 9157, meet, write 44272",
    );
}

/// The socket told the first closer of a reset and the second that all was well.
#[test]
fn closers_of_a_socket_get_one_result() {
    replay(
        "leaf tcp
         layers
         limits linger 48 ms, queued 262144, input 36836
         near blocking
            1: write 2612, read_now 7136, write 73915, read_now 55, meet, close
            2: flush, write 1214, close_by 65, close_by 41, meet, close
         far blocking
            1: write 137268, meet, close
            2: shutdown both, write_now 4210, cork, flush, read 4935, meet, close",
    );
}

/// The second closer was told `Busy` and released at once; the first said `Ok` or `TimedOut`, and 42,000 bytes were lost.
#[test]
fn of_two_closers_neither_cuts_the_other_short() {
    replay(
        "leaf memory 4096
         layers ws client
         limits linger 60000 ms, queued 262144, input 262144
         near blocking
            1: write_now 50000, meet, close
            2: meet, close
         far blocking
            1:
            2:",
    );
}

/// `close` gave up at once because a blocking write was under way, although the peer read.
#[test]
fn a_writer_does_not_cut_a_closer_short() {
    replay(
        "leaf memory 245
         layers ws client
         limits linger 60000 ms, queued 262144, input 262144
         near blocking
            1:
            2:
         far blocking
            1: write 237
            2: write_now 4000, key_update, write 4000, close",
    );
}

/// The reader's call sent the last bytes of the end, and took the write handler off its loop without calling it.
#[test]
fn a_task_that_ends_its_output_is_woken_when_a_reader_has_sent_the_rest() {
    replay(
        "leaf memory 1
         layers tls server
         limits linger 60000 ms, queued 262144, input 17000
         near blocking
            1:
            2:
         far tasks
            1: write 1
            2:",
    );
}

/// The same, with the bytes of the lower layer left behind.
#[test]
fn an_end_that_waits_below_is_not_forgotten_by_other_calls() {
    replay(
        "leaf memory 1000
         layers ws client, ws client
         limits linger 60000 ms, queued 262144, input 262144
         near blocking
            1:
            2:
         far handlers
            1: write 64946
            2: read 134407, cork",
    );
}

/// What the layer tried to push when there was something to read counted as a call, so that the handler was called again, 300,000 times a second.
#[test]
fn unread_input_and_unsent_output_do_not_spin() {
    replay(
        "leaf socketpair small
         layers ws client
         limits linger 60000 ms, queued 262144, input 262144
         near handlers
            1: write 43771, write 8
            2: meet, flush
         far blocking
            1: write 5324
            2: write 121206",
    );
}

/// The rest of a request that `set_cork(false)` could not push was never sent, because the one who waited slept already.
#[test]
fn a_sleeping_reader_sends_the_rest_of_a_request() {
    replay(
        "leaf memory 1061
         layers ws client
         limits linger 60000 ms, queued 262144, input 262144
         near blocking
            1: cork, write 153545, uncork, meet
            2: read 1, meet
         far blocking
            1: meet, write 1
            2: read 153545, meet",
    );
}

/// What is printed is what is played.
#[test]
fn a_case_parses_from_what_it_prints() {
    use proptest::strategy::{Strategy, ValueTree};
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let case = super::generate::cases().new_tree(&mut runner).expect("a case").current();
        assert_eq!(case.to_string().parse(), Ok(case));
    }
}
