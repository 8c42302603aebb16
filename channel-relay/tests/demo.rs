//! `relay demo` as a user runs it: the real program, its exit status, and what it says.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const STACKS: [&str; 4] = ["plain", "tls", "ws", "wss"];
const TRANSPORTS: [&str; 2] = ["tcp", "unix"];

/// What a run may take before it counts as a hang.
const TIMEOUT: Duration = Duration::from_secs(30);

struct Output {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Output {
    /// The one line on stderr.
    fn complaint(&self) -> &str {
        assert_eq!(self.stderr.lines().count(), 1, "not one line on stderr:\n{}", self.stderr);
        self.stderr.strip_prefix("relay: ").unwrap_or_else(|| panic!("no `relay: ` in front of {}", self.stderr)).trim()
    }

    /// What became of a run that failed. Other lines may come before it: where rustls is built with debug assertions it reports
    /// one that the TLS layer contains.
    fn verdict(&self) -> &str {
        let line = self.stderr.lines().last().and_then(|line| line.strip_prefix("relay: "));
        line.unwrap_or_else(|| panic!("no verdict at the end of:\n{}", self.stderr))
    }

    /// The last words of the lines that hold `what`.
    fn last_words(&self, what: &str) -> Vec<&str> {
        let lines = self.stdout.lines().filter(|line| line.contains(what));
        lines.filter_map(|line| line.split_whitespace().last()).collect()
    }
}

/// Runs the program; one that does not end is killed, and the test fails with its command line.
fn relay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let (done, told) = mpsc::channel();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    thread::spawn(move || {
        // Little enough is said to fit into the pipes, so that one can be read after the other.
        let mut said = (String::new(), String::new());
        let read = stdout.read_to_string(&mut said.0).and_then(|_| stderr.read_to_string(&mut said.1));
        let _ = done.send(read.map(|_| said));
    });
    let Ok(said) = told.recv_timeout(TIMEOUT) else {
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
        panic!("hang: `relay {}` did not end within {TIMEOUT:?}", arguments.join(" "));
    };
    let (stdout, stderr) = said.expect("it writes text");
    Output { status: child.wait().expect("it ends").code(), stdout, stderr }
}

fn assert_arrives(stack: &str, transport: &str) {
    let output = relay(&["demo", "--stack", stack, "--transport", transport, "--bytes", "3M"]);
    assert_eq!(output.status, Some(0), "{}{}", output.stdout, output.stderr);
    assert_eq!(output.stderr, "", "nothing but results where there is no terminal");
    let digests = output.last_words("SHA-256");
    let [up_sent, up_received, down_sent, down_received] = digests[..] else { panic!("{}", output.stdout) };
    assert_eq!((up_sent, down_sent), (up_received, down_received));
    assert_ne!(up_sent, down_sent, "both directions carry the same: bytes gone astray would not show");
    assert!(up_sent.len() == 64 && output.stdout.contains("3145728 bytes"), "{}", output.stdout);
    assert_eq!(output.stdout.lines().filter(|line| line.contains(" MB/s")).count(), 2, "{}", output.stdout);
    for side in ["client", "server"] {
        let line =
            output.stdout.lines().find(|line| line.starts_with(&format!("{side}  "))).expect("a line for each side");
        let mut layers = vec![if transport == "tcp" { "tcp 127.0.0.1:".to_owned() } else { "unix ".to_owned() }];
        if stack == "tls" || stack == "wss" {
            layers.push(format!("tls {side} TLSv1.3 TLS_AES_"));
        }
        if stack == "ws" || stack == "wss" {
            layers.push(format!("websocket {side}"));
        }
        assert!(layers.iter().all(|layer| line.contains(layer)), "{line}");
        assert_eq!(line.split(" / ").count(), layers.len(), "{line}");
    }
}

#[test]
fn every_stack_delivers_every_byte_over_tcp() {
    STACKS.iter().for_each(|stack| assert_arrives(stack, "tcp"));
}

#[test]
fn every_stack_delivers_every_byte_over_a_unix_socket() {
    STACKS.iter().for_each(|stack| assert_arrives(stack, "unix"));
}

#[test]
fn wss_over_tcp_is_the_default() {
    let output = relay(&["demo", "--bytes", "1"]);
    assert_eq!(output.status, Some(0), "{}", output.stderr);
    assert!(output.stdout.contains("websocket client") && output.stdout.contains("tls server"), "{}", output.stdout);
    assert!(output.stdout.contains("tcp 127.0.0.1:"), "{}", output.stdout);
}

