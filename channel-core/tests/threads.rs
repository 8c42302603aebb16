//! What may cross threads, and what may stand behind `dyn`: pinned, so that nobody takes it back unawares.

use channel_core::engine::{Advance, Decoded, Decoder, Encoder, Ending, Handshake, Sink, Source, Stopped};
use channel_core::leaf::{CountedFd, FdHandlers, LeafChannel, Mode, Name};
use channel_core::*;

fn send_sync<T: Send + Sync + ?Sized>() {}
fn send<T: Send + ?Sized>() {}

#[test]
fn channels_and_what_they_hand_out_may_cross_threads() {
    send_sync::<dyn Channel>();
    send_sync::<Box<dyn Channel>>();
    send_sync::<MemoryChannel>();
    send_sync::<BufferChannel>();
    send_sync::<NullChannel>();
    send_sync::<LeafChannel<()>>();
    send_sync::<StdIo<'_, Box<dyn Channel>>>();
    send_sync::<Layers<'_>>();
    send_sync::<Error>();
    send_sync::<ErrorKind>();
    send_sync::<GivenBack<Box<dyn Channel>>>();
    send_sync::<Features>();
    send_sync::<ReadFlags>();
    send_sync::<WriteFlags>();
    send_sync::<Limits>();
    send_sync::<Direction>();
    send_sync::<Interest>();
    send_sync::<Interests>();
    send_sync::<Readiness>();
    send_sync::<Ticket>();
}

/// An engine need not be `Sync`: its locks are the machinery's.
#[test]
fn what_implementers_use_may_cross_threads() {
    struct Engine(std::cell::Cell<u8>);
    impl Decoder for Engine {
        fn decode(&mut self, _: &mut [u8], _: &mut Sink<'_, '_>) -> Result<Decoded> {
            unreachable!("{}", self.0.get())
        }
        fn end(&mut self, _: usize) -> Result<()> {
            Ok(())
        }
    }
    impl Encoder for Engine {
        fn encode(&mut self, _: &mut Source<'_, '_>, _: &mut Buffer) -> Result<()> {
            Ok(())
        }
    }
    send_sync::<Layered<Engine, Engine>>();
    send_sync::<Parts>();
    send_sync::<Buffer>();
    send_sync::<CountedFd>();
    send_sync::<Mode>();
    send_sync::<Name>();
    send_sync::<News>();
    send_sync::<WaitQueue>();
    send_sync::<Decoded>();
    send_sync::<Stopped>();
    send_sync::<Ending>();
    send::<Advance<Engine, Engine>>();
    send_sync::<Source<'_, '_>>();
}

#[derive(Debug)]
struct Owner;

impl Claimant for Owner {
    fn call(&self) {}
    fn lost(&self) {}
}

#[test]
fn loops_handlers_watches_and_tasks_may_cross_threads() {
    send_sync::<dyn AioContext>();
    send_sync::<dyn Callee>();
    send::<EventLoop>();
    send_sync::<LoopHandle>();
    #[cfg(feature = "tokio")]
    send_sync::<TokioContext>();
    send_sync::<AioHandler>();
    send_sync::<AioChange>();
    send_sync::<Callback>();
    send_sync::<Removed>();
    send_sync::<Registration>();
    send_sync::<Claim<Owner>>();
    send_sync::<dyn Claimable>();
    send_sync::<FdHandlers>();
    send_sync::<Condition>();
    send_sync::<Watch>();
    send_sync::<WatchGuard>();
    send_sync::<AioChannel>();
    send_sync::<Attached>();
    send_sync::<Detached>();
    send_sync::<DetachError>();
    send_sync::<Ready<'_>>();
    send_sync::<Turn>();
    send_sync::<Timer>();
    send_sync::<TimerId>();
    send_sync::<Task<()>>();
}

/// So that a call of it can be sent to another thread, as work-stealing runtimes do.
#[test]
fn the_calls_of_a_task_may_cross_threads() {
    fn is_send<T: Send>(_: impl FnOnce(&'static AioChannel) -> T) {}
    is_send(|channel| channel.read(&mut []));
    is_send(|channel| channel.write_all(b""));
    is_send(|channel| channel.handshake());
    is_send(|channel| channel.close());
}

#[test]
fn traits_that_stand_behind_dyn_can() {
    fn dynamic<T: ?Sized>() {}
    dynamic::<dyn Channel>();
    dynamic::<dyn AioContext>();
    dynamic::<dyn Callee>();
    dynamic::<dyn Claimable>();
    dynamic::<dyn Claimant>();
    dynamic::<dyn Decoder>();
    dynamic::<dyn Encoder>();
    dynamic::<dyn Handshake<Box<u8>, Box<u8>>>();
}
