//! Channels in event loops, in two rooms.
//!
//! What a channel asks of a loop, anybody's loop; all that leaves, layers and the rest of the crate know:
//!
//! * `context`: the loop itself.
//! * `handler`: what is set on a channel, and what was removed from it.
//! * `registration`: one handler, called one at a time, and never after its removal.
//! * `claim`: a handler that is owned, by a watch, a task, a listener; their protocol stands there once.
//! * `fd_handlers`: the handlers of a leaf, which lie on a descriptor; `polled` has whether their loop polls that.
//!
//! And what stands on that and on the public face of the rest, as anybody's could; `tests/rooms.rs` keeps it so:
//!
//! * `current`: which loop this thread runs.
//! * `channel`: a channel for tasks; `drive` has its futures, `waiter` has who waits in it, `turn` whose turn it is, `attached` its way from loop to loop.
//! * `watch`: a callback for conditions; `hangup` for those that are no readiness.
//! * `poll`: a channel as the `AsyncRead` and `AsyncWrite` of tokio and futures-io.
//! * `event_loop`: the loop that ships, and its tasks.
//! * `tokio`: a tokio runtime as a loop.

mod attached;
mod channel;
mod claim;
mod context;
mod current;
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
pub use claim::{Claim, Claimable, Claimant};
pub(crate) use context::is_same_context;
pub use context::{AioContext, Timer, TimerId};
pub use current::{EnteredContext, current_context, enter_context};
pub use drive::Ready;
pub use event_loop::{EventLoop, LoopHandle, Task};
pub use fd_handlers::FdHandlers;
pub use handler::{AioChange, AioHandler, Callback, Removed};
pub use registration::{Callee, Registration};
#[cfg(feature = "tokio")]
pub use tokio::TokioContext;
pub use turn::Turn;
pub use watch::{Condition, Watch, WatchGuard};
