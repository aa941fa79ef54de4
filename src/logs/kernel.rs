//! A copy of what the supervisor says of itself, as process 1 of a machine: to the logger at
//! /dev/log once one runs, to the kernel's log (/dev/kmsg) until then. The console has the lines
//! from the sink already.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use tracing::Level;

/// syslog(3)'s facility for daemons, times eight.
const DAEMON: u8 = 3 << 3;
/// Below what the kernel shows on its console: there the line is already.
const DEBUG: u8 = 7;
const LOGGER: &str = "/dev/log";

static COPY: OnceLock<Option<File>> = OnceLock::new();

/// From now on every line is copied.
pub fn copy_to_kernel() {
    COPY.get_or_init(|| File::options().write(true).open("/dev/kmsg").ok());
}

/// Copies a line; never waits for anybody.
pub(super) fn copy(level: Level, message: &str, fields: &str) {
    let Some(kmsg) = COPY.get() else { return };
    if to_logger(level, message, fields).is_ok() {
        return;
    }
    if let Some(mut kmsg) = kmsg.as_ref() {
        let line = format!("<{}>nought: {level} {message}{fields}\n", DAEMON | DEBUG);
        // One write is one record; what the kernel refuses is on the console all the same.
        let _ = kmsg.write(line.as_bytes());
    }
}

fn to_logger(level: Level, message: &str, fields: &str) -> std::io::Result<()> {
    let severity = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let line = format!("<{}>nought[1]: {message}{fields}", DAEMON | severity);
    socket.send_to(line.as_bytes(), LOGGER).map(drop)
}
