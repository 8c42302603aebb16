//! The conformance suite: a function for each promise of `docs/contract.md`.
//!
//! [`conformance!`](crate::conformance) makes named tests of them; [`CLAUSES`] lists them for anyone who wants to run them in
//! another way. Each clause fails by a panic that names the promise and says what was seen.

mod closing;
mod cork;
mod descriptors;
mod drive;
mod end;
mod endings;
mod errors;
mod features;
pub(crate) mod files;
mod handlers;
mod late;
mod modes;
mod object;
mod observed;
mod opening;
mod progress;
mod read;
mod readiness;
mod setup;
mod shutdown;
mod tasks;
mod timeouts;
mod watches;
mod write;

use std::any::Any;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

pub use closing::*;
pub use cork::*;
pub use descriptors::*;
pub use endings::*;
pub use errors::*;
pub use features::*;
pub use handlers::*;
pub use modes::*;
pub use object::*;
pub use opening::*;
pub use progress::*;
pub use read::*;
pub use readiness::*;
pub use setup::{IntoPair, Mode, Options, Pair, Setup};
pub use shutdown::*;
pub use tasks::*;
pub use timeouts::*;
pub use watches::*;
pub use write::*;

use crate::clause::named;
use crate::patience::Patience;
use crate::watchdog;

