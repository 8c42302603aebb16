//! For each promise a channel that breaks it, and nothing else on purpose: the clause must notice, and say what it saw.

mod broken;
#[path = "trailing/deflate.rs"]
mod deflate;

use std::collections::BTreeSet;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use broken::Mutant;
use broken::parts::{Ahead, Held, Hello, bare_handlers, bytes_of, gated_memory, lock, memory, room};
use channel_core::{
    AioChange, AioHandler, Channel, ChannelExt, Direction, Error, ErrorKind, Features, Interests, MemoryChannel,
    ReadFlags, Readiness, Removed, Result, WriteFlags,
};
use channel_socket::SocketChannel;
use channel_testkit::suite::Mode::{Blocking, NonBlocking};
use channel_testkit::suite::{CLAUSES, Clause, Options, Setup};
use channel_testkit::watchdog;

// What the broken channels are made of is itself sound.
channel_testkit::conformance! {
    mod nothing_broken [gate] = |options: &Options| {
        let (near, far) = gated_memory(options);
        (Mutant::over(near), far)
    };
    mod hello [gate, handshake] = |options: &Options| {
        let (near, far) = gated_memory(options);
        (Hello::new(options).over(near), Hello::new(options).over(far))
    };
    mod deflate_over_hello [handshake, gate, tells_a_cut] in [non_blocking, event_loop] = |options: &Options| {
        let (near, far) = gated_memory(options);
        let (near, far) = (Hello::new(options).over(near), Hello::new(options).over(far));
        let layer = |inner| deflate::deflate(inner, options.limits.clone());
        (layer(Box::new(near)), layer(Box::new(far)))
    };
}

/// Runs the clause of `promise` over a near end broken in a way that it must notice, and say so in these words.
fn caught(promise: &str, says: &str, setup: Setup) {
    let clause = CLAUSES.iter().find(|clause| clause.promise() == promise).expect("a clause for the promise");
    watchdog::run(&format!("mutants::{}", clause.name()), || {
        let setup = setup.patience(Duration::from_secs(1));
        let run = catch_unwind(AssertUnwindSafe(|| clause.run(&setup)));
        let Err(panic) = run else { panic!("{clause:?} did not notice") };
        let words = panic.downcast_ref::<String>().expect("words");
        assert!(words.starts_with(&format!("{promise} ")), "the promise is not named: {words}");
        assert!(words.contains(says), "{clause:?} should have said `{says}`, but said: {words}");
    });
}

/// What a mutant breaks: `h5` and `h5_due_again` the same promise in two ways.
fn promise(mutant: &str) -> String {
    mutant.split('_').next().unwrap_or_default().to_uppercase()
}

/// Declares the mutants: a test for each, and the list of their names.
macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident $([$($declared:ident),+])? in $mode:ident says $says:literal: $maker:expr;)+) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                caught(&promise(stringify!($name)), $says, Setup::new($mode, $maker)$($(.$declared())+)?);
            }
        )+

        const MUTANTS: &[&str] = &[$(stringify!($name)),+];
    };
}

/// A near end in memory, broken by `how`.
fn near(options: &Options, how: impl FnOnce(Mutant) -> Mutant) -> (Mutant, MemoryChannel) {
    let (near, far) = memory(options);
    (how(Mutant::over(near)), far)
}

/// A near end whose handshake takes three times as long as it may.
fn late_hello(options: &Options) -> (Mutant, Mutant) {
    let (near, far) = memory(options);
    let mut patient = options.clone();
    patient.limits.handshake *= 3;
    (Hello::new(&patient).over(near), Hello::new(options).over(far))
}

fn not_released(change: AioChange) -> AioChange {
    if matches!(change, AioChange::Release(_)) { AioChange::Keep } else { change }
}

fn seized(change: AioChange) -> AioChange {
    match change {
        AioChange::Claim(handler) => AioChange::Set(handler),
        change => change,
    }
}

/// A near end that passes descriptors, broken by `how`.
fn near_socket(how: impl FnOnce(Mutant) -> Mutant) -> Result<(Mutant, SocketChannel)> {
    let (near, far) = SocketChannel::pair()?;
    Ok((how(Mutant::over(near)), far))
}

