//! 16 MiB each way at once, each way with content of its own.

use std::thread;

use channel_core::{Channel, ChannelExt, Shutdown};
use integration_tests::Failure;
use integration_tests::content::{self, Checker};
use integration_tests::peers::{Stream, TungsteniteSocket};
use tungstenite::{Error, Message};

/// How much goes each way.
pub(crate) const BYTES: u64 = 16 << 20;

/// Where the content that comes back starts, so that an echo of ours is not taken for it.
pub(crate) const BACK: u64 = 12_345;

/// Lengths of the pieces we write: below, at and above the sizes of records, frames and buffers.
const PIECES: [usize; 8] = [1, 125, 126, 16_384, 16_385, 65_536, 100_000, 300_001];

/// Opens our end and exchanges while `theirs` does the same at the other; ends with both streams ended politely.
pub(crate) fn exchange(
    ours: impl FnOnce() -> Result<Box<dyn Channel>, Failure>,
    theirs: impl FnOnce() -> Result<(), Failure> + Send,
) -> Result<(), Failure> {
    thread::scope(|scope| {
        let theirs = scope.spawn(theirs);
        let ours = ours().and_then(|channel| {
            send_and_receive(&*channel)?;
            channel.close_write()?;
            expect_end(&*channel)?;
            Ok(channel.close()?)
        });
        let theirs = theirs.join().map_err(|_| "the judge's thread panicked")?;
        match (ours, theirs) {
            (Ok(()), Ok(())) => Ok(()),
            (ours, theirs) => Err(format!("our end: {ours:?}; the judge: {theirs:?}").into()),
        }
    })
}

/// Both directions of our end at once. The stream is not ended: some judges stop sending once we do.
pub(crate) fn send_and_receive(channel: &dyn Channel) -> Result<(), Failure> {
    thread::scope(|scope| {
        let sending = scope.spawn(|| stop_both_on_failure(channel, send(channel)));
        let received = stop_both_on_failure(channel, receive(channel));
        let sent = sending.join().map_err(|_| "the sending thread panicked")?;
        match (sent, received) {
            (Ok(()), Ok(())) => Ok(()),
            (sent, received) => Err(format!("sending: {sent:?}, receiving: {received:?}").into()),
        }
    })
}

/// The other direction would wait for ever for a judge who waits for this one.
fn stop_both_on_failure(channel: &dyn Channel, result: Result<(), Failure>) -> Result<(), Failure> {
    if result.is_err() {
        channel.shutdown(Shutdown::Both)?;
    }
    result
}

fn send(channel: &dyn Channel) -> Result<(), Failure> {
    let mut sent = 0;
    for piece in PIECES.iter().cycle() {
        let count = (*piece as u64).min(BYTES - sent);
        if count == 0 {
            break;
        }
        channel.write_all(content::at(sent, usize::try_from(count)?))?;
        sent += count;
    }
    Ok(channel.flush()?)
}

fn receive(channel: &dyn Channel) -> Result<(), Failure> {
    let mut checker = Checker::starting_at(BACK);
    let mut buffer = vec![0; 100_000];
    while checker.offset() < BACK + BYTES {
        let count = channel.read(&mut buffer)?;
        if count == 0 {
            return Err(format!("the stream ended after {} bytes", checker.offset() - BACK).into());
        }
        checker.take(&buffer[..count])?;
    }
    Ok(())
}

/// The judge ends its stream as its protocol demands, and had no more to say.
pub(crate) fn expect_end(channel: &dyn Channel) -> Result<(), Failure> {
    match channel.read(&mut [0; 16])? {
        0 => Ok(()),
        count => Err(format!("{count} bytes too many").into()),
    }
}

/// A judge of one thread, over a byte stream: for each byte that comes, one goes back.
pub(crate) fn return_bytes(mut stream: Box<dyn Stream>) -> Result<(), Failure> {
    let mut checker = Checker::default();
    let mut buffer = vec![0; 50_000];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        let so_far = checker.offset();
        checker.take(&buffer[..count])?;
        stream.write_all(content::at(BACK + so_far, count))?;
        stream.flush()?;
    }
    stream.end()?;
    expect_all(checker)
}

/// The same over WebSocket: for each message one of its length. tungstenite answers Close by itself.
pub(crate) fn return_messages(mut socket: TungsteniteSocket) -> Result<(), Failure> {
    let mut checker = Checker::default();
    loop {
        match socket.read() {
            Ok(Message::Binary(bytes)) => {
                let so_far = checker.offset();
                checker.take(&bytes)?;
                socket.send(Message::binary(content::at(BACK + so_far, bytes.len())))?;
            }
            Ok(Message::Close(_)) => {}
            Ok(other) => return Err(format!("{other:?} in a stream of binary messages").into()),
            Err(Error::ConnectionClosed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    expect_all(checker)
}

fn expect_all(checker: Checker) -> Result<(), Failure> {
    if checker.offset() != BYTES {
        return Err(format!("the stream ended after {} bytes", checker.offset()).into());
    }
    Ok(())
}
