//! OpenSSL's command-line client and server as the other end, over TCP on loopback. Skipped, and said so, where `openssl` is
//! not installed.
#![cfg(any(feature = "aws-lc-rs", feature = "ring"))]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use channel_core::{Channel, ChannelExt, Limits};
use channel_socket::{SocketAddress, SocketChannel, SocketListener};
use channel_tls::ProtocolVersion;
use channel_tls::rustls_0_23::client_credentials;
use channel_tls::{ServerCredentials, TlsChannel};
use common::{Authority, NAME, PROVIDER, VERSIONS};

const AMOUNT: usize = 1024 * 1024 + 77;

/// A process that does not outlive its test, and a directory that does not either.
struct OpenSsl {
    child: Child,
    directory: PathBuf,
}

impl OpenSsl {
    fn start(directory: PathBuf, arguments: &[&str]) -> Self {
        let child = Command::new("openssl")
            .args(arguments)
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, directory }
    }
}

impl Drop for OpenSsl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn installed() -> bool {
    let found =
        Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        eprintln!("skipped: openssl is not installed");
    }
    found
}

/// A directory with `files` in it, of this process and test alone.
fn directory(test: &str, files: &[(&str, &str)]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("channel-tls-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    for (name, content) in files {
        std::fs::write(path.join(name), content).unwrap();
    }
    path
}

fn option(version: ProtocolVersion) -> &'static str {
    if version == ProtocolVersion::Tls1_2 { "-tls1_2" } else { "-tls1_3" }
}

/// Exchanges data with the process at the other end: all of it there, then all of it back, then both clean ends.
fn exchange(ours: &TlsChannel, openssl: &mut OpenSsl, mut stdout: impl Read + Send) {
    // Digits, for openssl takes letters at its standard input for commands.
    let data: Vec<u8> = (0..AMOUNT).map(|at| b"0123456789"[(at + at / 97 + at / 9973) % 10]).collect();
    let mut stdin = openssl.child.stdin.take().unwrap();
    ours.handshake().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| ours.write_all(&data).unwrap());
        scope.spawn(|| {
            // Its server says a few words of its own first.
            let mut printed = Vec::new();
            while !printed.ends_with(&data[AMOUNT - 100..]) {
                let mut some = [0; 16 * 1024];
                let count = stdout.read(&mut some).unwrap();
                assert!(count > 0, "openssl printed all");
                printed.extend_from_slice(&some[..count]);
            }
            assert!(printed.ends_with(&data), "what we wrote, openssl printed");
        });
        scope.spawn(|| stdin.write_all(&data).unwrap());
        let mut heard = vec![0; AMOUNT];
        ours.read_all(&mut heard).unwrap();
        assert!(heard == data, "what openssl was told, we read");
    });
    ours.close_write().unwrap();
    assert_eq!(ours.read(&mut [0]).unwrap(), 0, "close_notify came");
    drop(stdin);
    ours.close().unwrap();
}

#[test]
fn a_server_exchanges_data_with_openssl_s_client() {
    if !installed() {
        return;
    }
    for version in VERSIONS {
        let authority = Authority::new();
        let (chain, key) = authority.issue_pem(NAME);
        let credentials = ServerCredentials::builder(PROVIDER)
            .identity_pem(chain.as_bytes(), key.as_bytes())
            .unwrap()
            .build()
            .unwrap();
        let listener = SocketListener::bind(&SocketAddress::Inet(([127, 0, 0, 1], 0).into())).unwrap();
        let SocketAddress::Inet(address) = listener.local_address() else { unreachable!() };
        let directory = directory(&format!("client{version:?}"), &[("root.pem", &authority.root_pem)]);
        let connect = address.to_string();
        let mut openssl = OpenSsl::start(
            directory,
            &[
                &["s_client", "-quiet", "-connect", &connect, "-CAfile", "root.pem", option(version)][..],
                &["-verify_return_error", "-servername", NAME, "-verify_hostname", NAME],
            ]
            .concat(),
        );
        let socket = listener.accept().unwrap();
        let ours = TlsChannel::server(Box::new(socket), &credentials, Limits::default()).unwrap();
        let stdout = openssl.child.stdout.take().unwrap();
        exchange(&ours, &mut openssl, stdout);
        assert_eq!(ours.server_name(), Some(NAME));
        assert_eq!(ours.protocol_version(), Some(version));
    }
}

#[test]
fn a_client_exchanges_data_with_openssl_s_server() {
    if !installed() {
        return;
    }
    for version in VERSIONS {
        let authority = Authority::new();
        let (chain, key) = authority.issue_pem(NAME);
        let directory = directory(&format!("server{version:?}"), &[("chain.pem", &chain), ("key.pem", &key)]);
        let mut openssl = OpenSsl::start(
            directory,
            &[
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-naccept",
                "1",
                "-cert",
                "chain.pem",
                "-key",
                "key.pem",
                option(version),
            ],
        );
        let mut stdout = BufReader::new(openssl.child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(stdout.read_line(&mut line).unwrap() > 0, "it listens");
            if let Some(address) = line.trim().strip_prefix("ACCEPT ") {
                break address.to_owned();
            }
        };
        let socket = SocketChannel::connect_tcp(&address[..]).unwrap();
        let credentials = client_credentials(authority.client(version));
        let ours = TlsChannel::client(Box::new(socket), &credentials, NAME, Limits::default()).unwrap();
        exchange(&ours, &mut openssl, stdout);
    }
}
