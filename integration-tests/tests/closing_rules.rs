//! How a WebSocket connection ends, seen by a raw TCP peer: RFC 6455 §5.5.1 and §7.1, a rule a test.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use channel_core::{Channel, ChannelExt, Error, Limits, MemoryChannel};
use channel_testkit::watchdog;
use channel_websocket::{ClientOptions, ServerOptions, WebSocketChannel};
use integration_tests::stacks;
use tungstenite::handshake::derive_accept_key;

const CLOSE: u8 = 8;

fn connected() -> (Box<dyn Channel>, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a listener");
    let far = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    (stacks::leaf(listener.accept().expect("its other end").0).expect("a leaf"), far)
}

/// Reads an HTTP head, and nothing behind it.
fn head(far: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        far.read_exact(&mut byte).expect("an HTTP head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("a head of text")
}

fn server(limits: Limits) -> (WebSocketChannel, TcpStream) {
    let (near, mut far) = connected();
    let server = WebSocketChannel::server(near, ServerOptions::default(), limits).expect("a server");
    let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    far.write_all(request.as_bytes()).expect("a request");
    server.handshake().expect("an upgrade");
    assert!(head(&mut far).starts_with("HTTP/1.1 101 "));
    (server, far)
}

fn client(limits: Limits) -> (WebSocketChannel, TcpStream) {
    let (near, mut far) = connected();
    let client = WebSocketChannel::client(near, ClientOptions::new("x"), limits).expect("a client");
    thread::scope(|scope| {
        scope.spawn(|| client.handshake().expect("an upgrade"));
        let request = head(&mut far);
        let key = request.lines().find_map(|line| line.strip_prefix("sec-websocket-key: "));
        let key = key.or_else(|| request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")));
        let accept = derive_accept_key(key.expect("a key").as_bytes());
        let answer = format!(
            "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        far.write_all(answer.as_bytes()).expect("an answer");
    });
    (client, far)
}

/// The next frame: opcode, and payload without its mask.
fn frame(far: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut header = [0; 2];
    far.read_exact(&mut header)?;
    let mut length = usize::from(header[1] & 127);
    if length == 126 {
        let mut longer = [0; 2];
        far.read_exact(&mut longer)?;
        length = usize::from(u16::from_be_bytes(longer));
    }
    let mut key = [0; 4];
    if header[1] & 128 != 0 {
        far.read_exact(&mut key)?;
    }
    let mut payload = vec![0; length];
    far.read_exact(&mut payload)?;
    payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
    Ok((header[0] & 15, payload))
}

#[test]
fn a_client_keeps_tcp_open_behind_its_close_until_the_server_has_ended_it() {
    watchdog::run("a client behind its Close", || {
        let (client, mut far) = client(Limits { linger: Duration::from_secs(3600), ..Limits::default() });
        client.close_write().expect("an end");
        assert_eq!(frame(&mut far).expect("a Close").0, CLOSE);
        far.set_nonblocking(true).expect("a mode");
        let behind = far.read(&mut [0; 1]);
        assert!(
            matches!(&behind, Err(error) if error.kind() == io::ErrorKind::WouldBlock),
            "behind our Close: {behind:?}"
        );
        far.set_nonblocking(false).expect("a mode");
        far.write_all(&[0x80 | CLOSE, 2, 3, 232]).expect("the other Close");
        assert_eq!(client.read(&mut [0; 8]).expect("the clean end"), 0);
        far.shutdown(std::net::Shutdown::Write).expect("the server ends TCP");
        client.close().expect("both Closes are through");
        assert_eq!(far.read(&mut [0; 1]).expect("the end of TCP"), 0);
    });
}

#[test]
fn the_code_of_a_server_that_fails_reaches_a_peer_that_is_sending() {
    watchdog::run("a peer that is sending", || {
        for _ in 0..5 {
            let (server, mut far) = server(Limits::default());
            let mut sender = far.try_clone().expect("another handle");
            let sending = thread::spawn(move || {
                let mut wrong = vec![0x83, 0x80, 0, 0, 0, 0]; // a reserved opcode, RFC 6455 §5.2
                wrong.resize(256 * 1024, 0);
                (0..64).all(|_| sender.write_all(&wrong).is_ok())
            });
            let failed = loop {
                match server.read(&mut [0; 4096]) {
                    Ok(0) => panic!("a clean end"),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(failed.kind(), channel_core::ErrorKind::Protocol);
            let closing = thread::spawn(move || server.close());
            let (opcode, payload) = frame(&mut far).expect("a Close, and no reset");
            assert_eq!((opcode, &payload[..2]), (CLOSE, &1002_u16.to_be_bytes()[..]));
            drop(far);
            let _ = sending.join().expect("no panic");
            // The other Close never came, and what kept it from coming is known.
            assert!(closing.join().expect("no panic").is_err());
        }
    });
}

#[test]
fn a_peer_that_never_answers_our_close_does_not_hold_the_reader() {
    watchdog::run("a silent peer", || {
        let (server, _far) = server(Limits { linger: Duration::from_millis(100), ..Limits::default() });
        server.close_write().expect("an end");
        let read = server.read(&mut [0; 8]);
        assert!(read.as_ref().is_err_and(Error::is_timed_out), "it gave {read:?}");
        let closed = server.close();
        assert!(closed.as_ref().is_err_and(Error::is_timed_out), "and close {closed:?}");
    });
}

#[test]
fn a_reader_that_sleeps_already_learns_of_our_end() {
    watchdog::run("a reader that sleeps before our Close", || {
        for closes in [false, true] {
            let (server, _far) = server(Limits { linger: Duration::from_millis(100), ..Limits::default() });
            thread::scope(|scope| {
                let reading = scope.spawn(|| server.read(&mut [0; 8]));
                // Whether it sleeps by then is the system's to choose; it nearly always does.
                thread::sleep(Duration::from_millis(20));
                let ended = if closes { server.close() } else { server.close_write() };
                assert_eq!(ended.is_ok(), !closes, "{ended:?}");
                let read = reading.join().expect("no panic");
                let told = |error: &Error| if closes { error.is_closed() } else { error.is_timed_out() };
                assert!(read.as_ref().is_err_and(told), "it gave {read:?}");
            });
        }
    });
}

#[test]
fn a_close_that_was_given_up_leaves_nothing_for_other_calls_to_wait_for() {
    watchdog::run("a close that was given up", || {
        let (near, far) = MemoryChannel::pair_with_capacity(4096).expect("a pair");
        let limits = Limits { linger: Duration::from_millis(20), ..Limits::default() };
        let near = WebSocketChannel::client(Box::new(near), ClientOptions::new("x"), limits.clone()).expect("a client");
        let far = WebSocketChannel::server(Box::new(far), ServerOptions::default(), limits).expect("a server");
        thread::scope(|scope| {
            scope.spawn(|| far.handshake().expect("an upgrade"));
            near.handshake().expect("an upgrade");
        });
        near.set_blocking(false);
        while near.write(&[7; 4096]).is_ok() {}
        assert!(near.close().is_err_and(|error| error.is_would_block()));
        near.set_blocking(true);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let _ = tell.send(near.flush());
        });
        let flushed = told.recv().expect("a flush that returns");
        assert!(flushed.as_ref().is_err_and(Error::is_closed), "it gave {flushed:?}");
    });
}
