//! The benchmarks work: every case of the comparison runs in both directions and loses nothing. How fast is not looked at.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use channel_testkit::watchdog;
use integration_tests::bench::options::Peer;
use integration_tests::bench::report::DIRECTIONS;
use integration_tests::bench::stream;
use integration_tests::bench::targets::CASES;
use rustix::process::{Pid, Signal, kill_process};

fn all_cases_of(peer: Peer) {
    for case in CASES.into_iter().filter(|case| case.peer == peer) {
        for dir in DIRECTIONS {
            let mut options = case.options(dir);
            options.time = Duration::from_millis(100);
            let measured = stream::run(&options).unwrap_or_else(|failure| panic!("{case}, {dir}: {failure}"));
            assert_eq!(measured.lost, 0, "{case}, {dir}");
            assert!(measured.send_cpu > 0.0 && measured.receive_cpu > 0.0, "{case}, {dir}: {measured:?}");
        }
    }
}

#[test]
fn streams_of_our_own_stacks_lose_nothing() {
    watchdog::run("streams_of_our_own_stacks_lose_nothing", || all_cases_of(Peer::Project));
}

#[test]
fn streams_of_the_peers_lose_nothing() {
    watchdog::run("streams_of_the_peers_lose_nothing", || {
        for peer in [Peer::Raw, Peer::Rustls, Peer::Tungstenite] {
            all_cases_of(peer);
        }
    });
}

fn stackbench(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_stackbench")).args(words.split_whitespace()).output().unwrap()
}

#[test]
fn a_run_prints_one_json_object_on_one_line() {
    let output = stackbench("stream peer=raw stack=plain transport=tcp size=1000 secs=0.1 rsize=4");
    assert!(output.status.success(), "{output:?}");
    let line = String::from_utf8(output.stdout).unwrap();
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    for key in ["test", "peer", "transport", "stack", "size", "dir", "mode", "mb_s", "msgs_s", "lost"] {
        assert!(!object[key].is_null(), "{key} is missing in {line}");
    }
    assert!(object["send_cpu_ns_per_kib"].as_f64().unwrap() > 0.0, "{line}");
    assert!(object["recv_cpu_ns_per_kib"].as_f64().unwrap() > 0.0, "{line}");
}

#[test]
fn what_silent_connections_keep_is_measured_in_every_mode() {
    watchdog::run("what_silent_connections_keep_is_measured_in_every_mode", || {
        for words in
            ["stack=wss", "stack=tls mode=handlers", "stack=ws mode=tasks transport=tcp", "stack=wss mode=half-open"]
        {
            let output = stackbench(&format!("mem n=40 {words}"));
            assert!(output.status.success(), "{words}: {output:?}");
            let line = String::from_utf8(output.stdout).unwrap();
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(object["n"], 40, "{line}");
            let bytes = object["bytes_a_side"].as_f64().unwrap();
            assert!((500.0..20_000.0).contains(&bytes), "less than a channel, or a third of a buffer: {line}");
        }
    });
}

#[test]
fn many_connections_on_one_loop_lose_nothing() {
    watchdog::run("many_connections_on_one_loop_lose_nothing", || {
        for words in ["", "mode=tasks", "stack=tls transport=tcp", "stack=ws mode=tasks transport=tcp", "stack=plain"] {
            let output = stackbench(&format!("wakeups n=150 secs=0.05 {words}"));
            assert!(output.status.success(), "{words}: {output:?}");
            let line = String::from_utf8(output.stdout).unwrap();
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            let object: serde_json::Value = serde_json::from_str(&line).unwrap();
            for key in ["test", "peer", "transport", "stack", "mode", "secs", "wakeups"] {
                assert!(!object[key].is_null(), "{key} is missing in {line}");
            }
            for (key, count) in [("n_asked", 150), ("n", 150), ("busy", 100), ("lost", 0), ("idle_wakeups", 0)] {
                assert_eq!(object[key], count, "{key} in {line}");
            }
            for key in ["events", "ns_per_event", "ns_per_event_100", "ratio", "idle_cpu_ns_per_s"] {
                assert!(object[key].as_f64().unwrap() > 0.0, "{key} in {line}");
            }
        }
    });
}

#[test]
fn fewer_connections_than_asked_for_are_named() {
    // The soft limit is raised; the hard one is what counts.
    let program = format!(
        "ulimit -Sn 300; ulimit -Hn 500; exec {} wakeups n=2000 secs=0.05 stack=plain",
        env!("CARGO_BIN_EXE_stackbench")
    );
    let output = Command::new("sh").args(["-c", &program]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let object: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(object["n_asked"], 2000);
    assert_eq!(object["n"], 144);
    assert!(String::from_utf8(output.stderr).unwrap().contains("144 connections instead of 2000"));
}

/// A run that would last an hour, all its connections open, and what it says.
fn endless_wakeups() -> (Child, BufReader<ChildStderr>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stackbench"))
        .args(["wakeups", "n=1000", "stack=plain", "secs=3600"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert_eq!(line, "1000 of 1000 connections\n");
    (child, stderr)
}

#[test]
fn clients_whose_server_is_gone_end_too() {
    watchdog::run("clients_whose_server_is_gone_end_too", || {
        let (mut server, mut stderr) = endless_wakeups();
        server.kill().unwrap();
        server.wait().unwrap();
        // The clients have it, too: it ends when they do.
        stderr.read_to_string(&mut String::new()).unwrap();
    });
}

#[test]
fn a_run_whose_clients_are_gone_fails() {
    watchdog::run("a_run_whose_clients_are_gone_fails", || {
        let (mut server, mut stderr) = endless_wakeups();
        let parent = format!("PPid:\t{}\n", server.id());
        let clients = fs::read_dir("/proc").unwrap().find_map(|entry| {
            let id = entry.unwrap().file_name().to_str()?.parse().ok()?;
            fs::read_to_string(format!("/proc/{id}/status")).ok()?.contains(&parent).then_some(id)
        });
        kill_process(Pid::from_raw(clients.unwrap()).unwrap(), Signal::KILL).unwrap();
        let mut said = String::new();
        stderr.read_to_string(&mut said).unwrap();
        assert_eq!(server.wait().unwrap().code(), Some(1), "{said}");
        assert_eq!(said.matches('\n').count(), 1, "{said}");
    });
}

#[test]
fn a_request_that_makes_no_sense_gets_one_line_and_status_2() {
    for words in [
        "",
        "duplex",
        "stream engine=rustls-0.24",
        "stream size=nonsense",
        "stream peer=rustls stack=ws",
        "wakeups n=0",
        "wakeups size=64",
        "wakeups peer=raw",
    ] {
        let output = stackbench(words);
        assert_eq!(output.status.code(), Some(2), "{words}: {output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap().matches('\n').count(), 1, "{words}");
        assert!(output.stdout.is_empty(), "{words}");
    }
}
