//! A channel that does as the one below it, but for the methods a test replaces.

pub(crate) mod parts;

use std::any::Any;
use std::fmt;
use std::io::{IoSlice, IoSliceMut, SeekFrom};
use std::net::Shutdown;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use channel_core::{AioChange, Channel, Direction, Features, ReadFlags, Readiness, Removed, Result, WriteFlags};

/// Declares [`Mutant`]: a field and a builder method for each method of `Channel` that a test may replace, and the trait
/// itself, which asks the field first. A replacement is given the channel below and the arguments.
macro_rules! mutant {
    ($($method:ident => $field:ident($($argument:ident: $type:ty),*) -> $result:ty;)+) => {
        /// A channel broken on purpose: see the methods.
        pub(crate) struct Mutant {
            inner: Box<dyn Channel>,
            on_drop: Option<Box<dyn Fn(&dyn Channel) + Send + Sync>>,
            $($field: Option<Box<dyn Fn(&dyn Channel, $($type),*) -> $result + Send + Sync>>,)+
        }

        impl Mutant {
            /// Nothing broken yet.
            pub(crate) fn over(inner: impl Channel) -> Self {
                Self { inner: Box::new(inner), on_drop: None, $($field: None,)+ }
            }

            /// Runs `hook` when the channel is dropped.
            pub(crate) fn on_drop(mut self, hook: impl Fn(&dyn Channel) + Send + Sync + 'static) -> Self {
                self.on_drop = Some(Box::new(hook));
                self
            }

            $(
                /// Replaces the method of `Channel`.
                pub(crate) fn $field(
                    mut self,
                    hook: impl Fn(&dyn Channel, $($type),*) -> $result + Send + Sync + 'static,
                ) -> Self {
                    self.$field = Some(Box::new(hook));
                    self
                }
            )+
        }

        impl Channel for Mutant {
            $(
                fn $method(&self, $($argument: $type),*) -> $result {
                    match &self.$field {
                        Some(hook) => hook(&*self.inner, $($argument),*),
                        None => self.inner.$method($($argument),*),
                    }
                }
            )+

            fn layer(&self) -> &'static str {
                self.inner.layer()
            }

            fn name(&self) -> Option<Arc<str>> {
                self.inner.name()
            }

            fn describe_layer(&self) -> String {
                self.inner.describe_layer()
            }

            fn next_layer(&self) -> Option<&dyn Channel> {
                Some(&*self.inner)
            }

            fn as_any(&self) -> &dyn Any {
                self
            }

            fn into_any(self: Box<Self>) -> Box<dyn Any> {
                self
            }
        }
    };
}

/// What a setter returns.
type Nothing = ();

mutant! {
    set_name => on_set_name(name: &str) -> Nothing;
    features => on_features() -> Features;
    why_not => on_why_not(feature: Features) -> Option<String>;
    readv_full => on_read(
        bufs: &mut [IoSliceMut<'_>], fds: Option<&mut Vec<OwnedFd>>, flags: ReadFlags
    ) -> Result<usize>;
    writev_full => on_write(bufs: &[IoSlice<'_>], fds: &[BorrowedFd<'_>], flags: WriteFlags) -> Result<usize>;
    flush => on_flush() -> Result<()>;
    set_blocking => on_set_blocking(blocking: bool) -> Nothing;
    set_read_timeout => on_set_read_timeout(timeout: Option<Duration>) -> Result<()>;
    read_timeout => on_read_timeout() -> Option<Duration>;
    set_write_timeout => on_set_write_timeout(timeout: Option<Duration>) -> Result<()>;
    write_timeout => on_write_timeout() -> Option<Duration>;
    take_over => on_take_over() -> Nothing;
    set_delay => on_set_delay(delay: bool) -> Nothing;
    set_cork => on_set_cork(cork: bool) -> Nothing;
    close_write => on_close_write() -> Result<()>;
    shutdown => on_shutdown(how: Shutdown) -> Result<()>;
    close => on_close() -> Result<()>;
    close_by => on_close_by(deadline: Instant) -> Result<()>;
    seek => on_seek(position: SeekFrom) -> Result<u64>;
    readiness => on_readiness(direction: Direction) -> Readiness;
    set_aio_fd_handler => on_set_aio_fd_handler(read: AioChange, write: AioChange) -> Result<Removed>;
    handshake => on_handshake() -> Result<()>;
    with_read_buf => on_with_read_buf(take: &mut dyn FnMut(&[u8]) -> usize) -> Result<usize>;
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Mutant").field(&self.inner).finish()
    }
}

impl Drop for Mutant {
    fn drop(&mut self) {
        if let Some(hook) = &self.on_drop {
            hook(&*self.inner);
        }
    }
}
