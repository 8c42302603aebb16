//! The line between the two processes: one order or answer a line, some with a descriptor.

use std::collections::VecDeque;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use channel_core::{AioChange, AioContext, AioHandler, Channel, ReadFlags, WriteFlags};
use channel_socket::SocketChannel;

use super::Crowd;
use crate::Failure;

/// What one process tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// To the clients, with a socket: open a connection on it, and have one message echoed. A busy one will do that again.
    Open(Crowd, bool),
    /// To the clients: keep one message in flight on each busy connection of this crowd.
    Talk(Crowd),
    /// To the clients: be silent, and say so when no message is in flight any more.
    Rest,
    /// The answer to `Rest`: messages sent since the beginning, and those that came back whole.
    Rested(u64, u64),
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(crowd, true) => write!(f, "open {crowd} busy"),
            Self::Open(crowd, false) => write!(f, "open {crowd} idle"),
            Self::Talk(crowd) => write!(f, "talk {crowd}"),
            Self::Rest => f.write_str("rest"),
            Self::Rested(sent, answered) => write!(f, "rested {sent} {answered}"),
        }
    }
}

impl FromStr for Message {
    type Err = Failure;

    fn from_str(line: &str) -> Result<Self, Failure> {
        let words: Vec<&str> = line.split(' ').collect();
        Ok(match words[..] {
            ["open", crowd, "busy"] => Self::Open(Crowd::parse("open", crowd)?, true),
            ["open", crowd, "idle"] => Self::Open(Crowd::parse("open", crowd)?, false),
            ["talk", crowd] => Self::Talk(Crowd::parse("talk", crowd)?),
            ["rest"] => Self::Rest,
            ["rested", sent, answered] => Self::Rested(sent.parse()?, answered.parse()?),
            _ => return Err(format!("the other process said `{line}`").into()),
        })
    }
}

/// One end of the line.
#[derive(Debug)]
pub(super) struct Control {
    channel: SocketChannel,
    arrived: Mutex<Arrived>,
}

#[derive(Debug, Default)]
struct Arrived {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

/// What [`Control::receive`] found.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Messages, each with the descriptor that came along.
    pub(super) messages: Vec<(Message, Option<OwnedFd>)>,
    /// Whether the other process hung up.
    pub(super) ended: bool,
}

impl Control {
    /// Our end, and the one for the other process.
    pub(super) fn pair() -> Result<(Arc<Self>, OwnedFd), Failure> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self::over(ours.into())?, theirs.into()))
    }

    /// The end that this process was started with, as its standard input.
    pub(super) fn inherited() -> Result<Arc<Self>, Failure> {
        Self::over(std::io::stdin().as_fd().try_clone_to_owned()?)
    }

    fn over(fd: OwnedFd) -> Result<Arc<Self>, Failure> {
        let channel = SocketChannel::from_fd(fd).map_err(|refused| refused.to_string())?;
        Ok(Arc::new(Self { channel, arrived: Mutex::default() }))
    }

    /// Sends `message`, with `fd` where it has one. It waits while the other process does not read; messages are so few that
    /// it never comes to that.
    pub(super) fn send(&self, message: Message, fd: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
        let line = format!("{message}\n");
        let sent = self.channel.writev_full(&[IoSlice::new(line.as_bytes())], fd.as_slice(), WriteFlags::empty())?;
        if sent < line.len() {
            return Err("the line to the other process is full".into());
        }
        Ok(())
    }

    /// Has `heard` called on `context`, and on no other any more, when there is something to receive.
    pub(super) fn listen(
        &self,
        context: Arc<dyn AioContext>,
        heard: impl Fn() + Send + Sync + 'static,
    ) -> Result<(), Failure> {
        let handler = AioHandler::new(context, heard);
        drop(self.channel.set_aio_fd_handler(AioChange::Set(handler), AioChange::Keep)?);
        Ok(())
    }

    /// Lets go of what [`listen`](Self::listen) set.
    pub(super) fn ignore(&self) {
        // Clearing can fail only where nothing is left to clear.
        let _ = self.channel.set_aio_fd_handler(AioChange::Clear, AioChange::Keep);
    }

    /// Tells the other process that this is the end.
    pub(super) fn hang_up(&self) -> Result<(), Failure> {
        Ok(self.channel.close()?)
    }

    /// Takes what has arrived, without waiting.
    pub(super) fn receive(&self) -> Result<Received, Failure> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        let Arrived { bytes, fds } = &mut *arrived;
        let mut received = Received::default();
        let mut buffer = [0; 1024];
        let mut new_fds = Vec::new();
        loop {
            let bufs = &mut [IoSliceMut::new(&mut buffer)];
            match self.channel.readv_full(bufs, Some(&mut new_fds), ReadFlags::DONT_WAIT) {
                Ok(0) => received.ended = true,
                Ok(count) => {
                    bytes.extend_from_slice(&buffer[..count]);
                    fds.extend(new_fds.drain(..));
                    continue;
                }
                Err(error) if error.is_would_block() => {}
                // A process that is gone with our words unread.
                Err(error) if error.is_disconnected() => received.ended = true,
                Err(error) => return Err(error.into()),
            }
            break;
        }
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            let message: Message = std::str::from_utf8(&line[..end])?.parse()?;
            // Descriptors come with the first byte of their message, so their orders are the same.
            let fd = match message {
                Message::Open(..) => Some(fds.pop_front().ok_or("a socket did not come along")?),
                _ => None,
            };
            received.messages.push((message, fd));
        }
        Ok(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for message in [
            Message::Open(Crowd::Few, true),
            Message::Open(Crowd::Many, false),
            Message::Talk(Crowd::Many),
            Message::Rest,
            Message::Rested(7, u64::MAX),
        ] {
            assert_eq!(message.to_string().parse::<Message>().unwrap(), message);
        }
        assert!("talk".parse::<Message>().is_err());
    }

    #[test]
    fn each_socket_arrives_with_its_order() {
        let (here, there) = Control::pair().unwrap();
        let there = Control::over(there).unwrap();
        here.send(Message::Rest, None).unwrap();
        for busy in [true, false] {
            let (_, sent) = std::os::unix::net::UnixStream::pair().unwrap();
            here.send(Message::Open(Crowd::Few, busy), Some(sent.as_fd())).unwrap();
        }
        drop(here);
        let received = there.receive().unwrap();
        let orders: Vec<_> = received.messages.iter().map(|(message, fd)| (*message, fd.is_some())).collect();
        let open = |busy| (Message::Open(Crowd::Few, busy), true);
        assert_eq!(orders, [(Message::Rest, false), open(true), open(false)]);
        assert!(received.ended);
    }
}
