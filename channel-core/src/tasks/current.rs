//! The loop of the current thread.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::AioContext;

thread_local! {
    static ENTERED: RefCell<Vec<Arc<dyn AioContext>>> = const { RefCell::new(Vec::new()) };
}

/// The loop this thread is running now: the one entered last, else, with the feature `tokio`, the tokio runtime.
/// (QEMU: `qemu_get_current_aio_context`.)
#[must_use]
pub fn current_context() -> Option<Arc<dyn AioContext>> {
    let context = ENTERED.with_borrow(|entered| entered.last().cloned());
    #[cfg(feature = "tokio")]
    let context = context.or_else(|| Some(super::TokioContext::current()?));
    context
}

/// Makes `context` the current one of this thread until the guard is dropped.
///
/// A loop does this around its turns, so that what runs inside finds its loop. Guards are dropped in the opposite order of
/// their making.
pub fn enter_context(context: Arc<dyn AioContext>) -> EnteredContext {
    ENTERED.with_borrow_mut(|entered| entered.push(context));
    EnteredContext { thread: PhantomData }
}

/// The guard of [`enter_context`].
#[derive(Debug)]
#[must_use = "the context is current only as long as this lives"]
pub struct EnteredContext {
    /// It belongs to the thread that made it.
    thread: PhantomData<*const ()>,
}

impl Drop for EnteredContext {
    fn drop(&mut self) {
        let left = ENTERED.with_borrow_mut(Vec::pop);
        drop(left); // the last reference to a loop may run anything: not while the list is borrowed
    }
}
