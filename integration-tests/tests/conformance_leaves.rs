//! The suite over the leaves themselves.

mod support;

use channel_testkit::suite::Options;
use support::{memory, pipe, socketpair, tcp, unix};

channel_testkit::conformance! {
    mod over_memory = |options: &Options| memory(options);
    mod over_socketpair = |options: &Options| socketpair(options);
    mod over_unix = |options: &Options| unix(options);
    mod over_tcp = |options: &Options| tcp(options);
    mod over_pipe = |options: &Options| pipe(options);
}
