//! The loop that ships, tasks and watches.
//!
//! They stand on the rest of the crate, nearly all of it public, as anybody's could; the rest knows nothing of them. `tests/rooms.rs` keeps it so.
//!
//! * `current`: which loop this thread runs.
//! * `channel`: a channel for tasks; `drive` has its futures, `waiter` has who waits in it, `turn` whose turn it is, `attached` its way from loop to loop.
//! * `watch`: a callback for conditions; `hangup` for those that are no readiness.
//! * `poll`: a channel as the `AsyncRead` and `AsyncWrite` of tokio and futures-io.
//! * `event_loop`: the loop that ships, and its tasks.
//! * `tokio`: a tokio runtime as a loop.

mod attached;
mod channel;
mod current;
mod drive;
mod event_loop;
mod hangup;
#[cfg(any(feature = "tokio", feature = "futures-io"))]
mod poll;
#[cfg(feature = "tokio")]
mod tokio;
mod turn;
mod waiter;
mod watch;

pub use attached::{Attached, DetachError, Detached};
pub use channel::AioChannel;
pub use current::{EnteredContext, current_context, enter_context};
pub use drive::Ready;
pub use event_loop::{EventLoop, LoopHandle, Task};
#[cfg(feature = "tokio")]
pub use tokio::TokioContext;
pub use turn::Turn;
pub use watch::{Condition, Watch, WatchGuard};
