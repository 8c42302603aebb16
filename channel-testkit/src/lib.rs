//! The conformance suite for channels, and what tests of channels are made of.
//!
//! `docs/contract.md` of the project numbers what every [`Channel`](channel_core::Channel) promises. [`suite`] has a clause for each
//! promise, and [`conformance!`] makes a named test of each clause, in each mode where it says something, for each way to make a connected pair:
//!
//! ```
//! use channel_core::MemoryChannel;
//! use channel_testkit::suite::Options;
//!
//! channel_testkit::conformance! {
//!     mod memory = |options: &Options| {
//!         let capacity = if options.small_buffers { 1 } else { 64 * 1024 };
//!         MemoryChannel::pair_with_capacity(capacity)
//!     };
//! }
//! # fn main() {}
//! ```
//!
//! That is all a new channel needs: a file in `tests/` with this in it gives tests such as
//! `memory::non_blocking::r5_every_byte_arrives_once_in_order`. A layer must be given `options.limits` too: clauses see whether it keeps them.
//! What the channel is like, such as that it has a handshake, is declared: see [`conformance!`].
//!
//! What stands alone, such as a file, has a suite of its own: [`single`], and [`conformance_of_one!`].
//!
//! Nothing here depends on how busy the machine is: patience counts time without progress, see [`patience`] and [`watchdog`], each of
//! which has an environment variable.
#![forbid(unsafe_code)]

pub mod adverse;
pub mod aio_context;
pub mod asleep;
pub mod child;
pub mod clause;
pub mod fds;
pub mod patience;
pub mod recording;
pub mod script;
pub mod single;
pub mod suite;
mod thread_state;
pub mod watchdog;

