//! What a process holds: ports, sockets, files, and our own output.
//!
//! Links are read, never followed: a file on a dead file system costs nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::procfs;

/// Descriptors of one process that are looked at.
const FDS_BOUND: usize = 1024;
/// Files of one process that are named.
const FILES_BOUND: usize = 8;

/// What one process holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Listening and bound sockets: `tcp 127.0.0.1:8080`, `udp [::]:53`, `unix /run/x.sock`.
    pub ports: Vec<String>,
    /// Files that are open, at most eight, without terminals and devices.
    pub files: Vec<String>,
    /// How many descriptors are open; 0 when they may not be seen.
    pub descriptors: usize,
    /// Which of our standard descriptors it holds too: 1 for output, 2 for error.
    pub our_output: Vec<u8>,
}

/// Our standard output and error, as other processes' descriptors name them.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    links: Vec<(u8, String)>,
}

impl Ours {
    /// What they are now. /dev/null is nobody's output.
    pub fn now() -> Self {
        let link = |fd: u8| {
            let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
            let link = link.to_string_lossy().into_owned();
            (link != "/dev/null").then_some((fd, link))
        };
        Self {
            links: [1, 2].into_iter().filter_map(link).collect(),
        }
    }
}

/// The sockets of the network namespaces looked at so far.
#[derive(Debug, Default)]
pub struct Sockets {
    by_namespace: BTreeMap<String, BTreeMap<u64, String>>,
}

/// Looks at what a process holds; empty where that may not be seen, or it is gone.
pub fn look(pid: u32, ours: &Ours, sockets: &mut Sockets) -> Holdings {
    let mut holdings = Holdings::default();
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
        return holdings;
    };
    let (mut inodes, mut files, mut output) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for entry in entries.flatten().take(FDS_BOUND) {
        holdings.descriptors += 1;
        let Ok(link) = std::fs::read_link(entry.path()) else {
            continue;
        };
        let link = link.to_string_lossy().into_owned();
        let own = ours.links.iter().filter(|(_, own)| *own == link);
        let own: Vec<u8> = own.map(|(fd, _)| *fd).collect();
        if !own.is_empty() {
            output.extend(own);
        } else if let Some(inode) = link.strip_prefix("socket:[") {
            inodes.extend(inode.trim_end_matches(']').parse::<u64>());
        } else if link.starts_with('/') && !link.starts_with("/dev/") {
            files.insert(link);
        }
    }
    holdings.our_output = output.into_iter().collect();
    holdings.files = files.into_iter().take(FILES_BOUND).collect();
    if !inodes.is_empty() {
        let known = sockets.of(pid);
        let found = inodes.iter().filter_map(|inode| known.get(inode).cloned());
        holdings.ports = found.collect();
        holdings.ports.sort_unstable();
        holdings.ports.dedup();
    }
    holdings
}

impl Sockets {
    fn of(&mut self, pid: u32) -> &BTreeMap<u64, String> {
        let namespace = std::fs::read_link(format!("/proc/{pid}/ns/net"));
        let namespace = namespace.map_or_else(
            |_| format!("of {pid}"),
            |link| link.to_string_lossy().into_owned(),
        );
        self.by_namespace
            .entry(namespace)
            .or_insert_with(|| listening(pid))
    }
}

fn listening(pid: u32) -> BTreeMap<u64, String> {
    let read = |table: &str| {
        let path = format!("/proc/{pid}/net/{table}");
        let text = procfs::read_file(Path::new(&path)).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    };
    let mut found = BTreeMap::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        found.extend(
            read(table)
                .lines()
                .skip(1)
                .filter_map(|l| internet(table, l)),
        );
    }
    found.extend(read("unix").lines().skip(1).filter_map(unix));
    found
}

/// A line of /proc/net/tcp and its kin (proc_pid_net(5)): listening (`0A`), or, for udp, bound
/// and unconnected (`07`).
fn internet(table: &str, line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let wanted = if table.starts_with("tcp") { "0A" } else { "07" };
    if *fields.get(3)? != wanted {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let inode = fields.get(9)?.parse().ok()?;
    let kind = table.trim_end_matches('6');
    Some((inode, format!("{kind} {}:{port}", host(address)?)))
}

/// An address as the kernel prints it: 32-bit words in the machine's byte order.
fn host(hex: &str) -> Option<String> {
    let mut bytes = Vec::new();
    for at in (0..hex.len()).step_by(8) {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes.as_slice()).ok()?;
    Some(format!("[{}]", Ipv6Addr::from(sixteen)))
}

/// A line of /proc/net/unix: a socket that accepts (`__SO_ACCEPTCON`), with its name.
fn unix(line: &str) -> Option<(u64, String)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let flags = u32::from_str_radix(fields.get(3)?, 16).ok()?;
    let inode = fields.get(6)?.parse().ok()?;
    let name = fields.get(7).copied().unwrap_or("(unnamed)");
    (flags & 0x1_0000 != 0).then(|| (inode, format!("unix {name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let tcp = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  \
                   0        0 4242 1 0000000000000000 100 0 0 10 0";
        let seen = internet("tcp", tcp);
        assert_eq!(seen, Some((4242, "tcp 127.0.0.1:8080".to_owned())));
        let connected = tcp.replace(" 0A ", " 01 ");
        assert_eq!(internet("tcp", &connected), None);
        let six = "   0: 00000000000000000000000000000000:0035 \
                   00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 \
                   00000000     0        0 77 2 0000000000000000 0";
        assert_eq!(internet("udp6", six), Some((77, "udp [::]:53".to_owned())));
        let path = "0000000000000000: 00000002 00000000 00010000 0001 01 99 /run/x.sock";
        assert_eq!(unix(path), Some((99, "unix /run/x.sock".to_owned())));
        assert_eq!(unix(&path.replace("00010000", "00000000")), None);
    }
}
