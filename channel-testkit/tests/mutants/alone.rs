//! For each clause of the suite for single channels, one that breaks it.

use std::io::SeekFrom;

use channel_core::{BufferChannel, Readiness};
use rustix::fs::{OFlags, fcntl_setfl};

use super::*;

/// Runs the clause of `promise` over a channel broken in a way that it must notice, and say so in these words.
fn caught_alone(promise: &str, says: &str, setup: single::Setup) {
    let clause = single::CLAUSES.iter().find(|clause| clause.promise() == promise).expect("a clause for the promise");
    watchdog::run(&format!("mutants::alone::{}", clause.name()), || {
        let setup = setup.patience(Duration::from_secs(1));
        let run = catch_unwind(AssertUnwindSafe(|| clause.run(&setup)));
        let Err(panic) = run else { panic!("{clause:?} did not notice") };
        let words =
            panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        let words = words.expect("words");
        assert!(words.contains(says), "{clause:?} should have said `{says}`, but said: {words}");
    });
}

/// Declares the mutants: a test for each, and the list of their names.
macro_rules! mutants_alone {
    ($($(#[$doc:meta])* $name:ident says $says:literal: $maker:expr;)+) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                caught_alone(&promise(stringify!($name)), $says, single::Setup::new(|| $maker));
            }
        )+

        pub(crate) const MUTANTS: &[&str] = &[$(stringify!($name)),+];
    };
}

/// A buffer, broken by `how`.
fn buffer(how: impl FnOnce(Mutant) -> Mutant) -> (Mutant, ()) {
    (how(Mutant::over(BufferChannel::from_bytes(b"some bytes".to_vec()))), ())
}

/// A channel that would block, broken by `how`.
fn blocking(how: impl FnOnce(Mutant) -> Mutant) -> Result<(Mutant, MemoryChannel)> {
    let (near, far) = MemoryChannel::pair_with_capacity(4096)?;
    Ok((how(Mutant::over(near)), far))
}

fn kept(inner: &dyn Channel, direction: Direction) -> Readiness {
    let answer = inner.readiness(direction);
    std::mem::forget(answer.clone());
    answer
}

