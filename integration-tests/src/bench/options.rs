//! What a user may ask of `stackbench`: `key=value` words, each with a default.

use std::time::Duration;

use channel_stack::Stack;

use crate::content;
use crate::sockets::Transport;
use crate::words::{Refusal, words};

words! {
    /// Whose code moves the bytes, at both ends.
    Peer {
        /// This project.
        Project = "project",
        /// Bare system calls on the socket.
        Raw = "raw",
        /// rustls' `StreamOwned`.
        Rustls = "rustls",
        /// tungstenite, over `StreamOwned` where there is TLS.
        Tungstenite = "tungstenite",
    }
}

words! {
    /// Who sends.
    Sends {
        /// Client to server.
        Client = "c2s",
        /// Server to client.
        Server = "s2c",
    }
}

words! {
    /// What the sender does with each message.
    Mode {
        /// It leaves at once.
        Send = "send",
        /// It may wait for more: corked, and one flush at the end.
        Write = "write",
    }
}

words! {
    /// The TLS 1.3 cipher suite.
    Cipher {
        /// `TLS_AES_128_GCM_SHA256`
        Aes128 = "aes128",
        /// `TLS_AES_256_GCM_SHA384`
        Aes256 = "aes256",
    }
}

words! {
    /// The cryptography below TLS.
    Provider {
        /// aws-lc-rs
        Aws = "aws",
        /// ring
        Ring = "ring",
    }
}

words! {
    /// Who reads at the end that sends.
    Reader {
        /// Nobody.
        None = "none",
        /// A thread that sleeps in a read all the while, as that of a client which waits for answers.
        Asleep = "asleep",
    }
}

/// One run of one test.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose code.
    pub peer: Peer,
    /// Over what.
    pub transport: Transport,
    /// Which layers.
    pub stack: Stack,
    /// Who sends.
    pub dir: Sends,
    /// Whether messages gather.
    pub mode: Mode,
    /// Who reads where the sender writes.
    pub reader: Reader,
    /// How it is enciphered.
    pub cipher: Cipher,
    /// By what library.
    pub provider: Provider,
    /// Bytes in a message.
    pub size: usize,
    /// How long is measured, after a warm-up.
    pub time: Duration,
    /// Bytes of the receiver's buffer.
    pub receive_buffer: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            peer: Peer::Project,
            transport: Transport::Unix,
            stack: Stack::Wss,
            dir: Sends::Client,
            mode: Mode::Send,
            reader: Reader::None,
            cipher: Cipher::Aes128,
            provider: Provider::Aws,
            size: 64 * 1024,
            time: Duration::from_secs(3),
            receive_buffer: 64 * 1024,
        }
    }
}

/// The keys of [`Options::parse`] and their values, for a usage line.
pub const KEYS: &str = "peer=project|raw|rustls|tungstenite transport=unix|tcp stack=plain|tls|ws|wss size=BYTES \
                        secs=SECONDS dir=c2s|s2c mode=send|write reader=none|asleep cipher=aes128|aes256 provider=aws|ring rsize=KIB";

impl Options {
    /// Reads `key=value` words over the defaults.
    ///
    /// # Errors
    /// An unknown key, a value out of range, or a peer that does not have the stack.
    pub fn parse(words: &[String]) -> Result<Self, Refusal> {
        Self::default().with(words)
    }

