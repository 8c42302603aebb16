//! Files and pipes as channels.
//!
//! * [`FileChannel`] is a file with a position: always ready, seekable.
//! * [`PipeChannel`] is one pipe or two, one for each direction, whoever made them.
//!
//! Neither ever changes `O_NONBLOCK`, which others who hold the same open file would notice.
//!
//! ```
//! use channel_core::ChannelExt;
//! use channel_file::PipeChannel;
//!
//! let (near, far) = PipeChannel::pair()?;
//! near.write_all(b"hello")?;
//! let mut heard = [0; 5];
//! far.read_all(&mut heard)?;
//! assert_eq!(&heard, b"hello");
//! # Ok::<(), channel_core::Error>(())
//! ```
#![forbid(unsafe_code)]

mod failure;
mod file;
mod pipe;
mod pipe_end;

pub use channel_core::FromFdError;
pub use file::FileChannel;
pub use pipe::{PipeChannel, PipeFds};
