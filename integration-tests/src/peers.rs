//! Stacks that are not ours, over bare sockets: rustls' `StreamOwned` and tungstenite.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ConnectionCommon, ServerConnection, SideData, StreamOwned};
use tungstenite::WebSocket;

use crate::Failure;
use crate::certificates::{SERVER_NAME, authority};
use crate::sockets::Socket;

/// A byte stream both ways whose output can be ended while input goes on.
pub trait Stream: Read + Write + Send {
    /// Ends our output: FIN, after close_notify where there is TLS.
    ///
    /// # Errors
    /// If the connection is gone.
    fn end(&mut self) -> io::Result<()>;
}

impl Stream for Socket {
    fn end(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

impl<C, S> Stream for StreamOwned<C, Socket>
where
    C: DerefMut + Deref<Target = ConnectionCommon<S>> + Send,
    S: SideData,
{
    fn end(&mut self) -> io::Result<()> {
        self.conn.send_close_notify();
        self.flush()?;
        self.sock.shutdown(Shutdown::Write)
    }
}

/// TLS by rustls' own `StreamOwned` on `socket`, handshake done, in the role of a verifying client.
///
/// # Errors
/// If the handshake fails.
pub fn rustls_client(socket: Socket, provider: Arc<CryptoProvider>) -> Result<Box<dyn Stream>, Failure> {
    let config = authority()?.client_config(provider)?;
    let mut stream = StreamOwned::new(ClientConnection::new(config, ServerName::try_from(SERVER_NAME)?)?, socket);
    finish_handshake(&mut stream)?;
    Ok(Box::new(stream))
}

/// TLS by rustls' own `StreamOwned` on `socket`, handshake done, in the role of the server.
///
/// # Errors
/// If the handshake fails.
pub fn rustls_server(socket: Socket, provider: Arc<CryptoProvider>) -> Result<Box<dyn Stream>, Failure> {
    let config = authority()?.server_config(provider)?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, socket);
    finish_handshake(&mut stream)?;
    Ok(Box::new(stream))
}

fn finish_handshake<C, S>(stream: &mut StreamOwned<C, Socket>) -> io::Result<()>
where
    C: DerefMut + Deref<Target = ConnectionCommon<S>>,
    S: SideData,
{
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    stream.flush()
}

/// tungstenite on any of the streams.
pub type TungsteniteSocket = WebSocket<Box<dyn Stream>>;

/// tungstenite in the role of the client, upgrade done.
///
/// # Errors
/// If the upgrade fails.
pub fn tungstenite_client(stream: Box<dyn Stream>) -> Result<TungsteniteSocket, Failure> {
    let (socket, _response) =
        tungstenite::client(format!("ws://{SERVER_NAME}/"), stream).map_err(|error| error.to_string())?;
    Ok(socket)
}

/// tungstenite in the role of the server, upgrade done.
///
/// # Errors
/// If the upgrade fails.
pub fn tungstenite_server(stream: Box<dyn Stream>) -> Result<TungsteniteSocket, Failure> {
    Ok(tungstenite::accept(stream).map_err(|error| error.to_string())?)
}