    /// As [`parse`](Self::parse), for round trips, whose messages are small and leave at once.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_round_trips(words: &[String]) -> Result<Self, Refusal> {
        let options = Self { size: 64, ..Self::default() }.with(words)?;
        let refusal = match (options.mode, options.reader) {
            (Mode::Send, Reader::None) => return Ok(options),
            (Mode::Write, _) => "mode=write: a message that waits for more is never answered",
            (Mode::Send, Reader::Asleep) => "reader=asleep: whoever makes round trips reads by itself",
        };
        Err(Refusal(refusal.to_owned()))
    }

    fn with(self, words: &[String]) -> Result<Self, Refusal> {
        let mut options = self;
        for word in words {
            let (key, value) = key_and_value(word, KEYS)?;
            match key {
                "peer" => options.peer = Peer::parse(key, value)?,
                "transport" => options.transport = Transport::parse(key, value)?,
                "stack" => options.stack = value.parse()?,
                "dir" => options.dir = Sends::parse(key, value)?,
                "mode" => options.mode = Mode::parse(key, value)?,
                "reader" => options.reader = Reader::parse(key, value)?,
                "cipher" => options.cipher = Cipher::parse(key, value)?,
                "provider" => options.provider = Provider::parse(key, value)?,
                "size" => options.size = number(key, value, 1, content::LONGEST)?,
                "secs" => options.time = seconds(value)?,
                "rsize" => options.receive_buffer = number(key, value, 1, 16 * 1024)? * 1024,
                _ => return Err(Refusal(format!("there is no key `{key}` (yet); the keys are: {KEYS}"))),
            }
        }
        options.check_peer()?;
        Ok(options)
    }

    /// Each peer but ours is one protocol, for one thread at a time.
    fn check_peer(&self) -> Result<(), Refusal> {
        if self.reader == Reader::Asleep && self.peer != Peer::Project {
            return Err(Refusal(format!("reader=asleep: peer={} is not for two threads at once", self.peer)));
        }
        let stacks: &[Stack] = match self.peer {
            Peer::Project => return Ok(()),
            Peer::Raw => &[Stack::Plain],
            Peer::Rustls => &[Stack::Tls],
            Peer::Tungstenite => &[Stack::Ws, Stack::Wss],
        };
        if stacks.contains(&self.stack) {
            return Ok(());
        }
        let stacks: Vec<String> = stacks.iter().map(Stack::to_string).collect();
        Err(Refusal(format!(
            "peer={} does not speak stack={}; it has stack={}",
            self.peer,
            self.stack,
            stacks.join("|")
        )))
    }
}

/// Both halves of `word`; `keys` is for a word that has no halves.
pub(super) fn key_and_value<'a>(word: &'a str, keys: &str) -> Result<(&'a str, &'a str), Refusal> {
    word.split_once('=').ok_or_else(|| Refusal(format!("`{word}` is not key=value; the keys are: {keys}")))
}

pub(super) fn number(key: &str, word: &str, least: usize, most: usize) -> Result<usize, Refusal> {
    match word.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Refusal(format!("{key}={word}: give a whole number from {least} to {most}"))),
    }
}

/// Seconds, fractions allowed.
///
/// # Errors
/// If `word` is not a number from 0.05 to 3600.
pub fn seconds(word: &str) -> Result<Duration, Refusal> {
    match word.parse::<f64>() {
        Ok(secs) if (0.05..=3600.0).contains(&secs) => Ok(Duration::from_secs_f64(secs)),
        _ => Err(Refusal(format!("secs={word}: give a number from 0.05 to 3600"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Options::parse(&words).unwrap_err().to_string()
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_one_line_that_helps() {
        assert_eq!(refusal(&["peer=rustls", "stack=ws"]), "peer=rustls does not speak stack=ws; it has stack=tls");
        assert_eq!(refusal(&["stack=ssl"]), "unknown stack `ssl`; choose one of plain, tls, ws, wss");
        assert_eq!(refusal(&["size=0"]), "size=0: give a whole number from 1 to 1048576");
        assert_eq!(refusal(&["secs=long"]), "secs=long: give a number from 0.05 to 3600");
        assert!(refusal(&["reader=asleep", "peer=raw", "stack=plain"]).starts_with("reader=asleep: peer=raw is not"));
        assert!(refusal(&["engine=rustls-0.24"]).starts_with("there is no key `engine`"));
        assert!(refusal(&["fast"]).starts_with("`fast` is not key=value"));
        assert!(!refusal(&["dir=up"]).contains('\n'));
    }
}
