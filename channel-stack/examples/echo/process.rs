//! The clients' process, and what it is told.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use channel_stack::SocketAddress;
use channel_stack::tls::pki_types::CertificateDer;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, getrlimit, pidfd_open, setrlimit};

use super::Failure;

/// What the user of a server with a crowd chose.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many clients.
    pub clients: usize,
    /// How long all of them stay, and say nothing, after they have conversed.
    pub hold: Duration,
}

impl Options {
    /// Reads `[CLIENTS] [--hold SECONDS]`.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Failure> {
        let mut options = Self { clients: 1000, hold: Duration::ZERO };
        let usage = || Failure::from("usage: [CLIENTS] [--hold SECONDS]");
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--hold" {
                let seconds = words.next().and_then(|word| word.parse().ok());
                options.hold = Duration::from_secs(seconds.ok_or_else(usage)?);
            } else {
                options.clients = word.parse().map_err(|_| usage())?;
            }
        }
        Ok(options)
    }

    /// Raises this process' limit of descriptors, if it must be, as far as anybody may: to the hard limit (setrlimit(2)).
    pub(crate) fn allow_descriptors(&self) -> Result<(), Failure> {
        // A connection is one, at most three: a unix socket's writer waits for another, and a watch has its own.
        let needed = (self.clients as u64).saturating_mul(3).saturating_add(64);
        let limit = getrlimit(Resource::Nofile);
        if limit.current.is_none_or(|soft| soft >= needed) {
            return Ok(());
        }
        if let Some(hard) = limit.maximum.filter(|hard| *hard < needed) {
            let clients = self.clients;
            return Err(format!(
                "{clients} clients may need {needed} descriptors, and the hard limit of this process is {hard} (ulimit -Hn)"
            )
            .into());
        }
        Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
    }
}

/// What the clients are told: one line at their standard input.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) address: SocketAddress,
    /// Whom to trust.
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) options: Options,
}

impl Order {
    /// Reads it from our standard input.
    pub(crate) fn receive() -> Result<Self, Failure> {
        let mut line = String::new();
        io::stdin().read_line(&mut line)?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let [family, address, certificate, clients, hold] = words[..] else {
            return Err("standard input says nothing of a server: the clients are started by one".into());
        };
        let address = match family {
            "inet" => SocketAddress::Inet(address.parse()?),
            _ => SocketAddress::UnixAbstract(of_hex(address)?),
        };
        let options = Options { clients: clients.parse()?, hold: Duration::from_secs(hold.parse()?) };
        Ok(Self { address, certificate: of_hex(certificate)?.into(), options })
    }

    fn line(&self) -> Result<String, Failure> {
        let address = match &self.address {
            SocketAddress::Inet(address) => format!("inet {address}"),
            SocketAddress::UnixAbstract(name) => format!("abstract {}", hex(name)),
            other => return Err(format!("clients are not told of {other}").into()),
        };
        let (certificate, options) = (hex(&self.certificate), self.options);
        Ok(format!("{address} {certificate} {} {}\n", options.clients, options.hold.as_secs()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn of_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits = |at| text.get(at..at + 2).ok_or("half a byte");
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(digits(at)?, 16)?)).collect()
}

/// A process with clients. Dropping this ends it; and it ends itself when ours does, as its standard input ends then.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    ended: Arc<OwnedFd>,
    /// Not in `child`, whose `wait` would close it.
    _stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts `command`, which is to run [`crowd::run`](super::crowd::run).
    pub(crate) fn start(command: &mut Command, order: &Order) -> Result<Self, Failure> {
        let line = order.line()?;
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take();
        // Far less than a pipe holds.
        let told = stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(line.as_bytes()));
        match told.and_then(|()| Ok(pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?)) {
            Ok(pidfd) => Ok(Self { child, ended: Arc::new(pidfd), _stdin: stdin }),
            Err(error) => {
                end(&mut child);
                Err(error.into())
            }
        }
    }

    /// Readable once it has ended (pidfd_open(2)).
    pub(crate) fn ended(&self) -> &Arc<OwnedFd> {
        &self.ended
    }

    /// Waits for the end, and says what became of the clients.
    pub(crate) fn verdict(mut self) -> Result<(), Failure> {
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the clients failed: {status}").into()) }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Does nothing to one that has ended and was waited for.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}
