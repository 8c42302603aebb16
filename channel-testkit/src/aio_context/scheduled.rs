//! Scheduled callbacks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use channel_core::{AioContext, Direction};

use super::Driver;
use super::driver::{Count, Log, flag};

/// Scheduled callbacks run in the order they were scheduled, wherever that was done.
pub fn scheduled_callbacks_run_in_order(driver: &mut Driver) {
    let (context, ran) = (driver.context(), Log::new());
    let noted = |number: usize, ran: &Log<usize>| {
        let ran = ran.clone();
        Box::new(move || ran.push(number))
    };
    for number in 0..10 {
        context.schedule(noted(number, &ran));
    }
    let (inner, log) = (driver.context(), ran.clone());
    context.schedule(Box::new(move || {
        for number in 11..20 {
            inner.schedule(noted(number, &log));
        }
    }));
    context.schedule(noted(10, &ran));
    driver.until("twenty callbacks", || ran.len() >= 20);
    assert_eq!(ran.now(), (0..20).collect::<Vec<_>>(), "callbacks did not run in the order they were scheduled");
}

/// A scheduled callback never runs inside the call that schedules it, neither between turns nor inside a callback.
pub fn a_callback_never_runs_inside_schedule(driver: &mut Driver) {
    let (context, ran) = (driver.context(), Count::new());
    context.schedule(ran.once());
    assert_eq!(ran.now(), 0, "a callback ran inside the call that scheduled it");
    driver.until("the callback", || ran.now() == 1);
    let (inner, log, count) = (driver.context(), Log::new(), ran.clone());
    let noted = log.clone();
    context.schedule(Box::new(move || {
        let before = count.now();
        inner.schedule(count.once());
        noted.push(count.now() == before);
    }));
    driver.until("the callback that a callback scheduled", || ran.now() == 2);
    assert_eq!(log.now(), [true], "a callback ran inside the call that scheduled it, inside another callback");
}

/// What several threads schedule at once runs, all of it, each once.
pub fn what_any_thread_schedules_runs_once(driver: &mut Driver) {
    const EACH: usize = 500;
    let ran = Log::new();
    thread::scope(|scope| {
        for number in 0..4 {
            let (context, ran) = (driver.context(), ran.clone());
            scope.spawn(move || {
                for index in number * EACH..(number + 1) * EACH {
                    let ran = ran.clone();
                    context.schedule(Box::new(move || ran.push(index)));
                }
            });
        }
        driver.until("all that four threads scheduled", || ran.len() >= 4 * EACH);
    });
    driver.settle();
    let mut all = ran.now();
    all.sort_unstable();
    assert_eq!(all, (0..4 * EACH).collect::<Vec<_>>(), "what four threads scheduled did not run once each");
}

/// A callback that schedules another, which schedules another, leaves descriptors and timers their turn in between.
pub fn a_callback_that_schedules_another_starves_nobody(driver: &mut Driver) {
    /// More than any loop needs to look around once.
    const ENOUGH: usize = 100_000;
    let (context, over, hops) = (driver.context(), Arc::new(AtomicBool::new(false)), Count::new());
    hop(&context, &over, &hops, ENOUGH);
    driver.until("the first of a chain of callbacks", || hops.now() > 0);
    let (fd, timer) = (flag(true), Count::new());
    let calls = driver.count(&fd, Direction::Read);
    context.set_timer(Instant::now(), timer.once());
    driver.until("a handler and a timer beside a chain of callbacks", || calls.now() > 0 && timer.now() > 0);
    over.store(true, Ordering::SeqCst);
    assert!(
        hops.now() < ENOUGH,
        "a handler and a timer were called only when a chain of callbacks had come to its end"
    );
}

fn hop(context: &Arc<dyn AioContext>, over: &Arc<AtomicBool>, hops: &Count, left: usize) {
    if left == 0 || over.load(Ordering::SeqCst) {
        return;
    }
    let (next, over, count) = (Arc::clone(context), Arc::clone(over), hops.clone());
    context.schedule(Box::new(move || {
        count.add();
        hop(&next, &over, &count, left - 1);
    }));
}
