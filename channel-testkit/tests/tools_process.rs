//! The watchdog bites, children run what they should, and descriptors are counted right.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use channel_core::{ChannelExt, MemoryChannel};
use channel_testkit::adverse::{self, Gate};
use channel_testkit::suite::{CLAUSES, Mode, Setup};
use channel_testkit::{child, fds, watchdog};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::pipe;

const SIGABRT: i32 = 6;

#[test]
fn a_hang_is_ended_and_named() {
    let hang = || {
        watchdog::run("the hanging test", || {
            let (near, _far) = MemoryChannel::pair().unwrap();
            let _ = near.read(&mut [0]); // for ever
        });
    };
    let path = "a_hang_is_ended_and_named";
    let Some(output) = child::output(path, &[(watchdog::TIMEOUT_VARIABLE, "1")], hang) else {
        return;
    };
    let said = child::said(&output);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{said}");
    // The child is watched itself, from a moment earlier.
    assert!(said.contains(&format!("watchdog: test `{path}`")), "{said}");
    assert!(said.contains("under way: `the hanging test`"), "{said}");
    assert!(said.contains("did nothing for 1s"), "{said}");
    assert!(said.contains("  thread ") && said.contains("`a_hang_is_ended`"), "the threads are listed: {said}");
}

#[test]
fn a_test_that_goes_on_is_left_alone_however_long_it_takes() {
    let path = "a_test_that_goes_on_is_left_alone_however_long_it_takes";
    let body = || {
        watchdog::run_with_progress("one that goes on", |progress| {
            for _ in 0..25 {
                thread::sleep(Duration::from_millis(100));
                progress.made();
            }
        });
    };
    let Some(output) = child::output(path, &[(watchdog::TIMEOUT_VARIABLE, "1")], body) else {
        return;
    };
    assert!(output.status.success(), "{}", child::said(&output));
}

#[test]
fn a_clause_that_hangs_says_where_and_what_both_ends_did() {
    let setup = Setup::new(Mode::Blocking, |_| {
        let (near, far) = MemoryChannel::pair().unwrap();
        let gate = Gate::new();
        gate.close();
        (adverse::gated(Box::new(near), gate), far)
    });
    let clause = CLAUSES.iter().find(|clause| clause.promise() == "R4").unwrap();
    let failed = catch_unwind(AssertUnwindSafe(|| clause.run(&setup.patience(Duration::from_secs(1))))).unwrap_err();
    let said = failed.downcast_ref::<String>().unwrap();
    assert!(said.starts_with("R4 (r4_data_in_hand_is_not_held_back, blocking mode): nothing moved for 1s"), "{said}");
    assert!(said.contains("reading 3 bytes into more room"), "{said}");
    assert!(
        said.contains(
            "the near end: 0 bytes read, 0 written, last read, which failed with WouldBlock; in read on thread"
        ),
        "{said}"
    );
    assert!(said.contains("(S (sleeping), in "), "{said}");
    assert!(said.contains("the far end: 0 bytes read, 3 written, last flush, which is done"), "{said}");
}

#[test]
fn a_test_that_ended_is_watched_no_more() {
    let path = "a_test_that_ended_is_watched_no_more";
    let body = || {
        watchdog::run("one that ends", || ());
        let failed = catch_unwind(|| watchdog::run("one that panics", || panic!("as it should")));
        assert!(failed.is_err(), "the panic goes through");
        let (_sender, receiver) = mpsc::channel::<()>();
        let _ = receiver.recv(); // for ever, so that the child's own watch tells what is under way
    };
    let Some(output) = child::output(path, &[(watchdog::TIMEOUT_VARIABLE, "1")], body) else {
        return;
    };
    let said = child::said(&output);
    assert!(said.contains(&format!("under way: `{path}`")), "{said}");
    assert!(!said.contains("under way: `one that"), "{said}");
}

#[test]
fn a_child_is_another_process() {
    child::run("a_child_is_another_process", || {
        assert!(std::env::args().any(|argument| argument == "--exact"));
        fds::assert_no_fd_left(|| drop(MemoryChannel::pair().unwrap()));
    });
}

#[test]
fn a_child_that_fails_fails_its_test() {
    let path = "a_child_that_fails_fails_its_test";
    let body = || panic!("in the child");
    if std::env::var_os("CHANNEL_TESTKIT_CHILD").is_some() {
        return child::run(path, body);
    }
    let failed = catch_unwind(|| child::run(path, body)).unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    assert!(message.contains("in the child"), "{message}");
}

#[test]
fn a_child_that_runs_no_test_fails_its_test() {
    let failed = catch_unwind(|| child::run("no::such_test", || ())).unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    assert!(message.contains("no child ran"), "{message}");
}

#[test]
fn a_descriptor_left_behind_or_missing_is_noticed() {
    child::run("a_descriptor_left_behind_or_missing_is_noticed", || {
        fds::assert_no_fd_left(|| drop(pipe().unwrap()));
        let mut left = None;
        let failed = catch_unwind(AssertUnwindSafe(|| fds::assert_no_fd_left(|| left = Some(pipe().unwrap()))));
        let message = failed.unwrap_err();
        assert!(message.downcast_ref::<String>().unwrap().contains("pipe:["));
        let failed = catch_unwind(AssertUnwindSafe(|| fds::assert_no_fd_left(|| drop(left.take()))));
        assert!(failed.is_err(), "one that is gone is noticed too");
    });
}

#[test]
fn open_descriptors_are_listed_with_their_targets() {
    let file = File::open("/dev/null").unwrap();
    assert_eq!(fds::open_fds().get(&file.as_raw_fd()).map(String::as_str), Some("/dev/null"));
}

#[test]
fn descriptors_are_told_apart() {
    let (reader, writer) = pipe().unwrap();
    fds::assert_same_file(&reader, reader.try_clone().unwrap());
    fds::assert_same_file(&reader, &writer);
    let other = pipe().unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| fds::assert_same_file(&reader, &other.0))).is_err());
    fcntl_setfd(&reader, FdFlags::CLOEXEC).unwrap();
    fds::assert_cloexec(reader.as_fd());
    fcntl_setfd(&reader, FdFlags::empty()).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| fds::assert_cloexec(&reader))).is_err());
}
