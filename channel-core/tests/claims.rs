//! Handlers that are owned: what a claim is told, and tells.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use channel_core::{
    AioChange, AioContext, AioHandler, Channel, ChannelExt, Claim, Claimable, Claimant, Direction, ErrorKind,
    EventLoop, MemoryChannel, Removed, Result,
};
use channel_testkit::recording::Recorder;
use channel_testkit::watchdog;

/// Counts what it is told.
#[derive(Clone, Debug, Default)]
struct Told {
    calls: Arc<AtomicUsize>,
    losses: Arc<AtomicUsize>,
}

impl Told {
    /// Calls and losses so far.
    fn of(&self) -> [usize; 2] {
        [&self.calls, &self.losses].map(|count| count.load(Ordering::SeqCst))
    }
}

impl Claimant for Told {
    fn call(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    fn lost(&self) {
        self.losses.fetch_add(1, Ordering::SeqCst);
    }
}

/// Does this when it is called.
struct Does<F>(F);

impl<F> fmt::Debug for Does<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Does")
    }
}

impl<F: Fn() + Send + Sync + 'static> Claimant for Does<F> {
    fn call(&self) {
        (self.0)();
    }

    fn lost(&self) {}
}

/// One that anybody can name.
type DoesAny = Does<Box<dyn Fn() + Send + Sync>>;

fn pair() -> (Arc<MemoryChannel>, MemoryChannel) {
    let (near, far) = MemoryChannel::pair().unwrap();
    (Arc::new(near), far)
}

#[test]
fn a_claim_that_was_lost_is_told_once_and_says_why() {
    for (how, kind) in [
        ("closed", ErrorKind::Closed),
        ("dropped", ErrorKind::Closed),
        ("cleared", ErrorKind::Busy),
        ("replaced", ErrorKind::Busy),
    ] {
        let (near, far) = pair();
        let (recorder, told) = (Recorder::new(), Told::default());
        let context: Arc<dyn AioContext> = recorder.clone();
        let claim = Claim::new(&near, Direction::Read, recorder.clone(), told.clone()).unwrap();
        far.write_all(b"x").unwrap();
        assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 1);
        assert!(claim.is_on(&context) && claim.lost().is_none());
        let mut near = Some(near);
        match (how, &near) {
            ("closed", Some(near)) => near.close().unwrap(),
            ("cleared", Some(near)) => drop(near.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).unwrap()),
            ("replaced", Some(near)) => {
                let other = AioChange::Set(AioHandler::new(recorder.clone(), || ()));
                drop(near.set_aio_fd_handler(other, AioChange::Keep).unwrap());
            }
            _ => near = None,
        }
        assert_eq!(told.of(), [1, 1], "calls and losses of a claim that was {how}");
        assert_eq!(claim.lost().map(|why| why.kind()), Some(kind), "{how}");
        assert!(!claim.is_on(&context));
        drop(claim);
        assert_eq!(told.of(), [1, 1], "calls and losses of a claim that was {how}, and then dropped");
        drop(near);
    }
}

#[test]
fn a_claim_that_was_released_is_told_nothing_and_leaves_its_place() {
    let (near, far) = pair();
    let (recorder, told) = (Recorder::new(), Told::default());
    for _ in 0..3 {
        let claim = Claim::new(&near, Direction::Read, recorder.clone(), told.clone()).unwrap();
        let busy = Claim::new(&near, Direction::Read, recorder.clone(), told.clone()).unwrap_err();
        assert!(busy.is_busy(), "{busy:?}");
        drop(claim);
    }
    let claim = Claim::new(&near, Direction::Read, recorder.clone(), told.clone()).unwrap();
    claim.release().wait().unwrap();
    far.write_all(b"x").unwrap();
    near.close().unwrap();
    recorder.turn(Duration::ZERO).unwrap();
    assert_eq!(told.of(), [0, 0], "calls and losses");
    assert!(claim.lost().is_none());
    assert!(Claim::new(&near, Direction::Read, recorder.clone(), told.clone()).unwrap_err().is_closed());
    assert_eq!(told.of(), [0, 0], "calls and losses where nothing could be claimed");
}

#[test]
fn who_claims_both_directions_gets_both_or_neither() {
    let (near, _far) = pair();
    let recorder = Recorder::new();
    let (read, write) = (Told::default(), Told::default());
    let both = || Claim::both(&near, recorder.clone(), read.clone(), write.clone());
    let writer = Claim::new(&near, Direction::Write, recorder.clone(), Told::default()).unwrap();
    assert!(both().unwrap_err().is_busy());
    let reader = Claim::new(&near, Direction::Read, recorder.clone(), Told::default()).unwrap();
    drop((reader, writer));
    let both = both().unwrap();
    near.close().unwrap();
    assert_eq!([read.of()[1], write.of()[1]], [1, 1], "losses");
    assert!(both.iter().all(|claim| claim.lost().is_some_and(|why| why.is_closed())));
}

