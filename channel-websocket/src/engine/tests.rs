//! The engine over byte slices.

use std::io::{IoSlice, IoSliceMut};

use channel_core::engine::{Decoded, Decoder as _, Encoder as _, Sink, Source, Stopped};
use channel_core::{Buffer, Error, ErrorKind, Result};

use super::*;
use crate::Role;

const KEY: [u8; 4] = [0xa1, 0x02, 0xf3, 0x44];
const LIMIT: u64 = 1 << 20;
const BOTH: [Role; 2] = [Role::Client, Role::Server];

/// A frame as the peer of `us` sends it, by hand.
fn frame(us: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = us == Role::Server;
    let mut bytes = vec![first];
    let flag = if masked { 0x80 } else { 0 };
    match payload.len() {
        short @ ..126 => bytes.push(flag | u8::try_from(short).unwrap()),
        medium @ ..0x1_0000 => {
            bytes.push(flag | 126);
            bytes.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(flag | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    if masked {
        bytes.extend(KEY);
        bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        bytes.extend(payload);
    }
    bytes
}

fn close_frame(us: Role, code: u16, reason: &str) -> Vec<u8> {
    frame(us, 0x88, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

/// An open engine and what came out of it.
struct End {
    decoder: Decoder,
    encoder: Encoder,
    shared: Shared,
    heard: Vec<u8>,
    replied: bool,
    input: Vec<u8>,
}

impl End {
    fn new(role: Role) -> Self {
        let shared = Shared::default();
        let (decoder, encoder) = open(role, false, LIMIT, &shared);
        Self { decoder, encoder, shared, heard: Vec::new(), replied: false, input: Vec::new() }
    }

    /// Decodes what was left and `more`, as the machinery does, into sinks of `room` bytes.
    fn hear(&mut self, more: &[u8], room: usize, lent: bool) -> Result<Stopped> {
        self.input.extend(more);
        loop {
            let mut memory = vec![0; room];
            let mut held = Buffer::new();
            let mut bufs = [IoSliceMut::new(&mut memory)];
            let mut sink = Sink::slices(&mut bufs, &mut held);
            let done = if lent {
                self.decoder.decode_lent(&self.input, &mut sink)
            } else {
                let mut copy = self.input.clone();
                self.decoder.decode(&mut copy, &mut sink)
            };
            let filled = sink.filled();
            assert!(held.is_empty(), "everything goes into the caller's memory");
            self.heard.extend(&memory[..filled]);
            let Decoded { consumed, stopped, reply } = done?;
            self.replied |= reply;
            self.input.drain(..consumed);
            match stopped {
                Stopped::SinkFull => assert_eq!(filled, room),
                Stopped::NeedInput => {
                    assert!(self.input.is_empty(), "nothing is left unconsumed");
                    return Ok(stopped);
                }
                Stopped::End => return Ok(stopped),
            }
        }
    }

    fn hear_all(&mut self, bytes: &[u8]) -> Result<Stopped> {
        self.hear(bytes, 1 << 16, true)
    }

    fn pump(&mut self) -> Vec<u8> {
        let mut out = Buffer::new();
        self.encoder.pump(&mut out).unwrap();
        out.as_slice().to_vec()
    }

    fn finish(&mut self) -> Vec<u8> {
        let mut out = Buffer::new();
        self.encoder.finish(&mut out).unwrap();
        out.as_slice().to_vec()
    }

    /// The bytes on the wire for a write of `pieces`, as the machinery sends them.
    fn say(&mut self, pieces: &[&[u8]]) -> Result<Vec<u8>> {
        let bufs: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut source = Source::new(&bufs, usize::MAX);
        let mut out = Buffer::new();
        self.encoder.encode(&mut source, &mut out)?;
        let mut wire = out.as_slice().to_vec();
        while !source.is_empty() {
            wire.extend(source.chunk());
            source.consume(source.chunk().len());
        }
        Ok(wire)
    }
}

/// Takes apart one frame that `us` sent: first byte and plain payload.
fn open_frame(us: Role, wire: &[u8]) -> (u8, Vec<u8>) {
    assert!(wire[1] & 0x7f < 126, "a control frame");
    let length = usize::from(wire[1] & 0x7f);
    let masked = wire[1] & 0x80 != 0;
    assert_eq!(masked, us == Role::Client);
    if !masked {
        assert_eq!(wire.len(), 2 + length);
        return (wire[0], wire[2..].to_vec());
    }
    assert_eq!(wire.len(), 6 + length);
    (wire[0], wire[6..].iter().zip(wire[2..6].iter().cycle()).map(|(byte, key)| byte ^ key).collect())
}

/// The code and reason of one Close frame that `us` sent.
fn open_close(us: Role, wire: &[u8]) -> (u16, String) {
    let (first, payload) = open_frame(us, wire);
    assert_eq!(first, 0x88);
    let (code, reason) = payload.split_first_chunk().expect("a code");
    (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap())
}

fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

#[test]
fn a_frame_that_breaks_a_rule_of_section_5_is_answered_with_its_close_code() {
    for us in BOTH {
        let flag = if us == Role::Server { 0x80 } else { 0 };
        let ping_126 = frame(us, 0x89, &[0; 126]);
        let begun = frame(us, 0x02, b"ab");
        let after = |more: Vec<u8>| [begun.clone(), more].concat();
        let head = |bytes: &[u8]| bytes.to_vec();
        let too_long = [&[0x82, flag | 127][..], &(LIMIT + 1).to_be_bytes(), &KEY[..usize::from(flag / 32)]].concat();
        let cases: Vec<(&str, Vec<u8>, u16, &str)> = vec![
            ("RSV1", head(&[0xc2, flag | 1]), 1002, "§5.2: a reserved bit"),
            ("RSV2", head(&[0xa2, flag | 1]), 1002, "§5.2: a reserved bit"),
            ("RSV3", head(&[0x92, flag | 1]), 1002, "§5.2: a reserved bit"),
            ("RSV on a ping", head(&[0xc9, flag]), 1002, "§5.2: a reserved bit"),
            ("data opcode 3", head(&[0x83, flag]), 1002, "§5.2: a reserved opcode"),
            ("data opcode 7", head(&[0x87, flag]), 1002, "§5.2: a reserved opcode"),
            ("control opcode 11", head(&[0x8b, flag]), 1002, "§5.2: a reserved opcode"),
            ("control opcode 15", head(&[0x8f, flag]), 1002, "§5.2: a reserved opcode"),
            ("wrong masking", head(&[0x82, (flag ^ 0x80) | 1]), 1002, "§5.1"),
            ("wrong masking of a ping", head(&[0x89, flag ^ 0x80]), 1002, "§5.1"),
            ("a fragmented ping", frame(us, 0x09, b""), 1002, "§5.5: a fragmented"),
            ("a fragmented Close", frame(us, 0x08, b""), 1002, "§5.5: a fragmented"),
            ("a ping of 126 bytes", ping_126, 1002, "§5.5: a control frame of more"),
            ("a pong with a 64-bit length", head(&[0x8a, flag | 127]), 1002, "§5.5: a control frame of more"),
            ("a stray continuation", frame(us, 0x80, b"x"), 1002, "§5.4: a continuation"),
            ("a stray first continuation", frame(us, 0x00, b"x"), 1002, "§5.4: a continuation"),
            ("binary inside a message", after(frame(us, 0x82, b"x")), 1002, "§5.4: a new message"),
            ("text inside a message", after(frame(us, 0x81, b"x")), 1002, "§5.4: a new message"),
            (
                "a continuation after the last",
                after([frame(us, 0x80, b"c"), frame(us, 0x80, b"d")].concat()),
                1002,
                "§5.4",
            ),
            ("text", frame(us, 0x81, b"x"), 1003, "§7.4.1"),
            ("fragmented text", frame(us, 0x01, b"x"), 1003, "§7.4.1"),
            ("125 in 16 bits", head(&[0x82, flag | 126, 0, 125, 0, 0, 0, 0]), 1002, "§5.2: a length"),
            (
                "65535 in 64 bits",
                head(&[0x82, flag | 127, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0]),
                1002,
                "§5.2: a length",
            ),
            ("the top bit", head(&[0x82, flag | 127, 128, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), 1002, "§5.2: a 64-bit"),
            ("over the limit", too_long, 1009, "Limits::frame_bytes"),
            ("half a close code", frame(us, 0x88, &[3]), 1002, "§5.5.1"),
            ("close code 1005", close_frame(us, 1005, ""), 1002, "§7.4"),
            ("close code 1006", close_frame(us, 1006, ""), 1002, "§7.4"),
            ("close code 999", close_frame(us, 999, ""), 1002, "§7.4"),
            ("close code 2000", close_frame(us, 2000, ""), 1002, "§7.4"),
            ("close code 5000", close_frame(us, 5000, ""), 1002, "§7.4"),
            ("a close reason that is not UTF-8", frame(us, 0x88, &[3, 232, 0xff]), 1007, "§5.5.1"),
        ];
        for (name, bytes, code, rule) in cases {
            for at_once in [true, false] {
                let mut end = End::new(us);
                let hello = frame(us, 0x82, b"hello");
                let pieces: Vec<Vec<u8>> = if at_once {
                    vec![[hello, bytes.clone()].concat()]
                } else {
                    [hello, bytes.clone()].concat().chunks(1).map(<[u8]>::to_vec).collect()
                };
                let error = pieces
                    .iter()
                    .find_map(|piece| end.hear_all(piece).err())
                    .unwrap_or_else(|| panic!("{name} passed on {us:?}"));
                let kind = if code == 1009 { ErrorKind::LimitExceeded } else { ErrorKind::Protocol };
                assert_eq!((error.kind(), error.layer()), (kind, "websocket"), "{name}");
                assert!(error.to_string().contains(rule), "{name}: {error}");
                assert!(end.heard.starts_with(b"hello"), "data before it is delivered: {name}");

                let (told, reason) = open_close(us, &end.pump());
                assert_eq!(told, code, "{name} on {us:?}");
                assert!(reason.contains(rule), "{name}: {reason}");
                assert_eq!(end.pump(), b"", "one Close only: {name}");
                assert_eq!(end.finish(), b"", "one Close only: {name}");
                assert_eq!(end.say(&[b"more"]).unwrap_err().kind(), kind, "no data after a failure: {name}");
                assert_eq!(end.hear_all(b"x").unwrap_err().kind(), kind, "the failure stays: {name}");
            }
        }
    }
}

/// Frames of every kind of header, with control frames in between, and what they say.
fn conversation(us: Role) -> (Vec<u8>, Vec<u8>) {
    let medium: Vec<u8> = (0..=u8::MAX).cycle().take(300).collect();
    let wire = [
        frame(us, 0x82, b"first"),
        frame(us, 0x82, b""),
        frame(us, 0x02, b"frag"),
        frame(us, 0x89, b"are you there"),
        frame(us, 0x00, b""),
        frame(us, 0x8a, b"pong"),
        frame(us, 0x80, b"ments"),
        frame(us, 0x82, &medium),
        frame(us, 0x82, b"last"),
        close_frame(us, 3001, "bye"),
    ]
    .concat();
    (wire, [&b"firstfragments"[..], &medium, b"last"].concat())
}

#[test]
fn bytes_arrive_once_and_in_order_however_they_are_cut() {
    for us in BOTH {
        let (wire, plain) = conversation(us);
        for lent in [false, true] {
            for room in [1, 3, 1 << 16] {
                for cut in 0..=wire.len() {
                    let mut end = End::new(us);
                    let first = end.hear(&wire[..cut], room, lent).unwrap();
                    assert_eq!(first == Stopped::End, cut == wire.len());
                    assert_eq!(end.hear(&wire[cut..], room, lent).unwrap(), Stopped::End);
                    assert_eq!(end.heard, plain, "cut at {cut}");
                    assert!(end.replied);
                    let (first, payload) = open_frame(us, &end.pump());
                    assert_eq!((first, &payload[..]), (0x8a, &b"are you there"[..]));
                    let notes = end.shared.lock();
                    assert_eq!(notes.peer_close, Some(CloseFrame::new(3001, "bye")));
                    assert_eq!(notes.pong_seen.as_ref().unwrap().as_slice(), b"pong");
                }
                let mut end = End::new(us);
                for byte in &wire {
                    end.hear(&[*byte], room, lent).unwrap();
                }
                assert_eq!(end.heard, plain, "one byte at a time");
            }
        }
    }
}

#[test]
fn a_64_bit_length_is_streamed_and_may_be_cut_anywhere() {
    for us in BOTH {
        let plain: Vec<u8> = (0..=u8::MAX).cycle().take(70_001).collect();
        let wire = frame(us, 0x82, &plain);
        for cut in (0..=15).chain([20_000, wire.len() - 1]) {
            let mut end = End::new(us);
            end.hear(&wire[..cut], 1000, true).unwrap();
            let header = wire.len() - plain.len();
            assert_eq!(end.heard.len(), cut.saturating_sub(header), "payload is not held back");
            end.hear(&wire[cut..], 1000, true).unwrap();
            assert_eq!(end.heard, plain);
        }
    }
}

#[test]
fn a_layer_above_is_lent_what_was_decoded() {
    for us in BOTH {
        let (wire, plain) = conversation(us);
        let (mut decoder, _) = open(us, false, LIMIT, &Shared::default());
        let mut heard: Vec<u8> = Vec::new();
        let mut rest = &wire[..];
        let mut held = Buffer::new();
        loop {
            let mut take = |bytes: &[u8]| {
                heard.extend(bytes);
                bytes.len()
            };
            let mut sink = Sink::lend(&mut take, &mut held);
            let done = decoder.decode_lent(rest, &mut sink).unwrap();
            heard.extend(held.as_slice());
            held.clear();
            rest = &rest[done.consumed..];
            if done.stopped == Stopped::End {
                break;
            }
        }
        assert_eq!(heard, plain);
    }
}

#[test]
fn a_full_sink_leaves_data_but_not_a_ping_behind_it() {
    let us = Role::Server;
    let mut end = End::new(us);
    let wire = [frame(us, 0x82, b"four"), frame(us, 0x89, b"?"), frame(us, 0x82, b"more")].concat();
    let mut memory = [0; 4];
    let mut bufs = [IoSliceMut::new(&mut memory)];
    let mut held = Buffer::new();
    let mut sink = Sink::slices(&mut bufs, &mut held);
    let done = end.decoder.decode_lent(&wire, &mut sink).unwrap();
    assert_eq!((done.stopped, done.reply, wire.len() - done.consumed), (Stopped::SinkFull, true, 4));
    assert_eq!(&memory, b"four");
    assert_eq!(open_frame(us, &end.pump()), (0x8a, b"?".to_vec()));
}

#[test]
fn only_the_latest_unanswered_ping_is_answered() {
    for us in BOTH {
        let mut end = End::new(us);
        for count in 0..1000u32 {
            end.hear_all(&frame(us, 0x89, &count.to_be_bytes())).unwrap();
        }
        assert_eq!(open_frame(us, &end.pump()), (0x8a, 999u32.to_be_bytes().to_vec()));
        assert_eq!(end.pump(), b"");
        end.hear_all(&frame(us, 0x89, &[7; 125])).unwrap();
        assert_eq!(open_frame(us, &end.pump()), (0x8a, vec![7; 125]));
    }
}

#[test]
fn nothing_counts_after_the_peers_close_and_we_may_still_write() {
    for us in BOTH {
        let mut end = End::new(us);
        let wire = [frame(us, 0x82, b"x"), close_frame(us, 1000, "done"), vec![0xff; 20]].concat();
        assert_eq!(end.hear_all(&wire).unwrap(), Stopped::End);
        assert_eq!(end.heard, b"x");
        end.decoder.end(20).unwrap();
        assert_eq!(end.pump(), b"", "our Close waits for our own end");
        let wire = end.say(&[b"still here"]).unwrap();
        let mut peer = End::new(other(us));
        peer.hear_all(&wire).unwrap();
        assert_eq!(peer.heard, b"still here");
        assert_eq!(open_close(us, &end.finish()), (1000, String::new()));
    }
}

#[test]
fn our_close_says_what_was_chosen_else_the_peers_code_else_1000() {
    for us in BOTH {
        let mut end = End::new(us);
        assert_eq!(open_close(us, &end.finish()), (1000, String::new()));
        assert_eq!(end.finish(), b"", "once");
        assert_eq!(end.say(&[b"x"]).unwrap_err().kind(), ErrorKind::BrokenPipe);

        let mut end = End::new(us);
        end.hear_all(&close_frame(us, 3456, "x")).unwrap();
        assert_eq!(open_close(us, &end.finish()), (3456, String::new()));

        let mut end = End::new(us);
        end.hear_all(&frame(us, 0x88, b"")).unwrap();
        assert_eq!(end.shared.lock().peer_close, Some(CloseFrame::default()));
        assert_eq!(open_frame(us, &end.finish()), (0x88, Vec::new()), "no code is answered by none");

        let mut end = End::new(us);
        end.hear_all(&close_frame(us, 1001, "")).unwrap();
        end.shared.lock().our_close = Some(CloseFrame::checked(4000, "enough").unwrap());
        assert_eq!(open_close(us, &end.finish()), (4000, "enough".to_owned()));
    }
}

#[test]
fn data_still_arrives_after_our_close_and_pings_are_answered_until_the_peers() {
    for us in BOTH {
        let mut end = End::new(us);
        end.finish();
        end.hear_all(&frame(us, 0x82, b"late")).unwrap();
        end.hear_all(&frame(us, 0x89, b"?")).unwrap();
        assert_eq!(end.heard, b"late");
        assert_eq!(open_frame(us, &end.pump()), (0x8a, b"?".to_vec()), "RFC 6455 §5.5.2: not yet received a Close");
        end.hear_all(&frame(us, 0x89, b"!")).unwrap();
        assert_eq!(end.hear_all(&close_frame(us, 1000, "")).unwrap(), Stopped::End);
        assert_eq!(end.pump(), b"", "nothing follows both Closes");
    }
}

#[test]
fn a_close_inside_a_fragmented_message_is_no_clean_end_and_is_answered() {
    for us in BOTH {
        let mut end = End::new(us);
        end.hear_all(&frame(us, 0x02, b"half of it")).unwrap();
        let error = end.hear_all(&close_frame(us, 1001, "going")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(end.heard, b"half of it");
        assert!(end.say(&[b"we go on"]).is_ok(), "what we have to say, the peer may read");
        assert_eq!(open_close(us, &end.finish()), (1001, String::new()));
    }
}

#[test]
fn a_close_that_says_something_failed_is_no_clean_end() {
    for us in BOTH {
        for code in [1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014] {
            let mut end = End::new(us);
            let error = end.hear_all(&close_frame(us, code, "disk\nfull")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            assert!(error.to_string().contains(&format!("{code}")) && error.to_string().contains("disk\\nfull"));
            assert_eq!(end.shared.lock().peer_close, Some(CloseFrame::new(code, "disk\nfull")));
            assert_eq!(open_close(us, &end.pump()), (code, String::new()));
            assert_eq!(end.say(&[b"x"]).unwrap_err().kind(), ErrorKind::Refused);
        }
        for close in
            [frame(us, 0x88, b""), close_frame(us, 1000, ""), close_frame(us, 1001, ""), close_frame(us, 4999, "")]
        {
            assert_eq!(End::new(us).hear_all(&close).unwrap(), Stopped::End);
        }
    }
}

#[test]
fn an_end_without_a_close_frame_is_truncation() {
    let detail = |us: Role, bytes: &[u8]| {
        let mut end = End::new(us);
        end.hear_all(bytes).unwrap();
        let error: Error = end.decoder.end(0).unwrap_err();
        assert!(error.is_truncated());
        error.to_string()
    };
    for us in BOTH {
        assert!(detail(us, b"").ends_with("without a Close frame"));
        assert!(detail(us, &frame(us, 0x82, b"x")).ends_with("without a Close frame"));
        assert!(detail(us, &frame(us, 0x02, b"x")).ends_with("inside a fragmented message"));
        let whole = frame(us, 0x82, b"xy");
        for cut in 1..whole.len() {
            assert!(detail(us, &whole[..cut]).ends_with("in the middle of a frame"), "cut at {cut}");
        }
        let ping = frame(us, 0x89, b"xy");
        assert!(detail(us, &ping[..ping.len() - 1]).ends_with("in the middle of a frame"));
    }
}

#[test]
fn a_server_sends_a_header_and_the_callers_own_bytes() {
    for (length, header) in [
        (1, vec![0x82, 1]),
        (125, vec![0x82, 125]),
        (126, vec![0x82, 126, 0, 126]),
        (65_535, vec![0x82, 126, 255, 255]),
        (65_536, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
    ] {
        let bytes = vec![b'x'; length];
        let bufs = [IoSlice::new(&bytes[..length / 2]), IoSlice::new(&bytes[length / 2..])];
        let mut source = Source::new(&bufs, usize::MAX);
        let mut out = Buffer::new();
        End::new(Role::Server).encoder.encode(&mut source, &mut out).unwrap();
        assert_eq!(out.as_slice(), header);
        assert_eq!(source.len(), length, "no copy");
    }
}

#[test]
fn a_client_masks_each_frame_with_a_key_of_its_own() {
    let mut client = End::new(Role::Client);
    let mut server = End::new(Role::Server);
    let mut keys = std::collections::HashSet::new();
    let plain: Vec<u8> = (0..=u8::MAX).cycle().take(100).collect();
    for cut in 0..100 {
        let wire = client.say(&[&plain[..cut / 3], b"", &plain[cut / 3..cut], &plain[cut..]]).unwrap();
        assert_eq!(wire[..2], [0x82, 0x80 | 100], "one final binary frame");
        keys.insert(wire[2..6].to_vec());
        server.hear_all(&wire).unwrap();
    }
    assert_eq!(server.heard, plain.repeat(100));
    assert!(keys.len() > 97, "keys repeat: {} of 100 differ", keys.len());
}

#[test]
fn both_roles_understand_each_other_at_every_length() {
    for us in BOTH {
        let mut ours = End::new(us);
        let mut theirs = End::new(other(us));
        let plain: Vec<u8> = (0..251).cycle().take(70_000).collect();
        let mut sent = 0;
        for length in (0..300).chain([65_535, 65_536, 70_000]) {
            let wire = ours.say(&[&plain[..length]]).unwrap();
            assert_eq!(wire.is_empty(), length == 0, "a write of nothing sends nothing");
            theirs.hear_all(&wire).unwrap();
            assert_eq!(theirs.heard[sent..], plain[..length]);
            sent += length;
        }
    }
}

#[test]
fn a_ping_of_ours_leaves_once() {
    for us in BOTH {
        let mut end = End::new(us);
        let mut payload = ControlPayload::default();
        payload.extend(b"hello?");
        end.shared.lock().ping_due = Some(payload);
        assert_eq!(open_frame(us, &end.pump()), (0x89, b"hello?".to_vec()));
        assert_eq!(end.pump(), b"");
    }
}

#[test]
fn garbage_neither_panics_nor_gathers() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for round in 0..20_000 {
        let us = BOTH[round % 2];
        let mut end = End::new(us);
        let mut input = frame(us, 0x82, b"x");
        for _ in 0..random() % 60 {
            input.push(random().to_le_bytes()[0]);
        }
        // A start that is often nearly right gets deeper.
        if round % 3 == 0 {
            let at = usize::try_from(random()).unwrap_or_default() % input.len();
            input = [conversation(us).0, input].concat();
            input[at] ^= 1 << (random() % 8);
        }
        let fed = input.len();
        let mut over = false;
        for piece in input.chunks(1 + usize::try_from(random() % 40).unwrap_or_default()) {
            over |= matches!(end.hear(piece, 7, round % 5 == 0), Ok(Stopped::End) | Err(_));
            if over {
                break;
            }
        }
        assert!(end.heard.len() <= fed);
        if !over {
            end.decoder.end(0).unwrap_err();
        }
        assert!(end.pump().len() <= 131 * 2);
        end.finish();
    }
}

#[test]
fn what_pings_and_pongs_carry_is_not_shown() {
    let mut payload = ControlPayload::default();
    payload.extend(b"secret");
    let shared = Shared::default();
    shared.lock().ask_for_ping(payload.clone()).unwrap();
    shared.lock().pong_seen = Some(payload);
    let shown = format!("{shared:?}");
    assert!(!shown.contains("115, 101") && shown.contains("len: 6"), "{shown}");
}

#[test]
fn a_stream_that_failed_ends_as_it_failed() {
    let mut end = End::new(Role::Client);
    let failed = end.hear(&[0xff; 20], 7, false).unwrap_err();
    assert_eq!(end.decoder.end(0).unwrap_err().to_string(), failed.to_string());
}