#[test]
fn a_unix_run_leaves_nothing_behind() {
    let directory = std::env::temp_dir().join(format!("relay-test-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    let run =
        command.args(["demo", "--transport", "unix", "--bytes", "1K"]).env("TMPDIR", &directory).output().unwrap();
    // Fails if anything is in it.
    let removed = std::fs::remove_dir(&directory);
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    removed.expect("the directory is as empty as it was");
}

#[test]
fn a_flipped_bit_is_caught_by_the_layer_that_protects_the_data() {
    for transport in TRANSPORTS {
        for (stack, catchers) in [
            ("plain", ["the digest", "the digest"]),
            ("tls", ["the tls layer", "the tls layer"]),
            ("ws", ["the digest", "the websocket layer"]),
            ("wss", ["the tls layer", "the tls layer"]),
        ] {
            let output =
                relay(&["demo", "--stack", stack, "--transport", transport, "--bytes", "3M", "--corrupt-at", "100000"]);
            assert_eq!(output.status, Some(1), "{}", output.stderr);
            let told = output.verdict();
            let caught = |by: &str| told.starts_with(&format!("the bit flipped in byte 100000 was caught by {by}: "));
            assert!(catchers.into_iter().any(caught), "{stack}: {told}");
        }
    }
}

#[test]
fn a_bit_behind_the_end_is_not_claimed_to_be_caught() {
    for stack in STACKS {
        let output = relay(&["demo", "--stack", stack, "--bytes", "1K", "--corrupt-at", "1G"]);
        assert_eq!(output.status, Some(1));
        assert!(output.complaint().starts_with("nothing was corrupted: only "), "{}", output.stderr);
    }
}

#[test]
fn bad_input_gets_one_clear_line_and_status_2() {
    let empty = std::env::temp_dir().join(format!("relay-empty-{}", std::process::id()));
    std::fs::write(&empty, b"").unwrap();
    let empty_path = empty.to_str().unwrap();
    for (arguments, told) in [
        (["--file", "/no/such/file"], "--file /no/such/file: No such file or directory"),
        (["--file", "/"], "--file /: is a directory"),
        (["--file", "/dev/null"], "--file /dev/null: is not a regular file"),
        (["--file", empty_path], "is empty"),
        (["--bytes", "nonsense"], "'nonsense' for '--bytes <N>': not a number of bytes; write for example 100000"),
        (["--bytes", "0"], "at least one byte has to go"),
        (["--bytes", "99999999999G"], "more bytes than can be counted"),
        (["--stack", "ssl"], "unknown stack `ssl`; choose one of plain, tls, ws, wss"),
        (["--transport", "udp"], "[possible values: tcp, unix]"),
        (["--corrupt-at", "-1"], "'-1'"),
        (["--sped", "1"], "unexpected argument '--sped'"),
    ] {
        let output = relay(&["demo", arguments[0], arguments[1]]);
        assert_eq!((output.status, &*output.stdout), (Some(2), ""), "{arguments:?}: {}", output.stderr);
        assert!(output.complaint().contains(told), "{arguments:?}: {}", output.stderr);
    }
    std::fs::remove_file(empty).unwrap();
}

#[test]
fn a_file_of_any_length_is_repeated() {
    let path = std::env::temp_dir().join(format!("relay-short-{}", std::process::id()));
    for content in [b"x".as_slice(), b"odd"] {
        std::fs::write(&path, content).unwrap();
        let output = relay(&["demo", "--stack", "plain", "--bytes", "2000001", "--file", path.to_str().unwrap()]);
        assert_eq!(output.status, Some(0), "{}", output.stderr);
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn help_tells_every_option_and_exits_0() {
    let output = relay(&["demo", "--help"]);
    assert_eq!((output.status, &*output.stderr), (Some(0), ""));
    for word in ["--stack", "--transport", "--bytes", "--file", "--corrupt-at", "[default: wss]", "Exit status"] {
        assert!(output.stdout.contains(word), "{word} is missing in:\n{}", output.stdout);
    }
    assert_eq!(relay(&["--version"]).stdout, concat!("relay ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(relay(&[]).status, Some(2));
}
