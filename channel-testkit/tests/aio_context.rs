//! The loop that tests drive by hand is an event loop like any other.

use channel_testkit::recording::Recorder;

channel_testkit::aio_context_conformance! {
    mod recorder = Recorder::new;
}
