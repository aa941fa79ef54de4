//! Random bytes of the kernel.
#![expect(unsafe_code, reason = "nix wraps no getrandom(2)")]

use nix::errno::Errno;

use super::SysError;

/// 32 bytes of the kernel's generator (getrandom(2)). Blocks until it is seeded, which it is soon
/// after the machine has booted; no more than 256 bytes are ever interrupted or cut short.
///
/// # Errors
/// When the kernel has no such call.
fn bytes() -> Result<[u8; 32], SysError> {
    let mut bytes = [0_u8; 32];
    loop {
        // SAFETY: the buffer is ours, and as long as is said.
        let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        if usize::try_from(got) == Ok(bytes.len()) {
            return Ok(bytes);
        }
        let errno = Errno::last();
        if errno != Errno::EINTR {
            return Err(SysError::new("get random bytes", "getrandom", errno));
        }
    }
}

/// The same as 64 hexadecimal digits.
///
/// # Errors
/// Likewise.
pub fn hex() -> Result<String, SysError> {
    Ok(bytes()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_are_the_same() {
        assert_ne!(super::bytes().unwrap(), super::bytes().unwrap());
    }
}
