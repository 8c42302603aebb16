//! Event loops drive whole stacks, ours and those we know nothing of: the examples, run to their end.
#![allow(clippy::duplicate_mod, reason = "each example is a program of its own, with parts of its own")]

#[path = "../examples/event_loop_echo.rs"]
#[allow(dead_code, unreachable_pub, reason = "the example is a program, whose main is not called here")]
mod event_loop_echo;
#[path = "../examples/event_manager_echo.rs"]
#[allow(dead_code, unreachable_pub, reason = "the example is a program, whose main is not called here")]
mod event_manager_echo;
#[path = "../examples/mio_echo.rs"]
#[allow(dead_code, unreachable_pub, reason = "the example is a program, whose main is not called here")]
mod mio_echo;
#[path = "../examples/tokio_echo.rs"]
#[allow(dead_code, unreachable_pub, reason = "the example is a program, whose main is not called here")]
mod tokio_echo;

use std::env;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use channel_stack::{Direction, Interests, SocketAddress};
use channel_testkit::{child, watchdog};
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use mio::{Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const CLIENTS: usize = 24;
/// Those of them that talk at a time where descriptors are short: a thread that sleeps in a layer has one to be woken by.
const FEW: usize = 4;

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
        mio_echo::serve(&tcp(), CLIENTS, CLIENTS).unwrap();
    });
}

#[test]
fn mio_drives_channels_that_wait_for_several_descriptors() {
    watchdog::run("mio_drives_channels_that_wait_for_several_descriptors", || {
        mio_echo::serve(&unix("mio"), CLIENTS, CLIENTS).unwrap();
    });
}

#[test]
fn event_manager_drives_a_wss_stack_through_the_readiness_question_alone() {
    watchdog::run("event_manager_drives_a_wss_stack_through_the_readiness_question_alone", || {
        event_manager_echo::serve(&tcp(), CLIENTS, CLIENTS).unwrap();
    });
}

#[test]
fn event_manager_drives_channels_that_wait_for_several_descriptors() {
    watchdog::run("event_manager_drives_channels_that_wait_for_several_descriptors", || {
        event_manager_echo::serve(&unix("event-manager"), CLIENTS, CLIENTS).unwrap();
    });
}

/// Clients that are there all at once.
const CROWD: usize = 60;

/// Starts the clients of a crowd: this program again, for a test that is none.
fn crowd() -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "the_clients_of_other_tests", "--ignored", "--nocapture"]);
    command.env(CROWD_VARIABLE, "1").stdout(Stdio::null());
    command
}

const CROWD_VARIABLE: &str = "CHANNEL_STACK_CROWD";

#[test]
#[ignore = "servers of other tests start this, in a process of its own"]
fn the_clients_of_other_tests() {
    if env::var_os(CROWD_VARIABLE).is_some() {
        event_loop_echo::run_clients().unwrap();
    }
}

#[test]
fn the_event_loop_serves_a_crowd_at_once_by_handlers() {
    watchdog::run("the_event_loop_serves_a_crowd_at_once_by_handlers", || {
        let options = event_loop_echo::Options { clients: CROWD, hold: Duration::ZERO };
        event_loop_echo::serve(&tcp(), options, &mut crowd()).unwrap();
    });
}

#[test]
fn the_event_loop_serves_a_crowd_at_once_over_unix_sockets() {
    watchdog::run("the_event_loop_serves_a_crowd_at_once_over_unix_sockets", || {
        let options = event_loop_echo::Options { clients: CROWD, hold: Duration::ZERO };
        event_loop_echo::serve(&unix("event-loop"), options, &mut crowd()).unwrap();
    });
}

#[test]
fn tokio_serves_a_crowd_at_once_by_tasks() {
    watchdog::run("tokio_serves_a_crowd_at_once_by_tasks", || {
        let options = tokio_echo::Options { clients: CROWD, hold: Duration::ZERO };
        tokio_echo::serve(&tcp(), options, &mut crowd()).unwrap();
    });
}

#[test]
fn tokio_serves_a_crowd_at_once_over_unix_sockets() {
    watchdog::run("tokio_serves_a_crowd_at_once_over_unix_sockets", || {
        let options = tokio_echo::Options { clients: CROWD, hold: Duration::ZERO };
        tokio_echo::serve(&unix("tokio"), options, &mut crowd()).unwrap();
    });
}

#[test]
fn a_server_fails_when_its_clients_do() {
    watchdog::run("a_server_fails_when_its_clients_do", || {
        let mut failing = Command::new("sh");
        failing.args(["-c", "read order; exit 3"]);
        let options = event_loop_echo::Options { clients: CROWD, hold: Duration::ZERO };
        let error = event_loop_echo::serve(&tcp(), options, &mut failing).unwrap_err();
        assert_eq!(error.to_string(), "the clients failed: exit status: 3");
        let options = tokio_echo::Options { clients: CROWD, hold: Duration::ZERO };
        let error = tokio_echo::serve(&tcp(), options, &mut failing).unwrap_err();
        assert_eq!(error.to_string(), "the clients failed: exit status: 3");
    });
}

