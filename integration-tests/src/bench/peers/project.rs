//! Our own stacks, behind `dyn Channel` as their users have them.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use channel_core::{Channel, ChannelExt};

use super::{Receiver, Sender};
use crate::Failure;
use crate::bench::options::{Mode, Reader};
use crate::content::Checker;

/// One end; its buffer is empty on the sending side.
pub(super) struct Stacked {
    channel: Arc<dyn Channel>,
    buffer: Vec<u8>,
    /// Asleep in a read.
    reader: Option<JoinHandle<()>>,
}

impl Stacked {
    pub(super) fn sending(channel: Box<dyn Channel>, mode: Mode, reader: Reader) -> Result<Self, Failure> {
        let mut sending = Self::receiving(channel, 0)?;
        sending.channel.set_cork(mode == Mode::Write);
        if reader == Reader::Asleep {
            let channel = Arc::clone(&sending.channel);
            let reads = move || drop(channel.read(&mut [0])); // the end, in the end
            sending.reader = Some(thread::Builder::new().name("reader".to_owned()).spawn(reads)?);
        }
        Ok(sending)
    }

    pub(super) fn receiving(channel: Box<dyn Channel>, buffer: usize) -> Result<Self, Failure> {
        channel.handshake()?;
        Ok(Self { channel: channel.into(), buffer: vec![0; buffer], reader: None })
    }
}

impl Drop for Stacked {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = self.channel.close(); // wakes it
            let _ = reader.join();
        }
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
