//! O: a channel as an object that several threads share.

use std::io::SeekFrom;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use channel_core::{Channel, ChannelExt, Direction, Error, Features, Readiness};

use super::Setup;
use super::end::{End, Task, UNBOUNDED, assert_stream, stream};
use super::setup::Mode;

/// \[O1\] The trait is dyn-compatible; `Box<C>` and `Arc<C>` behave exactly as `C`.
pub fn o1_box_and_arc_behave_as_the_channel(setup: &Setup) {
    let (near, far) = setup.pair();
    let boxed: Box<dyn Channel> = Box::new(Arc::clone(near.channel()));
    let shared: Arc<dyn Channel> = Arc::new(Box::new(Arc::clone(near.channel())) as Box<dyn Channel>);
    for (outer, called) in [(&*boxed, "boxed"), (&*shared, "shared")] {
        assert_eq!(outer.layer(), near.layer());
        assert_eq!(outer.features(), near.features());
        assert_eq!(outer.describe_layer(), near.describe_layer());
        for feature in Features::all() {
            assert_eq!(outer.why_not(feature), near.why_not(feature));
        }
        assert_eq!(outer.as_any().type_id(), near.as_any().type_id(), "as_any is another type when {called}");
        let below = |channel: &dyn Channel| channel.next_layer().map(|below| std::ptr::from_ref(below).cast::<()>());
        assert_eq!(below(outer), below(&*near), "next_layer is another channel when {called}");
        outer.set_name(called);
        assert_eq!(near.name().as_deref(), Some(called), "the name that was set on the channel when {called}");
        assert_eq!(outer.name().as_deref(), Some(called));

        let seek = |channel: &dyn Channel| channel.seek(SeekFrom::Start(0)).map_err(|error| error.kind());
        assert_eq!(seek(outer), seek(&*near));
        outer.handshake().expect("a handshake that is complete");
        outer.set_delay(true);
        outer.set_cork(true);
        outer.set_cork(false);
        outer.set_blocking(false);
        let blocked = near.read(&mut [0; 4]).map_err(|error| error.kind());
        assert_eq!(blocked, Err(Error::WOULD_BLOCK.kind()), "set_blocking did not reach the channel when {called}");
        outer.set_blocking(setup.mode() == Mode::Blocking);

        let count = near.drive(Direction::Write, |_| outer.write(b"1234")).expect("a write");
        near.drive(Direction::Write, |_| outer.flush()).expect("a flush");
        assert_eq!(far.take(count), b"1234"[..count]);
        far.put(b"5");
        assert!(outer.wait(Direction::Read, None).expect("a wait"));
        let mut buf = [0; 4];
        assert_eq!(near.drive(Direction::Read, |_| outer.read(&mut buf)).expect("a read"), 1);
        assert_eq!(buf[0], b'5');
    }
    near.drive(Direction::Write, |_| shared.close()).expect("close");
    let closed = near.read(&mut [0; 4]);
    assert!(closed.as_ref().is_err_and(Error::is_closed), "close did not reach the channel when shared: {closed:?}");
}

/// \[O2\] One reader and one writer may be inside a channel at the same time: a blocked reader does not stop a writer, nor a
/// blocked writer a reader, and both directions saturated at once finish.
pub fn o2_reader_and_writer_do_not_stop_each_other(setup: &Setup) {
    let (near, far) = setup.pair();
    let reader = in_background(&near, |near| near.take(4));
    reader.until_asleep();
    setup.step("writing while a reader is blocked");
    near.put(&stream(0, 1000));
    assert_stream(0, &far.take(1000));
    far.put(b"read");
    assert_eq!(reader.join(), b"read");

    let (near, far) = setup.small_pair();
    let taken = near.fill(0, UNBOUNDED);
    let writer = in_background(&near, move |near| near.put(&stream(taken, 1000)));
    writer.until_asleep();
    let answer = in_background(&far, |far| far.put(b"read"));
    setup.step("reading while a writer is blocked");
    assert_eq!(near.take(4), b"read");
    answer.join_while_reading(&near);
    assert_stream(0, &far.take(taken + 1000));
    writer.join_while_reading(&far);

    let (near, far) = setup.small_pair();
    let there = near.fill(0, UNBOUNDED);
    let back = far.fill(0, UNBOUNDED);
    let writers = [
        in_background(&near, move |near| near.put(&stream(there, 2000))),
        in_background(&far, move |far| far.put(&stream(back, 2000))),
    ];
    for writer in &writers {
        writer.until_asleep();
    }
    setup.step("reading at both ends while writers are blocked at both ends");
    let reader = in_background(&far, move |far| assert_stream(0, &far.take(there + 2000)));
    assert_stream(0, &near.take(back + 2000));
    reader.join();
    for (writer, reader) in writers.into_iter().zip([&far, &near]) {
        writer.join_while_reading(reader);
    }
}

