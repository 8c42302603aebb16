//! Listening: paths, waking, shortages.

use std::fs;
use std::future::{Future, poll_fn};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use channel_core::{AioChange, AioHandler, Channel, ChannelExt, ErrorKind, EventLoop, describe, enter_context};
use channel_socket::{AioListener, SocketAddress, SocketChannel, SocketListener};
use channel_testkit::recording::Recorder;
use channel_testkit::{child, fds, watchdog};

/// A directory of its own for one test, removed afterwards.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("channel-socket-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn address(&self) -> SocketAddress {
        SocketAddress::Unix(self.0.join("s"))
    }

    fn path(&self) -> PathBuf {
        self.0.join("s")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn any_port() -> SocketAddress {
    SocketAddress::Inet("127.0.0.1:0".parse().unwrap())
}

#[test]
fn connections_are_accepted_on_every_kind_of_address() {
    watchdog::run("connections_are_accepted", || {
        let folder = Folder::new();
        let name = format!("channel-socket test {}", std::process::id()).into_bytes();
        for address in [any_port(), folder.address(), SocketAddress::UnixAbstract(name)] {
            let listener = SocketListener::bind(&address).unwrap();
            let near = SocketChannel::connect(listener.local_address()).unwrap();
            let far = listener.accept().unwrap();
            assert_eq!(far.local_address(), Some(listener.local_address()));
            assert_eq!(near.peer_address(), Some(listener.local_address()));
            near.write_all(b"x").unwrap();
            far.read_all(&mut [0]).unwrap();
            fds::assert_cloexec(far.socket().unwrap());
            let flags = rustix::fs::fcntl_getfl(far.socket().unwrap()).unwrap();
            assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK), "an accepted socket is as blocking as any");
        }
    });
}

