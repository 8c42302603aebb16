//! The upgrade over byte slices.

use channel_core::engine::{Advance, Handshake};
use channel_core::{Buffer, Error, ErrorKind, Limits, Result};

use super::*;
use crate::engine::{Decoder, Encoder, Shared};
use crate::{ClientOptions, ServerOptions};

/// The request of RFC 6455 §1.3, with the lines that `change` leaves of it.
fn request(change: impl Fn(&str) -> Option<String>) -> Vec<u8> {
    let lines = [
        "GET /chat HTTP/1.1",
        "Host: server.example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Origin: http://example.com",
        "Sec-WebSocket-Protocol: chat, binary",
        "Sec-WebSocket-Version: 13",
    ];
    let lines: Vec<String> = lines.into_iter().filter_map(change).collect();
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

fn unchanged(line: &str) -> Option<String> {
    Some(line.to_owned())
}

fn without(name: &str) -> Vec<u8> {
    request(|line| (!line.starts_with(name)).then(|| line.to_owned()))
}

/// The request with the line that begins with `name` replaced.
fn with(name: &str, new: &str) -> Vec<u8> {
    request(|line| Some(if line.starts_with(name) { new.to_owned() } else { line.to_owned() }))
}

struct Outcome {
    result: Result<usize>,
    sent: String,
    facts: Option<Facts>,
}

/// Feeds `input` in pieces of `step` bytes, each time with what was not consumed, as the machinery does.
fn feed(
    mut handshake: impl Handshake<Decoder, Encoder>,
    facts: &FactsCell,
    input: &[u8],
    step: usize,
    ended: bool,
) -> Outcome {
    let mut out = Buffer::new();
    let mut result = handshake.advance(&mut [], false, &mut out);
    let mut start = 0;
    let mut end = 0;
    while let Ok(Advance::NeedInput { consumed }) = result {
        start += consumed;
        if end == input.len() {
            result = handshake.advance(&mut input[start..].to_vec(), ended, &mut out);
            if let Ok(Advance::NeedInput { .. }) = result {
                break;
            }
        } else {
            end = input.len().min(end + step);
            result = handshake.advance(&mut input[start..end].to_vec(), false, &mut out);
        }
    }
    let result = match result {
        Ok(Advance::Open { consumed, .. }) => Ok(start + consumed),
        Ok(Advance::NeedInput { .. }) => Err(Error::WOULD_BLOCK),
        Err(error) => Err(error),
    };
    Outcome { result, sent: String::from_utf8(out.as_slice().to_vec()).unwrap(), facts: facts.get().cloned() }
}

fn serve_with(options: ServerOptions, limits: &Limits, input: &[u8], step: usize, ended: bool) -> Outcome {
    let facts = FactsCell::default();
    let handshake = ServerHandshake::new(options, limits, Shared::default(), Arc::clone(&facts)).unwrap();
    feed(handshake, &facts, input, step, ended)
}

fn serve(options: ServerOptions, input: &[u8]) -> Outcome {
    serve_with(options, &Limits::default(), input, usize::MAX / 2, false)
}

#[test]
fn a_request_is_answered_as_in_the_rfc() {
    let outcome = serve(ServerOptions::default(), &request(unchanged));
    assert_eq!(outcome.result.unwrap(), request(unchanged).len());
    assert!(outcome.sent.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{}", outcome.sent);
    assert!(outcome.sent.ends_with("\r\n\r\n"));
    for line in [
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "sec-websocket-protocol: binary",
    ] {
        assert!(outcome.sent.contains(&format!("{line}\r\n")), "{line}: {}", outcome.sent);
    }
    let facts = Facts {
        subprotocol: Some("binary".to_owned()),
        path: "/chat".to_owned(),
        origin: Some("http://example.com".to_owned()),
        host: "server.example.com".to_owned(),
    };
    assert_eq!(outcome.facts, Some(facts));
}

#[test]
fn a_request_may_come_in_any_pieces_and_what_is_glued_to_it_is_left() {
    let head = request(unchanged);
    let glued = [&head[..], b"\x82\x80glued\r\n\r\n"].concat();
    for step in 1..glued.len() {
        let outcome = serve_with(ServerOptions::default(), &Limits::default(), &glued, step, false);
        assert_eq!(outcome.result.unwrap(), head.len(), "in steps of {step}");
        assert_eq!(outcome.sent.matches("HTTP/1.1 101").count(), 1);
    }
    for cut in 0..head.len() {
        let outcome = serve_with(ServerOptions::default(), &Limits::default(), &head[..cut], 7, true);
        assert!(outcome.result.unwrap_err().is_truncated(), "ended at {cut}");
        assert_eq!(outcome.sent, "", "nobody is there to hear a response");
    }
}

#[test]
fn an_empty_line_is_the_end_of_a_head_only_behind_a_first_line() {
    let scanned = Head::new(&Limits::default()).scan(b"\r\n\r\n", |line| !line.is_empty());
    assert!(matches!(scanned, Err(Fault::Malformed("the first line is not one of HTTP/1.1"))), "{scanned:?}");
    let scanned = Head::new(&Limits::default()).scan(b"first\r\n\r\nrest", |line| line == b"first");
    assert!(matches!(scanned, Ok(Some(9))), "{scanned:?}");
}

#[test]
fn a_bad_request_gets_a_complete_response_with_the_right_status() {
    let only = |origin: &str| ServerOptions::default().origins([origin]);
    let any = ServerOptions::default;
    let big = format!("X-Big: {}", "x".repeat(20_000));
    let many = format!("X: y{}", "\r\nX: y".repeat(64));
    let cases: Vec<(&str, u16, ServerOptions, Vec<u8>)> = vec![
        ("no Host", 400, any(), without("Host")),
        ("two Hosts", 400, any(), with("Host", "Host: a\r\nHost: b")),
        ("no key", 400, any(), without("Sec-WebSocket-Key")),
        ("a key of 15 bytes", 400, any(), with("Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA")),
        (
            "a key that is no base64",
            400,
            any(),
            with("Sec-WebSocket-Key", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ!!"),
        ),
        ("two keys", 400, any(), with("Host", "Host: a\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")),
        ("a body", 400, any(), with("Host", "Host: a\r\nContent-Length: 5")),
        ("a body behind none", 400, any(), with("Host", "Host: a\r\nContent-Length: 0\r\nContent-Length: 5")),
        (
            "two versions",
            400,
            any(),
            with("Sec-WebSocket-Version", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8"),
        ),
        ("an empty Origin", 403, any().require_origin(true), with("Origin", "Origin: ")),
        ("an empty Origin where others are served", 403, only("https://example.com"), with("Origin", "Origin: ")),
        ("a chunked body", 400, any(), with("Host", "Host: a\r\nTransfer-Encoding: chunked")),
        ("HTTP/1.0", 400, any(), with("GET", "GET /chat HTTP/1.0")),
        ("HTTP/2.0", 400, any(), with("GET", "GET /chat HTTP/2.0")),
        ("no path", 400, any(), with("GET", "GET * HTTP/1.1")),
        ("two words", 400, any(), with("GET", "GET HTTP/1.1")),
        ("a header without a colon", 400, any(), with("Host", "Host: a\r\nnonsense")),
        ("a folded header", 400, any(), with("Host", "Host: a\r\n folded")),
        ("a bare line feed", 400, any(), with("Host", "Host: a\nX: y")),
        ("a NUL", 400, any(), with("Host", "Host: a\0")),
        (
            "only other subprotocols",
            400,
            any(),
            with("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: chat, binary2"),
        ),
        ("a TLS hello", 400, any(), b"\x16\x03\x01\x02\0\x01".to_vec()),
        ("garbage", 400, any(), b"hello there\r\n".to_vec()),
        ("POST", 405, any(), with("GET", "POST /chat HTTP/1.1")),
        ("no Upgrade", 426, any(), without("Upgrade")),
        ("another Upgrade", 426, any(), with("Upgrade", "Upgrade: h2c")),
        ("no Connection", 426, any(), without("Connection")),
        ("Connection without Upgrade", 426, any(), with("Connection", "Connection: keep-alive")),
        ("no version", 426, any(), without("Sec-WebSocket-Version")),
        ("version 8", 426, any(), with("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8")),
        ("another path", 404, any().path("/console"), request(unchanged)),
        ("another origin", 403, only("https://example.com"), request(unchanged)),
        ("no origin where one must be", 403, any().require_origin(true), without("Origin")),
        ("no origin of the list where one must be", 403, only("https://x").require_origin(true), without("Origin")),
        ("two origins", 400, any(), with("Host", "Host: a\r\nOrigin: b")),
        ("too many bytes", 431, any(), with("Host", &big)),
        ("too many bytes without an end", 431, any(), vec![b'A'; 17_000]),
        ("too many headers", 431, any(), with("Host", &many)),
    ];
    for (name, status, options, input) in cases {
        for step in [1, 1 << 20] {
            let outcome = serve_with(options.clone(), &Limits::default(), &input, step, false);
            let error = outcome.result.expect_err(name);
            assert!(outcome.sent.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {} {error}", outcome.sent);
            assert!(outcome.sent.ends_with("\r\n\r\n"), "{name}");
            assert_eq!(outcome.sent.matches("HTTP/1.1").count(), 1, "{name}");
            assert!(outcome.sent.contains("content-length: 0\r\n"), "{name}");
            assert!(outcome.sent.contains("connection: close"), "{name}");
            assert_eq!(outcome.sent.contains("sec-websocket-version: 13\r\n"), status == 426, "{name}");
            assert_eq!(outcome.sent.contains("allow: GET\r\n"), status == 405, "{name}");
            let kind = match status {
                403 => ErrorKind::Authentication,
                431 => ErrorKind::LimitExceeded,
                _ => ErrorKind::Protocol,
            };
            assert_eq!((error.kind(), error.layer()), (kind, "websocket"), "{name}: {error}");
            assert!(error.to_string().contains(&status.to_string()), "{name}: {error}");
            assert_eq!(outcome.facts, None);
        }
    }
}

#[test]
fn what_policy_allows_is_served() {
    let any = ServerOptions::default;
    let cases = [
        (any().origins(["https://x", "HTTP://Example.com"]), request(unchanged)),
        (any().origins(["https://x"]), without("Origin")),
        (any().path("/chat"), with("GET", "GET /chat?token=1 HTTP/1.1")),
        (any(), with("Connection", "Connection: keep-alive, Upgrade")),
        (any(), with("Upgrade", "upgrade: WebSocket")),
        (any(), with("Host", "Host: a\r\nSec-WebSocket-Extensions: permessage-deflate")),
        (any(), with("Host", "Host: a\r\nCookie: k=\u{fc}")),
    ];
    for (options, input) in cases {
        let outcome = serve(options, &input);
        outcome.result.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&input)));
        assert!(!outcome.sent.contains("extensions"), "no extension is agreed on");
    }
    let outcome = serve(any(), &with("GET", "GET /chat?token=1 HTTP/1.1"));
    assert_eq!(outcome.facts.unwrap().path, "/chat?token=1");
}

#[test]
fn a_subprotocol_is_answered_only_if_it_was_offered() {
    let none = serve(ServerOptions::default(), &without("Sec-WebSocket-Protocol"));
    assert_eq!(none.facts.unwrap().subprotocol, None);
    assert!(!none.sent.contains("sec-websocket-protocol"));

    let ours_first = serve(ServerOptions::default().subprotocols(["nbd", "chat", "binary"]), &request(unchanged));
    assert_eq!(ours_first.facts.unwrap().subprotocol.as_deref(), Some("chat"));

    let lines = "Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Protocol:binary";
    let two_lines = serve(ServerOptions::default(), &with("Sec-WebSocket-Protocol", lines));
    assert_eq!(two_lines.facts.unwrap().subprotocol.as_deref(), Some("binary"));
}

#[test]
fn limits_of_the_head_are_exact() {
    let head = request(unchanged);
    let serve = |header_bytes, header_count| {
        let limits = Limits { header_bytes, header_count, ..Limits::default() };
        serve_with(ServerOptions::default(), &limits, &head, 1, false).result.map_err(|error| error.kind())
    };
    assert_eq!(serve(head.len(), 7), Ok(head.len()));
    assert_eq!(serve(head.len() - 1, 7), Err(ErrorKind::LimitExceeded));
    assert_eq!(serve(head.len(), 6), Err(ErrorKind::LimitExceeded));
    let many = with("Host", &format!("Host: a{}", "\r\nX: y".repeat(200)));
    let limits = Limits { header_count: 1000, ..Limits::default() };
    let outcome = serve_with(ServerOptions::default(), &limits, &many, 1 << 20, false);
    assert_eq!(outcome.result.unwrap_err().kind(), ErrorKind::LimitExceeded, "as many as the parser takes");
}

#[test]
fn a_client_that_is_too_slow_is_told_once() {
    let server = || {
        ServerHandshake::new(ServerOptions::default(), &Limits::default(), Shared::default(), FactsCell::default())
            .unwrap()
    };
    let late = Error::new(ErrorKind::TimedOut, "wait", "the deadline passed");
    let mut out = Buffer::new();
    server().abort(&late, &mut out);
    assert!(out.as_slice().starts_with(b"HTTP/1.1 408 Request Timeout\r\n"));
    assert!(out.as_slice().ends_with(b"\r\n\r\n"));

    let mut out = Buffer::new();
    let mut answered = server();
    answered.advance(&mut request(unchanged), false, &mut out).unwrap();
    let before = out.len();
    answered.abort(&late, &mut out);
    assert_eq!(out.len(), before, "no second response");
}

/// What a client makes of a response; `$ACCEPT` stands for the right answer to its key.
fn ask(options: ClientOptions, response: &str, step: usize, ended: bool) -> Outcome {
    let facts = FactsCell::default();
    let shared = Shared::default();
    let mut handshake = ClientHandshake::new(options, &Limits::default(), shared, Arc::clone(&facts)).unwrap();
    let mut out = Buffer::new();
    handshake.advance(&mut [], false, &mut out).unwrap();
    let request = String::from_utf8(out.as_slice().to_vec()).unwrap();
    let key = request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.split("\r\n").next()).unwrap();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let outcome = feed(handshake, &facts, response.replace("$ACCEPT", &accept).as_bytes(), step, ended);
    assert_eq!(outcome.sent, "", "one request only");
    Outcome { sent: request, ..outcome }
}

const RESPONSE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: upgrade\r\n\
                        Sec-WebSocket-Accept: $ACCEPT\r\n\r\n";

#[test]
fn a_client_sends_what_it_was_told_and_nothing_else() {
    let options = ClientOptions::new("vm.example:8080")
        .path("/a?b=c")
        .origin("https://page")
        .subprotocols(["binary", "nbd"])
        .header("Authorization", "Bearer 1234");
    let outcome =
        ask(options, &RESPONSE.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: nbd\r\n\r\n"), 1 << 20, false);
    let mut lines: Vec<String> = outcome.sent.split("\r\n").map(str::to_lowercase).collect();
    assert_eq!(lines.remove(0), "get /a?b=c http/1.1");
    lines.retain(|line| !line.starts_with("sec-websocket-key: "));
    lines.sort();
    let expected = [
        "",
        "",
        "authorization: bearer 1234",
        "connection: upgrade",
        "host: vm.example:8080",
        "origin: https://page",
        "sec-websocket-protocol: binary, nbd",
        "sec-websocket-version: 13",
        "upgrade: websocket",
    ];
    assert_eq!(lines, expected);
    let facts = outcome.facts.unwrap();
    assert_eq!(facts.subprotocol.as_deref(), Some("nbd"));
    assert_eq!((facts.path.as_str(), facts.host.as_str()), ("/a?b=c", "vm.example:8080"));
}

#[test]
fn an_upgrade_named_among_others_is_served() {
    for (line, new) in [
        ("Upgrade", "Upgrade: h2c, WebSocket"),
        ("Upgrade", "Upgrade: h2c\r\nUpgrade: websocket"),
        ("Connection", "Connection: keep-alive, Upgrade"),
        ("Connection", "Connection: keep-alive\r\nConnection: upgrade"),
    ] {
        let outcome = serve(ServerOptions::default(), &with(line, new));
        assert!(outcome.result.is_ok(), "{new}: {:?}", outcome.result);
        assert!(outcome.sent.contains("\r\nupgrade: websocket\r\n"), "{new}: {}", outcome.sent);
    }
}

#[test]
fn a_handshake_that_is_given_up_is_answered_with_the_status_that_says_why() {
    for (kind, status) in [(ErrorKind::TimedOut, "408 "), (ErrorKind::LimitExceeded, "431 "), (ErrorKind::Reset, "")] {
        let mut handshake =
            ServerHandshake::new(ServerOptions::default(), &Limits::default(), Shared::default(), FactsCell::default())
                .unwrap();
        let mut out = Buffer::new();
        handshake.abort(&error(kind, ""), &mut out);
        let sent = String::from_utf8(out.as_slice().to_vec()).unwrap();
        let response = sent.strip_prefix("HTTP/1.1 ").unwrap_or_default();
        assert!(response.starts_with(status) && response.is_empty() == status.is_empty(), "{kind}: {sent}");
        handshake.abort(&error(kind, ""), &mut out);
        assert_eq!(out.len(), sent.len(), "there is no second response");
    }
}

#[test]
fn what_a_client_is_about_to_send_is_not_shown() {
    let options = ClientOptions::new("h").header("Authorization", "Bearer 1234");
    let client = ClientHandshake::new(options, &Limits::default(), Shared::default(), FactsCell::default()).unwrap();
    let shown = format!("{client:?}");
    assert!(shown.contains("Authorization"), "{shown}");
    assert!(!shown.contains("1234") && !shown.contains("49, 50, 51, 52"), "neither as text nor as bytes: {shown}");
}

#[test]
fn two_connections_use_two_keys() {
    let key = || ask(ClientOptions::new("h"), RESPONSE, 1 << 20, false).sent;
    assert_ne!(key(), key());
}

#[test]
fn a_response_may_come_in_any_pieces_and_what_is_glued_to_it_is_left() {
    let glued = format!("{RESPONSE}\x02\x05\r\n\r\n");
    let length = RESPONSE.len() - "$ACCEPT".len() + 28;
    for step in 1..glued.len() + 30 {
        let outcome = ask(ClientOptions::new("h"), &glued, step, false);
        assert_eq!(outcome.result.unwrap(), length, "in steps of {step}");
    }
    for cut in 0..RESPONSE.len() {
        let outcome = ask(ClientOptions::new("h"), &RESPONSE[..cut], 7, true);
        assert!(outcome.result.unwrap_err().is_truncated(), "ended at {cut}");
    }
}

#[test]
fn a_response_that_is_not_to_be_trusted_is_refused() {
    let with = |line: &str| RESPONSE.replace("\r\n\r\n", &format!("\r\n{line}\r\n\r\n"));
    let big = with(&format!("X: {}", "x".repeat(20_000)));
    let many = with(&format!("X: y{}", "\r\nX: y".repeat(64)));
    let cases: Vec<(&str, ErrorKind, String)> = vec![
        ("403", ErrorKind::Refused, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ("200", ErrorKind::Refused, "HTTP/1.1 200 OK\r\n\r\n".to_owned()),
        ("302", ErrorKind::Refused, "HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n".to_owned()),
        ("no Upgrade", ErrorKind::Protocol, RESPONSE.replace("Upgrade: WebSocket\r\n", "")),
        ("another Upgrade", ErrorKind::Protocol, RESPONSE.replace("WebSocket\r\n", "h2c\r\n")),
        ("no Connection", ErrorKind::Protocol, RESPONSE.replace("Connection: upgrade\r\n", "")),
        ("no accept", ErrorKind::Protocol, RESPONSE.replace("Sec-WebSocket-Accept: $ACCEPT\r\n", "")),
        ("a wrong accept", ErrorKind::Protocol, RESPONSE.replace("$ACCEPT", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        ("an extension", ErrorKind::Protocol, with("Sec-WebSocket-Extensions: permessage-deflate")),
        ("a subprotocol not offered", ErrorKind::Protocol, with("Sec-WebSocket-Protocol: chat")),
        (
            "two subprotocols",
            ErrorKind::Protocol,
            with("Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Protocol: binary"),
        ),
        ("HTTP/1.0", ErrorKind::Protocol, RESPONSE.replace("HTTP/1.1", "HTTP/1.0")),
        ("another protocol", ErrorKind::Protocol, "SSH-2.0-server\r\n".to_owned()),
        ("no status", ErrorKind::Protocol, RESPONSE.replace("101", "abc")),
        ("a bare line feed", ErrorKind::Protocol, RESPONSE.replace("Connection: upgrade\r\n", "Connection: upgrade\n")),
        ("too many bytes", ErrorKind::LimitExceeded, big),
        ("too many headers", ErrorKind::LimitExceeded, many),
    ];
    for (name, kind, response) in cases {
        for step in [1, 1 << 20] {
            let outcome = ask(ClientOptions::new("h").subprotocols(["binary"]), &response, step, false);
            let error = outcome.result.expect_err(name);
            assert_eq!((error.kind(), error.layer()), (kind, "websocket"), "{name}: {error}");
            if kind == ErrorKind::Refused {
                assert!(error.to_string().contains(name), "{error}");
            }
            assert_eq!(outcome.facts, None, "{name}");
        }
    }
    let none_offered = ask(ClientOptions::new("h"), &with("Sec-WebSocket-Protocol: binary"), 1 << 20, false);
    assert_eq!(none_offered.result.unwrap_err().kind(), ErrorKind::Protocol);
    let none_chosen = ask(ClientOptions::new("h").subprotocols(["binary"]), RESPONSE, 1 << 20, false);
    assert_eq!(none_chosen.facts.unwrap().subprotocol, None, "a server may choose none");
}

#[test]
fn a_client_and_a_server_of_ours_agree() {
    let client_facts = FactsCell::default();
    let options = ClientOptions::new("[::1]:80").path("/x").subprotocols(["binary"]);
    let mut client =
        ClientHandshake::new(options, &Limits::default(), Shared::default(), Arc::clone(&client_facts)).unwrap();
    let mut request = Buffer::new();
    client.advance(&mut [], false, &mut request).unwrap();
    let served = serve(ServerOptions::default(), request.as_slice());
    let mut response = served.sent.into_bytes();
    let mut nothing = Buffer::new();
    let Ok(Advance::Open { consumed, .. }) = client.advance(&mut response, false, &mut nothing) else {
        panic!("the client does not take our response");
    };
    assert_eq!(consumed, response.len());
    assert_eq!(client_facts.get(), served.facts.as_ref());
}

#[test]
fn garbage_never_panics_a_handshake() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..5000 {
        let mut bytes = request(unchanged);
        for _ in 0..=random() % 4 {
            let at = usize::try_from(random()).unwrap_or_default() % bytes.len();
            bytes[at] = random().to_le_bytes()[0];
        }
        let _ = serve(ServerOptions::default(), &bytes).result;
        let mut response = RESPONSE.as_bytes().to_vec();
        let at = usize::try_from(random()).unwrap_or_default() % response.len();
        response[at] = b' ' + random().to_le_bytes()[0] % 95;
        let _ = ask(ClientOptions::new("h"), &String::from_utf8(response).unwrap(), 1 << 20, true).result;
    }
}