/// Calls a macro of this crate with all clauses, in the order of the contract: the one list of them. Each says in which modes it is run:
///
/// - `[every]`: it waits, so the way it waits matters;
/// - `[blocking, non_blocking]`: what it calls depends on the mode that the channel was put into, but it does not wait, or sets handlers of
///   its own;
/// - `[blocking]`, `[non_blocking]`: the mode makes no difference, or it sets its own.
///
/// `where` says what the maker of a pair must have declared, see [`Setup`].
#[doc(hidden)]
#[macro_export]
macro_rules! __each_clause {
    ($consumer:ident $($argument:tt)*) => {
        $crate::$consumer! {
            $($argument)*
            o1_box_and_arc_behave_as_the_channel: [blocking, non_blocking];
            o2_reader_and_writer_do_not_stop_each_other: [every];
            o3_a_second_waiter_is_told_busy: [every];
            o4_no_io_outside_a_call: [blocking];
            m1_blocking_is_a_flag_of_the_channel: [blocking];
            m2_dont_wait_is_for_one_call: [blocking];
            m3_the_all_forms_wait_in_every_mode: [blocking, non_blocking];
            m4_the_all_forms_say_how_much_was_done: [blocking, non_blocking];
            t1_a_timeout_bounds_a_call: [every];
            t2_a_direction_whose_time_passes_is_ready_and_says_so_once: [non_blocking];
            r1_each_buffer_is_filled_before_the_next: [every];
            r2_zero_is_the_clean_end_and_nothing_else: [every];
            r3_a_read_without_room_touches_nothing: [blocking, non_blocking];
            r4_data_in_hand_is_not_held_back: [every];
            r5_every_byte_arrives_once_in_order: [every];
            r6_peek_does_not_consume: [blocking, non_blocking];
            r7_what_a_lend_leaves_comes_next: [blocking, non_blocking];
            w1_the_count_of_a_write_is_exact: [blocking, non_blocking];
            w2_would_block_takes_nothing: [blocking, non_blocking];
            w3_a_write_of_nothing_touches_nothing: [blocking, non_blocking];
            w4_a_long_list_is_a_short_write: [every];
            w5_a_blocking_write_leaves_nothing_behind: [blocking];
            w6_a_write_to_a_peer_that_is_gone_is_an_error: [every];
            w7_a_failure_after_taking_is_reported: [every];
            w8_flush_pushes_everything: [every];
            w9_a_writer_whose_peer_does_not_read_is_told: [blocking];
            w10_no_stall_without_flush: [every];
            w11_a_peer_that_does_not_read_cannot_freeze_a_reader: [every];
            c1_corked_writes_gather_and_are_bounded: [blocking, non_blocking];
            c2_uncorking_pushes_without_blocking: [blocking, non_blocking];
            c3_cork_and_delay_change_no_byte: [every];
            e1_a_clean_end_comes_after_all_data: [every];
            e2_a_truncated_end_is_told_from_a_clean_one: [every];
            e3_close_write_sends_everything_and_our_end: [every];
            e4_reading_goes_on_after_close_write: [every];
            e5_an_end_that_asks_for_the_other_keeps_what_is_below_open: [every];
            s1_shutdown_wakes_blocked_calls: [every];
            s2_shutdown_never_blocks: [every];
            s3_close_is_polite_bounded_and_final: [every];
            s4_drop_is_abrupt_and_leaks_nothing: [blocking];
            s5_close_is_an_operation_of_its_own: [every];
            s6_a_whole_stack_has_one_linger: [every];
            s7_the_result_of_close_is_the_truth: [every];
            d1_a_descriptor_handed_out_stays_the_same_file: [blocking];
            d2_received_descriptors_are_the_files_that_were_sent: [every] where descriptors;
            d3_descriptors_go_with_the_first_byte_or_not_at_all: [every] where descriptors;
            d4_no_descriptor_is_lost_unseen: [every] where descriptors;
            d5_what_cannot_be_done_is_refused_before_any_byte: [blocking, non_blocking];
            d6_what_nobody_can_take_is_not_kept: [every] where descriptors;
            f1_features_are_fixed: [blocking];
            f2_why_not_gives_a_reason: [blocking];
            q1_a_wait_ends_when_progress_can_be_made: [blocking, non_blocking];
            q2_a_waiter_also_waits_to_push_what_is_held: [non_blocking];
            q3_nothing_spins: [non_blocking];
            h1_a_handler_is_called_while_there_is_progress: [blocking, non_blocking];
            h2_no_handler_is_called_after_it_was_removed: [blocking, non_blocking];
            h3_a_handler_can_be_removed_anywhere: [blocking, non_blocking];
            h4_a_handler_never_runs_twice_at_once: [blocking, non_blocking];
            h5_a_loop_comes_to_rest: [blocking, non_blocking];
            h6_each_handler_is_called_on_its_own_context: [blocking, non_blocking];
            h7_a_channel_moves_from_loop_to_loop_under_load: [blocking, non_blocking];
            h8_a_handler_is_claimed_released_and_let_go_of: [blocking, non_blocking];
            h9_a_handler_is_called_when_a_limit_passes: [non_blocking] where handshake;
            h10_a_handler_is_called_wherever_the_stream_is_cut: [non_blocking] where gate;
            g1_a_watch_calls_until_it_has_seen_enough: [blocking, non_blocking];
            g2_no_call_of_a_watch_starts_after_its_guard_was_dropped: [blocking, non_blocking];
            g3_a_direction_has_one_watch_and_a_hang_up_any_number: [blocking, non_blocking];
            a1_a_channel_has_one_reader_and_one_writer_task: [non_blocking];
            a2_a_call_may_be_dropped_wherever_it_waits: [non_blocking];
            a3_an_async_call_does_what_the_blocking_one_does: [non_blocking];
            a4_a_task_waits_on_the_loop_it_is_polled_on: [non_blocking];
            a5_a_channel_moves_between_loops_under_load: [non_blocking];
            n1_nothing_but_the_handshake_before_it_is_complete: [blocking, non_blocking];
            n2_a_handshake_can_be_resumed: [blocking, non_blocking] where handshake;
            n3_a_handshake_ends_whatever_the_peer_does: [every] where handshake;
            n4_a_handshake_can_be_dropped_at_any_step: [blocking, non_blocking] where handshake;
            x1_an_error_says_what_where_and_why: [blocking, non_blocking];
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __clause_table {
    ($($name:ident: $modes:tt $(where $needs:ident)?;)+) => {
        /// All clauses, in the order of the contract.
        pub const CLAUSES: &[Clause] = &[$(Clause::new(stringify!($name), $name)),+];
    };
}

__each_clause! { __clause_table }

/// The test of one promise, over connected pairs.
pub type Clause = crate::clause::Clause<Setup>;

impl Clause {
    /// Runs the clause, on a thread of its own so that a hang becomes a failure that says where.
    ///
    /// # Panics
    /// If the channel breaks the promise.
    pub fn run(&self, setup: &Setup) {
        self.run_started(&setup.started());
    }

    fn run_started(&self, setup: &Setup) {
        let (done, finished) = mpsc::channel();
        let (test, given) = (self.test, setup.clone());
        let body = move || {
            test(&given);
            let _ = done.send(());
        };
        let worker = thread::Builder::new().name(self.promise()).spawn(body).expect("a thread for the clause");
        let mut patience = Patience::new(setup.patience_left(), setup.progress());
        let seen = loop {
            match finished.recv_timeout(patience.slice()) {
                Ok(()) => return,
                Err(RecvTimeoutError::Disconnected) => match worker.join() {
                    Ok(()) => return,
                    Err(panic) => break words(&*panic).to_owned(),
                },
                Err(RecvTimeoutError::Timeout) if patience.is_lost() => {
                    break format!("nothing moved for {:?}: {}", setup.patience_left(), setup.tell());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        setup.abandon();
        panic!("{} ({}, {} mode): {seen}", self.promise(), self.name(), setup.mode());
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<String>() {
        return text;
    }
    panic.downcast_ref::<&str>().copied().unwrap_or("it panicked without words")
}

/// What a test made by [`conformance!`](crate::conformance) does: runs one clause inside the [watchdog].
///
/// # Panics
/// If the channel breaks the promise, or there is no clause of that name.
pub fn check(module: &str, clause: &str, setup: &Setup) {
    let clause = named(CLAUSES, clause);
    let (name, setup) = (format!("{module}::{}", clause.name()), setup.started());
    let body = || clause.run_started(&setup);
    watchdog::run_telling(&name, setup.patience_left(), setup.progress(), setup.teller(), body);
}
