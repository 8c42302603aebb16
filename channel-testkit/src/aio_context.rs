//! The conformance suite for event loops: a function for each obligation of [`AioContext`].
//!
//! [`aio_context_conformance!`](crate::aio_context_conformance) makes named tests of them; [`CLAUSES`] lists them for anyone who wants
//! to run them in another way. Each clause fails by a panic that says what was seen.

mod callbacks;
mod clause;
mod descriptors;
mod driver;
mod scheduled;
mod threads;
mod timers;

use std::sync::Arc;
use std::time::Duration;

use channel_core::{AioContext, EventLoop};

pub use callbacks::*;
pub use clause::{Clause, Setup, check};
pub use descriptors::*;
pub use driver::Driver;
pub use scheduled::*;
pub use threads::*;
pub use timers::*;

use crate::recording::Recorder;

/// An event loop that the suite can drive.
///
/// All of its callbacks run inside [`turn`](Self::turn), on the thread that calls it; between turns nothing runs.
///
/// ```
/// use channel_core::AioContext;
/// use channel_testkit::aio_context::DrivenContext;
/// use channel_testkit::recording::Recorder;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// struct OurLoop(Arc<Recorder>);
///
/// impl DrivenContext for OurLoop {
///     fn context(&self) -> Arc<dyn AioContext> {
///         self.0.clone()
///     }
///
///     fn turn(&mut self, timeout: Duration) {
///         Recorder::turn(&self.0, timeout).unwrap();
///     }
/// }
///
/// channel_testkit::aio_context_conformance! {
///     mod our_loop = || super::OurLoop(super::Recorder::new());
/// }
/// # fn main() {}
/// ```
pub trait DrivenContext {
    /// The loop as channels see it.
    fn context(&self) -> Arc<dyn AioContext>;

    /// Runs the loop on this thread: until something has run, or `timeout` has passed. It may go on longer after something has
    /// run, and return sooner although nothing has; the first makes the suite slower, the second makes it busier.
    ///
    /// # Panics
    /// If the loop cannot run.
    fn turn(&mut self, timeout: Duration);
}

impl DrivenContext for EventLoop {
    fn context(&self) -> Arc<dyn AioContext> {
        self.handle()
    }

    fn turn(&mut self, timeout: Duration) {
        self.run_once(Some(timeout)).expect("a turn");
    }
}

impl DrivenContext for Arc<Recorder> {
    fn context(&self) -> Arc<dyn AioContext> {
        Self::clone(self)
    }

    fn turn(&mut self, timeout: Duration) {
        Recorder::turn(self, timeout).expect("a turn");
    }
}

/// Calls a macro of this crate with the names of all clauses, in the order of the documentation of [`AioContext`]: the one list
/// of them.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_aio_context_clause {
    ($consumer:ident $($argument:tt)*) => {
        $crate::$consumer! {
            $($argument)*
            a_handler_is_called_again_while_its_descriptor_is_ready
            an_error_makes_both_directions_ready
            a_hang_up_makes_both_directions_ready
            the_end_of_the_peers_output_makes_reading_ready
            a_handler_set_while_the_loop_sleeps_is_noticed
            a_callback_scheduled_while_the_loop_sleeps_is_noticed
            a_timer_set_while_the_loop_sleeps_is_noticed
            a_handler_cleared_while_the_loop_sleeps_is_not_called
            every_method_may_be_called_inside_callbacks
            no_lock_is_held_while_a_callback_runs
            no_lock_is_held_while_a_callback_is_dropped
            callbacks_never_overlap
            a_handler_cleared_by_an_earlier_callback_is_not_called
            a_handler_replaced_by_an_earlier_callback_is_not_called
            a_descriptor_is_kept_while_a_handler_is_set
            a_reused_number_gets_no_stale_event
            only_what_is_ready_is_called
            directions_are_set_and_cleared_apart
            clearing_what_is_not_set_is_no_error
            scheduled_callbacks_run_in_order
            a_callback_never_runs_inside_schedule
            what_any_thread_schedules_runs_once
            a_callback_that_schedules_another_starves_nobody
            a_timer_runs_once_and_soon
            a_timer_never_runs_early
            timers_run_in_the_order_of_their_deadlines
            a_cleared_timer_is_dropped_and_never_runs
            clearing_a_timer_that_is_not_set_is_nothing
            the_number_of_a_timer_is_never_given_twice
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __aio_context_clause_table {
    ($($name:ident)+) => {
        /// All clauses, in the order of the documentation of [`AioContext`].
        pub const CLAUSES: &[Clause] = &[$(Clause::new(stringify!($name), $name)),+];
    };
}

__each_aio_context_clause! { __aio_context_clause_table }

/// Makes tests of every clause of the [`aio_context`](crate::aio_context) suite for each event loop.
///
/// `mod name = maker;` makes a module `name` with a test for each obligation of [`AioContext`](channel_core::AioContext). The maker is
/// called without arguments, on the thread that will drive the loop, and returns a [`DrivenContext`](crate::aio_context::DrivenContext): a new loop that
/// knows nothing yet. Each test runs inside the [`watchdog`](crate::watchdog).
///
/// ```
/// # use channel_core::EventLoop;
/// channel_testkit::aio_context_conformance! {
///     mod event_loop = || channel_core::EventLoop::new().unwrap();
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! aio_context_conformance {
    ($($(#[$attribute:meta])* mod $name:ident = $maker:expr;)+) => {
        $(
            $(#[$attribute])*
            mod $name {
                #[allow(unused_imports, reason = "what the maker needs is known to the caller alone")]
                use super::*;

                fn setup() -> $crate::aio_context::Setup {
                    $crate::aio_context::Setup::new($maker)
                }

                $crate::__each_aio_context_clause! { __aio_context_clause_tests }
            }
        )+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __aio_context_clause_tests {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                $crate::aio_context::check(module_path!(), stringify!($name), &setup());
            }
        )+
    };
}