#[test]
fn any_number_hold_beside_a_claim_and_are_told_of_the_end_alone() {
    let (near, far) = pair();
    let recorder = Recorder::new();
    let reader = Claim::new(&near, Direction::Read, recorder.clone(), Told::default()).unwrap();
    let told = [(); 3].map(|()| Told::default());
    let held = told.each_ref().map(|told| Claim::hold(&near, recorder.clone(), told.clone()).unwrap());
    far.write_all(b"x").unwrap();
    recorder.turn(Duration::ZERO).unwrap();
    let [first, ..] = &held;
    drop(first.release());
    near.close().unwrap();
    assert_eq!(told.each_ref().map(Told::of), [[0, 0], [0, 1], [0, 1]], "calls and losses");
    assert!(reader.lost().is_some());
}

#[test]
fn releasing_can_wait_for_the_call_under_way_and_not_for_its_own() {
    watchdog::run("releasing_can_wait_for_the_call_under_way_and_not_for_its_own", || {
        for lost in [false, true] {
            let (near, far) = pair();
            let recorder = Recorder::new();
            let (inside, done) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(false)));
            let handler = {
                let (inside, done) = (Arc::clone(&inside), Arc::clone(&done));
                Does(move || {
                    inside.wait();
                    inside.wait();
                    (0..1000).for_each(|_| thread::yield_now());
                    done.store(true, Ordering::SeqCst);
                })
            };
            let claim = Claim::new(&near, Direction::Read, recorder.clone(), handler).unwrap();
            far.write_all(b"x").unwrap();
            let turning = thread::spawn(move || recorder.turn(Duration::ZERO).unwrap());
            inside.wait();
            if lost {
                near.close().unwrap();
            }
            let removed = claim.release();
            inside.wait();
            removed.wait().unwrap();
            assert!(done.load(Ordering::SeqCst), "the call had not ended; lost: {lost}");
            turning.join().unwrap();
        }

        let (near, far) = pair();
        let recorder = Recorder::new();
        let own = Arc::new(Mutex::new(None::<Claim<DoesAny, MemoryChannel>>));
        let waited = Arc::new(Mutex::new(None));
        let handler: DoesAny = {
            let (own, waited) = (Arc::clone(&own), Arc::clone(&waited));
            Does(Box::new(move || {
                let claim = own.lock().unwrap().take();
                *waited.lock().unwrap() = claim.map(|claim| claim.release().wait());
            }))
        };
        *own.lock().unwrap() = Some(Claim::new(&near, Direction::Read, recorder.clone(), handler).unwrap());
        far.write_all(b"x").unwrap();
        recorder.turn(Duration::ZERO).unwrap();
        let waited = waited.lock().unwrap().take().unwrap();
        assert_eq!(waited.unwrap_err().kind(), ErrorKind::WouldDeadlock);
        assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0, "calls after it was released");
    });
}

#[test]
fn a_claim_may_end_with_its_loop() {
    let (near, _far) = pair();
    let event_loop = EventLoop::new().unwrap();
    let [with, without] = [(); 2].map(|()| Told::default());
    let reader = Claim::new(&near, Direction::Read, event_loop.handle(), with.clone()).unwrap();
    let writer = Claim::new(&near, Direction::Write, event_loop.handle(), without.clone()).unwrap();
    let ends = reader.ends_with_loop();
    drop(writer.ends_with_loop());
    assert_eq!([with.of()[1], without.of()[1]], [0, 1], "losses where the timer is kept, and where it is not");
    drop(event_loop);
    assert_eq!(with.of()[1], 1, "losses when the loop has ended");
    assert_eq!(reader.lost().map(|why| why.kind()), Some(ErrorKind::NotAttached));
    assert!(Claim::new(&near, Direction::Read, Recorder::new(), Told::default()).unwrap_err().is_busy());
    drop((reader, ends));
    let released = Claim::new(&near, Direction::Read, Recorder::new(), with.clone()).unwrap();
    drop(released.release());
    drop(released.ends_with_loop());
    assert_eq!(with.of()[1], 1, "losses of a claim that was released");
}

/// Lets go of a handler at once.
#[derive(Debug)]
struct Forgets;

impl Claimable for Forgets {
    fn change_handler(&self, _: Direction, _: AioChange) -> Result<Removed> {
        Ok(Removed::nothing())
    }
}

#[test]
fn what_is_lost_while_it_is_claimed_is_told_by_the_result() {
    let told = Told::default();
    let lost = Claim::new(&Arc::new(Forgets), Direction::Read, Recorder::new(), told.clone()).unwrap_err();
    assert!(lost.is_busy(), "{lost:?}");
    assert_eq!(told.of(), [0, 0], "calls and losses");
}
