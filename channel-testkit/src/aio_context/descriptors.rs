//! Handlers of descriptors.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use channel_core::Direction;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};

use super::Driver;
use super::driver::{Count, Log, flag, lower, raise};

const BOTH: [Direction; 2] = [Direction::Read, Direction::Write];

/// **Level-triggered.** A handler is called again and again while its descriptor is ready, and only then.
pub fn a_handler_is_called_again_while_its_descriptor_is_ready(driver: &mut Driver) {
    let fd = flag(true);
    let calls = driver.count(&fd, Direction::Read);
    driver.until("a handler whose descriptor stays ready being called three times", || calls.now() >= 3);
    lower(&fd);
    let before = calls.now();
    driver.settle();
    assert_eq!(calls.now(), before, "a handler was called although its descriptor was not ready");
    raise(&fd);
    driver.until("a handler whose descriptor is ready again", || calls.now() > before);
}

/// An error on the descriptor makes both directions ready, each also where it is set alone.
pub fn an_error_makes_both_directions_ready(driver: &mut Driver) {
    let (reader, writer) = pipe();
    drop(reader); // EPOLLERR
    both_are_called(driver, &writer, "an error");
}

/// A hang-up makes both directions ready, each also where it is set alone.
pub fn a_hang_up_makes_both_directions_ready(driver: &mut Driver) {
    let (reader, writer) = pipe();
    drop(writer); // EPOLLHUP
    both_are_called(driver, &reader, "a hang-up");
}

fn both_are_called(driver: &mut Driver, fd: &Arc<OwnedFd>, why: &str) {
    for direction in BOTH {
        let calls = driver.count(fd, direction);
        driver.until(&format!("{direction:?}, set alone, being ready by {why}"), || calls.now() > 0);
        driver.clear(fd, direction);
    }
    let (reads, writes) = (driver.count(fd, Direction::Read), driver.count(fd, Direction::Write));
    driver.until(&format!("both directions being ready by {why}"), || reads.now() > 0 && writes.now() > 0);
}

/// The end of the peer's output makes reading ready.
pub fn the_end_of_the_peers_output_makes_reading_ready(driver: &mut Driver) {
    let (near, far) =
        rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("a pair");
    let near = Arc::new(near);
    let calls = driver.count(&near, Direction::Read);
    driver.settle();
    assert_eq!(calls.now(), 0, "reading was ready before anything had come");
    rustix::net::shutdown(&far, rustix::net::Shutdown::Write).expect("a shutdown");
    driver.until("reading being ready at the end of the peer's output", || calls.now() > 0);
}

/// **One at a time.** A handler that an earlier callback cleared is not called, although its event had come with the other's.
pub fn a_handler_cleared_by_an_earlier_callback_is_not_called(driver: &mut Driver) {
    let fds: Vec<_> = (0..8).map(|_| flag(true)).collect();
    let context = driver.context();
    let (calls, all) = (Count::new(), Arc::new(fds));
    for fd in &*all {
        for direction in BOTH {
            let (calls, all, context) = (calls.clone(), Arc::clone(&all), Arc::clone(&context));
            let callback = move || {
                calls.add();
                for (fd, direction) in all.iter().flat_map(|fd| BOTH.map(|direction| (fd, direction))) {
                    let _ = context.set_fd_handler(fd, direction, None);
                }
            };
            driver.set(fd, direction, Arc::new(callback));
        }
    }
    driver.until("any of the handlers", || calls.now() > 0);
    driver.settle();
    assert_eq!(calls.now(), 1, "a handler was called after an earlier callback had cleared it");
}

