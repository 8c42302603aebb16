//! Lists of buffers, and what the kernel takes of them.

use std::ops::{Deref, Range};

/// Buffers the kernel takes in one call (`UIO_MAXIOV`, readv(2)).
const MOST_BUFFERS: usize = 1024;

/// The part of `bufs` to give to one system call, or `None` if there is no room or nothing in them.
///
/// Without the empty buffers at the front, where a list of nothing else would look like the end, and with no more than the kernel
/// takes: the rest is a short read or write \[W4\].
pub(super) fn syscall_span(bufs: &[impl Deref<Target = [u8]>]) -> Option<Range<usize>> {
    let first = bufs.iter().position(|buf| !buf.is_empty())?;
    Some(first..bufs.len().min(first + MOST_BUFFERS))
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;

    #[test]
    fn empty_buffers_at_the_front_and_those_beyond_the_most_are_left_out() {
        let bufs = [IoSlice::new(b""), IoSlice::new(b"x"), IoSlice::new(b"")];
        assert_eq!((syscall_span(&bufs), syscall_span(&bufs[2..])), (Some(1..3), None));
        let many = [IoSlice::new(b"x"); 2000];
        assert_eq!(syscall_span(&many), Some(0..MOST_BUFFERS));
    }
}
