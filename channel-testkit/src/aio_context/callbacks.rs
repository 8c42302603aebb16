//! What holds for callbacks of every kind.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{AioContext, Direction};

use super::Driver;
use super::driver::{Count, Log, flag, lower};

type Context = Arc<dyn AioContext>;
type Once = Box<dyn FnOnce() + Send>;
/// Makes a loop run this soon.
type Run = Box<dyn FnOnce(Once)>;

/// Every method may be called inside a handler, a timer and a scheduled callback, and does there what it does elsewhere.
pub fn every_method_may_be_called_inside_callbacks(driver: &mut Driver) {
    let (effects, fds) = (Count::new(), Log::new());
    for (kind, run) in kinds(driver) {
        let before = effects.now();
        let (context, seen, set) = (driver.context(), effects.clone(), fds.clone());
        run(Box::new(move || set.push(call_all(&context, &seen))));
        // A handler, a timer and a callback.
        driver.until(&format!("what was asked for inside {kind}"), || effects.now() >= before + 3);
    }
    for fd in fds.now() {
        driver.clear(&fd, Direction::Read);
    }
}

/// **No lock** of the loop's is held while a callback runs: another thread can call every method meanwhile.
pub fn no_lock_is_held_while_a_callback_runs(driver: &mut Driver) {
    for (kind, run) in kinds(driver) {
        let (context, patience, free) = (driver.context(), driver.patience() / 2, Log::new());
        let verdict = free.clone();
        run(Box::new(move || verdict.push(others_can_call(&context, patience))));
        driver.until(kind, || free.len() > 0);
        assert_eq!(free.now(), [true], "another thread could not call the loop while {kind} ran");
    }
}

/// No lock of the loop's is held while a callback is dropped: because it was cleared, was replaced, has run, or was refused.
pub fn no_lock_is_held_while_a_callback_is_dropped(driver: &mut Driver) {
    let (context, verdicts) = (driver.context(), Log::new());
    let patience = driver.patience() / 4;
    let guard = |kind| OnDrop { context: driver.context(), patience, kind, verdicts: verdicts.clone() };
    let handler = |kind| {
        let guard = guard(kind);
        Some(Arc::new(move || guard.touch()) as Arc<dyn Fn() + Send + Sync>)
    };
    let once = |kind| {
        let guard = guard(kind);
        Box::new(move || guard.touch()) as Once
    };
    let fd = flag(false);
    for (set, kind) in [(false, "a cleared handler"), (true, "a replaced handler")] {
        context.set_fd_handler(&fd, Direction::Read, handler(kind)).expect("setting a handler");
        let next = set.then(|| Count::new().callback());
        context.set_fd_handler(&fd, Direction::Read, next).expect("changing a handler");
    }
    let file: Arc<OwnedFd> = Arc::new(File::open("/proc/self/exe").expect("a file").into());
    // epoll refuses regular files; poll does not.
    let _ = context.set_fd_handler(&file, Direction::Read, handler("a refused handler"));
    let _ = context.set_fd_handler(&file, Direction::Read, None);
    context.clear_timer(context.set_timer(Instant::now() + Duration::from_secs(3600), once("a cleared timer")));
    context.set_timer(Instant::now(), once("a timer that has run"));
    context.schedule(once("a callback that has run"));
    driver.until("six callbacks being dropped", || verdicts.len() >= 6);
    for (kind, free) in verdicts.now() {
        assert!(free, "another thread could not call the loop while {kind} was dropped");
    }
}

