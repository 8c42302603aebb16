//! Pipes keep every promise of a connection.

use channel_core::Result;
use channel_file::PipeChannel;
use channel_testkit::suite::Options;
use rustix::pipe::fcntl_setpipe_size;

fn pipes(options: &Options) -> Result<(PipeChannel, PipeChannel)> {
    let (near, far) = PipeChannel::pair()?;
    if options.small_buffers {
        for write in [near.write_end(), far.write_end()].into_iter().flatten() {
            fcntl_setpipe_size(&write, 1).map_err(std::io::Error::from)?; // one page, the smallest there is
        }
    }
    Ok((near, far))
}

channel_testkit::conformance! {
    mod pipe_pair = |options: &Options| pipes(options);
}
