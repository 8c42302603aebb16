//! One test in a process of its own.
//!
//! Tests share a process, so a test that counts descriptors, lowers a limit or sends a signal would see, or hit, the others.
//! Such a test runs its own binary again, for itself alone.

use std::process::{Command, Output};

use crate::watchdog;

/// The environment variable that tells the child which test it is.
const CHILD_VARIABLE: &str = "CHANNEL_TESTKIT_CHILD";

/// Runs `body` in a child process and asserts that it succeeded.
///
/// `test_path` is the calling test as `cargo test -- --list` shows it, without the crate's name:
///
/// ```no_run
/// mod descriptors {
///     # use channel_testkit::{child, fds};
///     // #[test]
///     fn none_is_left() {
///         child::run("descriptors::none_is_left", || fds::assert_no_fd_left(|| { /* ... */ }));
///     }
/// }
/// ```
///
/// In the child, the [watchdog] watches over `body`.
///
/// # Panics
/// If the child fails, with all it said; or if it did not run `body`, because no test has that path.
pub fn run(test_path: &str, body: impl FnOnce()) {
    let Some(output) = output(test_path, &[], body) else {
        return;
    };
    let said = said(&output);
    assert!(output.status.success(), "the child of `{test_path}` failed ({}):\n{said}", output.status);
    assert!(
        said.contains(&finished(test_path)),
        "no child ran: is `{test_path}` the path of this test, without the crate's name?\n{said}"
    );
}

/// As [`run`], but leaves the judgement to the caller, and gives the child `environment` as well: in the parent, what the child
/// did; in the child, once `body` has returned, `None`.
///
/// # Panics
/// If the child cannot be started; in the child, as `body` does.
pub fn output(test_path: &str, environment: &[(&str, &str)], body: impl FnOnce()) -> Option<Output> {
    if std::env::var(CHILD_VARIABLE).is_ok_and(|child| child == test_path) {
        watchdog::run(test_path, body);
        println!("{}", finished(test_path));
        return None;
    }
    let program = std::env::current_exe().expect("the path of the test binary");
    let output = Command::new(program)
        .args(["--exact", test_path, "--nocapture", "--include-ignored", "--test-threads=1"])
        .env(CHILD_VARIABLE, test_path)
        .envs(environment.iter().copied())
        .output();
    Some(output.expect("the test binary runs again"))
}

/// All a child wrote, for a message.
#[must_use]
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What the child prints at the end. The harness exits with 0 also where no test matched, so the status alone proves nothing.
fn finished(test_path: &str) -> String {
    format!("child of `{test_path}` finished")
}
