//! Whether what is idle, or closed, holds memory. The whole process is counted, so this belongs into a child.

use std::fs;

/// What this process has asked of the system for its data, in bytes.
fn data() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<usize>().unwrap()
}

/// Asserts that many of what `idle` makes hold no buffers: one is larger than 64 KiB, so that one in each would show.
pub(crate) fn assert_none_holds_a_buffer<T>(idle: impl Fn() -> T) {
    const MANY: usize = 300;
    const ROOM: usize = 4 << 20;
    let first = idle();
    let before = data();
    let rest: Vec<_> = (0..MANY).map(|_| idle()).collect();
    let grown = data().saturating_sub(before);
    assert!(grown < ROOM, "{MANY} of {} hold {grown} bytes", std::any::type_name::<T>());
    drop((first, rest));
}