/// \[O3\] A second waiter in one direction gets `Busy`; it neither hangs nor disturbs the first.
pub fn o3_a_second_waiter_is_told_busy(setup: &Setup) {
    let turned_away = |result: Result<usize, Error>, what: &str| match (&result, setup.mode()) {
        (Err(error), Mode::Blocking) if error.is_busy() => {}
        // A caller that does not wait is no second waiter.
        (Err(error), _) if setup.mode() != Mode::Blocking && (error.is_busy() || error.is_would_block()) => {}
        _ => panic!("{what} got {result:?}"),
    };
    let (near, far) = setup.pair();
    let first = in_background(&near, |near| near.take(4));
    first.until_asleep();
    setup.step("a second reader");
    for _ in 0..3 {
        turned_away(near.read(&mut [0; 4]), "a second reader");
    }
    far.put(b"mine");
    setup.step("the first reader after a second one was turned away");
    assert_eq!(first.join(), b"mine", "what the first reader got");

    let (near, far) = setup.small_pair();
    let taken = near.fill(0, UNBOUNDED);
    let first = in_background(&near, move |near| near.put(&stream(taken, 100)));
    first.until_asleep();
    setup.step("a second writer");
    for _ in 0..3 {
        match near.write(b"second") {
            // The system made room just now, as TCP does in its own time: then nobody had to wait.
            Ok(_) if first.is_finished() || setup.mode() != Mode::Blocking => return,
            result => turned_away(result, "a second writer"),
        }
    }
    setup.step("the first writer after a second one was turned away");
    assert_stream(0, &far.take(taken + 100));
    first.join_while_reading(&far);
    far.expect_nothing();
}

/// \[O4\] A channel does I/O only inside a call made to it: no hidden threads, no background flush.
///
/// Two signs are looked for. A thread inherits the name of the one that starts it, so all that maker and channel start from
/// here bear this thread's name; none may stay. And output that is held, as \[Q2\] shows, must not leave while nobody calls.
pub fn o4_no_io_outside_a_call(setup: &Setup) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let name = format!("o4-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let setup = setup.clone();
    let body = move || {
        let name = thread::current().name().unwrap_or_default().to_owned();
        let (near, far) = setup.small_pair();
        let idle = waits_for(&near);
        let holds = || waits_for(&near).into_iter().any(|one| !idle.contains(&one));
        let taken = near.fill(0, UNBOUNDED);
        let held = holds();
        let mut seen = 0;
        let mut buf = [0; 4096];
        setup.step("reading what arrives while nobody calls the near end");
        while far.wait(Direction::Read, Some(Duration::from_millis(30))).expect("a wait") {
            match far.try_read(&mut buf) {
                Ok(count) => seen += count,
                Err(error) => assert!(error.is_would_block(), "a read failed: {error:?}"),
            }
        }
        // Behind the plaintext there may be more, which is held still.
        let still_held = holds() || near.readiness(Direction::Read).is_ready();
        assert!(
            seen < taken || !held || still_held,
            "all {taken} bytes arrived, though some were held and nobody called the channel since"
        );
        setup.step("looking for hidden threads");
        let alone = setup.wait_until(|| threads_named(&name) <= 1);
        assert!(alone, "{} hidden threads run", threads_named(&name) - 1);
    };
    let thread = thread::Builder::new().name(name).spawn(body).expect("a thread");
    thread.join().unwrap_or_else(|panic| resume_unwind(panic));
}

/// What a reader waits for.
pub(super) fn waits_for(near: &End) -> Vec<(usize, Direction)> {
    match near.readiness(Direction::Read) {
        Readiness::Ready => Vec::new(),
        Readiness::Wait(interests) => {
            interests.iter().map(|one| (Arc::as_ptr(&one.fd) as usize, one.direction)).collect()
        }
    }
}

fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)).count()
}

pub(super) fn in_background<T: Send + 'static>(near: &End, body: impl FnOnce(&End) -> T + Send + 'static) -> Task<T> {
    let near = near.clone();
    Task::spawn(move || body(&near))
}
