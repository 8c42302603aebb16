//! A random case: a stack, and what two threads at each end of it do. It prints as a short program, and parses from one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use channel_core::Shutdown;
use channel_testkit::adverse::HARMLESS;

/// One case. Its text is the whole of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) leaf: Leaf,
    /// The lowest first.
    pub(crate) layers: Vec<Layer>,
    pub(crate) bounds: Bounds,
    /// The near end, and the far end.
    pub(crate) ends: [End; 2],
}

/// What lies at the bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// A pair in memory that holds so many bytes.
    Memory(usize),
    Socketpair(Room),
    Unix(Room),
    Tcp,
    Pipe(Room),
}

/// The buffers of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// As the system makes them.
    Ample,
    /// As small as the system lets them be.
    Small,
}

/// One layer over what is below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// TLS, where the near end has this role.
    Tls(Role),
    /// WebSocket, where the near end has this role, with half-close or without.
    Ws(Role, bool),
    /// The adverse channel of this place in [`HARMLESS`], at one end.
    Adverse(usize, Side),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Near,
    Far,
}

/// The limits of every layer, at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) linger: Duration,
    pub(crate) queued_bytes: usize,
    pub(crate) input_bytes: usize,
}

/// What is done at one end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) waits: Waits,
    /// By two threads. When the first has nothing more to do it calls `close_write`, and when the second has, it reads to the end;
    /// then the channel is closed.
    pub(crate) threads: [Vec<Op>; 2],
}

/// How the calls of an end wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// In the call, in blocking mode.
    Blocking,
    /// For readiness, in non-blocking mode.
    NonBlocking,
    /// For a handler on an event loop.
    Handlers,
    /// As a task of an [`AioChannel`](channel_core::AioChannel).
    Tasks,
}

/// One step of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Writes so many bytes, waiting when it must.
    Write(usize),
    /// One write with `DONT_WAIT`.
    WriteNow(usize),
    /// Reads so many bytes, or to the end, waiting when it must.
    Read(usize),
    /// One read with `DONT_WAIT`.
    ReadNow(usize),
    /// Takes at most so many bytes where they lie.
    Lend(usize),
    Cork(bool),
    Flush,
    Ping,
    KeyUpdate,
    /// `set_blocking`; only where an end waits in its calls or for readiness.
    Blocking(bool),
    /// To the other event loop; only where an end waits on one.
    Move,
    CloseWrite,
    Close,
    /// `close_by` so many milliseconds from now.
    CloseBy(u64),
    Shutdown(Shutdown),
    /// Does nothing for so many milliseconds.
    Pause(u64),
    /// Waits until the other thread of this end is here as well, or has done all it had to.
    Meet,
}

impl Case {
    /// The layers that are protocols.
    pub(crate) fn protocols(&self) -> impl DoubleEndedIterator<Item = &Layer> {
        self.layers.iter().filter(|layer| !matches!(layer, Layer::Adverse(..)))
    }

    /// Whether bytes come in so small pieces that few of them take long.
    pub(crate) fn is_slow(&self) -> bool {
        let small = |layer: &Layer| matches!(layer, Layer::Adverse(kind, _) if matches!(HARMLESS[*kind].0, "one_byte" | "random_cuts"));
        matches!(self.leaf, Leaf::Memory(..1000))
            || self.layers.iter().any(small)
            || (!self.layers.is_empty() && self.bounds.queued_bytes < 1000)
    }

    /// The same with sizes that do not take long, and only steps that mean something.
    pub(crate) fn tamed(mut self) -> Self {
        let most = match self.leaf {
            Leaf::Memory(..50) => 300,
            _ if self.is_slow() => 4000,
            _ => usize::MAX,
        };
        for end in &mut self.ends {
            let on_loop = matches!(end.waits, Waits::Handlers | Waits::Tasks);
            for steps in &mut end.threads {
                steps.retain(|step| match step {
                    Op::Move => on_loop,
                    Op::Blocking(_) => !on_loop,
                    _ => true,
                });
                for step in steps {
                    match step {
                        Op::Write(size) | Op::WriteNow(size) | Op::Read(size) | Op::ReadNow(size) | Op::Lend(size) => {
                            *size = (*size).min(most);
                        }
                        _ => {}
                    }
                }
            }
        }
        self
    }
}

