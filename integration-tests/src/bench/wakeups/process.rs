//! The process of the clients, seen from the server.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::control::{Control, Message};
use super::server::Server;
use super::{CLIENTS, Crowd, Options, clients};
use crate::Failure;
use crate::certificates::authority;
use crate::sockets::Socket;

/// How long the process may take to say that all rest. It gives up on lost messages before that.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running process; it ends with this, and as soon as this process does.
pub(super) struct Clients {
    child: Child,
    control: Arc<Control>,
    /// What it said when it last rested: messages sent, and answered.
    rested: Arc<Mutex<Option<(u64, u64)>>>,
}

impl Clients {
    /// Runs this program again, on `core`.
    pub(super) fn start(options: &Options, core: usize) -> Result<Self, Failure> {
        let (control, theirs) = Control::pair()?;
        let child = Command::new(std::env::current_exe()?)
            .arg(CLIENTS)
            .args(clients::words(options, core, &authority()?.root())?)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { child, control, rested: Arc::default() })
    }

    /// Hears what the process says while `server` runs.
    pub(super) fn listen_on(&self, server: &Server) -> Result<(), Failure> {
        let (control, rested, failing) = (Arc::clone(&self.control), Arc::clone(&self.rested), server.failing());
        self.control.listen(server.event_loop().handle(), move || {
            if let Err(failure) = hear(&control, &rested) {
                failing(failure);
            }
        })
    }

    /// Has it open a connection on its end of one.
    pub(super) fn open(&self, crowd: Crowd, busy: bool, socket: Socket) -> Result<(), Failure> {
        let socket = OwnedFd::from(socket);
        self.control.send(Message::Open(crowd, busy), Some(socket.as_fd()))
    }

    /// Has the busy connections of `crowd` talk.
    pub(super) fn talk(&self, crowd: Crowd) -> Result<(), Failure> {
        self.control.send(Message::Talk(crowd), None)
    }

    /// Has all be silent, and serves those who are not yet; how many messages were never answered.
    pub(super) fn rest(&self, server: &Server) -> Result<u64, Failure> {
        self.control.send(Message::Rest, None)?;
        let rested = || *self.rested.lock().unwrap_or_else(PoisonError::into_inner);
        server.run(PATIENCE, || rested().is_some())?;
        let (sent, answered) = rested().ok_or("the process of the clients hangs")?;
        *self.rested.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(sent - answered)
    }

    /// Ends the process, and says whether it was content.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.control.hang_up()?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the process of the clients: {status}").into()) }
    }
}

fn hear(control: &Control, rested: &Mutex<Option<(u64, u64)>>) -> Result<(), Failure> {
    let received = control.receive()?;
    for (message, _) in received.messages {
        let Message::Rested(sent, answered) = message else {
            return Err(format!("the clients said `{message}`").into());
        };
        *rested.lock().unwrap_or_else(PoisonError::into_inner) = Some((sent, answered));
    }
    if received.ended { Err("the process of the clients ended".into()) } else { Ok(()) }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.control.ignore();
        // One that has ended and was waited for is left alone by both.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