/// A handler that an earlier callback replaced is not called; the new one is, while its descriptor is ready.
pub fn a_handler_replaced_by_an_earlier_callback_is_not_called(driver: &mut Driver) {
    let fds: Vec<_> = (0..8).map(|_| flag(true)).collect();
    let context = driver.context();
    let (old, new, all) = (Count::new(), Count::new(), Arc::new(fds));
    for fd in &*all {
        for direction in BOTH {
            let (old, new, all, context) = (old.clone(), new.clone(), Arc::clone(&all), Arc::clone(&context));
            let callback = move || {
                old.add();
                for (fd, direction) in all.iter().flat_map(|fd| BOTH.map(|direction| (fd, direction))) {
                    let _ = context.set_fd_handler(fd, direction, Some(new.callback()));
                }
            };
            driver.set(fd, direction, Arc::new(callback));
        }
    }
    driver.until("the handlers that were set in place of others", || new.now() >= 16);
    driver.settle();
    assert_eq!(old.now(), 1, "a handler was called after an earlier callback had replaced it");
}

/// **No strangers.** The descriptor is kept as long as a handler is set on it, and let go of afterwards.
pub fn a_descriptor_is_kept_while_a_handler_is_set(driver: &mut Driver) {
    let fd = flag(true);
    let reads = driver.count(&fd, Direction::Read);
    let writes = driver.count(&fd, Direction::Write);
    let kept = Arc::downgrade(&fd);
    drop(fd);
    driver.until("both handlers", || reads.now() > 0 && writes.now() > 0);
    {
        let fd = kept.upgrade().expect("a loop let go of a descriptor that had two handlers");
        driver.clear(&fd, Direction::Read);
    }
    let before = writes.now();
    driver.until("the handler that is left", || writes.now() > before);
    {
        let fd = kept.upgrade().expect("a loop let go of a descriptor that had one handler left");
        driver.clear(&fd, Direction::Write);
    }
    driver.until("the loop letting go of a descriptor without handlers", || kept.upgrade().is_none());
}

/// An event of a descriptor that had the same number before reaches nobody: neither where the file is still open elsewhere, nor
/// where the number changed hands between the events of one turn.
pub fn a_reused_number_gets_no_stale_event(driver: &mut Driver) {
    // The ready file stays open under another number, so the kernel does not forget it by itself. A number may be taken by
    // another test meanwhile, and a loop may keep it to the end of a turn.
    let (ready, idle) = (flag(true), flag(false));
    let _ = (0..TRIES).any(|_| reused_between_turns(driver, &ready, &idle));
    let _ = (0..TRIES).any(|_| reused_within_a_turn(driver, &ready, &idle));
}

/// How often a number is let go of and asked for again.
const TRIES: usize = 5;

/// A descriptor is ready; after it was cleared an idle one gets its number.
fn reused_between_turns(driver: &mut Driver, ready: &OwnedFd, idle: &OwnedFd) -> bool {
    let first = numbered(ready, None);
    let number = first.as_raw_fd();
    let calls = driver.count(&first, Direction::Read);
    driver.until("a handler", || calls.now() > 0);
    driver.clear(&first, Direction::Read);
    let kept = Arc::downgrade(&first);
    drop(first);
    driver.until("the loop letting go of a descriptor without handlers", || kept.upgrade().is_none());
    let second = numbered(idle, Some(number));
    let strange = driver.count(&second, Direction::Read);
    driver.settle();
    assert_eq!(strange.now(), 0, "an idle descriptor was called for an event of the one that had its number before");
    driver.clear(&second, Direction::Read);
    second.as_raw_fd() == number
}

