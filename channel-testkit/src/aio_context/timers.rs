//! Timers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use channel_core::TimerId;

use super::Driver;
use super::driver::{Count, Log};

/// A timer runs once, soon after its deadline; one whose deadline has passed already runs soon, too.
pub fn a_timer_runs_once_and_soon(driver: &mut Driver) {
    let (context, ran) = (driver.context(), Count::new());
    for offset in [-1_000_000, -1, 0, 1, 5_000] {
        context.set_timer(micros(Instant::now(), offset), ran.once());
    }
    driver.until("five timers", || ran.now() >= 5);
    driver.settle();
    assert_eq!(ran.now(), 5, "a timer ran more than once");
}

/// A timer never runs before its deadline.
pub fn a_timer_never_runs_early(driver: &mut Driver) {
    let (context, early, ran) = (driver.context(), Log::new(), Count::new());
    // Not a whole number of milliseconds, which a poller may round to.
    for step in 1..60u32 {
        let (early, ran) = (early.clone(), ran.clone());
        let deadline = Instant::now() + step * Duration::from_micros(333);
        context.set_timer(
            deadline,
            Box::new(move || {
                let left = deadline.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    early.push(left);
                }
                ran.add();
            }),
        );
    }
    driver.until("59 timers", || ran.now() >= 59);
    assert_eq!(early.now(), [], "a timer ran before its deadline");
}

/// Timers run in the order of their deadlines, whatever the order they were set in.
pub fn timers_run_in_the_order_of_their_deadlines(driver: &mut Driver) {
    let (context, now) = (driver.context(), Instant::now());
    // All due at once, and some yet to come.
    for first in [-20_000, 2_000] {
        let ran = Log::new();
        let order: Vec<i64> = (0..32).map(|index| index * 7 % 32).collect();
        for &place in &order {
            let ran = ran.clone();
            context.set_timer(micros(now, first + place * 100), Box::new(move || ran.push(place)));
        }
        driver.until("32 timers", || ran.len() >= 32);
        assert_eq!(ran.now(), (0..32).collect::<Vec<_>>(), "timers did not run in the order of their deadlines");
    }
}

/// A timer that was cleared is dropped then and never runs, also where an earlier one that was due at the same time cleared it.
pub fn a_cleared_timer_is_dropped_and_never_runs(driver: &mut Driver) {
    let (context, ran) = (driver.context(), Count::new());
    let held = Arc::new(());
    let (guard, count) = (Arc::clone(&held), ran.clone());
    let callback = move || {
        count.add();
        drop(guard);
    };
    let timer = context.set_timer(Instant::now() + Duration::from_millis(5), Box::new(callback));
    context.clear_timer(timer);
    assert_eq!(Arc::strong_count(&held), 1, "the callback of a cleared timer was not dropped");
    let past = Instant::now() - Duration::from_millis(10);
    let second = context.set_timer(past + Duration::from_millis(1), ran.once());
    let (clearer, cleared, done) = (driver.context(), Count::new(), Instant::now() + Duration::from_millis(10));
    let noted = cleared.clone();
    context.set_timer(
        past,
        Box::new(move || {
            clearer.clear_timer(second);
            noted.add();
        }),
    );
    driver.until("a timer that clears another", || cleared.now() == 1 && Instant::now() > done);
    driver.settle();
    assert_eq!(ran.now(), 0, "a timer ran after it had been cleared");
}

/// Clearing a timer that is not set is nothing: one that never was, has run, is running, or was cleared.
pub fn clearing_a_timer_that_is_not_set_is_nothing(driver: &mut Driver) {
    let (context, ran) = (driver.context(), Count::new());
    let other = context.set_timer(Instant::now() + Duration::from_millis(20), ran.once());
    context.clear_timer(TimerId(u64::MAX));
    let timer = context.set_timer(Instant::now() + Duration::from_secs(3600), Box::new(|| ()));
    context.clear_timer(timer);
    context.clear_timer(timer);
    let (own, inner, done) = (Log::new(), driver.context(), Count::new());
    let (known, noted) = (own.clone(), done.clone());
    let callback = move || {
        for timer in known.now() {
            inner.clear_timer(timer);
        }
        noted.add();
    };
    let timer = context.set_timer(Instant::now() + Duration::from_millis(1), Box::new(callback));
    own.push(timer);
    driver.until("a timer that clears itself", || done.now() == 1);
    context.clear_timer(timer);
    assert_ne!(timer, other);
    driver.until("a timer beside those that were cleared", || ran.now() == 1);
}

/// The number of a timer is never given twice, so that one who clears a timer late cannot hit another's.
pub fn the_number_of_a_timer_is_never_given_twice(driver: &mut Driver) {
    let (context, ran, mut numbers) = (driver.context(), Count::new(), BTreeSet::new());
    for round in 0..100 {
        let cleared = context.set_timer(Instant::now() + Duration::from_secs(3600), Box::new(|| ()));
        context.clear_timer(cleared);
        let running = context.set_timer(Instant::now(), ran.once());
        driver.until("a timer", || ran.now() > round);
        for timer in [cleared, running] {
            assert!(numbers.insert(timer), "{timer:?} was given twice");
        }
    }
}

fn micros(from: Instant, offset: i64) -> Instant {
    let distance = Duration::from_micros(offset.unsigned_abs());
    if offset < 0 { from - distance } else { from + distance }
}
