//! What a WebSocket channel adds to the contract, seen from outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use channel_core::{
    AioChange, AioHandler, Channel, ChannelExt, Direction, ErrorKind, Features, Limits, MemoryChannel, ReadFlags,
    describe, find_layer,
};
use channel_testkit::recording::Recorder;
use channel_testkit::watchdog;
use channel_websocket::{ClientOptions, CloseFrame, Role, ServerOptions, WebSocketChannel};

const REQUEST: &str = "GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// A masked frame, the key being zero.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[first, 0x80 | length, 0, 0, 0, 0][..], payload].concat()
}

fn server(inner: MemoryChannel) -> WebSocketChannel {
    WebSocketChannel::server(Box::new(inner), ServerOptions::default(), Limits::default()).unwrap()
}

/// A server of ours that is open, and the raw channel of its peer, which has read the response.
fn open_server(capacity: usize) -> (WebSocketChannel, MemoryChannel) {
    let (near, far) = MemoryChannel::pair_with_capacity(capacity).unwrap();
    let server = server(near);
    far.write_all(REQUEST.as_bytes()).unwrap();
    server.handshake().unwrap();
    read_head(&far);
    (server, far)
}

fn read_head(raw: &MemoryChannel) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        raw.read_all(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn open_pair(client: ClientOptions, server: ServerOptions) -> (WebSocketChannel, WebSocketChannel) {
    let (near, far) = MemoryChannel::pair().unwrap();
    let client = WebSocketChannel::client(Box::new(near), client, Limits::default()).unwrap();
    let server = WebSocketChannel::server(Box::new(far), server, Limits::default()).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| server.handshake().unwrap());
        client.handshake().unwrap();
    });
    (client, server)
}

#[test]
fn only_who_asks_for_half_closing_has_it() {
    for asked in [false, true] {
        let (client, server) =
            open_pair(ClientOptions::new("a").half_close(asked), ServerOptions::default().half_close(asked));
        for end in [client, server] {
            assert_eq!(end.has_feature(Features::HALF_CLOSE), asked, "{end:?}");
        }
    }
}

#[test]
fn a_wait_that_saw_half_a_frame_and_the_read_behind_it_hold_nobody_longer_than_the_read_may_take() {
    watchdog::run("half a frame", || {
        let (server, far) = open_server(1000);
        server.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        far.write_all(&[0x82, 0x85]).unwrap(); // a header without its mask, and no more
        assert!(server.wait(Direction::Read, None).unwrap());
        let late = server.read(&mut [0; 16]).unwrap_err();
        assert!(late.is_timed_out() && late.is_passing(), "{late}");
        far.write_all(&[0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o']).unwrap();
        let mut heard = [0; 5];
        server.read_all(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    });
}

#[test]
fn what_was_agreed_on_is_known_after_the_handshake() {
    watchdog::run("facts", || {
        let (near, _far) = MemoryChannel::pair().unwrap();
        let early = server(near);
        assert_eq!((early.path(), early.host(), early.subprotocol(), early.origin()), (None, None, None, None));
        assert_eq!(describe(&early), "websocket server / memory");
        assert!(early.ping(b"").unwrap_err().is_not_open());

        let options = ClientOptions::new("vm:80").path("/c?d").origin("https://page").subprotocols(["binary"]);
        let (client, server) = open_pair(options, ServerOptions::default());
        for end in [&client, &server] {
            assert_eq!((end.path(), end.host()), (Some("/c?d"), Some("vm:80")));
            assert_eq!((end.subprotocol(), end.origin()), (Some("binary"), Some("https://page")));
        }
        assert_eq!((client.role(), server.role()), (Role::Client, Role::Server));
        assert_eq!(describe(&client), "websocket client (binary) / memory");
        assert_eq!(describe(&server), "websocket server (binary) / memory");
        let boxed: Box<dyn Channel> = Box::new(client);
        assert!(find_layer::<WebSocketChannel>(&boxed).is_some());
    });
}

#[test]
fn bytes_glued_to_the_request_are_the_first_data() {
    watchdog::run("glued to the request", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        far.write_all(&[REQUEST.as_bytes(), &masked(0x82, b"early")].concat()).unwrap();
        let server = server(near);
        server.handshake().unwrap();
        assert!(server.readiness(Direction::Read).is_ready());
        let mut heard = [0; 5];
        server.read_all(&mut heard).unwrap();
        assert_eq!(&heard, b"early");
    });
}

#[test]
fn bytes_glued_to_the_response_are_the_first_data() {
    watchdog::run("glued to the response", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let client = WebSocketChannel::client(Box::new(near), ClientOptions::new("h"), Limits::default()).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let request = read_head(&far);
                let key = request.split("Sec-WebSocket-Key: ").nth(1).unwrap().split("\r\n").next().unwrap();
                let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
                let response = format!(
                    "HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {accept}\r\n\r\n\x02\x02ea\0\x03rly"
                );
                // The last fragment is final.
                let mut bytes = response.into_bytes();
                let at = bytes.len() - 5;
                bytes[at] = 0x80;
                far.write_all(&bytes).unwrap();
            });
            client.handshake().unwrap();
            let mut heard = [0; 5];
            client.read_all(&mut heard).unwrap();
            assert_eq!(&heard, b"early");
        });
    });
}