/// Makes tests of every clause of the [`suite`], in each mode in which it says something, for each way to make a connected pair.
///
/// `mod name = maker;` makes a module `name` with a module for each mode in it. The maker is called with
/// [`Options`](suite::Options), which it may ignore, and returns two channels, the near end first, or a `Result` with two
/// channels: whatever is [`IntoPair`](suite::IntoPair). It sees everything the place of the macro sees. Each test runs inside the [`watchdog`].
///
/// `mod name [declared, …] = maker;` declares what the channels are like, by methods of [`Setup`](suite::Setup): clauses that would say
/// nothing of a pair that has no `handshake`, passes no `descriptors` or puts no `gate` in the way are not made where that is not declared, and a
/// pair that is not as declared fails. `mod name [declared, …] in [mode, …] = maker;` makes the tests of those modes only: `blocking`,
/// `non_blocking`, `event_loop` and `tokio`.
///
/// A layer of one's own is tested over a channel that has been tested, as `channel-core/tests/own_layer.rs` does. That its decoder replies to
/// something is its own to test: the suite knows nothing of its protocol.
///
/// ```
/// # use channel_core::MemoryChannel;
/// # use std::time::Duration;
/// channel_testkit::conformance! {
///     mod memory = |_| MemoryChannel::pair();
///     mod memory_of_a_page [patience(Duration::from_secs(60))] = |_| MemoryChannel::pair_with_capacity(4096);
///     mod memory_of_two_pages [] in [blocking, event_loop] = |_| MemoryChannel::pair_with_capacity(8192);
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance {
    ($(
        $(#[$attribute:meta])*
        mod $name:ident $([$($declared:ident $(($($argument:expr),*))?),* $(,)?])? $(in [$($mode:ident),+ $(,)?])? = $maker:expr;
    )+) => {
        $(
            $(#[$attribute])*
            mod $name {
                #[allow(unused_imports, reason = "what the maker needs is known to the caller alone")]
                use super::*;

                fn setup(mode: $crate::suite::Mode) -> $crate::suite::Setup {
                    $crate::suite::Setup::new(mode, $maker)$($(.$declared($($($argument),*)?))*)?
                }

                $crate::__in_modes! { [$($($mode)+)?] [$($($declared)*)?] }
            }
        )+
    };
}

/// A module for each mode: all of them where none is named.
#[doc(hidden)]
#[macro_export]
macro_rules! __in_modes {
    ([] $declared:tt) => { $crate::__in_modes! { [blocking non_blocking event_loop tokio] $declared } };
    ([$($mode:ident)+] $declared:tt) => { $($crate::__in_mode! { $mode $declared })+ };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __in_mode {
    (blocking $declared:tt) => {
        mod blocking {
            $crate::__each_clause! { __clause_tests [Blocking] $declared }
        }
    };
    (non_blocking $declared:tt) => {
        mod non_blocking {
            $crate::__each_clause! { __clause_tests [NonBlocking] $declared }
        }
    };
    (event_loop $declared:tt) => {
        mod event_loop {
            $crate::__each_clause! { __clause_tests [EventLoop] $declared }
        }
    };
    (tokio $declared:tt) => {
        $crate::__under_tokio! { mod tokio { $crate::__each_clause! { __clause_tests [Tokio] $declared } } }
    };
}

/// What is tested under tokio: with the feature `tokio` of this crate.
#[cfg(feature = "tokio")]
#[doc(hidden)]
#[macro_export]
macro_rules! __under_tokio {
    ($($tests:item)+) => { $($tests)+ };
}

/// What is tested under tokio: nothing without the feature `tokio` of this crate.
#[cfg(not(feature = "tokio"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __under_tokio {
    ($($tests:item)+) => {};
}

#[doc(hidden)]
#[macro_export]
macro_rules! __clause_tests {
    ([$mode:ident] $declared:tt $($name:ident: $modes:tt $(where $needs:ident)?;)+) => {
        $($crate::__clause_test! { $mode $modes [$($needs)?] $declared $name })+
    };
}

/// The test of a clause in a mode, if it is one of the clause's modes.
#[doc(hidden)]
#[macro_export]
macro_rules! __clause_test {
    ($mode:ident [every] $needs:tt $declared:tt $name:ident) => { $crate::__where_declared! { $needs $declared $mode $name } };
    (Blocking [blocking, non_blocking] $($rest:tt)+) => { $crate::__clause_test! { Blocking [every] $($rest)+ } };
    (NonBlocking [blocking, non_blocking] $($rest:tt)+) => { $crate::__clause_test! { NonBlocking [every] $($rest)+ } };
    (Blocking [blocking] $($rest:tt)+) => { $crate::__clause_test! { Blocking [every] $($rest)+ } };
    (NonBlocking [non_blocking] $($rest:tt)+) => { $crate::__clause_test! { NonBlocking [every] $($rest)+ } };
    (Blocking [non_blocking] $($rest:tt)+) => {};
    (NonBlocking [blocking] $($rest:tt)+) => {};
    (EventLoop [$(blocking)? $(,)? $(non_blocking)?] $($rest:tt)+) => {};
    (Tokio [$(blocking)? $(,)? $(non_blocking)?] $($rest:tt)+) => {};
}

/// The test of a clause, if what it needs is among what was declared.
#[doc(hidden)]
#[macro_export]
macro_rules! __where_declared {
    ([] $declared:tt $mode:ident $name:ident) => {
        #[test]
        fn $name() {
            let setup = super::setup($crate::suite::Mode::$mode);
            $crate::suite::check(module_path!(), stringify!($name), &setup);
        }
    };
    ([handshake] [handshake $($rest:ident)*] $($test:tt)+) => { $crate::__where_declared! { [] [] $($test)+ } };
    ([descriptors] [descriptors $($rest:ident)*] $($test:tt)+) => { $crate::__where_declared! { [] [] $($test)+ } };
    ([gate] [gate $($rest:ident)*] $($test:tt)+) => { $crate::__where_declared! { [] [] $($test)+ } };
    ($needs:tt [$other:ident $($rest:ident)*] $($test:tt)+) => { $crate::__where_declared! { $needs [$($rest)*] $($test)+ } };
    ($needs:tt [] $($test:tt)+) => {};
}
