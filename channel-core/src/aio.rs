//! Channels in event loops.
//!
//! * `context`: what a channel asks of a loop, anybody's loop; and which loop this thread runs.
//! * `handler`: what is set on a channel, and what was removed from it.
//! * `registration`: one handler, called one at a time, and never after its removal.
//! * `fd_handlers`: the handlers of a leaf, which lie on a descriptor.

mod context;
mod fd_handlers;
mod handler;
mod registration;

pub use context::{AioContext, EnteredContext, Timer, TimerId, current_context, enter_context};
pub use fd_handlers::FdHandlers;
pub use handler::{AioChange, AioHandler, Callback, Removed};
pub use registration::Registration;
