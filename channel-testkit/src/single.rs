//! The conformance suite for a channel that stands alone: a file, a buffer, one end of a pipe.
//!
//! What the [`suite`](crate::suite) for pairs shows with a peer cannot be shown here: that bytes arrive, and how an end comes. What is left of
//! `docs/contract.md` has a clause each, and [`conformance_of_one!`](crate::conformance_of_one) makes a named test of each. What the channel
//! can do, which directions it has and whether its calls wait, the clauses find out by asking it.

mod calls;
mod endings;
mod handlers;
mod object;

use std::any::Any;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use channel_core::{Channel, Direction, Error, ReadFlags, Result, WriteFlags};

pub use calls::*;
pub use endings::*;
pub use handlers::*;
pub use object::*;

use crate::clause::named;
use crate::patience::patience;
use crate::watchdog;

/// Makes tests of every clause of the suite for [single](crate::single) channels, for each way to make one.
///
/// `mod name = maker;` makes a module `name`. The maker returns a channel and what must stay beside it, such as the other end of a pipe, or
/// a `Result` with the two: whatever is [`IntoOne`](crate::single::IntoOne). A channel that can be read should have something to read, at most
/// a few KiB. Each test runs inside the [`watchdog`](crate::watchdog).
///
/// ```
/// # use channel_core::{BufferChannel, NullChannel};
/// channel_testkit::conformance_of_one! {
///     mod null = || (NullChannel::new(), ());
///     mod buffer = || (BufferChannel::from_bytes(b"some bytes".to_vec()), ());
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance_of_one {
    ($($(#[$attribute:meta])* mod $name:ident = $maker:expr;)+) => {
        $(
            $(#[$attribute])*
            mod $name {
                #[allow(unused_imports, reason = "what the maker needs is known to the caller alone")]
                use super::*;

                fn setup() -> $crate::single::Setup {
                    $crate::single::Setup::new($maker)
                }

                $crate::__each_clause_of_one! { __clause_tests_of_one }
            }
        )+
    };
}

/// Calls a macro of this crate with all clauses, in the order of the contract: the one list of them.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_clause_of_one {
    ($consumer:ident) => {
        $crate::$consumer! {
            o1_box_and_arc_are_the_channel
            m1_a_call_that_must_not_wait_does_not
            m2_the_descriptor_stays_as_it_was
            t1_a_timeout_is_kept_and_passes
            p1_a_seek_moves_the_one_position
            r2_the_end_is_the_end
            r3_a_call_for_nothing_touches_nothing
            w1_a_write_says_what_it_took
            w4_a_list_may_be_longer_than_the_system_takes
            c3_hints_change_nothing
            e3_our_output_ends_once
            s1_shutdown_ends_and_wakes
            s3_closed_is_said_before_anything_else
            s4_drop_lets_go
            s5_all_who_close_get_the_one_result
            d1_a_descriptor_that_was_handed_out_stays
            d5_what_it_cannot_do_is_refused
            f1_features_stay
            f2_a_missing_feature_has_a_reason
            q1_what_is_ready_does_not_block
            h1_a_handler_is_called_while_there_is_something_to_do
            h2_no_handler_is_called_that_is_gone
            h5_nothing_spins
            h8_a_handler_is_claimed_and_let_go_of
            n1_there_is_nothing_to_open
            x1_an_error_names_the_channel
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __clause_tests_of_one {
    ($($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                $crate::single::check(module_path!(), stringify!($name), &setup());
            }
        )+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __clause_table_of_one {
    ($($name:ident)+) => {
        /// All clauses, in the order of the contract.
        pub const CLAUSES: &[Clause] = &[$(Clause::new(stringify!($name), $name)),+];
    };
}

__each_clause_of_one! { __clause_table_of_one }

/// The test of one promise, over channels that stand alone.
pub type Clause = crate::clause::Clause<Setup>;

impl Clause {
    /// Runs the clause.
    ///
    /// # Panics
    /// If the channel breaks the promise.
    pub fn run(&self, setup: &Setup) {
        (self.test)(setup);
    }
}

/// What a test made by [`conformance_of_one!`](crate::conformance_of_one) does: runs one clause inside the [watchdog].
///
/// # Panics
/// If the channel breaks the promise, or there is no clause of that name.
pub fn check(module: &str, clause: &str, setup: &Setup) {
    let clause = named(CLAUSES, clause);
    watchdog::run(&format!("{module}::{}", clause.name()), || clause.run(setup));
}

/// A channel, and what must stay beside it as long as it is tested.
pub type One = (Box<dyn Channel>, Box<dyn Any + Send + Sync>);

/// What a maker may return: a channel and what stays beside it, or a `Result` with the two.
pub trait IntoOne {
    /// The two.
    ///
    /// # Panics
    /// If there is none, with the reason.
    fn into_one(self) -> One;
}

impl<C: Channel, B: Any + Send + Sync> IntoOne for (C, B) {
    fn into_one(self) -> One {
        (Box::new(self.0), Box::new(self.1))
    }
}

impl<O: IntoOne, E: fmt::Display> IntoOne for Result<O, E> {
    fn into_one(self) -> One {
        match self {
            Ok(one) => one.into_one(),
            Err(error) => panic!("the maker made no channel: {error}"),
        }
    }
}

/// What a clause runs on: a maker of channels.
#[derive(Clone)]
pub struct Setup {
    maker: Arc<dyn Fn() -> One + Send + Sync>,
    patience: Duration,
}

impl Setup {
    /// Runs clauses over the channels that `maker` makes, each over some of its own.
    pub fn new<O: IntoOne>(maker: impl Fn() -> O + Send + Sync + 'static) -> Self {
        Self { maker: Arc::new(move || maker().into_one()), patience: patience() }
    }

    /// Waits for one thing no longer than `patience`. Without this it is what [`patience`](crate::patience::patience()) says.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    fn make(&self) -> Subject {
        let (channel, beside) = (self.maker)();
        Subject { channel: Arc::new(channel), _beside: beside }
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("patience", &self.patience).finish_non_exhaustive()
    }
}

/// The channel under test.
struct Subject {
    channel: Arc<Box<dyn Channel>>,
    _beside: Box<dyn Any + Send + Sync>,
}

impl Deref for Subject {
    type Target = dyn Channel;

    fn deref(&self) -> &Self::Target {
        &**self.channel
    }
}

/// As much as a test can wait for.
const SHORT: Duration = Duration::from_millis(40);

/// More than a pipe holds, and little for a file.
const ENOUGH: usize = 4 << 20;

const DIRECTIONS: [Direction; 2] = [Direction::Read, Direction::Write];

impl Subject {
    /// Whether bytes go in `direction` at all.
    fn carries(&self, direction: Direction) -> bool {
        let asked = match direction {
            Direction::Read => self.channel.readv_full(&mut [], None, ReadFlags::DONT_WAIT),
            Direction::Write => self.channel.writev_full(&[], &[], WriteFlags::DONT_WAIT),
        };
        !asked.is_err_and(|error| error.is_unsupported())
    }

    /// The directions in which bytes go.
    fn directions(&self) -> impl Iterator<Item = Direction> {
        DIRECTIONS.into_iter().filter(|direction| self.carries(*direction))
    }

    /// One call for some bytes that does not wait.
    fn attempt(&self, direction: Direction, bytes: usize) -> Result<usize> {
        attempt(&**self.channel, direction, bytes)
    }

    /// Calls until a call would block, or is one in vain: whether it would block, and how many bytes there were before.
    fn exhaust(&self, direction: Direction) -> (bool, usize) {
        let mut done = 0;
        while done < ENOUGH {
            match self.attempt(direction, 64 * 1024) {
                Ok(0) => return (false, done),
                Ok(count) => done += count,
                Err(error) => return (error.is_would_block(), done),
            }
        }
        (false, done)
    }
}

fn attempt(channel: &dyn Channel, direction: Direction, bytes: usize) -> Result<usize> {
    let mut bytes = vec![b'.'; bytes];
    match direction {
        Direction::Read => channel.readv_full(&mut [IoSliceMut::new(&mut bytes)], None, ReadFlags::DONT_WAIT),
        Direction::Write => channel.writev_full(&[IoSlice::new(&bytes)], &[], WriteFlags::DONT_WAIT),
    }
}

/// What calls say of a direction that we ended.
#[track_caller]
fn assert_ended(direction: Direction, result: &Result<usize>, when: &str) {
    let ended = match direction {
        Direction::Read => matches!(result, Ok(0)),
        Direction::Write => result.as_ref().is_err_and(Error::is_disconnected),
    };
    assert!(ended, "a call to {direction:?} {when} gave {result:?}");
}

#[track_caller]
fn assert_closed<T: fmt::Debug>(result: &Result<T>, call: &str) {
    assert!(result.as_ref().is_err_and(Error::is_closed), "{call} after close gave {result:?}");
}