/// **One at a time.** The callbacks of one loop never overlap, neither on two threads nor one inside another.
pub fn callbacks_never_overlap(driver: &mut Driver) {
    let (inside, ran, overlaps) = (Arc::new(AtomicBool::new(false)), Count::new(), Count::new());
    let body = {
        let (ran, overlaps) = (ran.clone(), overlaps.clone());
        move || {
            if inside.swap(true, Ordering::SeqCst) {
                overlaps.add();
            }
            thread::sleep(Duration::from_micros(100));
            inside.store(false, Ordering::SeqCst);
            ran.add();
        }
    };
    for _ in 0..3 {
        driver.set(&flag(true), Direction::Read, Arc::new(body.clone()));
    }
    thread::scope(|scope| {
        for _ in 0..2 {
            let (context, body) = (driver.context(), body.clone());
            scope.spawn(move || {
                for _ in 0..20 {
                    let fd = flag(true);
                    context.schedule(Box::new(body.clone()));
                    context.set_timer(Instant::now(), Box::new(body.clone()));
                    context.set_fd_handler(&fd, Direction::Write, Some(Arc::new(body.clone()))).expect("a handler");
                    thread::yield_now();
                    context.set_fd_handler(&fd, Direction::Write, None).expect("clearing a handler");
                }
            });
        }
        driver.until("many callbacks", || ran.now() >= 200);
    });
    driver.settle();
    assert_eq!(overlaps.now(), 0, "callbacks of one loop overlapped");
}

/// For each kind of callback its name, and what makes the loop run one.
fn kinds(driver: &Driver) -> [(&'static str, Run); 3] {
    let [handlers, timers, scheduled] = [driver.context(), driver.context(), driver.context()];
    let handler = move |body: Once| {
        let (fd, body, context) = (flag(true), std::sync::Mutex::new(Some(body)), handlers.clone());
        let own = Arc::clone(&fd);
        let callback = move || {
            lower(&own);
            let body = body.lock().ok().and_then(|mut body| body.take());
            if let Some(body) = body {
                let _ = context.set_fd_handler(&own, Direction::Read, None);
                body();
            }
        };
        handlers.set_fd_handler(&fd, Direction::Read, Some(Arc::new(callback))).expect("setting a handler");
    };
    [
        ("a handler", Box::new(handler)),
        (
            "a timer",
            Box::new(move |body| {
                timers.set_timer(Instant::now(), body);
            }),
        ),
        ("a scheduled callback", Box::new(move |body| scheduled.schedule(body))),
    ]
}

/// Calls every method. A handler, a timer and a callback add to `effects` then; the descriptor has the handler.
fn call_all(context: &Context, effects: &Count) -> Arc<OwnedFd> {
    let fd = flag(true);
    let own = Arc::clone(&fd);
    let seen = effects.clone();
    let handler = move || {
        lower(&own);
        seen.add();
    };
    let set = context.set_fd_handler(&fd, Direction::Read, Some(Arc::new(handler)));
    let _ = context.set_fd_handler(&fd, Direction::Write, Some(Arc::new(|| ())));
    let _ = context.set_fd_handler(&fd, Direction::Write, None);
    let late = context.set_timer(Instant::now() + Duration::from_secs(3600), Box::new(|| ()));
    context.clear_timer(late);
    context.set_timer(Instant::now(), effects.once());
    context.schedule(effects.once());
    debug_assert!(set.is_ok(), "an eventfd can be polled: {set:?}");
    fd
}

/// Whether another thread comes through with a call of each method, within `patience`.
fn others_can_call(context: &Context, patience: Duration) -> bool {
    let (context, (done, finished)) = (Arc::clone(context), mpsc::channel());
    let call = move || {
        let fd = call_all(&context, &Count::new());
        let _ = context.set_fd_handler(&fd, Direction::Read, None);
        let _ = done.send(());
    };
    thread::Builder::new().spawn(call).is_ok() && finished.recv_timeout(patience).is_ok()
}

/// Notes, when it is dropped, whether another thread can call the loop.
struct OnDrop {
    context: Context,
    patience: Duration,
    kind: &'static str,
    verdicts: Log<(&'static str, bool)>,
}

impl OnDrop {
    /// What holds this needs a reason to.
    fn touch(&self) {}
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.verdicts.push((self.kind, others_can_call(&self.context, self.patience)));
    }
}
