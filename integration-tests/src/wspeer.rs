//! Our end of one conversation with a foreign WebSocket program, driven by the command line.
//!
//! `serve` and `connect` open one connection, follow the `Script`, and print JSON lines: where a server listens, how many bytes have moved
//! so far, and at last the `report` of what came of it. The program ends with success whenever it has a report to give; whether
//! that is good is for the reader to judge.

mod calls;
mod conversation;
mod report;
mod script;

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use channel_stack::tls::Provider;
use channel_stack::tls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use channel_stack::{
    Channel, ClientCredentials, ClientOptions, ClientStack, Limits, ServerCredentials, ServerOptions, ServerStack,
    SocketAddress, SocketChannel, SocketListener,
};
use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::Failure;
use crate::certificates::{SERVER_NAME, authority};
use report::Journal;
use script::Script;

/// The files `certificates` writes, in DER.
const FILES: [&str; 3] = ["root.der", "server.der", "server-key.der"];

/// One end of a WebSocket conversation, over our channels.
#[derive(Debug, Parser)]
#[command(name = "wspeer", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a throw-away authority and a server certificate of it, and write them into a directory
    Certificates { directory: PathBuf },
    /// Listen on a free port of 127.0.0.1, say which, and serve one connection
    Serve(Serve),
    /// Connect to a server
    Connect(Connect),
}

#[derive(Args, Debug)]
struct Serve {
    /// Serve TLS, with the certificate that `certificates` wrote here
    #[arg(long, value_name = "DIRECTORY")]
    tls: Option<PathBuf>,
    #[command(flatten)]
    script: Script,
}

#[derive(Args, Debug)]
struct Connect {
    /// The server
    #[arg(long, value_name = "ADDRESS:PORT")]
    to: SocketAddr,
    /// What to ask it for
    #[arg(long, default_value = "/")]
    path: String,
    /// Speak TLS, and trust the authority that `certificates` wrote here
    #[arg(long, value_name = "DIRECTORY")]
    tls: Option<PathBuf>,
    #[command(flatten)]
    script: Script,
}

/// Runs the program with these arguments, the first being its own name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match Cli::try_parse_from(arguments) {
        Ok(Cli { command: Command::Certificates { directory } }) => write_certificates(&directory),
        Ok(Cli { command: Command::Serve(serve) }) => serve.run(),
        Ok(Cli { command: Command::Connect(connect) }) => connect.run(),
        Err(error) => error.exit(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wspeer: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write_certificates(directory: &Path) -> Result<(), Failure> {
    let authority = authority()?;
    let server = authority.server_chain();
    let contents = [&*authority.root(), &*server[0], authority.server_key().secret_der()].map(<[u8]>::to_vec);
    fs::create_dir_all(directory)?;
    for (name, content) in FILES.into_iter().zip(contents) {
        fs::write(directory.join(name), content)?;
    }
    Ok(())
}

impl Serve {
    fn run(self) -> Result<(), Failure> {
        let mut stack = ServerStack::new().limits(self.script.limits());
        if let Some(directory) = &self.tls {
            let [_, certificate, key] = FILES.map(|name| fs::read(directory.join(name)));
            let (chain, key) = (vec![CertificateDer::from(certificate?)], PrivatePkcs8KeyDer::from(key?));
            stack = stack.tls(&ServerCredentials::builder(Provider::AwsLcRs).identity(chain, key.into()).build()?);
        }
        let stack = stack.websocket(ServerOptions::default());
        let listener = SocketListener::bind(&SocketAddress::Inet(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        let SocketAddress::Inet(address) = listener.local_address() else {
            return Err("a TCP listener has no port".into());
        };
        let journal = Journal::new();
        journal.line(&json!({ "listening": address.port() }));
        let socket = listener.accept()?;
        listener.close();
        converse(stack.over(Box::new(socket))?, self.script, journal)
    }
}

impl Connect {
    fn run(self) -> Result<(), Failure> {
        let mut stack = ClientStack::new().limits(self.script.limits());
        if let Some(directory) = &self.tls {
            let root = CertificateDer::from(fs::read(directory.join(FILES[0]))?);
            stack = stack.tls(&ClientCredentials::builder(Provider::AwsLcRs).roots([root]).build()?, SERVER_NAME);
        }
        let host = format!("{SERVER_NAME}:{}", self.to.port());
        let stack = stack.websocket(ClientOptions::new(&host).path(self.path));
        let journal = Journal::new();
        let socket = SocketChannel::connect(&SocketAddress::Inet(self.to))?;
        converse(stack.over(Box::new(socket))?, self.script, journal)
    }
}

fn converse(channel: Box<dyn Channel>, script: Script, journal: Journal) -> Result<(), Failure> {
    let channel: Arc<dyn Channel> = Arc::from(channel);
    let journal = Arc::new(journal);
    let outcome = conversation::hold(&channel, script, &journal)?;
    journal.line(&json!({ "result": report::report(&*channel, &outcome, &journal) }));
    Ok(())
}

impl Script {
    fn limits(&self) -> Limits {
        let default = Limits::default();
        Limits { linger: self.linger, handshake: self.linger.max(default.handshake), ..default }
    }
}
