//! Files.

use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use channel_core::{AioChange, AioHandler, Channel, ChannelExt, Direction, ErrorKind, Features, Shutdown, describe};
use channel_file::FileChannel;
use channel_testkit::{child, fds, recording::Recorder, watchdog};
use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_getfl, mknodat};
use rustix::io::{FdFlags, fcntl_setfd};

/// A path of its own for one test, removed afterwards.
struct Path(PathBuf);

impl Path {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("channel-file-test-{}-{number}", std::process::id())))
    }

    fn open(&self) -> FileChannel {
        FileChannel::open(&self.0, OpenOptions::new().read(true).write(true).create(true).truncate(true)).unwrap()
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn what_was_written_is_read_back_after_a_seek() {
    let path = Path::new();
    let file = path.open();
    file.writev_all(&mut [IoSlice::new(b"hello"), IoSlice::new(b" world")]).unwrap();
    assert_eq!(file.read(&mut [0]).unwrap(), 0, "the end");
    assert_eq!(file.seek(SeekFrom::Start(6)).unwrap(), 6);
    let (mut first, mut rest) = ([0; 2], [0; 8]);
    assert_eq!(file.readv(&mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut rest)]).unwrap(), 5);
    assert_eq!((&first, &rest[..3]), (b"wo", &b"rld"[..]));
    assert_eq!(file.seek(SeekFrom::Current(-1)).unwrap(), 10);
    assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 11);
    assert_eq!(file.seek(SeekFrom::Current(-12)).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(fs::read(&path.0).unwrap(), b"hello world");
}

#[test]
fn a_file_is_always_ready_and_modes_do_not_touch_it() {
    let path = Path::new();
    let file = path.open();
    file.set_blocking(false);
    assert!(file.readiness(Direction::Read).is_ready() && file.readiness(Direction::Write).is_ready());
    assert_eq!(file.read(&mut [0]).unwrap(), 0);
    assert!(!fcntl_getfl(file.file().unwrap()).unwrap().contains(OFlags::NONBLOCK));
    fds::assert_cloexec(file.file().unwrap());
}

#[test]
fn close_is_idempotent_and_releases_the_descriptor() {
    child::run("close_is_idempotent_and_releases_the_descriptor", || {
        let path = Path::new();
        fs::write(&path.0, "x").unwrap();
        fds::assert_no_fd_left(|| {
            let file = path.open();
            file.close().unwrap();
            file.close().unwrap();
            assert!(file.read(&mut [0]).unwrap_err().is_closed());
            assert!(file.read(&mut []).unwrap_err().is_closed());
            assert!(file.flush().unwrap_err().is_closed());
        });
    });
}

#[test]
fn after_close_write_writes_fail_and_reads_go_on() {
    let path = Path::new();
    let file = path.open();
    file.write_all(b"x").unwrap();
    file.close_write().unwrap();
    file.close_write().unwrap();
    assert_eq!(file.write(b"y").unwrap_err().kind(), ErrorKind::BrokenPipe);
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_all(&mut [0]).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.shutdown(Shutdown::Read).unwrap();
    assert_eq!(file.read(&mut [0]).unwrap(), 0);
}

#[test]
fn shutting_one_direction_down_leaves_the_other() {
    let path = Path::new();
    let file = path.open();
    file.shutdown(Shutdown::Read).unwrap();
    file.write_all(b"x").unwrap();
    assert_eq!(file.read(&mut [0]).unwrap(), 0);
    let file = path.open();
    file.write_all(b"x").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.shutdown(Shutdown::Write).unwrap();
    assert_eq!(file.write(b"y").unwrap_err().kind(), ErrorKind::BrokenPipe);
    file.read_all(&mut [0]).unwrap();
}

#[test]
fn a_direction_it_was_not_opened_for_is_unsupported() {
    let path = Path::new();
    drop(path.open());
    let reader = FileChannel::from_file(File::open(&path.0).unwrap()).unwrap();
    assert!(reader.write(b"x").unwrap_err().is_unsupported());
    assert!(reader.close_write().unwrap_err().is_unsupported());
    let writer = FileChannel::open(&path.0, OpenOptions::new().append(true)).unwrap();
    assert!(writer.read(&mut [0]).unwrap_err().is_unsupported());
    writer.write_all(b"x").unwrap();
}

#[test]
fn handlers_are_called_though_a_file_cannot_be_polled() {
    watchdog::run("handlers_are_called_though_a_file_cannot_be_polled", || {
        let path = Path::new();
        let file = path.open();
        let context = Recorder::new();
        let (called, calls) = mpsc::channel();
        let handler = AioHandler::new(context.clone(), move || called.send(()).unwrap());
        file.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
        context.turn(Duration::from_secs(10)).unwrap();
        calls.try_recv().unwrap();
        file.write_all(b"x").unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        assert_eq!(file.read(&mut [0]).unwrap(), 1);
        context.turn(Duration::from_secs(10)).unwrap();
        calls.try_recv().unwrap();
        for calls in [1, 0] {
            assert_eq!(file.read(&mut [0]).unwrap(), 0);
            assert_eq!(context.turn(Duration::ZERO).unwrap(), calls, "the end that somebody else met is told once");
        }
        file.close().unwrap();
        assert!(file.set_aio_fd_handler(AioChange::Clear, AioChange::Keep).is_err());
    });
}

