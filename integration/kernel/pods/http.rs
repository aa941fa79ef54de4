//! A few lines of HTTP, apart from the library that the supervisor uses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::look::free_port;
use crate::world::World;

/// A world whose supervisor serves HTTP, and where.
pub(crate) fn serving() -> (World, SocketAddr) {
    let mut world = World::new();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    world.flags = vec!["--http".into(), address.to_string()];
    (world, address)
}

/// Sends bytes; all that comes back.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(bytes)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The status and the body of a page.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = exchange(address, request.as_bytes()).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    (
        status.unwrap_or_else(|| panic!("{answer:?}")),
        body.to_owned(),
    )
}
