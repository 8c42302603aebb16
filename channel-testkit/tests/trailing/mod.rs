//! Legal layers that send bytes behind their last plaintext: whoever has all the plaintext has yet to read those.

pub(crate) mod checked;
pub(crate) mod deflate;