#[test]
fn an_accepted_unix_connection_has_an_unnamed_peer_and_says_where_it_was_accepted() {
    let folder = Folder::new();
    let name = format!("channel-socket unnamed {}", std::process::id());
    let listening = [
        (folder.address(), format!("unix {}", folder.path().display())),
        (SocketAddress::UnixAbstract(name.clone().into_bytes()), format!("unix @{name}")),
    ];
    for (address, line) in listening {
        let listener = SocketListener::bind(&address).unwrap();
        let near = SocketChannel::connect(&address).unwrap();
        let far = listener.accept().unwrap();
        assert_eq!(far.peer_address(), Some(&SocketAddress::UnixUnnamed));
        assert_eq!(near.local_address(), Some(&SocketAddress::UnixUnnamed));
        assert_eq!(describe(&far), line);
    }
    let (end, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let adopted = SocketChannel::from_fd(end.into()).unwrap();
    assert_eq!(adopted.local_address(), Some(&SocketAddress::UnixUnnamed));
    assert_eq!(adopted.peer_address(), Some(&SocketAddress::UnixUnnamed));
}

#[test]
fn an_abstract_name_may_be_empty_and_is_a_name_all_the_same() {
    let empty = SocketAddress::UnixAbstract(Vec::new());
    // One name for the whole machine: somebody else may have it.
    let Ok(listener) = SocketListener::bind(&empty) else { return };
    assert_eq!(listener.local_address(), &empty);
    assert_eq!(SocketChannel::connect(listener.local_address()).unwrap().peer_address(), Some(&empty));
}

#[test]
fn a_non_blocking_accept_says_would_block() {
    let listener = SocketListener::bind(&any_port()).unwrap();
    listener.set_blocking(false);
    assert!(listener.accept().unwrap_err().is_would_block());
    let _near = SocketChannel::connect(listener.local_address()).unwrap();
    assert!(listener.readiness().block(Some(Instant::now() + Duration::from_secs(10))).unwrap());
    listener.accept().unwrap();
}

#[test]
fn close_wakes_a_blocked_accept() {
    watchdog::run("close_wakes_a_blocked_accept", || {
        let folder = Folder::new();
        for address in [any_port(), folder.address()] {
            let listener = SocketListener::bind(&address).unwrap();
            thread::scope(|scope| {
                let accepting = scope.spawn(|| {
                    listener.accept().unwrap(); // tells that it runs
                    listener.accept()
                });
                let _near = SocketChannel::connect(listener.local_address()).unwrap();
                listener.close();
                listener.close();
                match accepting.join() {
                    Ok(second) => assert!(second.unwrap_err().is_closed()),
                    Err(_) => assert!(listener.accept().unwrap_err().is_closed()), // closed before the first was taken
                }
            });
        }
    });
}

#[test]
fn a_stale_socket_is_replaced() {
    let folder = Folder::new();
    drop(UnixListener::bind(folder.path()).unwrap()); // leaves the path behind
    assert!(folder.path().exists());
    let listener = SocketListener::bind(&folder.address()).unwrap();
    SocketChannel::connect(listener.local_address()).unwrap();
}

#[test]
fn a_socket_somebody_listens_on_is_left_alone() {
    let folder = Folder::new();
    let first = SocketListener::bind(&folder.address()).unwrap();
    let error = SocketListener::bind(&folder.address()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io(std::io::ErrorKind::AddrInUse), "{error}");
    SocketChannel::connect(first.local_address()).unwrap();
}

#[test]
fn any_other_file_at_the_path_is_left_alone() {
    let folder = Folder::new();
    fs::write(folder.path(), "precious").unwrap();
    let error = SocketListener::bind(&folder.address()).unwrap_err();
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(fs::read_to_string(folder.path()).unwrap(), "precious");
}

#[test]
fn only_our_own_inode_is_removed() {
    let folder = Folder::new();
    let ours = SocketListener::bind(&folder.address()).unwrap();
    fs::rename(folder.path(), folder.0.join("moved")).unwrap(); // keeps our inode number in use
    let theirs = UnixListener::bind(folder.path()).unwrap();
    let inode = fs::symlink_metadata(folder.path()).unwrap().ino();
    drop(ours);
    assert_eq!(fs::symlink_metadata(folder.path()).unwrap().ino(), inode);
    drop(theirs);
    fs::remove_file(folder.path()).unwrap();
    drop(SocketListener::bind(&folder.address()).unwrap());
    assert!(!folder.path().exists(), "our own is removed");
}

#[test]
fn a_shortage_of_descriptors_does_not_spin_and_passes() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    child::run("a_shortage_of_descriptors_does_not_spin_and_passes", || {
        let listener = SocketListener::bind(&any_port()).unwrap();
        let _near = SocketChannel::connect(listener.local_address()).unwrap();
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before }).unwrap();
        let started = Instant::now();
        let mut errors = 0;
        while started.elapsed() < Duration::from_millis(350) {
            let error = listener.accept().unwrap_err();
            assert!(!error.is_would_block());
            errors += 1;
        }
        assert!(errors <= 5, "{errors} attempts in a third of a second");
        setrlimit(Resource::Nofile, before).unwrap();
        listener.accept().unwrap();
    });
}

/// A handler that accepts all there is, and what it has seen.
fn accepting(listener: &Arc<SocketListener>, recorder: &Arc<Recorder>) -> (AioHandler, Arc<[AtomicU32; 2]>) {
    let seen = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let (listener, counts) = (Arc::downgrade(listener), Arc::clone(&seen));
    listener.upgrade().unwrap().set_blocking(false);
    let handler = AioHandler::new(recorder.clone(), move || {
        let Some(listener) = listener.upgrade() else { return };
        loop {
            match listener.accept() {
                Ok(_) => counts[0].fetch_add(1, Ordering::Relaxed),
                Err(error) if error.is_would_block() => break,
                Err(_) => counts[1].fetch_add(1, Ordering::Relaxed),
            };
        }
    });
    (handler, seen)
}

