//! Channels in event loops.
//!
//! * `context`: what a channel asks of a loop, anybody's loop; and which loop this thread runs.
//! * `handler`: what is set on a channel, and what was removed from it.
//! * `registration`: one handler, called one at a time, and never after its removal.
//! * `fd_handlers`: the handlers of a leaf, which lie on a descriptor; `polled` has whether their loop polls that.
//! * `channel`: a channel for tasks; `drive` has its futures, `waiter` has who waits in it, `turn` whose turn it is, `attached` its way from loop to loop.
//! * `watch`: a callback for conditions; `hangup` for those that are no readiness.
//! * `poll`: a channel as the `AsyncRead` and `AsyncWrite` of tokio and futures-io.
//! * `event_loop`: the loop that ships, and its tasks.
//! * `tokio`: a tokio runtime as a loop.

mod attached;
mod channel;
mod context;
mod drive;
mod event_loop;
mod fd_handlers;
mod handler;
mod hangup;
#[cfg(any(feature = "tokio", feature = "futures-io"))]
mod poll;
mod polled;
mod registration;
#[cfg(feature = "tokio")]
mod tokio;
mod turn;
mod waiter;
mod watch;

pub use attached::{Attached, DetachError, Detached};
pub use channel::AioChannel;
pub(crate) use context::is_same_context;
pub use context::{AioContext, EnteredContext, Timer, TimerId, current_context, enter_context};
pub use drive::Ready;
pub use event_loop::{EventLoop, LoopHandle, Task};
pub use fd_handlers::FdHandlers;
pub use handler::{AioChange, AioHandler, Callback, Removed};
pub use registration::{Callee, Registration};
#[cfg(feature = "tokio")]
pub use tokio::TokioContext;
pub use turn::Turn;
pub use watch::{Condition, Watch, WatchGuard};
