//! What a user may ask of `stackbench wakeups`.

use std::time::Duration;

use channel_stack::Stack;

use super::super::options::{Cipher, Peer, Provider, key_and_value, number, seconds};
use crate::sockets::Transport;
use crate::words::{Refusal, words};

words! {
    /// How the server is written.
    Serving {
        /// A read handler a connection, set with `set_aio_fd_handler`.
        Handlers = "handlers",
        /// A task a connection, with an `AioChannel`, on the loop's own executor.
        Tasks = "tasks",
    }
}

/// One run of `wakeups`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Over what.
    pub transport: Transport,
    /// Which layers.
    pub stack: Stack,
    /// How many connections.
    pub n: usize,
    /// How the server is written.
    pub mode: Serving,
    /// How it is enciphered.
    pub cipher: Cipher,
    /// By what library.
    pub provider: Provider,
    /// How long each is measured: many connections, few, and silence. All rounds together, warm-up not counted.
    pub time: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            transport: Transport::Unix,
            stack: Stack::Wss,
            n: 10_000,
            mode: Serving::Handlers,
            cipher: Cipher::Aes128,
            provider: Provider::Aws,
            time: Duration::from_secs(3),
        }
    }
}

/// The keys of [`Options::parse`] and their values, for a usage line.
pub const KEYS: &str = "peer=project transport=unix|tcp stack=plain|tls|ws|wss n=CONNECTIONS secs=SECONDS \
                        mode=handlers|tasks cipher=aes128|aes256 provider=aws|ring";

impl Options {
    /// Reads `key=value` words over the defaults.
    ///
    /// # Errors
    /// An unknown key, a value out of range, or a peer other than ours.
    pub fn parse(words: &[String]) -> Result<Self, Refusal> {
        let mut options = Self::default();
        for word in words {
            let (key, value) = key_and_value(word, KEYS)?;
            match key {
                "peer" if Peer::parse(key, value)? == Peer::Project => {}
                "peer" => return Err(Refusal(format!("wakeups has no peer={value} (yet); it has peer=project"))),
                "transport" => options.transport = Transport::parse(key, value)?,
                "stack" => options.stack = value.parse()?,
                "n" => options.n = number(key, value, 1, 1_000_000)?,
                "secs" => options.time = seconds(value)?,
                "mode" => options.mode = Serving::parse(key, value)?,
                "cipher" => options.cipher = Cipher::parse(key, value)?,
                "provider" => options.provider = Provider::parse(key, value)?,
                _ => return Err(Refusal(format!("wakeups has no key `{key}`; the keys are: {KEYS}"))),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(word: &str) -> String {
        Options::parse(&[word.to_owned()]).unwrap_err().to_string()
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_one_line_that_helps() {
        assert_eq!(refusal("n=0"), "n=0: give a whole number from 1 to 1000000");
        assert_eq!(refusal("mode=send"), "mode=send: choose one of handlers, tasks");
        assert_eq!(refusal("peer=raw"), "wakeups has no peer=raw (yet); it has peer=project");
        assert!(refusal("size=64").starts_with("wakeups has no key `size`"));
        assert!(!refusal("size=64").contains('\n'));
    }
}
