//! The journal and syslog: one datagram a line.

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use super::{Batch, Destination, Lost};

/// A datagram socket that a log daemon reads; connected again when that was started anew.
pub(super) struct LogSocket {
    path: PathBuf,
    socket: Option<UnixDatagram>,
}

impl LogSocket {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, socket: None }
    }

    fn send(&mut self, line: &[u8]) -> std::io::Result<()> {
        if let Some(socket) = &self.socket
            && socket.send(line).is_ok()
        {
            return Ok(());
        }
        // Never connected, or whoever listened has gone: somebody else may listen by now.
        self.socket = None;
        let socket = UnixDatagram::unbound()?;
        socket.connect(&self.path)?;
        socket.send(line)?;
        self.socket = Some(socket);
        Ok(())
    }
}

impl Destination for LogSocket {
    fn write(&mut self, batch: &Batch) -> Result<(), Lost> {
        let mut lost: Option<Lost> = None;
        for (n, line) in batch.lines().enumerate() {
            if let Err(error) = self.send(line) {
                let path = self.path.display();
                let lost = lost.get_or_insert_with(|| Lost {
                    lines: 0,
                    first: n == 0,
                    why: format!("send to {path}: {error}"),
                });
                lost.lines += 1;
            }
        }
        lost.map_or(Ok(()), Err)
    }
}
