//! For each promise of C, E, S, D, F, N and X, which are about what a channel is and how it ends, a channel that breaks it.

use super::*;

mutants! {
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
    /// What it never does it refuses as such when closed, too.
    s3_refused in Blocking says "seek after close": |options| near(options, |near| {
        near.on_seek(|inner, _| Err(Error::unsupported(inner, "seek", Features::SEEKABLE)))
    });
    /// Calls for nothing go well for ever.
    s3_nothing in Blocking says "a read of nothing after close": |options| near(options, |near| {
        near.on_read(|inner, bufs, fds, flags| match room(bufs) {
            0 => Ok(0),
            _ => inner.readv_full(bufs, fds, flags),
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
