//! Event loops we know nothing of drive whole stacks: the examples, run to their end.
#![allow(clippy::duplicate_mod, reason = "each example is a program of its own, with parts of its own")]

#[path = "../examples/event_manager_echo.rs"]
#[allow(dead_code, unreachable_pub, reason = "the example is a program, whose main is not called here")]
mod event_manager_echo;
#[path = "../examples/mio_echo.rs"]
#[allow(dead_code, unreachable_pub, reason = "the example is a program, whose main is not called here")]
mod mio_echo;

use channel_stack::SocketAddress;
use channel_testkit::{child, watchdog};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CLIENTS: usize = 24;

fn tcp() -> SocketAddress {
    SocketAddress::Inet(([127, 0, 0, 1], 0).into())
}

/// A writer of a unix socket waits for a second descriptor, and that one to be readable.
fn unix(name: &str) -> SocketAddress {
    SocketAddress::UnixAbstract(format!("channel-stack {name} {}", std::process::id()).into_bytes())
}

#[test]
fn mio_drives_a_wss_stack_through_the_readiness_question_alone() {
    watchdog::run("mio_drives_a_wss_stack_through_the_readiness_question_alone", || {
        mio_echo::serve(&tcp(), CLIENTS).unwrap();
    });
}

#[test]
fn mio_drives_channels_that_wait_for_several_descriptors() {
    watchdog::run("mio_drives_channels_that_wait_for_several_descriptors", || {
        mio_echo::serve(&unix("mio"), CLIENTS).unwrap();
    });
}

#[test]
fn event_manager_drives_a_wss_stack_through_the_readiness_question_alone() {
    watchdog::run("event_manager_drives_a_wss_stack_through_the_readiness_question_alone", || {
        event_manager_echo::serve(&tcp(), CLIENTS).unwrap();
    });
}

#[test]
fn event_manager_drives_channels_that_wait_for_several_descriptors() {
    watchdog::run("event_manager_drives_channels_that_wait_for_several_descriptors", || {
        event_manager_echo::serve(&unix("event-manager"), CLIENTS).unwrap();
    });
}

/// Leaves a server in this process descriptors for `room` connections, when all its clients have connected before it accepts.
///
/// `own` are those that it needs for itself.
fn leave_room_for(room: usize, own: usize, clients: usize) {
    let next = std::fs::File::open("/dev/null").map(|file| std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap() as usize;
    let before = getrlimit(Resource::Nofile);
    let most = (next + own + clients + room) as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..before }).unwrap();
}

#[test]
fn mio_survives_a_shortage_of_descriptors_and_serves_everybody_in_the_end() {
    child::run("mio_survives_a_shortage_of_descriptors_and_serves_everybody_in_the_end", || {
        // The listener, mio's epoll, and the two clients that do not behave.
        leave_room_for(5, 4, CLIENTS);
        let summary = mio_echo::serve(&tcp(), CLIENTS).unwrap();
        assert!(summary.shortages > 0, "{summary:?}");
    });
}

#[test]
fn event_manager_survives_a_shortage_of_descriptors_and_serves_everybody_in_the_end() {
    child::run("event_manager_survives_a_shortage_of_descriptors_and_serves_everybody_in_the_end", || {
        // The listener, the timer, the epoll, and the two clients that do not behave.
        leave_room_for(5, 5, CLIENTS);
        let summary = event_manager_echo::serve(&tcp(), CLIENTS).unwrap();
        assert!(summary.shortages > 0, "{summary:?}");
    });
}
