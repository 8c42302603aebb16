//! An outside judge at the other end: tungstenite's own `WebSocket`, in both roles.

use std::thread;

use channel_core::{Channel, ChannelExt, Limits, MemoryChannel, StdIo};
use channel_testkit::watchdog;
use channel_websocket::{ClientOptions, CloseFrame, Role, ServerOptions, WebSocketChannel};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame as TheirClose, Frame};
use tungstenite::{Bytes, Message, WebSocket};

type Peer<'a> = WebSocket<StdIo<'a, MemoryChannel>>;

/// What each side sends.
const TOTAL: usize = 4 << 20;

fn content(seed: usize) -> Vec<u8> {
    (0..TOTAL).map(|at| (at.wrapping_mul(at | 1).wrapping_add(seed) >> 3).to_le_bytes()[0]).collect()
}

/// Opens a connection of ours in `role` to tungstenite, and runs both ends.
fn with_peer(role: Role, ours: impl FnOnce(&WebSocketChannel) + Send, theirs: impl FnOnce(&mut Peer<'_>) + Send) {
    let (near, far) = MemoryChannel::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let config = Some(WebSocketConfig::default());
            let mut peer = match role {
                Role::Client => tungstenite::accept_with_config(far.std_io(), config).expect("they accept"),
                Role::Server => {
                    tungstenite::client::client_with_config("ws://vm.example/console", far.std_io(), config)
                        .expect("they connect")
                        .0
                }
            };
            theirs(&mut peer);
        });
        let channel = match role {
            Role::Client => {
                let options = ClientOptions::new("vm.example").path("/console");
                WebSocketChannel::client(Box::new(near), options, Limits::default())
            }
            Role::Server => WebSocketChannel::server(Box::new(near), ServerOptions::default(), Limits::default()),
        }
        .unwrap();
        channel.handshake().unwrap();
        assert_eq!(channel.path(), Some("/console"));
        ours(&channel);
    });
}

fn exchanges_both_ways(role: Role) {
    let (to_them, to_us) = (content(1), content(2));
    let ours = |channel: &WebSocketChannel| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut sent = 0;
                let mut length = 1;
                while sent < TOTAL {
                    let end = TOTAL.min(sent + length);
                    channel.write_all(&to_them[sent..end]).unwrap();
                    sent = end;
                    length = length * 7 % 150_001 + 1;
                    channel.ping(&sent.to_be_bytes()).unwrap();
                }
            });
            let mut heard = vec![0; TOTAL];
            channel.read_all(&mut heard).unwrap();
            assert!(heard == to_us, "what they sent did not arrive as it was");
        });
        channel.close_with(3000, "that was all").unwrap();
        assert_eq!(channel.read(&mut [0; 8]).unwrap(), 0);
        assert_eq!(channel.peer_close(), Some(CloseFrame { code: Some(3000), reason: "that was all".to_owned() }));
        assert!(channel.last_pong().is_some());
        channel.close().unwrap();
    };
    // Blocking and one thread: it sends a message for each one it hears, whole or in fragments with a ping between.
    let theirs = |peer: &mut Peer<'_>| {
        let (mut heard, mut sent, mut pongs) = (Vec::new(), 0, 0);
        while heard.len() < TOTAL || sent < TOTAL {
            match peer.read().unwrap() {
                Message::Binary(bytes) => {
                    heard.extend_from_slice(&bytes);
                    let end = if heard.len() == TOTAL { TOTAL } else { TOTAL.min(sent + bytes.len()) };
                    for piece in to_us[sent..end].chunks(1 << 17) {
                        send_in_fragments(peer, piece);
                    }
                    sent = end;
                }
                Message::Pong(payload) => {
                    assert_eq!(&payload[..], b"are you there");
                    pongs += 1;
                }
                Message::Ping(_) => {}
                other => panic!("an unexpected {other:?}"),
            }
        }
        assert!(heard == to_them, "what we sent did not arrive as it was");
        let Message::Close(Some(TheirClose { code, reason })) = until_close(peer, &mut pongs) else {
            panic!("a Close without a code");
        };
        assert_eq!((u16::from(code), reason.as_str()), (3000, "that was all"));
        assert!(pongs > 0, "no ping was answered");
        // They answer the Close, and see the end.
        let end = peer.read();
        assert!(matches!(end, Err(tungstenite::Error::ConnectionClosed)), "{end:?} after our Close");
    };
    with_peer(role, ours, theirs);
}

fn until_close(peer: &mut Peer<'_>, pongs: &mut usize) -> Message {
    loop {
        match peer.read().unwrap() {
            Message::Pong(_) => *pongs += 1,
            Message::Ping(_) => {}
            close => return close,
        }
    }
}

fn send_in_fragments(peer: &mut Peer<'_>, bytes: &[u8]) {
    let (first, last) = bytes.split_at(bytes.len() / 3);
    let fragment = |bytes: &[u8], opcode, is_final| {
        Message::Frame(Frame::message(Bytes::copy_from_slice(bytes), OpCode::Data(opcode), is_final))
    };
    peer.write(fragment(first, Data::Binary, false)).unwrap();
    peer.write(Message::Ping(Bytes::from_static(b"are you there"))).unwrap();
    peer.write(fragment(last, Data::Continue, true)).unwrap();
    peer.flush().unwrap();
}

#[test]
fn our_client_and_their_server_exchange_megabytes_both_ways() {
    watchdog::run("our client, their server", || exchanges_both_ways(Role::Client));
}

#[test]
fn our_server_and_their_client_exchange_megabytes_both_ways() {
    watchdog::run("our server, their client", || exchanges_both_ways(Role::Server));
}

#[test]
fn their_close_is_our_clean_end_and_our_close_echoes_its_code() {
    for role in [Role::Client, Role::Server] {
        watchdog::run("their Close", || {
            let ours = |channel: &WebSocketChannel| {
                let mut heard = [0; 4];
                channel.read_all(&mut heard).unwrap();
                assert_eq!(channel.read(&mut heard).unwrap(), 0);
                assert_eq!(channel.peer_close(), Some(CloseFrame { code: Some(4001), reason: "enough".to_owned() }));
                channel.close().unwrap();
            };
            let theirs = |peer: &mut Peer<'_>| {
                peer.send(Message::binary(&b"data"[..])).unwrap();
                peer.close(Some(TheirClose { code: 4001.into(), reason: "enough".into() })).unwrap();
                let Message::Close(Some(echo)) = until_close(peer, &mut 0) else { panic!("no code was echoed") };
                assert_eq!(u16::from(echo.code), 4001);
            };
            with_peer(role, ours, theirs);
        });
    }
}

#[test]
fn a_text_message_is_answered_1003() {
    for role in [Role::Client, Role::Server] {
        watchdog::run("text", || {
            let ours = |channel: &WebSocketChannel| {
                let error = channel.read(&mut [0; 8]).unwrap_err();
                assert!(error.is_peer_misbehaviour(), "{error}");
                assert!(error.to_string().contains("RFC 6455 §7.4.1"), "{error}");
                assert!(channel.write(b"x").is_err(), "no data after a failure");
            };
            let theirs = |peer: &mut Peer<'_>| {
                peer.send(Message::text("hello")).unwrap();
                let Message::Close(Some(close)) = until_close(peer, &mut 0) else { panic!("no code") };
                assert_eq!(u16::from(close.code), 1003);
            };
            with_peer(role, ours, theirs);
        });
    }
}