#[test]
fn memory_devices_are_files_and_full_ones_say_so() {
    let options = || OpenOptions::new().read(true).write(true).clone();
    let null = FileChannel::open("/dev/null", &options()).unwrap();
    null.write_all(b"gone").unwrap();
    assert_eq!(null.read(&mut [0]).unwrap(), 0);
    let full = FileChannel::open("/dev/full", &options()).unwrap();
    assert_eq!(full.write(b"x").unwrap_err().kind(), ErrorKind::Io(std::io::ErrorKind::StorageFull));
}

#[test]
fn what_is_no_file_is_refused_with_the_channel_that_is_for_it() {
    watchdog::run("what_is_no_file_is_refused", || {
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let refused = FileChannel::from_fd(socket.into()).unwrap_err();
        assert!(refused.to_string().contains("SocketChannel"), "{refused}");
        assert!(FileChannel::from_fd(refused.given).is_err(), "it came back, and is still refused");
        let fifo = Path::new();
        mknodat(CWD, &fifo.0, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let error = FileChannel::open(&fifo.0, OpenOptions::new().read(true)).unwrap_err();
        assert!(error.to_string().contains("PipeChannel"), "{error}");
        let folder = FileChannel::open(std::env::temp_dir(), OpenOptions::new().read(true)).unwrap_err();
        assert!(folder.to_string().contains("directory"), "{folder}");
        let socket = Path::new();
        let _listener = std::os::unix::net::UnixListener::bind(&socket.0).unwrap();
        let error = FileChannel::open(&socket.0, OpenOptions::new().read(true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        assert!(error.to_string().contains("SocketChannel"), "{error}");
        let terminal = rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        assert!(FileChannel::from_fd(terminal).unwrap_err().to_string().contains("terminal"));
    });
}

#[test]
fn an_open_that_fails_names_the_path_and_the_cause() {
    let error = FileChannel::open("/nonexistent/file", OpenOptions::new().read(true)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io(std::io::ErrorKind::NotFound));
    assert!(format!("{error:#}").contains("/nonexistent/file: No such file"), "{error:#}");
    let folder = FileChannel::open("/", OpenOptions::new().read(true)).unwrap_err();
    for error in [error, folder] {
        let (text, kind) = (error.to_string(), error.kind().to_string());
        assert_eq!((text.matches("file channel").count(), text.matches(&kind).count()), (1, 1), "said once: {text}");
    }
}

#[test]
fn of_the_memory_devices_only_streams_that_never_wait_are_files() {
    let open = |path| FileChannel::open(path, OpenOptions::new().read(true));
    for path in ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"] {
        open(path).unwrap();
    }
    assert_eq!(open("/dev/random").unwrap_err().kind(), ErrorKind::InvalidInput, "read(2) of it may wait for entropy");
    // Whoever may not read the kernel's log cannot get so far as to be refused.
    assert!(open("/dev/kmsg").is_err());
}

#[test]
fn features_and_description_tell_what_it_is() {
    let path = Path::new();
    let file = path.open();
    for feature in Features::all().iter() {
        assert_eq!(file.has_feature(feature), file.why_not(feature).is_none(), "{feature:?}");
    }
    assert!(file.has_feature(Features::SEEKABLE));
    assert_eq!(describe(&file), format!("file {}", path.0.display()));
}

#[test]
fn a_file_has_the_name_that_was_set_and_lets_go_of_its_handlers_when_it_is_closed() {
    let path = Path::new();
    let file = path.open();
    assert_eq!(file.layer(), "file");
    let can = Features::SEEKABLE | Features::SHUTDOWN | Features::CLOSE_WRITE;
    assert!(file.features().contains(can), "{:?}", file.features());
    file.set_name("log");
    assert_eq!(file.name().as_deref(), Some("log"));
    let (recorder, held) = (Recorder::new(), Arc::new(()));
    let captured = Arc::clone(&held);
    let handler = AioHandler::new(recorder, move || {
        let _ = &captured;
    });
    file.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep).unwrap();
    file.close().unwrap();
    assert_eq!(Arc::strong_count(&held), 1, "what the handler captured is kept");
}

#[test]
fn an_adopted_descriptor_is_closed_on_exec() {
    let path = Path::new();
    let file = File::create(&path.0).unwrap();
    fcntl_setfd(&file, FdFlags::empty()).unwrap();
    fds::assert_cloexec(FileChannel::from_file(file).unwrap().file().unwrap());
}

#[test]
fn a_descriptor_that_can_only_name_its_file_is_none_to_read_from() {
    let path = Path::new();
    drop(path.open());
    let fd = rustix::fs::open(&path.0, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    match FileChannel::from_file(File::from(fd)) {
        Ok(file) => assert!(file.read(&mut [0]).unwrap_err().is_unsupported()),
        Err(error) => assert_eq!(error.error.kind(), ErrorKind::InvalidInput, "{error:?}"),
    }
}
