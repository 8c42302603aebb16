//! The conformance suite for channels, and what tests of channels are made of.
//!
//! `docs/contract.md` of the project numbers what every [`Channel`](channel_core::Channel) promises. [`suite`] has a clause for each
//! promise, and [`conformance!`] makes a named test of each clause, in each mode, for each way to make a connected pair:
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
//! `memory::non_blocking::r5_every_byte_arrives_once_in_order`. A layer should be given `options.limits` too; without them it is
//! tested as well, but more slowly.
#![forbid(unsafe_code)]

pub mod adverse;
pub mod aio_context;
pub mod child;
pub mod fds;
pub mod patience;
pub mod recording;
pub mod script;
pub mod suite;
mod thread_state;
pub mod watchdog;

/// Makes tests of every clause of the [`suite`], in every mode, for each way to make a connected pair.
///
/// `mod name = maker;` makes a module `name` with a module for each mode in it. The maker is called with
/// [`Options`](suite::Options), which it may ignore, and returns two channels, the near end first, or a `Result` with two
/// channels: whatever is [`IntoPair`](suite::IntoPair). It sees everything the place of the macro sees. Each test runs inside the [`watchdog`].
///
/// ```
/// # use channel_core::MemoryChannel;
/// channel_testkit::conformance! {
///     mod memory = |_| MemoryChannel::pair();
///     mod memory_of_a_page = |_| MemoryChannel::pair_with_capacity(4096);
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! conformance {
    ($($(#[$attribute:meta])* mod $name:ident = $maker:expr;)+) => {
        $(
            $(#[$attribute])*
            mod $name {
                #[allow(unused_imports, reason = "what the maker needs is known to the caller alone")]
                use super::*;

                fn setup(mode: $crate::suite::Mode) -> $crate::suite::Setup {
                    $crate::suite::Setup::new(mode, $maker)
                }

                mod blocking {
                    $crate::__each_clause! { __clause_tests [Blocking] }
                }

                mod non_blocking {
                    $crate::__each_clause! { __clause_tests [NonBlocking] }
                }

                mod event_loop {
                    $crate::__each_clause! { __clause_tests [EventLoop] }
                }

                $crate::__under_tokio! {
                    mod tokio {
                        $crate::__each_clause! { __clause_tests [Tokio] }
                    }
                }
            }
        )+
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
    ([$mode:ident] $($name:ident)+) => {
        $(
            #[test]
            fn $name() {
                let setup = super::setup($crate::suite::Mode::$mode);
                $crate::suite::check(module_path!(), stringify!($name), &setup);
            }
        )+
    };
}
