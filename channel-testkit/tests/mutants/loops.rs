//! For each promise of Q, H, G and A, which are about waiting, a channel that breaks it.

use super::*;

mutants! {
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
    /// What counts as a call does not.
    h5_uncounted in NonBlocking says "after a change that counts as a call": |options| near(options, |near| {
        near.on_set_aio_fd_handler(|inner, read, write| {
            let keep = |change| if matches!(change, AioChange::Called) { AioChange::Keep } else { change };
            inner.set_aio_fd_handler(keep(read), keep(write))
        })
    });
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
}
