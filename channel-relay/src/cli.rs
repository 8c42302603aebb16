//! The command line: what may be said, and one clear line for what may not.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use channel_stack::{Limits, Stack};
use clap::{Args, Parser, Subcommand};

use crate::demo::{Demo, Input, Transport, Verdict};
use crate::size;

/// Everything went as it should.
const SUCCESS: u8 = 0;
/// The run failed.
const FAILURE: u8 = 1;
/// What was asked for makes no sense; nothing was done.
const USAGE: u8 = 2;

/// How long a handshake may take, with both sides in this process: one that takes longer waits for bytes that never come.
const HANDSHAKE: Duration = Duration::from_secs(6);

/// Layered I/O channels on the command line: sockets, TLS and WebSocket in any stack.
#[derive(Debug, Parser)]
#[command(name = "relay", version, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = "Exit status: 0 if all went well, 1 if the run failed, 2 if the command line makes no sense.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(DemoArgs),
}

/// Stream real data through a whole stack, both ways at once, and prove that it arrived
///
/// Needs no set-up. Makes a throw-away certification authority and a server certificate in memory, listens on this machine
/// alone, connects as a client that verifies the server, and sends a file, repeated, in both directions at the same time.
///
/// Prints each side's stack, the speed of each direction in millions of bytes per second, and the SHA-256 of what was sent and
/// of what was received. The exit status is 0 only if everything arrived unchanged.
#[derive(Args, Debug)]
#[command(after_help = "Sizes: K, M, G (or KiB, MiB, GiB) are powers of 1024; KB, MB, GB are powers of 1000.

Examples:
  relay demo                                  256 MiB each way, WebSocket over TLS over TCP
  relay demo --stack tls --transport unix     TLS over a unix socket
  relay demo --file /usr/lib/os-release --bytes 1G
  relay demo --corrupt-at 100000              damage one bit and see who catches it

Exit status: 0 if everything arrived unchanged, 1 if not, 2 if the command line makes no sense.")]
struct DemoArgs {
    /// The layers: plain, tls, ws (WebSocket), or wss (WebSocket over TLS)
    #[arg(long, value_name = "STACK", default_value_t = Stack::Wss)]
    stack: Stack,

    /// What the layers stand on
    #[arg(long, value_enum, default_value_t = Transport::Tcp)]
    transport: Transport,

    /// How many bytes to send each way
    #[arg(long, value_name = "N", default_value = "256MiB", value_parser = size::parse_positive)]
    bytes: u64,

    /// What to send, repeated as often as it takes [default: this program's own executable]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,

    /// Flip one bit of byte N, counted from 0, of what goes over the wire from client to server: the run must fail, and says
    /// who caught it
    #[arg(long, value_name = "N", value_parser = size::parse)]
    corrupt_at: Option<u64>,
}

/// Runs the program with these arguments, the first being its own name: results go to stdout, and if something is wrong, one line
/// to stderr.
///
/// The exit status is 0 if all went well, 1 if the run failed, 2 if the arguments make no sense.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let status = match Cli::try_parse_from(arguments) {
        Ok(Cli { command: Command::Demo(arguments) }) => demo(arguments),
        Err(error) => explain(&error),
    };
    ExitCode::from(status)
}

fn demo(arguments: DemoArgs) -> u8 {
    let input = match arguments.file {
        Some(path) => Input::open(&path).map_err(|error| format!("--file {error}")),
        None => Input::own_executable(),
    };
    let input = match input {
        Ok(input) => input,
        Err(message) => {
            complain(&message);
            return USAGE;
        }
    };
    let demo = Demo {
        stack: arguments.stack,
        transport: arguments.transport,
        input,
        bytes: arguments.bytes,
        corrupt_at: arguments.corrupt_at,
        limits: Limits { handshake: HANDSHAKE, ..Limits::default() },
        progress: true,
    };
    match demo.run(&mut io::stdout().lock()) {
        Ok(verdict @ Verdict::Intact) => match writeln!(io::stdout(), "{verdict}") {
            Ok(()) => SUCCESS,
            Err(error) => {
                complain(&format!("the results cannot be written: {error}"));
                FAILURE
            }
        },
        Ok(verdict) => {
            complain(&verdict.to_string());
            FAILURE
        }
        Err(error) => {
            complain(&format!("{error:#}"));
            FAILURE
        }
    }
}

/// What clap has to say: help and version as it would print them, and a mistake in one line.
fn explain(error: &clap::Error) -> u8 {
    use clap::error::ErrorKind as Kind;
    let is_help = matches!(
        error.kind(),
        Kind::DisplayHelp | Kind::DisplayVersion | Kind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if is_help {
        return match error.print() {
            Ok(()) if error.exit_code() == 0 => SUCCESS,
            _ => USAGE,
        };
    }
    complain(&one_line(&error.render().to_string()));
    USAGE
}

/// The message without the usage and the hints below it.
fn one_line(rendered: &str) -> String {
    let message = rendered.strip_prefix("error: ").unwrap_or(rendered);
    let lines = message.lines().map(str::trim);
    let lines = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    lines.join(" ")
}

fn complain(message: &str) {
    // Where stderr is closed the exit status has to do.
    let _ = writeln!(io::stderr(), "relay: {message}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_told_in_one_line() {
        for (arguments, told) in [
            (["--bytes", "nonsense"], "invalid value 'nonsense' for '--bytes <N>': not a number of bytes"),
            (["--stack", "ssl"], "unknown stack `ssl`; choose one of plain, tls, ws, wss"),
            (["--transport", "udp"], "'udp' for '--transport <TRANSPORT>' [possible values: tcp, unix]"),
            (["--byts", "1"], "unexpected argument '--byts' found tip: a similar argument exists: '--bytes'"),
        ] {
            let error = Cli::try_parse_from(["relay", "demo"].into_iter().chain(arguments)).unwrap_err();
            let line = one_line(&error.render().to_string());
            assert!(line.contains(told) && !line.contains('\n') && !line.contains("Usage"), "{line}");
        }
    }
}