/// Two descriptors are ready; the handler that is called first gives the number of the other to an idle one.
fn reused_within_a_turn(driver: &mut Driver, ready: &OwnedFd, idle: &Arc<OwnedFd>) -> bool {
    let both = Arc::new(Mutex::new([Some(numbered(ready, None)), Some(numbered(ready, None))]));
    let (strange, outcome) = (Count::new(), Log::new());
    let set: Vec<_> = both.lock().unwrap_or_else(PoisonError::into_inner).iter().flatten().cloned().collect();
    for (index, fd) in set.iter().enumerate() {
        let (context, both, idle) = (driver.context(), Arc::clone(&both), Arc::clone(idle));
        let (strange, outcome) = (strange.clone(), outcome.clone());
        let callback = move || {
            let mut both = both.lock().unwrap_or_else(PoisonError::into_inner);
            let (Some(own), Some(other)) = (both[index].take(), both[1 - index].take()) else { return };
            drop(both);
            let number = other.as_raw_fd();
            let _ = context.set_fd_handler(&own, Direction::Read, None);
            let _ = context.set_fd_handler(&other, Direction::Read, None);
            drop(other);
            let new = numbered(&idle, Some(number));
            let _ = context.set_fd_handler(&new, Direction::Read, Some(strange.callback()));
            outcome.push((new.as_raw_fd() == number, new));
        };
        driver.set(fd, Direction::Read, Arc::new(callback));
    }
    drop(set);
    driver.until("either handler", || outcome.len() > 0);
    driver.settle();
    assert_eq!(strange.now(), 0, "an idle descriptor was called for an event that another had in the same turn");
    let mut reused = false;
    for (same, fd) in outcome.now() {
        driver.clear(&fd, Direction::Read);
        reused |= same;
    }
    reused
}

/// Another descriptor of `file`, of the given number if that is free, else of one that nobody else in this process wants.
fn numbered(file: &OwnedFd, number: Option<i32>) -> Arc<OwnedFd> {
    static NEXT: AtomicI32 = AtomicI32::new(0);
    let least = number.unwrap_or_else(|| 600 + NEXT.fetch_add(1, Ordering::Relaxed) % 200);
    Arc::new(rustix::io::fcntl_dupfd_cloexec(file, least).expect("a duplicate"))
}

/// **O(ready).** Of many descriptors, only those that are ready are called.
pub fn only_what_is_ready_is_called(driver: &mut Driver) {
    let (idle_file, ready) = (flag(false), flag(true));
    let many: Vec<_> = (0..200).map(|_| Arc::new(idle_file.try_clone().expect("a duplicate"))).collect();
    let idle = Count::new();
    for fd in &many {
        driver.set(fd, Direction::Read, idle.callback());
    }
    let calls = driver.count(&ready, Direction::Read);
    driver.until("the one that is ready", || calls.now() >= 3);
    assert_eq!(idle.now(), 0, "handlers were called whose descriptors were idle");
}

/// Setting or clearing one direction leaves the other as it is.
pub fn directions_are_set_and_cleared_apart(driver: &mut Driver) {
    for [kept, changed] in [BOTH, [Direction::Write, Direction::Read]] {
        let fd = flag(true);
        let (first, second) = (driver.count(&fd, kept), driver.count(&fd, changed));
        driver.until("both handlers", || first.now() > 0 && second.now() > 0);
        driver.clear(&fd, changed);
        let before = (first.now(), second.now());
        driver.until("the direction that was not cleared", || first.now() > before.0);
        driver.settle();
        assert_eq!(second.now(), before.1, "a handler was called after it had been cleared");
        driver.clear(&fd, kept);
        let before = first.now();
        driver.settle();
        assert_eq!(first.now(), before, "the last handler was called after it had been cleared");
    }
}

/// Clearing what is not set is no error: on a descriptor never seen, in the other direction, and twice.
pub fn clearing_what_is_not_set_is_no_error(driver: &mut Driver) {
    let (fd, context) = (flag(true), driver.context());
    let clear = |direction, when: &str| {
        let cleared = context.set_fd_handler(&fd, direction, None);
        assert!(cleared.is_ok(), "clearing what is not set, {when}: {cleared:?}");
    };
    for [set, other] in [BOTH, [Direction::Write, Direction::Read]] {
        clear(set, "before any handler");
        let calls = driver.count(&fd, set);
        clear(other, "beside the other direction");
        driver.until("the handler that is set", || calls.now() > 0);
        clear(set, "though it is set");
        clear(set, "after it was cleared");
    }
}

fn pipe() -> (Arc<OwnedFd>, Arc<OwnedFd>) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe");
    (Arc::new(reader), Arc::new(writer))
}
