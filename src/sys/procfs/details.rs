//! What /proc tells about a survivor, or a suspect: its words, and where it hangs.

use super::{Proc, gone_is_default};
use crate::sys::SysError;

impl Proc {
    /// The command line; empty for kernel threads and the dead. **May hang**: takes mmap_lock.
    pub fn cmdline(&self, pid: u32) -> Result<Vec<String>, SysError> {
        let text = gone_is_default(self.read_all(&format!("{pid}/cmdline")))?;
        let text = text.strip_suffix(b"\0").unwrap_or(&text);
        if text.is_empty() {
            return Ok(Vec::new());
        }
        Ok(text
            .split(|&b| b == 0)
            .map(|arg| String::from_utf8_lossy(arg).into_owned())
            .collect())
    }

    /// The value of `key` in the environment the process was started with, or that it wrote
    /// over it. **May hang**: takes mmap_lock. A process whose main thread has ended is asked
    /// through another thread.
    pub fn environ_value(&self, pid: u32, key: &str) -> Result<Option<String>, SysError> {
        let value_in = |text: &[u8]| {
            text.split(|&b| b == 0).find_map(|entry| {
                let value = entry.strip_prefix(key.as_bytes())?.strip_prefix(b"=")?;
                Some(String::from_utf8_lossy(value).into_owned())
            })
        };
        let text = gone_is_default(self.read_all(&format!("{pid}/environ")))?;
        if !text.is_empty() {
            return Ok(value_in(&text));
        }
        for tid in self.threads(pid)? {
            let text = gone_is_default(self.read_all(&format!("{pid}/task/{tid}/environ")))?;
            if !text.is_empty() {
                return Ok(value_in(&text));
            }
        }
        Ok(None)
    }

    /// Where in the kernel the main thread waits; empty when it runs or that is kept secret.
    pub fn wchan(&self, pid: u32) -> Result<String, SysError> {
        let text = gone_is_default(self.read_all(&format!("{pid}/wchan")))?;
        let name = String::from_utf8_lossy(&text).trim().to_owned();
        Ok(if name == "0" { String::new() } else { name })
    }

    /// The main thread's kernel stack, innermost first (root only: EACCES).
    pub fn stack(&self, pid: u32) -> Result<Vec<String>, SysError> {
        let text = gone_is_default(self.read_all(&format!("{pid}/stack")))?;
        let text = String::from_utf8_lossy(&text);
        // "[<0>] do_poll+0x1a/0x2b" without the address, which is hidden anyway.
        Ok(text
            .lines()
            .map(|l| l.rsplit("] ").next().unwrap_or(l).trim().to_owned())
            .collect())
    }

    /// Who traces the process; 0: nobody.
    pub fn tracer(&self, pid: u32) -> Result<u32, SysError> {
        Ok(self
            .status_field(pid, "TracerPid:")?
            .and_then(|v| v.parse().ok())
            .unwrap_or(0))
    }
}
