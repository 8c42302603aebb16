//! For each promise a channel that breaks it, and nothing else on purpose: the clause must notice, and say what it saw.

mod broken;
#[path = "trailing/deflate.rs"]
mod deflate;

use std::collections::BTreeSet;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use broken::Mutant;
use broken::parts::{Ahead, Held, Hello, bare_handlers, bytes_of, gated_memory, lock, memory, room};
use channel_core::{
    AioChange, AioHandler, Channel, ChannelExt, Direction, Error, ErrorKind, Features, Interests, MemoryChannel,
    ReadFlags, Readiness, Removed, Result, WriteFlags,
};
use channel_socket::SocketChannel;
use channel_testkit::suite::Mode::{Blocking, NonBlocking};
use channel_testkit::suite::{CLAUSES, Clause, Options, Setup};
use channel_testkit::{single, watchdog};

// What the broken channels are made of is itself sound.
channel_testkit::conformance! {
    mod nothing_broken [gate] = |options: &Options| {
        let (near, far) = gated_memory(options);
        (Mutant::over(near), far)
    };
    mod hello [gate, handshake] = |options: &Options| {
        let (near, far) = gated_memory(options);
        (Hello::new(options).over(near), Hello::new(options).over(far))
    };
    mod deflate_over_hello [handshake, gate, tells_a_cut] in [non_blocking, event_loop] = |options: &Options| {
        let (near, far) = gated_memory(options);
        let (near, far) = (Hello::new(options).over(near), Hello::new(options).over(far));
        let layer = |inner| deflate::deflate(inner, options.limits.clone());
        (layer(Box::new(near)), layer(Box::new(far)))
    };
}

/// Runs the clause of `promise` over a near end broken in a way that it must notice, and say so in these words.
fn caught(promise: &str, says: &str, setup: Setup) {
    let clause = CLAUSES.iter().find(|clause| clause.promise() == promise).expect("a clause for the promise");
    watchdog::run(&format!("mutants::{}", clause.name()), || {
        let setup = setup.patience(Duration::from_secs(1));
        let run = catch_unwind(AssertUnwindSafe(|| clause.run(&setup)));
        let Err(panic) = run else { panic!("{clause:?} did not notice") };
        let words = panic.downcast_ref::<String>().expect("words");
        assert!(words.starts_with(&format!("{promise} ")), "the promise is not named: {words}");
        assert!(words.contains(says), "{clause:?} should have said `{says}`, but said: {words}");
    });
}

/// What a mutant breaks: `h5` and `h5_due_again` the same promise in two ways.
fn promise(mutant: &str) -> String {
    mutant.split('_').next().unwrap_or_default().to_uppercase()
}

/// Declares the mutants: a test for each, and the list of their names.
macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident $([$($declared:ident),+])? in $mode:ident says $says:literal: $maker:expr;)+) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                caught(&promise(stringify!($name)), $says, Setup::new($mode, $maker)$($(.$declared())+)?);
            }
        )+

        pub(crate) const MUTANTS: &[&str] = &[$(stringify!($name)),+];
    };
}

/// A near end in memory, broken by `how`.
fn near(options: &Options, how: impl FnOnce(Mutant) -> Mutant) -> (Mutant, MemoryChannel) {
    let (near, far) = memory(options);
    (how(Mutant::over(near)), far)
}

/// A near end whose handshake takes three times as long as it may.
fn late_hello(options: &Options) -> (Mutant, Mutant) {
    let (near, far) = memory(options);
    let mut patient = options.clone();
    patient.limits.handshake *= 3;
    (Hello::new(&patient).over(near), Hello::new(options).over(far))
}

fn not_released(change: AioChange) -> AioChange {
    if matches!(change, AioChange::Release(_)) { AioChange::Keep } else { change }
}

fn seized(change: AioChange) -> AioChange {
    match change {
        AioChange::Claim(handler) => AioChange::Set(handler),
        change => change,
    }
}

/// A near end that passes descriptors, broken by `how`.
fn near_socket(how: impl FnOnce(Mutant) -> Mutant) -> Result<(Mutant, SocketChannel)> {
    let (near, far) = SocketChannel::pair()?;
    Ok((how(Mutant::over(near)), far))
}

#[path = "mutants/alone.rs"]
mod alone;
#[path = "mutants/calls.rs"]
mod calls;
#[path = "mutants/loops.rs"]
mod loops;
#[path = "mutants/states.rs"]
mod states;

#[test]
fn every_promise_has_a_clause_and_a_mutant() {
    let contract = include_str!("../../docs/contract.md");
    let numbered = contract.lines().filter_map(|line| line.strip_prefix("- **")?.split_once("**"));
    let promises: BTreeSet<String> = numbered.map(|(number, _)| number.to_owned()).collect();
    assert!(promises.len() > 40, "the contract is not read as it should be: {promises:?}");
    let mut clauses: BTreeSet<String> = CLAUSES.iter().map(Clause::promise).collect();
    assert_eq!(clauses.len(), CLAUSES.len(), "a promise has one clause");
    clauses.extend(single::CLAUSES.iter().map(single::Clause::promise));
    assert_eq!(promises, clauses, "promises of docs/contract.md, and clauses of the suites");
    let mutants = [calls::MUTANTS, states::MUTANTS, loops::MUTANTS, alone::MUTANTS].concat();
    let mutants: BTreeSet<String> = mutants.into_iter().map(promise).collect();
    assert_eq!(promises, mutants, "promises of docs/contract.md, and broken channels");
}
