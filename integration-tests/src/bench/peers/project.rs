//! Our own stacks, behind `dyn Channel` as their users have them.

use channel_core::{Channel, ChannelExt};

use super::{Receiver, Sender};
use crate::Failure;
use crate::bench::options::Mode;
use crate::content::Checker;

/// One end; its buffer is empty on the sending side.
pub(super) struct Stacked {
    channel: Box<dyn Channel>,
    buffer: Vec<u8>,
}

impl Stacked {
    pub(super) fn sending(channel: Box<dyn Channel>, mode: Mode) -> Result<Self, Failure> {
        let sending = Self::receiving(channel, 0)?;
        sending.channel.set_cork(mode == Mode::Write);
        Ok(sending)
    }

    pub(super) fn receiving(channel: Box<dyn Channel>, buffer: usize) -> Result<Self, Failure> {
        channel.handshake()?;
        Ok(Self { channel, buffer: vec![0; buffer] })
    }
}

impl Sender for Stacked {
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        Ok(self.channel.write_all(message)?)
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.channel.flush()?;
        Ok(self.channel.close_write()?)
    }
}

impl Receiver for Stacked {
    fn receive(&mut self, checker: &mut Checker) -> Result<bool, Failure> {
        let count = self.channel.read(&mut self.buffer)?;
        checker.take(&self.buffer[..count])?;
        Ok(count > 0)
    }
}
