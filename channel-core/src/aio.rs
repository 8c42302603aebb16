//! What a channel asks of an event loop, anybody's loop.
//!
//! * `context`: the loop itself.
//! * `handler`: what is set on a channel, and what was removed from it.
//! * `registration`: one handler, called one at a time, and never after its removal.
//! * `claim`: a handler that is owned, by a watch, a task, a listener; their protocol stands there once.
//! * `fd_handlers`: the handlers of a leaf, which lie on a descriptor; `polled` has whether their loop polls that.

mod claim;
mod context;
mod fd_handlers;
mod handler;
mod polled;
mod registration;

pub use claim::{Claim, Claimable, Claimant};
pub(crate) use context::is_same_context;
pub use context::{AioContext, Timer, TimerId};
pub use fd_handlers::FdHandlers;
pub use handler::{AioChange, AioHandler, Callback, Removed};
pub use registration::{Callee, Registration};