#[test]
fn too_small_a_limit_of_descriptors_is_raised_or_told() {
    child::run("too_small_a_limit_of_descriptors_is_raised_or_told", || {
        let options = event_loop_echo::Options { clients: 100, hold: Duration::ZERO };
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(400) }).unwrap();
        options.allow_descriptors().unwrap();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(400));
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: Some(300) }).unwrap();
        let error = options.allow_descriptors().unwrap_err().to_string();
        assert!(error.contains("364 descriptors") && error.contains("is 300 (ulimit -Hn)"), "{error}");
    });
}

/// Leaves a server in this process descriptors for `room` connections, when all its clients have connected before it accepts, and a few
/// more until they talk.
///
/// `own` are those that it needs for itself.
fn leave_room_for(room: usize, own: usize, clients: usize) {
    let next = std::fs::File::open("/dev/null").map(|file| std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap() as usize;
    let before = getrlimit(Resource::Nofile);
    let most = (next + own + clients + FEW + room) as u64;
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), ..before }).unwrap();
}

#[test]
fn mio_survives_a_shortage_of_descriptors_and_serves_everybody_in_the_end() {
    child::run("mio_survives_a_shortage_of_descriptors_and_serves_everybody_in_the_end", || {
        // The listener, mio's epoll, and the two clients that do not behave.
        leave_room_for(5, 4, CLIENTS);
        let summary = mio_echo::serve(&tcp(), CLIENTS, FEW).unwrap();
        assert!(summary.shortages > 0, "{summary:?}");
    });
}

#[test]
fn event_manager_survives_a_shortage_of_descriptors_and_serves_everybody_in_the_end() {
    child::run("event_manager_survives_a_shortage_of_descriptors_and_serves_everybody_in_the_end", || {
        // The listener, the timer, the epoll, and the two clients that do not behave.
        leave_room_for(5, 5, CLIENTS);
        let summary = event_manager_echo::serve(&tcp(), CLIENTS, FEW).unwrap();
        assert!(summary.shortages > 0, "{summary:?}");
    });
}

/// A socket with room to write and something to read, wanted for both; its peer is to be kept.
fn wanted_for_both() -> (Interests, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut &far, b"hello").unwrap();
    let near: Arc<OwnedFd> = Arc::new(near.into());
    let mut wanted = Interests::new();
    wanted.add(&near, Direction::Read);
    wanted.add(&near, Direction::Write);
    (wanted, far)
}

#[test]
fn mio_is_told_of_a_descriptor_once_for_both_directions() {
    watchdog::run("mio_is_told_of_a_descriptor_once_for_both_directions", || {
        let (wanted, _far) = wanted_for_both();
        let mut poll = Poll::new().unwrap();
        let mut registered = mio_echo::Registered::new(Token(7));
        registered.follow(poll.registry(), &wanted).unwrap();
        let mut events = mio::Events::with_capacity(8);
        poll.poll(&mut events, None).unwrap();
        let told: Vec<_> =
            events.iter().map(|event| (event.token(), event.is_readable(), event.is_writable())).collect();
        assert_eq!(told, [(Token(7), true, true)]);
    });
}

#[test]
fn mio_is_told_again_of_what_is_still_ready_when_it_is_waited_for_again() {
    watchdog::run("mio_is_told_again_of_what_is_still_ready_when_it_is_waited_for_again", || {
        let (wanted, _far) = wanted_for_both();
        let mut poll = Poll::new().unwrap();
        let mut registered = mio_echo::Registered::new(Token(7));
        let mut events = mio::Events::with_capacity(8);
        for _ in 0..2 {
            registered.follow(poll.registry(), &wanted).unwrap();
            poll.poll(&mut events, None).unwrap();
            assert!(!events.is_empty());
        }
    });
}

/// Notes what it is told of the descriptors of `wanted`.
struct Probe {
    wanted: Interests,
    registered: event_manager_echo::Registered,
    told: Vec<(u32, EventSet)>,
}

impl MutEventSubscriber for Probe {
    fn init(&mut self, ops: &mut EventOps<'_>) {
        self.registered.follow(ops, &self.wanted).unwrap();
    }

    fn process(&mut self, events: Events, _: &mut EventOps<'_>) {
        self.told.push((events.data(), events.event_set()));
    }
}

#[test]
fn event_manager_is_told_of_a_descriptor_once_for_both_directions() {
    watchdog::run("event_manager_is_told_of_a_descriptor_once_for_both_directions", || {
        let (wanted, _far) = wanted_for_both();
        let registered = event_manager_echo::Registered::new(7);
        let mut manager = EventManager::new().unwrap();
        let id = manager.add_subscriber(Probe { wanted, registered, told: Vec::new() });
        manager.run().unwrap();
        assert_eq!(manager.remove_subscriber(id).unwrap().told, [(7, EventSet::IN | EventSet::OUT)]);
    });
}