#[test]
fn a_refused_client_and_the_server_both_name_the_status() {
    watchdog::run("a refusal", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let options = ClientOptions::new("h").origin("https://evil");
        let client = WebSocketChannel::client(Box::new(near), options, Limits::default()).unwrap();
        let options = ServerOptions::default().origins(["https://good"]);
        let server = WebSocketChannel::server(Box::new(far), options, Limits::default()).unwrap();
        let (ours, theirs) = thread::scope(|scope| {
            let serving = scope.spawn(|| server.handshake().unwrap_err());
            (client.handshake().unwrap_err(), serving.join().unwrap())
        });
        assert_eq!(ours.kind(), ErrorKind::Refused);
        assert!(ours.to_string().contains("403 Forbidden"), "{ours}");
        assert_eq!(theirs.kind(), ErrorKind::Authentication);
        assert!(theirs.to_string().contains("https://evil") && theirs.to_string().contains("403"), "{theirs}");
    });
}

#[test]
fn a_client_that_says_nothing_is_answered_408() {
    watchdog::run("408", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let limits = Limits { handshake: Duration::from_millis(20), ..Limits::default() };
        let server = WebSocketChannel::server(Box::new(near), ServerOptions::default(), limits).unwrap();
        far.write_all(b"GET / HT").unwrap();
        assert!(server.handshake().unwrap_err().is_timed_out());
        assert!(read_head(&far).starts_with("HTTP/1.1 408 "));
    });
}

#[test]
fn a_ping_is_answered_and_its_pong_can_be_seen() {
    watchdog::run("ping", || {
        let (client, server) = open_pair(ClientOptions::new("h"), ServerOptions::default());
        client.ping(b"one").unwrap();
        client.ping(b"two").unwrap();
        client.write_all(b"x").unwrap();
        let mut heard = [0];
        server.read_all(&mut heard).unwrap();
        server.write_all(b"y").unwrap();
        client.read_all(&mut heard).unwrap();
        assert_eq!(client.last_pong().as_deref(), Some(&b"two"[..]));
        assert_eq!(client.ping(&[0; 126]).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_ping_that_can_never_leave_is_refused() {
    watchdog::run("ping after the end", || {
        let (client, server) = open_pair(ClientOptions::new("h"), ServerOptions::default());
        client.close_write().unwrap();
        let error = client.ping(b"late").unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::BrokenPipe, "ping"), "{error}");
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        server.ping(b"our output goes on").unwrap();

        let (server, far) = open_server(1 << 16);
        far.write_all(&[0x82, 0x01, b'x']).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::Protocol, "an unmasked frame");
        assert_eq!(server.ping(b"late").unwrap_err().kind(), ErrorKind::Protocol);
    });
}

#[test]
fn the_close_says_what_we_chose() {
    watchdog::run("close_with", || {
        let (client, server) = open_pair(ClientOptions::new("h"), ServerOptions::default());
        assert_eq!(client.close_with(1005, "").unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(client.close_with(4000, &"x".repeat(124)).unwrap_err().kind(), ErrorKind::InvalidInput);
        client.close_with(4000, "going").unwrap();
        assert!(client.write(b"x").is_err());
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        assert_eq!(server.peer_close(), Some(CloseFrame { code: Some(4000), reason: "going".to_owned() }));

        server.write_all(b"late").unwrap();
        let mut heard = [0; 4];
        client.read_all(&mut heard).unwrap();
        assert_eq!(&heard, b"late", "the peer may finish what it has to say");
        server.close().unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        assert_eq!(client.peer_close(), Some(CloseFrame { code: Some(4000), reason: String::new() }));
    });
}

#[test]
fn an_end_without_a_close_frame_is_truncation_unless_relaxed() {
    watchdog::run("truncation", || {
        let (server, far) = open_server(1 << 16);
        far.write_all(&masked(0x82, b"data")).unwrap();
        far.close_write().unwrap();
        let mut heard = [0; 4];
        server.read_all(&mut heard).unwrap();
        let error = server.read(&mut heard).unwrap_err();
        assert!(error.is_truncated() && error.to_string().contains("without a Close frame"), "{error}");
        let relaxed = server.readv_full(&mut [std::io::IoSliceMut::new(&mut heard)], None, ReadFlags::RELAXED_EOF);
        assert_eq!(relaxed.unwrap(), 0);
    });
}

#[test]
fn a_peer_that_breaks_the_protocol_gets_data_before_it_delivered_and_a_close() {
    watchdog::run("a violation", || {
        let (server, far) = open_server(1 << 16);
        far.write_all(&[masked(0x82, b"good"), masked(0xf2, b"bad")].concat()).unwrap();
        let mut heard = [0; 4];
        server.read_all(&mut heard).unwrap();
        assert_eq!(&heard, b"good");
        let error = server.read(&mut heard).unwrap_err();
        assert_eq!((error.kind(), error.layer()), (ErrorKind::Protocol, "websocket"));
        let mut close = [0; 4];
        far.read_all(&mut close).unwrap();
        assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1002));
        assert_eq!(server.write(b"x").unwrap_err().kind(), ErrorKind::Protocol);
    });
}

