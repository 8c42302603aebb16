//! Messages through tungstenite. It is read as its users read it, message by message, without a copy into a buffer of
//! the caller's.

use tungstenite::{Error, Message};

use super::{Receiver, Sender};
use crate::Failure;
use crate::bench::options::Mode;
use crate::content::Checker;
use crate::peers::TungsteniteSocket;

pub(super) struct Messages {
    socket: TungsteniteSocket,
    mode: Mode,
}

impl Messages {
    pub(super) fn new(socket: TungsteniteSocket, mode: Mode) -> Self {
        Self { socket, mode }
    }
}

impl Sender for Messages {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        // A message owns its bytes; who has a slice, as the users of a channel have, pays for this copy.
        let message = Message::binary(message.to_vec());
        match self.mode {
            Mode::Send => self.socket.send(message)?,
            Mode::Write => self.socket.write(message)?,
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.socket.close(None)?;
        self.socket.flush()?;
        Ok(())
    }
}

impl Receiver for Messages {
    fn receive(&mut self, checker: &mut Checker) -> Result<bool, Failure> {
        match self.socket.read() {
            Ok(Message::Binary(bytes)) => {
                checker.take(&bytes)?;
                Ok(true)
            }
            Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => Ok(false),
            Ok(other) => Err(format!("received {other:?} in a stream of binary messages").into()),
            Err(error) => Err(error.into()),
        }
    }
}
