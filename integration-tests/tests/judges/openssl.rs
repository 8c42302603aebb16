//! `openssl s_server` and `s_client` as judges, where they are installed: bytes through their standard input and output.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use channel_core::Channel;
use channel_stack::Stack;
use integration_tests::Failure;
use integration_tests::certificates::{SERVER_NAME, authority};
use integration_tests::content::{self, Checker};
use integration_tests::sockets::{Socket, Transport};
use integration_tests::stacks;
use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
use tempfile::TempDir;

use crate::exchange::{BACK, BYTES, expect_end, send_and_receive};
use crate::{Ours, provider};

/// One exchange with the `openssl` program in the other role; a note and no verdict where there is none.
pub(crate) fn judge(ours: Ours, transport: Transport, version: &'static str) -> Result<(), Failure> {
    if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: no `openssl` program is installed");
        return Ok(());
    }
    let files = Files::new()?;
    let (mut openssl, leaf) = match ours {
        Ours::Client => s_server(&files, transport, version)?,
        Ours::Server => s_client(&files, transport, version)?,
    };
    let (stdin, stdout) = (openssl.0.stdin.take(), openssl.0.stdout.take());
    let (stdin, stdout) = (stdin.ok_or("no standard input")?, stdout.ok_or("no standard output")?);
    thread::scope(|scope| {
        let feeding = scope.spawn(|| feed(stdin));
        let checking = scope.spawn(|| check(stdout));
        let ended = ours.open(Stack::Tls, leaf, provider(transport)).and_then(|channel| {
            send_and_receive(&*channel)?;
            let fed = feeding.join().map_err(|_| "the feeding thread panicked")?;
            end(&*channel)?;
            fed
        });
        if ended.is_err() {
            // Its pipes break, and so end the threads that wait at them.
            openssl.0.kill()?;
        }
        let checked = checking.join().map_err(|_| "the checking thread panicked")?;
        match (ended, checked) {
            (Ok(_stdin), Ok(())) => Ok(()),
            (ended, checked) => Err(format!("our end: {:?}; openssl's output: {checked:?}", ended.err()).into()),
        }
    })
}

/// Our close_notify ends openssl, whose own we then read.
fn end(channel: &dyn Channel) -> Result<(), Failure> {
    channel.close_write()?;
    expect_end(channel)?;
    Ok(channel.close()?)
}

/// Gives openssl what it is to send, and its input back: closing that early would end it.
fn feed(mut stdin: ChildStdin) -> Result<ChildStdin, Failure> {
    let mut sent = 0;
    while sent < BYTES {
        let count = (BYTES - sent).min(60_000);
        stdin.write_all(content::at(BACK + sent, usize::try_from(count)?))?;
        sent += count;
    }
    Ok(stdin)
}

/// All that openssl received, up to its exit.
fn check(mut stdout: ChildStdout) -> Result<(), Failure> {
    let mut checker = Checker::default();
    let mut buffer = vec![0; 60_000];
    loop {
        let count = stdout.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        checker.take(&buffer[..count])?;
    }
    if checker.offset() != BYTES {
        return Err(format!("its output ended after {} bytes", checker.offset()).into());
    }
    Ok(())
}

/// openssl serves; ours connects.
fn s_server(files: &Files, transport: Transport, version: &str) -> Result<(Running, Box<dyn Channel>), Failure> {
    let mut command = Command::new("openssl");
    // -quiet: no chatter among the data, and no commands in it (a line that starts with Q would end the session).
    command.args(["s_server", "-quiet", "-naccept", "1", version]);
    command.arg("-cert").arg(files.path("server.der")).arg("-key").arg(files.path("server-key.der"));
    match transport {
        Transport::Tcp => {
            let (address, _reserved) = reserve_port()?;
            let mut openssl = Running::start(command.arg("-accept").arg(address.to_string()))?;
            let stream = openssl.wait_for(|| TcpStream::connect(address).ok())?;
            Ok((openssl, stacks::leaf(Socket::Tcp(stream))?))
        }
        Transport::Unix => {
            let path = files.path("socket");
            let mut openssl = Running::start(command.arg("-unix").arg(&path))?;
            let stream = openssl.wait_for(|| UnixStream::connect(&path).ok())?;
            Ok((openssl, stacks::leaf(Socket::Unix(stream))?))
        }
    }
}

/// openssl connects and verifies us; ours serves.
fn s_client(files: &Files, transport: Transport, version: &str) -> Result<(Running, Box<dyn Channel>), Failure> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", version, "-servername", SERVER_NAME, "-verify_hostname", SERVER_NAME]);
    command.args(["-verify_return_error", "-verify_quiet"]).arg("-CAstore").arg(files.path("root.der"));
    match transport {
        Transport::Tcp => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?.to_string();
            let mut openssl = Running::start(command.arg("-connect").arg(address))?;
            let (stream, _) = openssl.wait_for(|| listener.accept().ok())?;
            Ok((openssl, stacks::leaf(Socket::Tcp(stream))?))
        }
        Transport::Unix => {
            let path = files.path("socket");
            let listener = UnixListener::bind(&path)?;
            listener.set_nonblocking(true)?;
            let mut openssl = Running::start(command.arg("-unix").arg(&path))?;
            let (stream, _) = openssl.wait_for(|| listener.accept().ok())?;
            Ok((openssl, stacks::leaf(Socket::Unix(stream))?))
        }
    }
}

/// A port of 127.0.0.1 that nobody else is given, and the socket that keeps it: bound, but not listening, so that a server that
/// also sets `SO_REUSEADDR`, as openssl does, can listen on it (socket(7)).
fn reserve_port() -> Result<(SocketAddr, OwnedFd), Failure> {
    let keeper = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_socket_reuseaddr(&keeper, true)?;
    bind(&keeper, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    let address = SocketAddr::try_from(getsockname(&keeper)?)?;
    Ok((address, keeper))
}

/// The program, ended with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self, Failure> {
        Ok(Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?))
    }

    /// Asks until `ready` has an answer or the program is gone; it does not tell when it listens.
    fn wait_for<T>(&mut self, ready: impl Fn() -> Option<T>) -> Result<T, Failure> {
        loop {
            if let Some(answer) = ready() {
                return Ok(answer);
            }
            if let Some(status) = self.0.try_wait()? {
                return Err(format!("openssl ended before it was connected: {status}").into());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A private directory with the certificates, and room for a socket.
struct Files(TempDir);

impl Files {
    fn new() -> Result<Self, Failure> {
        let files = Self(tempfile::tempdir()?);
        let authority = authority()?;
        fs::write(files.path("root.der"), authority.root())?;
        fs::write(files.path("server.der"), &authority.server_chain()[0])?;
        fs::write(files.path("server-key.der"), authority.server_key().secret_der())?;
        Ok(files)
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.0.path()).join(name)
    }
}
