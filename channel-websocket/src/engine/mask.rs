//! Masking (RFC 6455 §5.3): byte `i` of the payload is xored with byte `i mod 4` of the key.

/// Bytes done at once: two AVX2 or four SSE2 registers, written so that the compiler vectorises it.
const LANES: usize = 64;

/// Copies `from` into `to`, masked or unmasked on the way, and returns the key as it applies to the byte after.
///
/// # Panics
/// If the lengths differ.
pub(super) fn copy(key: [u8; 4], from: &[u8], to: &mut [u8]) -> [u8; 4] {
    assert_eq!(from.len(), to.len());
    let mut repeated = [0; LANES];
    for (at, byte) in repeated.iter_mut().enumerate() {
        *byte = key[at % 4];
    }
    let mut sources = from.chunks_exact(LANES);
    let mut targets = to.chunks_exact_mut(LANES);
    for (source, target) in sources.by_ref().zip(targets.by_ref()) {
        for at in 0..LANES {
            target[at] = source[at] ^ repeated[at];
        }
    }
    for ((source, target), key) in sources.remainder().iter().zip(targets.into_remainder()).zip(&repeated) {
        *target = source ^ key;
    }
    rotated(key, from.len())
}

/// The key as it applies `count` bytes further on.
fn rotated(mut key: [u8; 4], count: usize) -> [u8; 4] {
    key.rotate_left(count % 4);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_at_every_offset_is_masked_as_the_rfc_says() {
        let key = [0x11, 0x22, 0x44, 0x88];
        let plain: Vec<u8> = (0..u8::MAX).cycle().take(600).collect();
        let masked: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
        for start in 0..70 {
            for length in 0..200 {
                let mut out = vec![0; length];
                let after = copy(rotated(key, start), &plain[start..start + length], &mut out);
                assert_eq!(out, masked[start..start + length], "{length} bytes at {start}");
                assert_eq!(after, rotated(key, start + length));
            }
        }
    }

    #[test]
    fn pieces_are_masked_as_the_whole() {
        let key = [1, 2, 3, 4];
        let plain: Vec<u8> = (0..=u8::MAX).collect();
        let mut whole = vec![0; plain.len()];
        copy(key, &plain, &mut whole);
        for cut in 0..plain.len() {
            let mut out = vec![0; plain.len()];
            let (left, right) = out.split_at_mut(cut);
            let key = copy(key, &plain[..cut], left);
            copy(key, &plain[cut..], right);
            assert_eq!(out, whole, "cut at {cut}");
        }
    }
}