#[test]
fn a_handler_is_called_for_connections_until_it_is_cleared_or_the_listener_closed() {
    let patience = Duration::from_secs(20);
    let listener = Arc::new(SocketListener::bind(&any_port()).unwrap());
    let recorder = Recorder::new();
    let (handler, seen) = accepting(&listener, &recorder);
    listener.set_aio_fd_handler(AioChange::Claim(handler.clone())).unwrap();
    assert!(listener.set_aio_fd_handler(AioChange::Claim(handler.clone())).unwrap_err().is_busy());
    let connect = || SocketChannel::connect(listener.local_address()).unwrap();
    for count in 1..=3 {
        let _near = connect();
        assert!(recorder.turn_until(patience, || seen[0].load(Ordering::Relaxed) == count).unwrap());
    }
    listener.set_aio_fd_handler(AioChange::Release(handler.clone())).unwrap().wait().unwrap();
    assert!(recorder.handlers().is_empty());
    let _near = connect();
    recorder.turn(Duration::ZERO).unwrap();
    assert_eq!(seen[0].load(Ordering::Relaxed), 3);
    listener.set_aio_fd_handler(AioChange::Set(handler)).unwrap();
    listener.close();
    assert!(recorder.handlers().is_empty());
    let error = listener.set_aio_fd_handler(AioChange::Clear).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[test]
fn a_loop_does_not_spin_while_descriptors_are_short_and_goes_on_afterwards() {
    child::run("a_loop_does_not_spin_while_descriptors_are_short_and_goes_on_afterwards", || {
        let listener = Arc::new(SocketListener::bind(&any_port()).unwrap());
        let recorder = Recorder::new();
        let (handler, seen) = accepting(&listener, &recorder);
        listener.set_aio_fd_handler(AioChange::Set(handler)).unwrap();
        let _near = SocketChannel::connect(listener.local_address()).unwrap();
        without_descriptors(|| {
            let (started, mut ran) = (Instant::now(), 0);
            while started.elapsed() < Duration::from_millis(350) {
                ran += recorder.turn(Duration::from_millis(50)).unwrap();
            }
            let errors = seen[1].load(Ordering::Relaxed);
            assert!(
                (2..=5).contains(&errors) && ran <= 12,
                "{errors} attempts and {ran} callbacks in a third of a second"
            );
        });
        let accepted = recorder.turn_until(Duration::from_secs(20), || seen[0].load(Ordering::Relaxed) == 1);
        assert!(accepted.unwrap(), "the connection that waited was not accepted");
    });
}

/// Counts how often it is woken.
struct Woken(AtomicU32);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_task_that_accepts_is_woken_for_a_connection_on_the_loop_it_waits_on_and_by_close() {
    let patience = Duration::from_secs(20);
    let listener = AioListener::new(SocketListener::bind(&any_port()).unwrap());
    let connect = || SocketChannel::connect(listener.listener().local_address()).unwrap();
    let woken = Arc::new(Woken(AtomicU32::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    let times = || woken.0.load(Ordering::Relaxed);

    let nowhere = listener.poll_accept(&mut cx);
    assert!(matches!(nowhere, Poll::Ready(Err(error)) if error.kind() == ErrorKind::NotAttached));
    let (one, other) = (Recorder::new(), Recorder::new());
    for recorder in [&one, &other] {
        let entered = enter_context(recorder.clone());
        // Twice: the handler that goes wakes the task, which then looks again.
        assert!(listener.poll_accept(&mut cx).is_pending());
        assert!(listener.poll_accept(&mut cx).is_pending());
        let before = times();
        assert_eq!(recorder.turn(Duration::ZERO).unwrap(), 0);
        let _near = connect();
        assert!(recorder.turn_until(patience, || times() > before).unwrap());
        assert!(matches!(listener.poll_accept(&mut cx), Poll::Ready(Ok(_))));
        drop(entered);
    }
    assert!(one.handlers().is_empty(), "the handler moved with the task");
    let entered = enter_context(other.clone());
    assert!(listener.poll_accept(&mut cx).is_pending());
    let before = times();
    listener.listener().close();
    assert!(times() > before, "close woke nobody");
    assert!(matches!(listener.poll_accept(&mut cx), Poll::Ready(Err(error)) if error.is_closed()));
    drop(entered);
    assert!(other.handlers().is_empty());
}

#[test]
fn bad_addresses_are_errors_that_name_them() {
    let long = SocketAddress::Unix("x".repeat(200).into());
    assert!(SocketListener::bind(&long).unwrap_err().to_string().contains("xxx"));
    assert!(SocketChannel::connect(&SocketAddress::Unix(PathBuf::new())).is_err());
    assert!(SocketListener::bind(&SocketAddress::UnixUnnamed).is_err());
    let nowhere = SocketAddress::Unix("/nonexistent/socket".into());
    assert!(SocketChannel::connect(&nowhere).unwrap_err().to_string().contains("/nonexistent/socket"));
}

#[test]
fn a_task_that_always_finds_connections_gives_others_their_turn() {
    let listener = AioListener::new(SocketListener::bind(&any_port()).unwrap());
    let clients: Vec<_> =
        (0..300).map(|_| SocketChannel::connect(listener.listener().local_address()).unwrap()).collect();
    let _entered = enter_context(Recorder::new());
    let mut accepted = 0;
    let mut all = pin!(async {
        while accepted < clients.len() {
            drop(listener.accept().await.unwrap());
            accepted += 1;
        }
    });
    let mut cx = Context::from_waker(Waker::noop());
    assert!(all.as_mut().poll(&mut cx).is_pending(), "it accepted them all in one turn");
    while all.as_mut().poll(&mut cx).is_pending() {}
}

#[test]
fn tasks_that_gave_up_accepting_leave_no_wakers() {
    let listener = AioListener::new(SocketListener::bind(&any_port()).unwrap());
    let _entered = enter_context(Recorder::new());
    let woken = Arc::new(Woken(AtomicU32::new(0)));
    for _ in 0..100 {
        let waker = Waker::from(Arc::clone(&woken));
        assert!(pin!(listener.accept()).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&woken), 1, "references to tasks that are gone");
}

#[test]
fn of_two_tasks_that_accept_each_is_woken() {
    watchdog::run("two tasks that accept", || {
        let listener = SocketListener::bind(&SocketAddress::Inet("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = listener.local_address().clone();
        let (listener, event_loop) = (Arc::new(AioListener::new(listener)), EventLoop::new().unwrap());
        let accepting = [(); 2].map(|()| {
            let listener = Arc::clone(&listener);
            event_loop.spawn(async move { listener.accept().await })
        });
        while event_loop.run_once(Some(Duration::ZERO)).unwrap() > 0 {}
        let _clients = [(); 2].map(|()| SocketChannel::connect(&address).unwrap());
        for accepted in accepting {
            event_loop.block_on(accepted).unwrap().unwrap().unwrap();
        }
    });
}

#[test]
fn tasks_of_two_loops_that_accept_on_one_listener_sleep_until_somebody_connects_and_each_gets_one() {
    watchdog::run("two loops on one listener", || {
        let listener = Arc::new(AioListener::new(SocketListener::bind(&any_port()).unwrap()));
        let loops = [EventLoop::new().unwrap(), EventLoop::new().unwrap()];
        let tasks = loops.each_ref().map(|event_loop| {
            let listener = Arc::clone(&listener);
            event_loop.spawn(async move { listener.accept().await.map(drop) })
        });
        let turn = |time| loops.iter().map(|one| one.run_once(Some(time)).unwrap()).sum::<usize>();
        let turns = (0..100).take_while(|_| turn(Duration::ZERO) > 0).count();
        assert!(turns < 10, "{turns} turns, and nobody connects");
        let address = listener.listener().local_address();
        let _peers = [SocketChannel::connect(address).unwrap(), SocketChannel::connect(address).unwrap()];
        while !tasks.iter().all(|task| task.is_finished()) {
            turn(Duration::from_millis(1));
        }
    });
}

#[test]
fn a_port_can_be_listened_on_again_while_its_last_connections_linger() {
    let listener = SocketListener::bind(&any_port()).unwrap();
    let address = listener.local_address().clone();
    let near = SocketChannel::connect(&address).unwrap();
    let far = listener.accept().unwrap();
    far.close().unwrap(); // it ends first, and so its end of the connection stays for a minute (TIME_WAIT)
    assert_eq!(near.read(&mut [0]).unwrap(), 0);
    near.close().unwrap();
    listener.close();
    SocketListener::bind(&address).unwrap();
}

#[test]
fn a_task_that_leaves_with_its_loop_leaves_the_listener_to_those_of_other_loops() {
    watchdog::run("a loop that ends beside another one", || {
        let listener = Arc::new(AioListener::new(SocketListener::bind(&any_port()).unwrap()));
        let accept = |event_loop: &EventLoop| {
            let listener = Arc::clone(&listener);
            let task = event_loop.spawn(async move { listener.accept().await.map(drop) });
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
            task
        };
        let (stays, leaves) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
        let task = accept(&stays);
        accept(&leaves).detach(); // it came last: connections are told there
        drop(leaves);
        let _peer = SocketChannel::connect(listener.listener().local_address()).unwrap();
        stays.block_on(task).unwrap().unwrap().unwrap();
    });
}

#[test]
fn a_loop_or_a_future_that_goes_gives_the_listener_to_the_tasks_of_others() {
    for loop_goes in [true, false] {
        watchdog::run("a loop ends, or stands still without its future", || {
            let listener = Arc::new(AioListener::new(SocketListener::bind(&any_port()).unwrap()));
            let (stays, other) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
            let accepting = Arc::clone(&listener);
            let task = stays.spawn(async move { accepting.accept().await.map(drop) });
            stays.run_once(Some(Duration::ZERO)).unwrap();
            let mut waits = Box::pin(listener.accept());
            let polled = poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending()));
            assert!(other.block_on(polled).unwrap()); // it came last: connections are told there
            let _left = if loop_goes {
                drop(other);
                (None, Some(waits))
            } else {
                drop(waits);
                (Some(other), None)
            };
            let _peer = SocketChannel::connect(listener.listener().local_address()).unwrap();
            stays.block_on(task).unwrap().unwrap().unwrap();
        });
    }
}

/// Runs `test` in a process that gets no more descriptors.
fn without_descriptors(test: impl FnOnce()) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let next = fs::File::open("/dev/null").unwrap();
    let none_left = u64::try_from(next.as_raw_fd()).unwrap(); // the number the next one would get
    drop(next);
    setrlimit(Resource::Nofile, Rlimit { current: Some(none_left), ..before }).unwrap();
    test();
    setrlimit(Resource::Nofile, before).unwrap();
}

#[test]
fn a_handler_that_is_set_while_descriptors_are_short_waits_as_the_one_before_did() {
    child::run("a_handler_that_is_set_while_descriptors_are_short_waits_as_the_one_before_did", || {
        let listener = Arc::new(SocketListener::bind(&any_port()).unwrap());
        let recorder = Recorder::new();
        let (handler, seen) = accepting(&listener, &recorder);
        let _near = SocketChannel::connect(listener.local_address()).unwrap();
        without_descriptors(|| {
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(350) {
                drop(listener.set_aio_fd_handler(AioChange::Set(handler.clone())).unwrap());
                recorder.turn(Duration::from_millis(5)).unwrap();
            }
            let errors = seen[1].load(Ordering::Relaxed);
            assert!(errors <= 5, "{errors} attempts in a third of a second");
        });
    });
}

#[test]
fn tasks_of_two_loops_do_not_spin_while_descriptors_are_short() {
    child::run("tasks_of_two_loops_do_not_spin_while_descriptors_are_short", || {
        let listener = Arc::new(AioListener::new(SocketListener::bind(&any_port()).unwrap()));
        let loops = [EventLoop::new().unwrap(), EventLoop::new().unwrap()];
        let failed = Arc::new(AtomicU32::new(0));
        for event_loop in &loops {
            let (listener, failed) = (Arc::clone(&listener), Arc::clone(&failed));
            let accepting = async move {
                while listener.accept().await.is_err_and(|error| !error.is_closed()) {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            };
            event_loop.spawn(accepting).detach();
            event_loop.run_once(Some(Duration::ZERO)).unwrap();
        }
        let _peer = SocketChannel::connect(listener.listener().local_address()).unwrap();
        without_descriptors(|| {
            let (started, mut ran) = (Instant::now(), 0);
            while started.elapsed() < Duration::from_millis(350) {
                ran += loops.iter().map(|one| one.run_once(Some(Duration::from_millis(1))).unwrap()).sum::<usize>();
            }
            let failed = failed.load(Ordering::Relaxed);
            assert!(failed <= 10 && ran <= 100, "{failed} attempts and {ran} callbacks in a third of a second");
        });
    });
}
