//! For each promise of O, M, T, R and W, which are about calls that move bytes, a channel that breaks it.

use super::*;

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
}
