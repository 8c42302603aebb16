//! Byte streams of the standard library's kind: a bare socket, or `StreamOwned`. Neither gathers small writes, so
//! `mode=write` is `mode=send`.

use super::{Receiver, Sender};
use crate::content::Checker;
use crate::{Failure, peers};

/// One end; its buffer is empty on the sending side.
pub(super) struct Bytes {
    stream: Box<dyn peers::Stream>,
    buffer: Vec<u8>,
}

impl Bytes {
    pub(super) fn sending(stream: Box<dyn peers::Stream>) -> Self {
        Self::receiving(stream, 0)
    }

    pub(super) fn receiving(stream: Box<dyn peers::Stream>, buffer: usize) -> Self {
        Self { stream, buffer: vec![0; buffer] }
    }
}

impl Sender for Bytes {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.stream.write_all(message)?)
    }

    fn end(&mut self) -> Result<(), Failure> {
        Ok(self.stream.end()?)
    }
}

impl Receiver for Bytes {
    fn receive(&mut self, checker: &mut Checker) -> Result<bool, Failure> {
        let count = self.stream.read(&mut self.buffer)?;
        checker.take(&self.buffer[..count])?;
        Ok(count > 0)
    }
}
