//! The scripted peer keeps to its script, and tells where the other side does not.

use std::time::Duration;

use channel_core::{Channel, ChannelExt, MemoryChannel};
use channel_testkit::adverse;
use channel_testkit::script::Script;
use channel_testkit::watchdog;

#[test]
fn a_whole_conversation_is_played() {
    watchdog::run("a_whole_conversation_is_played", || {
        for (_, wrap) in adverse::HARMLESS {
            let (near, far) = MemoryChannel::pair_with_capacity(3).unwrap();
            let peer = Script::new()
                .expect(b"GET / ")
                .expect_until(b"\r\n\r\n")
                .send(b"101 Switching\r\n\r\n")
                .skip(4)
                .send_by_byte(b"slowly")
                .then(|channel| channel.write_all(b"!").map_err(|error| error.to_string()))
                .close_write()
                .expect_end()
                .play(wrap(Box::new(far)));
            near.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut reply = [0; 17];
            near.read_all(&mut reply).unwrap();
            assert_eq!(&reply, b"101 Switching\r\n\r\n");
            near.write_all(b"mask").unwrap();
            near.close_write().unwrap();
            let mut rest = [0; 7];
            near.read_all(&mut rest).unwrap();
            assert_eq!(&rest, b"slowly!");
            assert_eq!(near.read(&mut rest).unwrap(), 0);
            peer.finish();
        }
    });
}

#[test]
fn other_bytes_are_reported_in_hexadecimal() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let peer = Script::new().send(b"hello").expect([0x82, 0x05, 0x68]).play(Box::new(far));
    near.write_all(&[0x82, 0x7e, 0x00]).unwrap();
    let mismatch = peer.outcome().unwrap_err().to_string();
    assert!(mismatch.contains("step 2 (expect 3 bytes): byte 1 differs"), "{mismatch}");
    assert!(mismatch.contains("expected: 82 [05] 68\n"), "{mismatch}");
    assert!(mismatch.contains("received: 82 [7e]"), "{mismatch}");
}

#[test]
fn an_early_end_a_missing_end_and_silence_are_reported() {
    watchdog::run("an_early_end_a_missing_end_and_silence_are_reported", || {
        let (near, far) = MemoryChannel::pair().unwrap();
        let peer = Script::new().expect(b"four").play(Box::new(far));
        near.write_all(b"fo").unwrap();
        near.close_write().unwrap();
        let mismatch = peer.outcome().unwrap_err().to_string();
        assert!(mismatch.contains("the stream ended after 2 bytes"), "{mismatch}");

        let (near, far) = MemoryChannel::pair().unwrap();
        let peer = Script::new().expect_end().play(Box::new(far));
        near.write_all(b"\x0a").unwrap();
        let mismatch = peer.outcome().unwrap_err().to_string();
        assert!(mismatch.contains("byte 0a came instead of the end"), "{mismatch}");

        let (near, far) = MemoryChannel::pair().unwrap();
        let peer = Script::new().patience(Duration::from_millis(20)).expect(b"x").play(Box::new(far));
        let mismatch = peer.outcome().unwrap_err().to_string();
        assert!(mismatch.contains("waited in vain"), "{mismatch}");
        drop(near);
    });
}

#[test]
fn a_long_mismatch_is_shown_around_the_place() {
    let (near, far) = MemoryChannel::pair().unwrap();
    let peer = Script::new().expect([b'a'; 500]).play(Box::new(far));
    let mut bytes = [b'a'; 500];
    bytes[300] = b'b';
    near.write_all(&bytes).unwrap();
    let mismatch = peer.outcome().unwrap_err().to_string();
    assert!(mismatch.contains("byte 300 differs") && mismatch.contains("[62]"), "{mismatch}");
    assert!(mismatch.len() < 500, "{mismatch}");
}

#[test]
fn a_step_of_the_tests_own_is_reported() {
    let (_near, far) = MemoryChannel::pair().unwrap();
    let peer = Script::new().then(|_| Err("not so".to_owned())).play(Box::new(far));
    assert!(peer.outcome().unwrap_err().to_string().ends_with("step 1 (a step of the test's own): not so"));
}
