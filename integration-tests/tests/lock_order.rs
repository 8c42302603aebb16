//! Every lock of a stack is taken by both of its sides at once, again and again: the reading sides with what a lend takes under them, the
//! writing sides, and the engines' own.

mod support;

use std::thread;

use channel_core::{Channel, ChannelExt, Limits, Result, find_layer};
use channel_socket::SocketChannel;
use channel_testkit::watchdog;
use channel_tls::TlsChannel;
use channel_websocket::WebSocketChannel;
use support::Near;

/// Messages each way, of some records each.
const MESSAGES: usize = 300;
const MESSAGE: usize = 50_000;

/// Writes, with pings and new keys in between, each of which has the peer's reader leave a reply for its writer.
fn write(channel: &dyn Channel) -> Result<()> {
    let tls = find_layer::<TlsChannel>(channel).expect("a TLS layer");
    let websocket = find_layer::<WebSocketChannel>(channel).expect("a WebSocket layer");
    for turn in 0..MESSAGES {
        channel.write_all(&[7; MESSAGE])?;
        websocket.ping(b"are you there?")?;
        if turn % 3 == 0 {
            tls.request_key_update()?;
        }
    }
    Ok(())
}

#[test]
fn readers_who_borrow_and_writers_who_answer_never_wait_for_each_other() {
    watchdog::run("all locks at once", || {
        let (near, far) = SocketChannel::pair().unwrap();
        let limits = Limits::default();
        let leaves: support::Pair = Ok((Box::new(near), Box::new(far)));
        let (near, far) = support::ws(support::tls(leaves, Near::Client, &limits), Near::Client, &limits).unwrap();
        thread::scope(|scope| {
            let opens = scope.spawn(|| far.handshake());
            near.handshake().unwrap();
            opens.join().unwrap().unwrap();
            for end in [&near, &far] {
                scope.spawn(|| write(end).unwrap());
                scope.spawn(|| end.read_all(&mut vec![0; MESSAGES * MESSAGE]).unwrap());
            }
        });
    });
}