impl Layer {
    /// Whether its end asks for the peer's.
    pub(crate) fn shakes_hands(&self) -> bool {
        matches!(self, Self::Ws(_, false))
    }
}

/// Words for values, both ways.
macro_rules! words {
    ($name:ident: $($value:path = $word:literal),+) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($value => $word,)+ })
            }
        }
        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($value),)+
                    _ => Err(format!("`{text}` is none of {}", [$($word),+].join(", "))),
                }
            }
        }
    };
}

words!(Role: Self::Client = "client", Self::Server = "server");
words!(Side: Self::Near = "near", Self::Far = "far");
words!(Waits: Self::Blocking = "blocking", Self::NonBlocking = "non_blocking", Self::Handlers = "handlers", Self::Tasks = "tasks");

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "leaf {}", self.leaf)?;
        writeln!(f, "layers {}", list(&self.layers))?;
        let Bounds { linger, queued_bytes, input_bytes } = self.bounds;
        writeln!(f, "limits linger {} ms, queued {queued_bytes}, input {input_bytes}", linger.as_millis())?;
        for (side, end) in [Side::Near, Side::Far].iter().zip(&self.ends) {
            writeln!(f, "{side} {}", end.waits)?;
            for (number, steps) in (1..).zip(&end.threads) {
                writeln!(f, "    {number}: {}", list(steps))?;
            }
        }
        Ok(())
    }
}

/// As [`Display`](fmt::Display): it is what a person wants to see of a case that failed.
impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

fn list(items: &[impl fmt::Display]) -> String {
    let words: Vec<String> = items.iter().map(ToString::to_string).collect();
    words.join(", ")
}

fn items<T: FromStr<Err = String>>(text: &str) -> Result<Vec<T>, String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::parse).collect()
}

impl FromStr for Case {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let mut next = |word: &str| {
            let line = lines.next().unwrap_or_default();
            let rest = line.strip_prefix(word).ok_or_else(|| format!("`{line}` does not begin with `{word}`"))?;
            Ok::<_, String>(rest.trim().to_owned())
        };
        let leaf = next("leaf")?.parse()?;
        let layers = items(&next("layers")?)?;
        let bounds = next("limits")?.parse()?;
        let mut end = |word: &str| {
            let waits = next(word)?.parse()?;
            Ok::<_, String>(End { waits, threads: [items(&next("1:")?)?, items(&next("2:")?)?] })
        };
        Ok(Self { leaf, layers, bounds, ends: [end("near")?, end("far")?] })
    }
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, room) = match self {
            Self::Memory(capacity) => return write!(f, "memory {capacity}"),
            Self::Socketpair(room) => ("socketpair", *room),
            Self::Unix(room) => ("unix", *room),
            Self::Tcp => ("tcp", Room::Ample),
            Self::Pipe(room) => ("pipe", *room),
        };
        write!(f, "{word}{}", if room == Room::Small { " small" } else { "" })
    }
}

impl FromStr for Leaf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let room = match rest {
            "" => Room::Ample,
            "small" => Room::Small,
            number if word == "memory" => return Ok(Self::Memory(size(number)?)),
            other => return Err(format!("`{other}` is no room of a leaf")),
        };
        match word {
            "socketpair" => Ok(Self::Socketpair(room)),
            "unix" => Ok(Self::Unix(room)),
            "tcp" => Ok(Self::Tcp),
            "pipe" => Ok(Self::Pipe(room)),
            _ => Err(format!("`{text}` is no leaf")),
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(role) => write!(f, "tls {role}"),
            Self::Ws(role, false) => write!(f, "ws {role}"),
            Self::Ws(role, true) => write!(f, "ws {role} half_close"),
            Self::Adverse(kind, side) => write!(f, "{} {side}", HARMLESS[*kind].0),
        }
    }
}

