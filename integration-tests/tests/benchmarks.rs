//! The benchmarks work: every case of the comparison runs in both directions and loses nothing. How fast is not looked at.

use std::process::{Command, Output};
use std::time::Duration;

use channel_testkit::watchdog;
use integration_tests::bench::options::Peer;
use integration_tests::bench::report::DIRECTIONS;
use integration_tests::bench::stream;
use integration_tests::bench::targets::CASES;

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
fn a_request_that_makes_no_sense_gets_one_line_and_status_2() {
    for words in ["", "duplex", "stream engine=rustls-0.24", "stream size=nonsense", "stream peer=rustls stack=ws"] {
        let output = stackbench(words);
        assert_eq!(output.status.code(), Some(2), "{words}: {output:?}");
        assert_eq!(String::from_utf8(output.stderr).unwrap().matches('\n').count(), 1, "{words}");
        assert!(output.stdout.is_empty(), "{words}");
    }
}