mutants_alone! {
    /// Has no name.
    o1 says "the name that was set": buffer(|one| one.on_set_name(|_, _| ()));
    /// Waits although it must not.
    m1 says "that must not wait slept": blocking(|one| one.on_read(|inner, bufs, fds, flags| {
        inner.wait(Direction::Read, Some(Duration::from_millis(700)))?;
        inner.readv_full(bufs, fds, flags)
    }));
    /// The mode is that of the descriptor.
    m2 says "the status flags": blocking(|one| one.on_set_blocking(|inner, blocking| {
        if let Readiness::Wait(interests) = inner.readiness(Direction::Read) {
            interests.iter().for_each(|one| fcntl_setfl(&one.fd, OFlags::empty()).expect("F_SETFL"));
        }
        inner.set_blocking(blocking);
    }));
    /// Forgets a timeout.
    t1 says "timeouts, of which one was set": buffer(|one| one.on_read_timeout(|_| None));
    /// A timeout passes for ever.
    t1_again says "behind that": blocking(|one| one.on_read(|inner, bufs, fds, flags| {
        let read = inner.readv_full(bufs, fds, flags);
        match read {
            Err(error) if error.is_would_block() && !flags.contains(ReadFlags::DONT_WAIT) => {
                Err(Error::new(ErrorKind::TimedOut, "memory", "the time has passed"))
            }
            read => read,
        }
    }));
    /// Seeks to one behind.
    p1 says "the start": buffer(|one| one.on_seek(|inner, position| Ok(inner.seek(position)? + 1)));
    /// Begins anew behind its end.
    r2 says "said the end": buffer(|one| one.on_read(|inner, bufs, fds, flags| {
        let read = inner.readv_full(bufs, fds, flags)?;
        if read == 0 && room(bufs) > 0 {
            inner.seek(SeekFrom::Start(0))?;
        }
        Ok(read)
    }));
    /// Where there is no room there is nothing to say.
    r3 says "nothing at the start": buffer(|one| one.on_read(|inner, bufs, fds, flags| match room(bufs) {
        0 => Err(Error::WOULD_BLOCK),
        _ => inner.readv_full(bufs, fds, flags),
    }));
    /// Takes all, and says that it took none.
    w1 says "a write of 6 bytes": buffer(|one| one.on_write(|inner, bufs, fds, flags| {
        inner.writev_full(bufs, fds, flags).map(|_| 0)
    }));
    /// Passes a long list on as it is.
    w4 says "a write of 3000 buffers": buffer(|one| one.on_write(|inner, bufs, fds, flags| match bufs.len() {
        ..=1024 => inner.writev_full(bufs, fds, flags),
        _ => Err(Error::new(ErrorKind::InvalidInput, "buffer", "too long a list")),
    }));
    /// Takes nothing while it is corked.
    c3 says "a corked write": buffer(|one| {
        let corked = Arc::new(AtomicBool::new(false));
        let turned = Arc::clone(&corked);
        one.on_set_cork(move |_, cork| turned.store(cork, Ordering::Relaxed)).on_write(move |inner, bufs, fds, flags| {
            if corked.load(Ordering::Relaxed) { Err(Error::WOULD_BLOCK) } else { inner.writev_full(bufs, fds, flags) }
        })
    });
    /// Its end is no end.
    e3 says "after close_write": buffer(|one| one.on_close_write(|_| Ok(())));
    /// Nobody hears of a shutdown.
    s1 says "after shutdown": buffer(|one| one.on_shutdown(|_, _| Ok(())));
    /// What it never does it refuses as such when closed, too.
    s3 says "a lend after close": buffer(|one| one.on_with_read_buf(|inner, _| {
        Err(Error::unsupported(inner, "read", Features::READ_BUF))
    }));
    /// Calls for nothing go well for ever.
    s3_nothing says "a write of nothing after close": buffer(|one| {
        one.on_write(|inner, bufs, fds, flags| match bytes_of(bufs).len() {
            0 => Ok(0),
            _ => inner.writev_full(bufs, fds, flags),
        })
    });
    /// `close_write` behind `close` goes well.
    s3_ends says "close_write after close": buffer(|one| one.on_close_write(|inner| inner.shutdown(Shutdown::Write)));
    /// Keeps a descriptor for ever.
    s4 says "still open": blocking(|one| one.on_readiness(kept));
    /// Who closes later is refused.
    s5 says "three who closed": buffer(|one| {
        let closed = AtomicBool::new(false);
        one.on_close(move |inner| match closed.swap(true, Ordering::SeqCst) {
            true => Err(Error::new(ErrorKind::Closed, "buffer", "closed twice")),
            false => inner.close(),
        })
    });
    /// Somebody else keeps what was handed out.
    d1 says "who keeps": blocking(|one| one.on_readiness(kept));
    /// Refuses in other words than it explains.
    d5 says "and why_not": buffer(|one| one.on_why_not(|inner, feature| {
        inner.why_not(feature).map(|_| "for reasons of its own".to_owned())
    }));
    /// Can do less after its end.
    f1 says "after close_write": buffer(|one| {
        one.on_features(|inner| match inner.writev_full(&[IoSlice::new(b"x")], &[], WriteFlags::empty()) {
            Ok(_) => inner.features(),
            Err(_) => inner.features() - Features::CLOSE_WRITE,
        })
    });
    /// Does not say why.
    f2 says "no reason is given": buffer(|one| one.on_why_not(|_, _| None));
    /// Is always ready, it says.
    q1 says "again and again": blocking(|one| one.on_readiness(|_, _| Readiness::Ready));
    /// Lets go of no handler, and calls none.
    h1 says "was called for 0": buffer(|one| one.on_set_aio_fd_handler(|_, read, write| {
        std::mem::forget((read, write));
        Ok(Removed::nothing())
    }));
    /// Behind its end there is never anything.
    h1_seek says "is not called after a seek": buffer(|one| {
        let ended = AtomicBool::new(false);
        one.on_read(move |inner, bufs, fds, flags| {
            let read = if ended.load(Ordering::SeqCst) { 0 } else { inner.readv_full(bufs, fds, flags)? };
            ended.store(read == 0 && room(bufs) > 0, Ordering::SeqCst);
            Ok(read)
        })
    });
    /// Clears nothing.
    h2 says "that was cleared": buffer(|one| one.on_set_aio_fd_handler(|inner, read, write| {
        let kept = |change| if matches!(change, AioChange::Clear) { AioChange::Keep } else { change };
        inner.set_aio_fd_handler(kept(read), kept(write))
    }));
    /// Handlers lie on the loop as they are.
    h5 says "that does nothing was called": blocking(bare_handlers);
    /// A claim takes what is there.
    h8 says "a second claim": buffer(|one| one.on_set_aio_fd_handler(|inner, read, write| {
        inner.set_aio_fd_handler(seized(read), seized(write))
    }));
    /// Is never open.
    n1 says "the handshake": buffer(|one| one.on_handshake(|_| Err(Error::new(ErrorKind::NotOpen, "buffer", "not yet"))));
    /// An error without words.
    x1 says "no operation": buffer(|one| one.on_flush(|_| Err(Error::new(ErrorKind::Closed, "buffer", "closed"))));
}
