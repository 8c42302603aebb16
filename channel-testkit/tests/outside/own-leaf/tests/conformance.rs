//! The leaf keeps every promise: as a connection, and as one end of it alone.

use channel_core::Result;
use channel_testkit::suite::Options;
use own_leaf::StreamChannel;

fn streams(options: &Options) -> Result<(StreamChannel, StreamChannel)> {
    let (near, far) = StreamChannel::pair()?;
    if options.small_buffers {
        for socket in [near.socket(), far.socket()].into_iter().flatten() {
            rustix::net::sockopt::set_socket_send_buffer_size(&socket, 1).map_err(std::io::Error::from)?;
        }
    }
    Ok((near, far))
}

channel_testkit::conformance! {
    mod stream = |options: &Options| streams(options);
}

channel_testkit::conformance_of_one! {
    mod one_end = StreamChannel::pair;
}
