//! The control socket's file.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nought::sys::socket::{SocketError, listen_at, peer};

/// A directory of the test's own.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("nought-{}-{name}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_group_gets_the_file_when_it_is_told_so() {
    let dir = Dir::new("socket-group");
    let path = dir.0.join("s");
    let _listening = listen_at(&path, Some(4242)).unwrap();
    let file = std::fs::symlink_metadata(&path).unwrap();
    assert_eq!((file.mode() & 0o777, file.gid()), (0o660, 4242));
}

#[test]
fn the_socket_is_private_and_knows_its_peer() {
    let dir = Dir::new("private");
    let path = dir.0.join("s");
    let listening = listen_at(&path, None).unwrap();
    assert_eq!(listening.path(), path);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let _client = UnixStream::connect(&path).unwrap();
    let (connection, _) = listening.listener.accept().unwrap();
    let peer = peer(&connection).unwrap();
    // SAFETY: asks who we are.
    let uid = unsafe { libc::geteuid() };
    assert_eq!((peer.pid, peer.uid), (std::process::id(), uid));
    listening.unlink().unwrap();
    assert!(!path.exists());
    listening.unlink().unwrap();
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = Dir::new("stale");
    let path = dir.0.join("s");
    let first = listen_at(&path, None).unwrap();
    match listen_at(&path, None) {
        Err(SocketError::Live(at)) => assert_eq!(at, path),
        other => panic!("{other:?}"),
    }
    let inode = std::fs::metadata(&path).unwrap().ino();
    drop(first.listener.try_clone().unwrap());
    let unlinkable = first;
    // Its listener closed, its file left: what a killed supervisor leaves.
    let stale = unlinkable.path().to_owned();
    drop(unlinkable);
    assert!(stale.exists());
    let second = listen_at(&path, None).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    assert!(second.path().exists() && inode != 0);
}

#[test]
fn a_newer_sockets_file_is_not_removed() {
    let dir = Dir::new("newer");
    let (path, moved) = (dir.0.join("s"), dir.0.join("old"));
    let first = listen_at(&path, None).unwrap();
    std::fs::rename(&path, &moved).unwrap();
    let _second = listen_at(&path, None).unwrap();
    first.unlink().unwrap();
    assert!(path.exists());
}

#[test]
fn nothing_else_is_touched() {
    let dir = Dir::new("else");
    let (file, link, target) = (dir.0.join("f"), dir.0.join("l"), dir.0.join("t"));
    std::fs::write(&file, "precious").unwrap();
    symlink(&target, &link).unwrap();
    for (path, kind) in [
        (&file, "a file"),
        (&link, "a symbolic link"),
        (&dir.0, "a directory"),
    ] {
        match listen_at(path, None) {
            Err(SocketError::InTheWay { kind: found, .. }) => assert_eq!(found, kind),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    assert!(!target.exists());
    let long = dir.0.join("x".repeat(120));
    let error = listen_at(&long, None).unwrap_err().to_string();
    assert!(error.contains("at most 107 bytes"), "{error}");
    let nowhere = listen_at(&dir.0.join("no/s"), None)
        .unwrap_err()
        .to_string();
    assert!(nowhere.contains("No such file"), "{nowhere}");
}
