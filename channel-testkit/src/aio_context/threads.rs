//! Calls from other threads, while the loop sleeps.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{AioContext, Direction};

use super::Driver;
use super::driver::{Log, flag, raise};

/// **Any thread.** A handler that is set while the loop sleeps is called, if its descriptor is ready, and not only when the loop wakes
/// for something else.
pub fn a_handler_set_while_the_loop_sleeps_is_noticed(driver: &mut Driver) {
    for direction in [Direction::Read, Direction::Write] {
        let fd = flag(true);
        noticed(driver, "a handler", |context, ran| {
            let set = context.set_fd_handler(&fd, direction, Some(Arc::new(move || ran.push(Instant::now()))));
            set.expect("setting a handler");
        });
        driver.clear(&fd, direction);
    }
}

/// A callback that is scheduled while the loop sleeps runs at once.
pub fn a_callback_scheduled_while_the_loop_sleeps_is_noticed(driver: &mut Driver) {
    noticed(driver, "a callback", |context, ran| context.schedule(Box::new(move || ran.push(Instant::now()))));
}

/// A timer that is set while the loop sleeps, towards a later one, runs in time.
pub fn a_timer_set_while_the_loop_sleeps_is_noticed(driver: &mut Driver) {
    let context = driver.context();
    let later = context.set_timer(Instant::now() + Duration::from_secs(3600), Box::new(|| ()));
    noticed(driver, "a timer", |context, ran| {
        context.set_timer(Instant::now() + Duration::from_millis(1), Box::new(move || ran.push(Instant::now())));
    });
    context.clear_timer(later);
}

/// A handler that is cleared while the loop sleeps is not called when its descriptor becomes ready.
pub fn a_handler_cleared_while_the_loop_sleeps_is_not_called(driver: &mut Driver) {
    for delay in DELAYS {
        let fd = flag(false);
        let calls = driver.count(&fd, Direction::Read);
        noticed_after(delay, driver, "a callback", |context, ran| {
            context.set_fd_handler(&fd, Direction::Read, None).expect("clearing a handler");
            raise(&fd);
            context.schedule(Box::new(move || ran.push(Instant::now())));
        });
        driver.settle();
        assert_eq!(calls.now(), 0, "a handler was called after another thread had cleared it");
    }
}

/// The loop is about to sleep, or sleeps already.
const DELAYS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(30)];

/// Has another thread `act` while the loop sleeps, and the loop notice.
fn noticed(driver: &mut Driver, what: &str, act: impl Fn(&dyn AioContext, Log<Instant>) + Sync) {
    for delay in DELAYS {
        noticed_after(delay, driver, what, &act);
    }
}

fn noticed_after(delay: Duration, driver: &mut Driver, what: &str, act: impl Fn(&dyn AioContext, Log<Instant>) + Sync) {
    // A loop that sleeps on does so for its whole turn: much longer than any machine takes to wake it.
    let sleep = driver.patience() / 2;
    let (context, ran) = (driver.context(), Log::new());
    let acted = thread::scope(|scope| {
        let other = scope.spawn(|| {
            thread::sleep(delay);
            let acted = Instant::now();
            act(&*context, ran.clone());
            acted
        });
        let mut patience = driver.waiting();
        while ran.len() == 0 && !patience.look(sleep) {
            driver.turn(sleep);
        }
        other.join().expect("the other thread")
    });
    let first = ran.now().first().copied();
    let Some(first) = first else { panic!("{what} from another thread never ran") };
    let took = first.saturating_duration_since(acted);
    assert!(took < sleep / 2, "{what} from another thread ran only after {took:?}: the loop slept on");
}