#[test]
fn a_peer_that_pings_and_never_reads_freezes_nobody() {
    watchdog::run("a ping flood", || {
        // Room for little more than the response, so that pongs soon have nowhere to go.
        let (server, far) = open_server(512);
        server.set_blocking(false);
        let frame = [masked(0x89, &[b'p'; 100]), masked(0x82, b"d")].concat();
        for _ in 0..20_000 {
            far.write_all(&frame).unwrap();
            let mut heard = [0];
            server.read_all(&mut heard).unwrap();
            assert_eq!(&heard, b"d");
        }
        // What was held back for the peer is bounded by the limit, and a little.
        far.set_blocking(false);
        let mut held = 0;
        loop {
            let mut bytes = [0; 4096];
            match far.read(&mut bytes) {
                Ok(count) => held += count,
                Err(error) if error.is_would_block() => match server.flush() {
                    Ok(()) => break,
                    Err(error) => assert!(error.is_would_block()),
                },
                Err(error) => panic!("{error}"),
            }
        }
        assert!(held <= Limits::default().queued_bytes + 4096, "{held} bytes of pongs were queued");
        assert!(held >= 102);
    });
}

#[test]
fn the_handshake_and_data_pass_through_one_byte_of_room() {
    watchdog::run("one byte of room", || {
        let (near, far) = MemoryChannel::pair_with_capacity(1).unwrap();
        let client = WebSocketChannel::client(Box::new(near), ClientOptions::new("h"), Limits::default()).unwrap();
        let server = server(far);
        thread::scope(|scope| {
            scope.spawn(|| {
                server.handshake().unwrap();
                server.write_all(&[b's'; 3000]).unwrap();
                server.close_write().unwrap();
            });
            client.handshake().unwrap();
            let mut heard = [0; 3000];
            client.read_all(&mut heard).unwrap();
            assert_eq!(heard, [b's'; 3000]);
            assert_eq!(client.read(&mut heard).unwrap(), 0);
        });
    });
}

#[test]
fn a_flood_of_empty_frames_gives_others_their_turn() {
    let (server, far) = open_server(64 * 1024);
    server.set_blocking(false);
    let flood: Vec<u8> = masked(0x00, b"").repeat(9_000);
    far.write_all(&masked(0x02, b"")).unwrap();
    far.write_all(&flood[..]).unwrap();
    let mut calls = 1;
    let more = || server.wait(Direction::Read, Some(Duration::ZERO)).unwrap();
    while server.read(&mut [0]).unwrap_err().is_would_block() && more() {
        calls += 1;
    }
    assert!((5..50).contains(&calls), "{calls} calls for 9,000 frames");
}

