//! Every kind of socket keeps every promise.

use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use channel_core::Result;
use channel_socket::{SocketAddress, SocketChannel, SocketListener};
use channel_testkit::suite::Options;
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};

fn pair(options: &Options) -> Result<(SocketChannel, SocketChannel)> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    shrink(
        options,
        SocketChannel::from_fd_with_limits(near.into(), &options.limits)?,
        SocketChannel::from_fd_with_limits(far.into(), &options.limits)?,
    )
}

fn over(address: &SocketAddress, options: &Options) -> Result<(SocketChannel, SocketChannel)> {
    let listener = SocketListener::bind_with_limits(address, &options.limits)?;
    let near = SocketChannel::connect(listener.local_address())?;
    shrink(options, near, listener.accept()?)
}

fn path(options: &Options) -> Result<(SocketChannel, SocketChannel)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder: PathBuf = std::env::temp_dir().join(format!("channel-socket-suite-{}-{number}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let made = over(&SocketAddress::Unix(folder.join("s")), options);
    std::fs::remove_dir(&folder)?; // the listener has taken its path away
    made
}

fn tcp(options: &Options) -> Result<(SocketChannel, SocketChannel)> {
    over(&SocketAddress::Inet(([127, 0, 0, 1], 0).into()), options)
}

/// The kernel raises a size of 1 to the smallest it has. TCP gets more room to receive: with much less than a
/// segment it waits for its timers, with much more it takes small writes for long after it said that it is full.
fn shrink(options: &Options, near: SocketChannel, far: SocketChannel) -> Result<(SocketChannel, SocketChannel)> {
    if options.small_buffers {
        let tcp = matches!(near.peer_address(), Some(SocketAddress::Inet(_)));
        for socket in [near.socket(), far.socket()].into_iter().flatten() {
            set_socket_send_buffer_size(&socket, 1).map_err(std::io::Error::from)?;
            set_socket_recv_buffer_size(&socket, if tcp { 16 * 1024 } else { 1 }).map_err(std::io::Error::from)?;
        }
    }
    Ok((near, far))
}

// Once it is connected a socket with a path is like one of a pair, and one that was accepted like one that connected: these are run in
// the modes that differ most.
channel_testkit::conformance! {
    mod unix_pair [descriptors] = |options: &Options| pair(options);
    mod unix_path [descriptors] in [blocking] = |options: &Options| path(options);
    mod unix_path_server [descriptors] in [event_loop] = |options: &Options| path(options).map(|(client, server)| (server, client));
    mod tcp_client = |options: &Options| tcp(options);
    mod tcp_server [] in [non_blocking, tokio] = |options: &Options| tcp(options).map(|(client, server)| (server, client));
}
