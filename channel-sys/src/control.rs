//! Control messages as they lie in memory: `struct cmsghdr` and what follows it (cmsg(3)).

use std::mem::{self, MaybeUninit};

/// The length of a header: how long the message is with it, then level and kind.
const HEADER: usize = mem::size_of::<libc::cmsghdr>();
const ALIGN: usize = mem::size_of::<usize>();

/// What a message with `length` bytes of data takes (`CMSG_SPACE`).
pub(crate) const fn space(length: usize) -> usize {
    aligned(HEADER) + aligned(length)
}

const fn aligned(length: usize) -> usize {
    length.div_ceil(ALIGN) * ALIGN
}

/// One control message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part<'a> {
    pub(crate) level: libc::c_int,
    pub(crate) kind: libc::c_int,
    data: &'a [u8],
}

impl<'a> Part<'a> {
    /// Its data as numbers, descriptors for example.
    pub(crate) fn numbers(self) -> impl Iterator<Item = libc::c_int> + use<'a> {
        self.data
            .chunks_exact(mem::size_of::<libc::c_int>())
            .filter_map(|bytes| read(bytes).map(libc::c_int::from_ne_bytes))
    }
}

/// The messages that lie in `control`. One that claims more than there is ends with what there is.
///
/// # Safety
/// `control` is what the kernel has filled: of each message the header is initialised, and the data as far as the header says; what fills
/// a message up to the next one need not be.
pub(crate) unsafe fn parts(mut control: &[MaybeUninit<u8>]) -> impl Iterator<Item = Part<'_>> {
    std::iter::from_fn(move || {
        // SAFETY: a header, which the caller says is initialised.
        let header = unsafe { initialised(control.get(..HEADER)?) };
        let length = usize::from_ne_bytes(read(header)?);
        let level = libc::c_int::from_ne_bytes(read(header.get(mem::offset_of!(libc::cmsghdr, cmsg_level)..)?)?);
        let kind = libc::c_int::from_ne_bytes(read(header.get(mem::offset_of!(libc::cmsghdr, cmsg_type)..)?)?);
        if length < HEADER {
            return None;
        }
        let end = length.min(control.len());
        // SAFETY: data as far as its header says, which the caller says is initialised.
        let data = unsafe { initialised(control.get(aligned(HEADER).min(end)..end)?) };
        control = control.get(aligned(end)..).unwrap_or_default();
        Some(Part { level, kind, data })
    })
}

/// # Safety
/// All of `bytes` is initialised.
unsafe fn initialised(bytes: &[MaybeUninit<u8>]) -> &[u8] {
    // SAFETY: the same bytes, of the same layout, which the caller says are initialised.
    unsafe { &*(std::ptr::from_ref(bytes) as *const [u8]) }
}

/// The first bytes of `from`, as many as are asked for.
fn read<const N: usize>(from: &[u8]) -> Option<[u8; N]> {
    from.get(..N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What [`parts`](super::parts) finds where everything is initialised.
    fn parts(control: &[u8]) -> impl Iterator<Item = Part<'_>> {
        // SAFETY: initialised bytes are also some that need not be.
        unsafe { super::parts(&*(std::ptr::from_ref(control) as *const [MaybeUninit<u8>])) }
    }

    fn message(length: usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) -> Vec<u8> {
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(level.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(data);
        message.resize(space(data.len()), 0xff);
        message
    }

    fn numbers(numbers: &[libc::c_int]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
    }

    #[test]
    fn messages_behind_one_another_are_told_apart() {
        let mut control = message(HEADER + 3, 1, 3, b"abc");
        control.extend(message(HEADER + 12, 1, 1, &numbers(&[7, 8, 9])));
        control.extend(message(HEADER, 2, 5, b""));
        let all: Vec<_> = parts(&control).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0], Part { level: 1, kind: 3, data: b"abc" });
        assert_eq!((all[1].level, all[1].kind), (1, 1));
        assert_eq!(all[1].numbers().collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(all[2], Part { level: 2, kind: 5, data: b"" });
    }

    #[test]
    fn the_last_message_need_not_be_filled_up() {
        let mut control = message(HEADER + 4, 1, 1, &numbers(&[7]));
        control.truncate(HEADER + 4);
        assert_eq!(parts(&control).map(|part| part.numbers().collect::<Vec<_>>()).collect::<Vec<_>>(), [[7]]);
    }

    #[test]
    fn what_claims_to_be_longer_or_shorter_than_it_can_be_is_read_as_far_as_it_is_there() {
        let longer = message(usize::MAX, 1, 1, &numbers(&[7, 8]));
        assert_eq!(parts(&longer).map(|part| part.numbers().count()).collect::<Vec<_>>(), [2]);
        assert_eq!(parts(&message(HEADER - 1, 1, 1, b"")).count(), 0);
        assert_eq!(parts(&[0; HEADER - 1]).count(), 0);
        assert_eq!(parts(&[]).count(), 0);
    }
}