#[test]
fn a_head_with_another_blank_line_inside_is_no_request() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let server = server(near);
    // RFC 9112 §2.2: a recipient may take a bare line feed for the end of a line, and then the head ends before we think it does.
    let smuggling = REQUEST.replace("\r\n", "\n") + "GET /y HTTP/1.1\r\n\r\n";
    far.write_all(smuggling.as_bytes()).unwrap();
    let error = server.handshake().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(read_head(&far).starts_with("HTTP/1.1 400 "));
}

#[test]
fn our_close_leaves_behind_a_pong_that_had_to_wait() {
    let (server, far) = open_server(200);
    server.set_blocking(false);
    far.set_blocking(false);
    assert_eq!(server.write(&[7; 20_000]).unwrap(), 20_000);
    far.write_all(&masked(0x89, b"?")).unwrap();
    // There is no room for the pong: the peer takes nothing.
    assert!(server.read(&mut [0]).unwrap_err().is_would_block());
    let (mut said, mut piece) = (Vec::new(), [0; 256]);
    let mut ended = false;
    loop {
        ended = ended || !server.close_write().is_err_and(|error| error.is_would_block());
        match far.read(&mut piece) {
            Ok(count) => said.extend(&piece[..count]),
            Err(error) => {
                assert!(error.is_would_block(), "{error}");
                if ended {
                    break;
                }
            }
        }
    }
    assert!(said.ends_with(&[0x8a, 1, b'?', 0x88, 2, 0x03, 0xe8]), "{:?}", &said[said.len() - 20..]);
}

#[test]
fn who_closes_on_a_loop_is_called_for_a_close_behind_a_flood() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let limits = Limits { linger: Duration::from_secs(1000), ..Limits::default() };
    let server = WebSocketChannel::server(Box::new(near), ServerOptions::default(), limits).unwrap();
    far.write_all(REQUEST.as_bytes()).unwrap();
    server.handshake().unwrap();
    read_head(&far);
    server.set_blocking(false);
    far.write_all(&[masked(0x02, b""), masked(0x00, b"").repeat(3000), masked(0x88, &[0x03, 0xe8])].concat()).unwrap();
    far.close_write().unwrap();
    let server = Arc::new(server);
    let (recorder, closed) = (Recorder::new(), Arc::new(AtomicBool::new(false)));
    let (kept, done) = (Arc::clone(&server), Arc::clone(&closed));
    let closer = AioHandler::new(recorder.clone(), move || {
        done.fetch_or(!kept.close().is_err_and(|error| error.is_would_block()), Ordering::Relaxed);
    });
    server.set_aio_fd_handler(AioChange::Keep, AioChange::Closer(closer)).unwrap();
    let _ = server.close();
    assert!(recorder.turn_until(Duration::from_secs(20), || closed.load(Ordering::Relaxed)).unwrap());
}

#[test]
fn a_frame_of_exactly_the_limit_is_read_and_one_byte_more_is_refused() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let limits = Limits { frame_bytes: 5, ..Limits::default() };
    let server = WebSocketChannel::server(Box::new(near), ServerOptions::default(), limits).unwrap();
    far.write_all(REQUEST.as_bytes()).unwrap();
    server.handshake().unwrap();
    let mut heard = [0; 5];
    far.write_all(&masked(0x82, b"hello")).unwrap();
    server.read_all(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
    far.write_all(&masked(0x82, b"hello!")).unwrap();
    assert_eq!(server.read(&mut heard).unwrap_err().kind(), ErrorKind::LimitExceeded);
}

#[test]
fn a_ping_and_a_pong_that_wait_for_room_together_both_leave() {
    let (server, far) = open_server(1000);
    server.set_blocking(false);
    assert_eq!(server.write(&[0; 10_000]).unwrap(), 10_000);
    far.write_all(&masked(0x89, b"your")).unwrap();
    assert!(server.read(&mut [0]).unwrap_err().is_would_block());
    server.ping(b"mine").unwrap();
    far.set_blocking(false);
    let (mut heard, mut piece) = (Vec::new(), [0; 500]);
    while let Ok(count) = far.read(&mut piece) {
        heard.extend(&piece[..count]);
        let _ = server.flush();
    }
    let mut control: Vec<&[u8]> = heard[heard.len() - 12..].chunks(6).collect();
    control.sort_unstable();
    assert_eq!(control, [&b"\x89\x04mine"[..], b"\x8a\x04your"]);
}