impl FromStr for Layer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, rest) = text.split_once(' ').ok_or_else(|| format!("`{text}` does not say which end is which"))?;
        match word {
            "tls" => Ok(Self::Tls(rest.parse()?)),
            "ws" => match rest.strip_suffix(" half_close") {
                Some(role) => Ok(Self::Ws(role.parse()?, true)),
                None => Ok(Self::Ws(rest.parse()?, false)),
            },
            _ => match HARMLESS.iter().position(|(name, _)| *name == word) {
                Some(kind) => Ok(Self::Adverse(kind, rest.parse()?)),
                None => Err(format!("`{word}` is no layer")),
            },
        }
    }
}

impl FromStr for Bounds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut values = Vec::new();
        for (item, word) in text.split(',').zip(["linger", "queued", "input"]) {
            let value = item.trim().strip_prefix(word).ok_or_else(|| format!("`{item}` is not `{word}`"))?;
            values.push(size(value.trim_end_matches(" ms").trim())?);
        }
        let [linger, queued_bytes, input_bytes] = values[..] else {
            return Err(format!("`{text}` does not say linger, queued and input"));
        };
        Ok(Self { linger: Duration::from_millis(linger as u64), queued_bytes, input_bytes })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(size) => write!(f, "write {size}"),
            Self::WriteNow(size) => write!(f, "write_now {size}"),
            Self::Read(size) => write!(f, "read {size}"),
            Self::ReadNow(size) => write!(f, "read_now {size}"),
            Self::Lend(size) => write!(f, "lend {size}"),
            Self::Cork(true) => f.write_str("cork"),
            Self::Cork(false) => f.write_str("uncork"),
            Self::Flush => f.write_str("flush"),
            Self::Ping => f.write_str("ping"),
            Self::KeyUpdate => f.write_str("key_update"),
            Self::Blocking(true) => f.write_str("blocking"),
            Self::Blocking(false) => f.write_str("non_blocking"),
            Self::Move => f.write_str("move"),
            Self::CloseWrite => f.write_str("close_write"),
            Self::Close => f.write_str("close"),
            Self::CloseBy(millis) => write!(f, "close_by {millis}"),
            Self::Shutdown(Shutdown::Read) => f.write_str("shutdown read"),
            Self::Shutdown(Shutdown::Write) => f.write_str("shutdown write"),
            Self::Shutdown(Shutdown::Both) => f.write_str("shutdown both"),
            Self::Pause(millis) => write!(f, "pause {millis}"),
            Self::Meet => f.write_str("meet"),
        }
    }
}

impl FromStr for Op {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        Ok(match (word, rest) {
            ("write", rest) => Self::Write(size(rest)?),
            ("write_now", rest) => Self::WriteNow(size(rest)?),
            ("read", rest) => Self::Read(size(rest)?),
            ("read_now", rest) => Self::ReadNow(size(rest)?),
            ("lend", rest) => Self::Lend(size(rest)?),
            ("cork", "") => Self::Cork(true),
            ("uncork", "") => Self::Cork(false),
            ("flush", "") => Self::Flush,
            ("ping", "") => Self::Ping,
            ("key_update", "") => Self::KeyUpdate,
            ("blocking", "") => Self::Blocking(true),
            ("non_blocking", "") => Self::Blocking(false),
            ("move", "") => Self::Move,
            ("close_write", "") => Self::CloseWrite,
            ("close", "") => Self::Close,
            ("close_by", rest) => Self::CloseBy(size(rest)? as u64),
            ("shutdown", "read") => Self::Shutdown(Shutdown::Read),
            ("shutdown", "write") => Self::Shutdown(Shutdown::Write),
            ("shutdown", "both") => Self::Shutdown(Shutdown::Both),
            ("pause", rest) => Self::Pause(size(rest)? as u64),
            ("meet", "") => Self::Meet,
            _ => return Err(format!("`{text}` is no step")),
        })
    }
}

fn size(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("`{text}` is no number"))
}
