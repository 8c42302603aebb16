//! One flipped bit at every place of short runs, from the first byte of the handshake to behind the last byte of the goodbye: the run
//! always comes to an end, and says who noticed. In one process, because a run is shorter than the start of a program.

use std::time::Duration;

use channel_relay::demo::{Demo, Input, Transport, Verdict};
use channel_stack::{Limits, Stack};
use channel_testkit::watchdog;

/// What goes each way: a few records and frames.
const BYTES: u64 = 600;

fn run(stack: Stack, transport: Transport, at: u64) -> Verdict {
    let content = (0..=250).collect();
    let demo = Demo {
        stack,
        transport,
        input: Input::from_bytes(content).expect("there are bytes"),
        bytes: BYTES,
        corrupt_at: Some(at),
        // A damaged length makes both sides wait; nothing else takes so long.
        limits: Limits { handshake: Duration::from_secs(1), linger: Duration::from_millis(700), ..Limits::default() },
        progress: false,
    };
    demo.run(&mut std::io::sink()).expect("a connection within this machine")
}

/// Flips a bit in every byte there is, and in a few behind; `accept` says whether `verdict` is right for a bit that was there.
fn sweep(stack: Stack, transport: Transport, accept: impl Fn(&Verdict) -> bool) {
    watchdog::run(&format!("every byte of {stack} over {transport:?}"), || {
        let mut reached = 0;
        for at in 0.. {
            match run(stack, transport, at) {
                Verdict::NotReached { wire_bytes, .. } if at >= reached => {
                    assert!(at >= wire_bytes && at >= BYTES, "{at} of {wire_bytes}");
                    break;
                }
                verdict => {
                    assert!(accept(&verdict), "{stack} over {transport:?}, byte {at}: {verdict}");
                    reached = at + 1;
                }
            }
        }
    });
}

fn caught_by(verdict: &Verdict, who: &[&str]) -> bool {
    matches!(verdict, Verdict::Caught { by, .. } if who.contains(&by.as_str()))
}

#[test]
fn on_plain_the_digest_catches_every_bit() {
    sweep(Stack::Plain, Transport::Tcp, |verdict| caught_by(verdict, &["the digest"]));
}

/// A bit may pass in the version of a record, which has to be ignored (RFC 8446 §5.1), and in the outer type of an encrypted one,
/// at which rustls does not look.
#[test]
fn on_tls_the_tls_layer_catches_every_bit_that_counts() {
    let accept =
        |verdict: &Verdict| caught_by(verdict, &["the tls layer"]) || matches!(verdict, Verdict::Unnoticed { .. });
    sweep(Stack::Tls, Transport::Tcp, accept);
}

/// A record that claims to be longer than what still comes keeps TLS waiting; behind both ends' output the WebSocket layer notices that.
#[test]
fn on_wss_the_tls_layer_catches_every_bit_that_counts() {
    let waits = |verdict: &Verdict| {
        caught_by(verdict, &["the websocket layer"]) && verdict.to_string().contains("nothing came from the peer")
    };
    let accept = |verdict: &Verdict| {
        caught_by(verdict, &["the tls layer"]) || matches!(verdict, Verdict::Unnoticed { .. }) || waits(verdict)
    };
    sweep(Stack::Wss, Transport::Unix, accept);
}

/// Much of an HTTP request may be anything; what is in a frame is the digest's to check.
#[test]
fn on_ws_the_digest_or_the_websocket_layer_catches_every_bit_that_counts() {
    let accept = |verdict: &Verdict| {
        caught_by(verdict, &["the digest", "the websocket layer"]) || matches!(verdict, Verdict::Unnoticed { .. })
    };
    sweep(Stack::Ws, Transport::Tcp, accept);
}