mutants! {
    /// A wrapper that forgets a method.
    o1 in Blocking says "the name that was set": |options| near(options, |near| near.on_set_name(|_, _| ()));
    /// One lock for both directions.
    o2 in Blocking says "while a reader is blocked": |options| near(options, |near| {
        let one = Arc::new(Mutex::new(()));
        let same = Arc::clone(&one);
        near.on_read(move |inner, bufs, fds, flags| {
            let _guard = lock(&one);
            inner.readv_full(bufs, fds, flags)
        })
        .on_write(move |inner, bufs, fds, flags| {
            let _guard = lock(&same);
            inner.writev_full(bufs, fds, flags)
        })
    });
    /// A second reader waits for the lock of the first.
    o3 in Blocking says "a second reader": |options| near(options, |near| {
        let one = Mutex::new(());
        near.on_read(move |inner, bufs, fds, flags| {
            let _guard = lock(&one);
            inner.readv_full(bufs, fds, flags)
        })
    });
    /// A thread of its own that flushes.
    o4 in Blocking says "hidden threads": |options| near(options, |near| {
        let started = AtomicBool::new(false);
        near.on_write(move |inner, bufs, fds, flags| {
            if !started.swap(true, Ordering::Relaxed) {
                drop(thread::spawn(thread::park));
            }
            inner.writev_full(bufs, fds, flags)
        })
    });
    /// What it holds leaves without a call, whenever the peer has made room.
    o4_flushes in NonBlocking says "nobody called the channel since": |options| {
        let (near, far) = memory(options);
        let (near, held) = (Arc::new(near), Held::default());
        let (waiting, below, pushed) = (held.clone(), Arc::clone(&near), held.clone());
        let near = Mutant::over(near)
            .on_write(move |_, bufs, _, _| held.keep(bufs, 500))
            .on_readiness(move |inner, direction| match inner.readiness(direction) {
                answer if waiting.is_empty() => answer,
                answer => answer.or(inner.readiness(Direction::Write)),
            });
        let far = Mutant::over(far).on_readiness(move |inner, direction| {
            let _ = pushed.push(&*below);
            inner.readiness(direction)
        });
        (near, far)
    };
    /// Starts out non-blocking.
    m1 in Blocking says "a blocking read, begun before": |options| {
        let (near, far) = memory(options);
        near.set_blocking(false);
        (near, far)
    };
    /// A non-blocking close waits all the same, for its linger.
    m1_lingers in Blocking says "a non-blocking close": |options| {
        let linger = options.limits.linger;
        near(options, |near| near.on_close(move |inner| {
            inner.wait(Direction::Read, Some(linger))?;
            inner.close()
        }))
    };
    /// `DONT_WAIT` sets the mode for good.
    m2 in Blocking says "after DONT_WAIT": |options| near(options, |near| {
        near.on_read(|inner, bufs, fds, flags| {
            if flags.contains(ReadFlags::DONT_WAIT) {
                inner.set_blocking(false);
            }
            inner.readv_full(bufs, fds, flags)
        })
    });
    /// A would-block that does not look like one.
    m3 in NonBlocking says "read_all": |options| near(options, |near| {
        near.on_read(|inner, bufs, fds, flags| match inner.readv_full(bufs, fds, flags) {
            Err(error) if error.is_would_block() && flags.is_empty() => {
                Err(Error::new(ErrorKind::Io(io::ErrorKind::WouldBlock), "memory", "not now"))
            }
            done => done,
        })
    });
    /// Counts one byte less than it gave.
    m4 in Blocking says "after 3 bytes": |options| near(options, |near| {
        near.on_read(|inner, bufs, fds, flags| match inner.readv_full(bufs, fds, flags) {
            Ok(3) => Ok(2),
            done => done,
        })
    });
    /// Fills the last buffer first.
    r1 in Blocking says "of the stream is wrong": |options| near(options, |near| {
        near.on_read(|inner, bufs, fds, flags| {
            bufs.reverse();
            inner.readv_full(bufs, fds, flags)
        })
    });
    /// The end is told once.
    r2 in Blocking says "at the clean end": |options| near(options, |near| {
        let told = AtomicBool::new(false);
        near.on_read(move |inner, bufs, fds, flags| match inner.readv_full(bufs, fds, flags) {
            Ok(0) if room(bufs) > 0 && told.swap(true, Ordering::Relaxed) => Err(Error::WOULD_BLOCK),
            done => done,
        })
    });
    /// Looks for data before it looks for room.
    r3 in NonBlocking says "a read without room on an idle channel": |options| near(options, |near| {
        near.on_read(|inner, bufs, fds, flags| {
            if bufs.is_empty() && !inner.readiness(Direction::Read).block(Some(std::time::Instant::now()))? {
                return Err(Error::WOULD_BLOCK);
            }
            inner.readv_full(bufs, fds, flags)
        })
    });
    /// Waits until all buffers are full.
    r4 in Blocking says "reading 3 bytes into more room": |options| near(options, |near| {
        near.on_read(|inner, bufs, fds, flags| {
            let count = inner.readv_full(bufs, fds, flags)?;
            if count < room(bufs) && flags.is_empty() {
                inner.wait(Direction::Read, None)?;
            }
            Ok(count)
        })
    });
    /// One bit flips on the way.
    r5 in Blocking says "byte 7000 of the stream is wrong": |options| near(options, |near| {
        let seen = AtomicUsize::new(0);
        near.on_features(|inner| inner.features() - Features::READ_BUF - Features::READ_MSG_PEEK).on_write(
            move |inner, bufs, fds, flags| {
                let mut bytes = bytes_of(bufs);
                let at = seen.load(Ordering::Relaxed);
                if let Some(byte) = 7000usize.checked_sub(at).and_then(|at| bytes.get_mut(at)) {
                    *byte ^= 1;
                }
                let count = inner.writev_full(&[IoSlice::new(&bytes)], fds, flags)?;
                seen.fetch_add(count, Ordering::Relaxed);
                Ok(count)
            },
        )
    });
    /// A peek is a read.
    r6 in Blocking says "peek": |options| near(options, |near| {
        near.on_read(|inner, bufs, fds, flags| inner.readv_full(bufs, fds, flags - ReadFlags::MSG_PEEK))
    });
    /// Has no timeouts.
    t1 in Blocking says "a read of nothing": |options| near(options, |near| {
        let set = Mutex::new(None);
        near.on_set_read_timeout(move |inner, timeout| {
            inner.set_read_timeout(timeout)?; // which says what is wrong with zero
            *lock(&set) = timeout;
            inner.set_read_timeout(timeout.map(|_| Duration::from_secs(3600)))
        })
        .on_read_timeout(|_| Some(Duration::from_millis(40)))
    });
    /// A write whose time passes counts for nothing, whatever it took.
    t1_taken in Blocking says "a write to a channel that is empty": |options| near(options, |near| {
        near.on_write(|inner, bufs, fds, flags| {
            let count = inner.writev_full(bufs, fds, flags)?;
            match inner.write_timeout() {
                Some(_) if bytes_of(bufs).len() == 6000 => Err(Error::new(ErrorKind::TimedOut, "memory", "")),
                _ => Ok(count),
            }
        })
    });
    /// One timeout for both directions.
    t1_both in Blocking says "the timeouts that were set": |options| near(options, |near| {
        near.on_set_write_timeout(Channel::set_read_timeout).on_write_timeout(Channel::read_timeout)
    });
    /// The time runs, and shows nowhere.
    t2 in NonBlocking says "a read that waits outside of it": |options| near(options, |near| {
        near.on_readiness(|inner, direction| match inner.readiness(direction) {
            Readiness::Wait(interests) => {
                let mut descriptors = Interests::new();
                interests.iter().for_each(|interest| descriptors.add(&interest.fd, interest.direction));
                Readiness::Wait(descriptors)
            }
            Readiness::Ready => Readiness::Ready,
        })
    });
    /// Who was told once is told again.
    t2_again in NonBlocking says "was told once": |options| near(options, |near| {
        let passed = Mutex::new(None);
        near.on_read(move |inner, bufs, fds, flags| {
            let mut passed = lock(&passed);
            match inner.readv_full(bufs, fds, flags) {
                Err(error) if error.is_would_block() => Err(passed.clone().unwrap_or(error)),
                Err(error) if error.kind() == ErrorKind::TimedOut => Err(passed.insert(error).clone()),
                done => done,
            }
        })
    });
    /// No handler is called for it.
    t2_handlers in NonBlocking says "the read handler was not called": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, write| {
            let timeout = inner.read_timeout();
            inner.set_read_timeout(None)?;
            let set = inner.set_aio_fd_handler(read, write);
            inner.set_read_timeout(timeout.map(|_| Duration::from_secs(3600)))?;
            set
        })
        .on_read_timeout(|_| Some(Duration::from_millis(40)))
    });
    /// Drops one byte of what a lend left.
    r7 in Blocking says "of the stream is wrong": |options| near(options, |near| {
        near.on_with_read_buf(|inner, take| {
            let mut taken = 0;
            inner.with_read_buf(&mut |bytes| {
                taken = take(bytes);
                if taken > 0 && taken < bytes.len() { taken + 1 } else { taken }
            })?;
            Ok(taken)
        })
    });
    /// Takes one byte more than it says.
    w1 in NonBlocking says "of the stream is wrong": |options| near(options, |near| {
        near.on_write(|inner, bufs, fds, flags| match inner.writev_full(bufs, fds, flags) {
            Ok(count) => Ok(if bytes_of(bufs).len() > 100 && count == 1 { 2 } else { count }),
            error => error,
        })
    });
    /// Keeps what it refused, and sends that when it is retried.
    w2 in NonBlocking says "the peer sees other bytes": |options| near(options, |near| {
        let kept = Mutex::new(Vec::new());
        near.on_write(move |inner, bufs, fds, flags| {
            let mut kept = lock(&kept);
            let mut bytes = bytes_of(bufs);
            if kept.len() == bytes.len() {
                bytes = std::mem::take(&mut kept);
            }
            let done = inner.writev_full(&[IoSlice::new(&bytes)], fds, flags);
            if done.as_ref().is_err_and(Error::is_would_block) {
                *kept = bytes;
            }
            done
        })
    });
    /// An empty write sends an empty something.
    w3 in Blocking says "nothing was to be read": |options| near(options, |near| {
        near.on_write(|inner, bufs, fds, flags| {
            if bytes_of(bufs).is_empty() {
                return inner.writev_full(&[IoSlice::new(b"\0")], fds, flags).map(|_| 0);
            }
            inner.writev_full(bufs, fds, flags)
        })
    });
    /// The system call's limit is the caller's problem.
    w4 in Blocking says "5000 buffers failed": |options| near(options, |near| {
        near.on_write(|inner, bufs, fds, flags| {
            if bufs.len() > 1024 {
                return Err(Error::new(ErrorKind::InvalidInput, "memory", "too many buffers"));
            }
            inner.writev_full(bufs, fds, flags)
        })
    });
    /// Gathers until flushed.
    w5 in Blocking says "that a blocking write took": |options| near(options, |near| {
        let held = Held::default();
        let pushed = held.clone();
        near.on_write(move |_, bufs, _, _| held.keep(bufs, 1 << 20)).on_flush(move |inner| pushed.push_all(inner))
    });
    /// Bytes for a peer that is gone vanish.
    w6 in Blocking says "never failed": |options| near(options, |near| {
        near.on_write(|inner, bufs, fds, flags| match inner.writev_full(bufs, fds, flags) {
            Err(error) if error.is_disconnected() => Ok(bytes_of(bufs).len()),
            done => done,
        })
    });
    /// A failure of what was gathered is forgotten.
    w7 in Blocking says "never failed": |options| near(options, |near| {
        let taken = AtomicBool::new(false);
        near.on_write(move |inner, bufs, fds, flags| match inner.writev_full(bufs, fds, flags) {
            Err(error) if error.is_disconnected() && taken.load(Ordering::Relaxed) => Ok(bytes_of(bufs).len()),
            done => {
                taken.fetch_or(done.is_ok(), Ordering::Relaxed);
                done
            }
        })
    });
    /// What was gathered is let go of when the peer is gone, and only a write of one's own meets the end.
    w7_forgotten in NonBlocking says "flush says that all is well": |options| near(options, |near| {
        let held = Held::default();
        let [gathered, pushed] = [held.clone(), held.clone()];
        near.on_write(move |inner, bufs, fds, flags| {
            match gathered.push(inner).and_then(|()| inner.writev_full(bufs, fds, flags)) {
                Err(error) if error.is_would_block() => gathered.keep(bufs, 4096),
                done => done,
            }
        })
        .on_flush(move |inner| match pushed.push(inner) {
            Err(error) if error.is_disconnected() => {
                pushed.forget();
                Ok(())
            }
            done => done,
        })
        .on_readiness(move |inner, direction| match held.is_empty() {
            true => inner.readiness(direction),
            false => inner.readiness(Direction::Write).or(inner.readiness(direction)),
        })
    });
    /// Flush leaves alone what is corked.
    w8 in Blocking says "waits for corked bytes that were flushed": |options| near(options, |near| {
        let held = Held::default();
        let [corking, kept] = [held.clone(), held.clone()];
        near.on_set_cork(move |_, cork| corking.turn(cork))
            .on_write(move |inner, bufs, fds, flags| match kept.is_on() {
                true => kept.keep(bufs, 1 << 20),
                false => inner.writev_full(bufs, fds, flags),
            })
            .on_flush(move |inner| if held.is_on() { Ok(()) } else { held.push_all(inner) })
    });
    /// Takes what it is given, however much.
    w9 in Blocking says "and none was refused": |options| near(options, |near| {
        near.on_write(|inner, bufs, fds, flags| match inner.writev_full(bufs, fds, flags) {
            Err(error) if error.is_would_block() => Ok(bytes_of(bufs).len()),
            done => done,
        })
    });
    /// Only a flush sends what is held.
    w10 in NonBlocking says "written but not flushed": |options| near(options, |near| {
        let held = Held::default();
        let pushed = held.clone();
        near.on_write(move |inner, bufs, fds, flags| {
            if held.is_empty() {
                match inner.writev_full(bufs, fds, flags) {
                    Err(error) if error.is_would_block() => {}
                    done => return done,
                }
            }
            held.keep(bufs, 4096)
        })
        .on_flush(move |inner| pushed.push(inner))
    });
    /// A read that waits until it could write.
    w11 in Blocking says "while our own output is stuck": |options| near(options, |near| {
        near.on_read(|inner, bufs, fds, flags| {
            if flags.is_empty() {
                inner.wait(Direction::Write, None)?;
            }
            inner.readv_full(bufs, fds, flags)
        })
    });
    /// Gathers without bound while corked.
    c1 in NonBlocking says "gathered while corked": |options| near(options, |near| {
        let held = Held::default();
        let [corking, kept] = [held.clone(), held.clone()];
        near.on_set_cork(move |_, cork| corking.turn(cork))
            .on_write(move |inner, bufs, fds, flags| match kept.is_on() {
                true => kept.keep(bufs, usize::MAX),
                false => inner.writev_full(bufs, fds, flags),
            })
            .on_flush(move |inner| held.push_all(inner))
    });
    /// Uncorking waits for room.
    c2 in NonBlocking says "set_cork(false) on a channel that is full": |options| near(options, |near| {
        let held = Held::default();
        let [corking, kept] = [held.clone(), held.clone()];
        near.on_set_cork(move |inner, cork| {
            corking.turn(cork);
            if !cork {
                corking.push_all(inner).expect("a push");
            }
        })
        .on_write(move |inner, bufs, fds, flags| match kept.is_on() {
            true => kept.keep(bufs, 4096),
            false => inner.writev_full(bufs, fds, flags),
        })
        .on_flush(move |inner| held.push_all(inner))
    });
    /// Uncorking only lets go of the cork; uncorking once more pushes.
    c2_later in NonBlocking says "what set_cork(false) should have pushed": |options| near(options, |near| {
        let held = Held::default();
        let [corking, kept] = [held.clone(), held.clone()];
        near.on_set_cork(move |inner, cork| {
            if !cork && !corking.is_on() {
                let _ = corking.push(inner);
            }
            corking.turn(cork);
        })
        .on_write(move |inner, bufs, fds, flags| match kept.is_on() {
            true => kept.keep(bufs, 4096),
            false => inner.writev_full(bufs, fds, flags),
        })
        .on_flush(move |inner| held.push_all(inner))
    });
    /// Delay holds back until flushed.
    c3 in NonBlocking says "delay hint": |options| near(options, |near| {
        let held = Held::default();
        let [delaying, kept] = [held.clone(), held.clone()];
        near.on_set_delay(move |_, delay| delaying.turn(delay))
            .on_write(move |inner, bufs, fds, flags| {
                if kept.is_on() {
                    return kept.keep(bufs, 1 << 20);
                }
                kept.push_all(inner)?;
                inner.writev_full(bufs, fds, flags)
            })
            .on_flush(move |inner| held.push_all(inner))
    });
    /// The end comes before the data is over.
    e1 in Blocking says "bytes before the clean end": |options| near(options, |near| {
        let seen = AtomicUsize::new(0);
        near.on_read(move |inner, bufs, fds, flags| {
            if seen.load(Ordering::Relaxed) > 5000 {
                return Ok(0);
            }
            let count = inner.readv_full(bufs, fds, flags)?;
            seen.fetch_add(count, Ordering::Relaxed);
            Ok(count)
        })
    });
    /// Every end is a truncation.
    e2 [tells_a_cut] in Blocking says "RELAXED_EOF": |options| near(options, |near| {
        near.on_read(|inner, bufs, fds, flags| match inner.readv_full(bufs, fds, flags) {
            Ok(0) if room(bufs) > 0 => Err(Error::new(ErrorKind::UnexpectedEof, "memory", "cut off")),
            done => done,
        })
    });
    /// The end that was sent cannot be sent again.
    e3 in Blocking says "a second close_write": |options| near(options, |near| {
        let ended = AtomicBool::new(false);
        near.on_close_write(move |inner| match ended.swap(true, Ordering::Relaxed) {
            true => Err(Error::new(ErrorKind::BrokenPipe, "memory", "it was ended before")),
            false => inner.close_write(),
        })
    });
    /// A cut passes for a clean end, though the protocol has one of its own.
    e2_unnoticed [tells_a_cut] in Blocking says "made a clean one": memory;
    /// `close_write` ends reading, too.
    e4 in Blocking says "readiness said otherwise": |options| near(options, |near| {
        near.on_close_write(|inner| {
            inner.close_write()?;
            inner.shutdown(Shutdown::Read)
        })
    });
    /// Says that its end asks for the other, and ends everything.
    e5 in Blocking says "followed right behind ours": |options| near(options, |near| {
        near.on_features(|inner| inner.features() - Features::HALF_CLOSE)
    });
    /// Shutdown that nobody hears of.
    s1 in Blocking says "shutdown of reading should wake": |options| near(options, |near| {
        near.on_shutdown(|_, _| Ok(()))
    });
    /// Shutdown waits for the reader.
    s2 in Blocking says "shutdown with a reader and a writer inside": |options| near(options, |near| {
        let one = Arc::new(Mutex::new(()));
        let same = Arc::clone(&one);
        near.on_read(move |inner, bufs, fds, flags| {
            let _guard = lock(&one);
            inner.readv_full(bufs, fds, flags)
        })
        .on_shutdown(move |inner, how| {
            let _guard = lock(&same);
            inner.shutdown(how)
        })
    });
    /// Shutdown is refused while somebody closes.
    s2_refused in Blocking says "shutdown while somebody closes gave Err": |options| near(options, |near| {
        let closing = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&closing);
        near.on_close(move |inner| {
            closing.store(true, Ordering::SeqCst);
            inner.close()
        })
        .on_shutdown(move |inner, how| match seen.load(Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Busy, "memory", "somebody closes")),
            false => inner.shutdown(how),
        })
    });
    /// A second close fails.
    s3 in Blocking says "a second close": |options| near(options, |near| {
        let closed = AtomicBool::new(false);
        near.on_close(move |inner| {
            if closed.swap(true, Ordering::Relaxed) {
                return Err(Error::new(ErrorKind::Closed, "memory", "closed twice"));
            }
            inner.close()
        })
    });
    /// Drop flushes.
    s4 in NonBlocking says "drop sent 64 bytes": |options| near(options, |near| {
        let held = Held::default();
        let [corking, kept, flushed] = [held.clone(), held.clone(), held.clone()];
        near.on_set_cork(move |_, cork| corking.turn(cork))
            .on_write(move |inner, bufs, fds, flags| match kept.is_on() {
                true => kept.keep(bufs, 4096),
                false => inner.writev_full(bufs, fds, flags),
            })
            .on_flush(move |inner| flushed.push_all(inner))
            .on_drop(move |inner| drop(held.push(inner)))
    });
    /// One closer at a time.
    s5 in Blocking says "one of two who closed": |options| near(options, |near| {
        let closes = AtomicUsize::new(0);
        near.on_close(move |inner| match closes.fetch_add(1, Ordering::Relaxed) {
            1 => Err(Error::new(ErrorKind::Busy, "memory", "somebody closes already")),
            _ => inner.close(),
        })
    });
    /// Takes the linger of each layer in turn.
    s6 in Blocking says "and its limit is": |options| {
        let linger = options.limits.linger;
        near(options, move |near| near.on_close(move |inner| {
            thread::sleep(3 * linger);
            inner.close()
        }))
    };
    /// A deadline that has passed is none.
    s6_a_deadline in Blocking says "it must not wait": |options| near(options, |near| {
        near.on_close_by(|inner, _| {
            thread::sleep(Duration::from_secs(1));
            inner.close()
        })
    });
    /// What was held goes with the channel.
    s7 in NonBlocking says "bytes arrived": |options| near(options, |near| {
        let held = Held::default();
        near.on_write(move |inner, bufs, fds, flags| match inner.writev_full(bufs, fds, flags) {
            Err(error) if error.is_would_block() => held.keep(bufs, 4096),
            done => done,
        })
    });
    /// Drop waits for the peer, as long as close would.
    s4_lingers in Blocking says "drop with output held": |options| {
        let linger = options.limits.linger;
        near(options, |near| near.on_drop(move |inner| drop(inner.wait(Direction::Read, Some(linger)))))
    };
    /// Each answer leaks a count.
    d1 in Blocking says "a descriptor is still open": |options| near(options, |near| {
        near.on_readiness(|inner, direction| {
            let answer = inner.readiness(direction);
            std::mem::forget(answer.clone());
            answer
        })
    });
    /// Received descriptors are inherited by whatever is executed.
    d2 [descriptors] in Blocking says "would be inherited": |_| near_socket(|near| {
        near.on_read(|inner, bufs, fds, flags| {
            let Some(fds) = fds else { return inner.readv_full(bufs, None, flags) };
            let count = inner.readv_full(bufs, Some(&mut *fds), flags)?;
            for fd in fds {
                rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).expect("F_SETFD");
            }
            Ok(count)
        })
    });
    /// Descriptors go with the second byte.
    d3 [descriptors] in Blocking says "the first byte and the descriptors": |_| near_socket(|near| {
        near.on_write(|inner, bufs, fds, flags| {
            let bytes = bytes_of(bufs);
            if fds.is_empty() || bytes.len() < 2 {
                return inner.writev_full(bufs, fds, flags);
            }
            inner.writev_full(&[IoSlice::new(&bytes[..1])], &[], WriteFlags::empty())?;
            inner.writev_full(&[IoSlice::new(&bytes[1..])], fds, WriteFlags::empty()).map(|count| count + 1)
        })
    });
    /// Descriptors nobody asked for are closed.
    d4 [descriptors] in Blocking says "after one that was not asked for": |_| near_socket(|near| {
        near.on_read(|inner, bufs, fds, flags| {
            let mut unasked = Vec::new();
            inner.readv_full(bufs, fds.or(Some(&mut unasked)), flags)
        })
    });
    /// Descriptors are left behind without a word.
    d5 in Blocking says "without FD_PASS gave Ok": |options| near(options, |near| {
        near.on_write(|inner, bufs, _, flags| inner.writev_full(bufs, &[], flags))
    });
    /// A channel that was taken over goes on keeping descriptors.
    d6 [descriptors] in Blocking says "it is still open": |_| near_socket(|near| {
        near.on_take_over(|_| ())
    });
    /// A feature goes with the first bytes.
    f1 in Blocking says "features after data": |options| near(options, |near| {
        let wrote = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&wrote);
        near.on_write(move |inner, bufs, fds, flags| {
            wrote.store(true, Ordering::Relaxed);
            inner.writev_full(bufs, fds, flags)
        })
        .on_features(move |inner| match seen.load(Ordering::Relaxed) {
            true => inner.features() - Features::READ_BUF,
            false => inner.features(),
        })
    });
    /// No reasons.
    f2 in Blocking says "no reason is given": |options| near(options, |near| near.on_why_not(|_, _| None));
    /// Who sleeps hears of nothing that is left in the layer.
    w10_asleep in NonBlocking says "while one was asleep": |options| {
        let (near, far) = memory(options);
        let near = Mutant::over(deflate::deflate(Box::new(near), options.limits.clone()));
        let deaf = near.on_readiness(|inner, direction| match inner.readiness(direction) {
            Readiness::Ready => Readiness::Ready,
            Readiness::Wait(heard) => {
                let mut deaf = Interests::new();
                heard.iter().for_each(|interest| deaf.add(&interest.fd, interest.direction));
                Readiness::Wait(deaf).with_deadline(heard.deadline())
            }
        });
        (deaf, deflate::deflate(Box::new(far), options.limits.clone()))
    };
    /// What was read ahead does not count.
    q1 in NonBlocking says "waiting for bytes that were sent": |options| {
        let (near, far) = memory(options);
        (Ahead::default().over(near), far)
    };
    /// Readers do not wait for room, though they would push.
    q2 in NonBlocking says "sees nothing to do": |options| near(options, |near| {
        let held = Held::default();
        let [read, flushed] = [held.clone(), held.clone()];
        near.on_write(move |inner, bufs, fds, flags| {
            match held.push(inner).and_then(|()| inner.writev_full(bufs, fds, flags)) {
                Err(error) if error.is_would_block() => held.keep(bufs, 4096),
                done => done,
            }
        })
        .on_read(move |inner, bufs, fds, flags| {
            let _ = read.push(inner);
            inner.readv_full(bufs, fds, flags)
        })
        .on_flush(move |inner| flushed.push(inner))
    });
    /// Always ready.
    q3 in NonBlocking says "and nothing could": |options| near(options, |near| {
        near.on_readiness(|_, _| Readiness::Ready)
    });
    /// What was read ahead counts for waiters, but calls no handler.
    h1 in NonBlocking says "was called for 1 of 300 bytes": |options| {
        let (near, far) = memory(options);
        let ahead = Ahead::default();
        let near = ahead.over(near).on_readiness(move |inner, direction| match direction {
            Direction::Read if !ahead.is_empty() => Readiness::Ready,
            _ => inner.readiness(direction),
        });
        (near, far)
    };
    /// Clearing does nothing.
    h2 in NonBlocking says "was cleared": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, write| {
            let keep = |change| if matches!(change, AioChange::Clear) { AioChange::Keep } else { change };
            inner.set_aio_fd_handler(keep(read), keep(write))
        })
    });
    /// What was removed is forgotten, and not waited for.
    h3 in NonBlocking says "Removed::wait inside the handler": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, write| {
            inner.set_aio_fd_handler(read, write).map(|_| Removed::nothing())
        })
    });
    /// A handler that is removed inside itself is called once more.
    h3_once_more in NonBlocking says "calls of a handler that removed itself": |options| near(options, |near| {
        let last = Mutex::new(None);
        near.on_set_aio_fd_handler(move |inner, read, write| {
            match &read {
                AioChange::Set(handler) => *lock(&last) = Some(handler.clone()),
                AioChange::Clear => {
                    if let Some(handler) = lock(&last).take() {
                        let callback = handler.callback;
                        handler.context.schedule(Box::new(move || callback()));
                    }
                }
                _ => {}
            }
            inner.set_aio_fd_handler(read, write)
        })
    });
    /// Nobody keeps the calls of a handler apart.
    h4 in NonBlocking says "running already": |options| near(options, bare_handlers);
    /// A peer that is gone keeps its descriptor ready, and the handler busy.
    h5 in NonBlocking says "the loop finds no rest after the end was read": |options| near(options, bare_handlers);
    /// A few calls in vain, and no more until somebody reads.
    h5_due_again in NonBlocking says "handlers that call nothing are due again": |options| near(options, |near| {
        let idle = Arc::new(AtomicUsize::new(0));
        let read = Arc::clone(&idle);
        near.on_read(move |inner, bufs, fds, flags| {
            read.store(0, Ordering::Relaxed);
            inner.readv_full(bufs, fds, flags)
        })
        .on_set_aio_fd_handler(move |inner, read, write| {
            let resting = |change| match change {
                AioChange::Set(handler) => {
                    let (idle, callback) = (Arc::clone(&idle), handler.callback);
                    AioChange::Set(AioHandler::new(handler.context, move || {
                        if idle.fetch_add(1, Ordering::Relaxed) < 4 {
                            callback();
                        }
                    }))
                }
                change => change,
            };
            inner.set_aio_fd_handler(resting(read), resting(write))
        })
    });
    /// One context for both.
    h6 in NonBlocking says "on the thread of the other one's loop": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, mut write| {
            if let (AioChange::Set(read), AioChange::Set(write)) = (&read, &mut write) {
                write.context = Arc::clone(&read.context);
            }
            inner.set_aio_fd_handler(read, write)
        })
    });
    /// A change of handlers costs a byte.
    h7 in NonBlocking says "are not those that were sent": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, write| {
            if matches!((&read, &write), (AioChange::Set(_), AioChange::Set(_))) {
                let _ = inner.readv_full(&mut [IoSliceMut::new(&mut [0])], None, ReadFlags::DONT_WAIT);
            }
            inner.set_aio_fd_handler(read, write)
        })
    });
    /// A claim pushes out who is there.
    h8 in NonBlocking says "a claim where there is a handler gave Ok": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, write| {
            let push = |change| if let AioChange::Claim(handler) = change { AioChange::Set(handler) } else { change };
            inner.set_aio_fd_handler(push(read), push(write))
        })
    });
    /// Handlers are kept.
    h8_kept in NonBlocking says "still alive after it was cleared": |options| near(options, |near| {
        let kept = Mutex::new(Vec::new());
        near.on_set_aio_fd_handler(move |inner, read, write| {
            lock(&kept).push([read.clone(), write.clone()]);
            inner.set_aio_fd_handler(read, write)
        })
    });
    /// The handler waits for the descriptor alone.
    h9 [handshake] in NonBlocking says "the limit of a handshake passed": |options| {
        let (near, far) = memory(options);
        let near = Hello::new(options).over(near).on_set_aio_fd_handler(Channel::set_aio_fd_handler);
        (near, Hello::new(options).over(far))
    };
    /// The limit passes, and it takes three times as long.
    h9_late [handshake] in NonBlocking says "had passed twice before its read handler was called": late_hello;
    /// Where a message was cut in the middle of a unit of two bytes, the other one is not waited for.
    h10 [gate] in NonBlocking says "1 of 130 bytes arrived and then the rest": |options| {
        let (near, far) = gated_memory(options);
        let at = AtomicUsize::new(0);
        let near = Mutant::over(near).on_read(move |inner, bufs, fds, flags| {
            let count = inner.readv_full(bufs, fds, flags)?;
            let at = count + at.fetch_add(count, Ordering::Relaxed);
            if at % 2 == 1 && !inner.wait(Direction::Read, Some(Duration::ZERO))? {
                inner.set_aio_fd_handler(AioChange::Clear, AioChange::Keep)?;
            }
            Ok(count)
        });
        (near, far)
    };
    /// Units of five bytes are read at once; where one was cut, its handler is not called for what is left of the part.
    h10_held in NonBlocking says "the handler was called for 1 of 2 bytes that can be read": |options| {
        let (near, far) = gated_memory(options);
        let (held, reading) = (Arc::new(Mutex::new((Vec::new(), 0))), Arc::new(Mutex::new(None::<AioHandler>)));
        let (ahead, read_handler) = (Arc::clone(&held), Arc::clone(&reading));
        let near = Mutant::over(near)
            .on_features(|inner| inner.features() - Features::READ_BUF - Features::READ_MSG_PEEK)
            .on_read(move |inner, bufs, fds, flags| {
                let Some(buf) = bufs.iter_mut().find(|buf| !buf.is_empty()) else {
                    return inner.readv_full(bufs, fds, flags);
                };
                let (bytes, unit) = &mut *lock(&held);
                if bytes.is_empty() {
                    bytes.resize(5, 0);
                    let read = inner.readv_full(&mut [IoSliceMut::new(bytes)], None, flags);
                    *unit = read.as_ref().copied().unwrap_or_default();
                    bytes.truncate(*unit);
                    read?;
                }
                let count = buf.len().min(bytes.len());
                buf[..count].copy_from_slice(&bytes[..count]);
                bytes.drain(..count);
                if let Some(handler) = lock(&reading).clone().filter(|_| *unit == 5 && !bytes.is_empty()) {
                    handler.context.schedule(Box::new(move || (handler.callback)()));
                }
                Ok(count)
            })
            .on_set_aio_fd_handler(move |inner, read, write| {
                if let AioChange::Set(handler) = &read {
                    *lock(&read_handler) = Some(handler.clone());
                }
                inner.set_aio_fd_handler(read, write)
            })
            .on_readiness(move |inner, direction| match direction {
                Direction::Read if !lock(&ahead).0.is_empty() => Readiness::Ready,
                _ => inner.readiness(direction),
            });
        (near, far)
    };
    /// Holds on to every handler it ever had.
    g1 in NonBlocking says "drops of the callback when the channel was closed": |options| near(options, |near| {
        let all = Mutex::new(Vec::new());
        near.on_set_aio_fd_handler(move |inner, read, write| {
            for change in [&read, &write] {
                if let AioChange::Claim(handler) = change {
                    lock(&all).push(handler.clone());
                }
            }
            inner.set_aio_fd_handler(read, write)
        })
    });
    /// Releases nothing.
    g2 in NonBlocking says "a watch after the one before was dropped": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, write| inner.set_aio_fd_handler(not_released(read), not_released(write)))
    });
    /// The last one who claims a direction has it.
    g3 in NonBlocking says "a second watch for IN": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, write| inner.set_aio_fd_handler(seized(read), seized(write)))
    });
    /// The last one who claims a direction has it.
    a1 in NonBlocking says "a second reader by another way": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, write| inner.set_aio_fd_handler(seized(read), seized(write)))
    });
    /// What it refused goes out with the next call.
    a2 in NonBlocking says "bytes arrived that no call took": |options| near(options, |near| {
        let held = Held::default();
        near.on_write(move |inner, bufs, fds, flags| {
            match held.push(inner).and_then(|()| inner.writev_full(bufs, fds, flags)) {
                Err(error) if error.is_would_block() => {
                    let _ = held.keep(bufs, 1 << 20);
                    Err(error)
                }
                done => done,
            }
        })
    });
    /// What was read ahead counts for waiters, but wakes no task.
    a3 in NonBlocking says "for bytes that another call left, waits": |options| {
        let (near, far) = memory(options);
        (Ahead::default().over(near), far)
    };
    /// The limit passes, and it takes three times as long.
    a3_late [handshake] in NonBlocking says "was done when its limit had passed twice": late_hello;
    /// Whatever loop it is given, it stays with the first.
    a4 in NonBlocking says "descriptors polled by the loop that a task has left": |options| near(options, |near| {
        let first = OnceLock::new();
        near.on_set_aio_fd_handler(move |inner, read, write| {
            let pinned = |change| match change {
                AioChange::Claim(AioHandler { context, callback }) => {
                    let context = Arc::clone(first.get_or_init(|| context));
                    AioChange::Claim(AioHandler { context, callback })
                }
                change => change,
            };
            inner.set_aio_fd_handler(pinned(read), pinned(write))
        })
    });
    /// Releases nothing.
    a5 in NonBlocking says "descriptors polled by the old loop after detach": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, write| inner.set_aio_fd_handler(not_released(read), not_released(write)))
    });
    /// Writes pass before the handshake.
    n1 [handshake] in NonBlocking says "write before the handshake gave": |options| {
        let (near, far) = memory(options);
        let near = Hello::new(options).over(near).on_write(Channel::writev_full);
        (near, Hello::new(options).over(far))
    };
    /// Each call begins from the start.
    n2 [handshake] in NonBlocking says "byte 0 of the stream is wrong": |options| {
        let (near, far) = memory(options);
        let hello = Hello::new(options);
        let near = hello.over(near).on_handshake(move |inner| {
            hello.forget();
            hello.run(inner, true)
        });
        (near, Hello::new(options).over(far))
    };
    /// No deadline.
    n3 [handshake] in Blocking says "a handshake whose peer is silent": |options| {
        let (near, far) = memory(options);
        let hello = Hello::new(options);
        let near = hello.over(near).on_handshake(move |inner| hello.run(inner, false));
        (near, Hello::new(options).over(far))
    };
    /// The limit passes, and it takes three times as long.
    n3_late [handshake] in Blocking says "and its limit is 150ms": late_hello;
    /// Each step leaks a count.
    n4 [handshake] in NonBlocking says "a descriptor is still open": |options| {
        let (near, far) = gated_memory(options);
        let hello = Hello::new(options);
        let near = hello.over(near).on_handshake(move |inner| {
            std::mem::forget(inner.readiness(Direction::Write));
            hello.run(inner, true)
        });
        (near, Hello::new(options).over(far))
    };
    /// An error that does not say on which channel.
    x1 in Blocking says "the channel that": |options| near(options, |near| {
        near.on_seek(|_, _| Err(Error::new(ErrorKind::Unsupported, "memory", "no").during("seek")))
    });
}

#[test]
fn every_promise_has_a_clause_and_a_mutant() {
    let contract = include_str!("../../docs/contract.md");
    let numbered = contract.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("**"));
    let promises: BTreeSet<String> = numbered.map(|(number, _)| number.to_owned()).collect();
    assert!(promises.len() > 40, "the contract is not read as it should be: {promises:?}");
    let clauses: BTreeSet<String> = CLAUSES.iter().map(Clause::promise).collect();
    assert_eq!(promises, clauses, "promises of docs/contract.md, and clauses of the suite");
    assert_eq!(clauses.len(), CLAUSES.len(), "a promise has one clause");
    let mutants: BTreeSet<String> = MUTANTS.iter().map(|name| promise(name)).collect();
    assert_eq!(promises, mutants, "promises of docs/contract.md, and broken channels");
}
