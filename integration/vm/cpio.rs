//! Archives for initramfs: cpio in its "newc" form (Documentation/driver-api/early-userspace/
//! buffer-format.rst), which the kernel unpacks uncompressed as well.

use std::fs;
use std::path::Path;

/// An archive under construction.
pub(crate) struct Archive {
    bytes: Vec<u8>,
    next_inode: u32,
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            next_inode: 1,
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) -> &mut Self {
        let inode = self.next_inode;
        self.next_inode += 1;
        let name = path.trim_start_matches('/');
        let fields = [
            inode,
            mode,
            0,
            0,
            1,
            0,
            u32::try_from(content.len()).unwrap(),
            0,
            0,
            device.0,
            device.1,
            u32::try_from(name.len() + 1).unwrap(),
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    pub(crate) fn dir(&mut self, path: &str) -> &mut Self {
        self.entry(path, 0o040_755, (0, 0), b"")
    }

    pub(crate) fn file(&mut self, path: &str, content: &str) -> &mut Self {
        self.entry(path, 0o100_644, (0, 0), content.as_bytes())
    }

    pub(crate) fn script(&mut self, path: &str, content: &str) -> &mut Self {
        self.entry(path, 0o100_755, (0, 0), content.as_bytes())
    }

    pub(crate) fn program(&mut self, path: &str, from: &Path) -> &mut Self {
        let content = fs::read(from).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        self.entry(path, 0o100_755, (0, 0), &content)
    }

    pub(crate) fn link(&mut self, path: &str, to: &str) -> &mut Self {
        self.entry(path, 0o120_777, (0, 0), to.as_bytes())
    }

    /// Writes the archive to a file.
    pub(crate) fn write(&mut self, to: &Path) {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        fs::write(to, &self.bytes).unwrap();
    }
}
