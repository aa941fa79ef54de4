//! The number of a namespace that no other ever has: unlike its inode's, it is not given out
//! again when the namespace is gone.
#![expect(unsafe_code, reason = "an ioctl without a wrapper")]

use std::os::fd::{AsFd, AsRawFd};

mod request {
    // NS_GET_ID of <linux/nsfs.h>, Linux 6.18.
    nix::ioctl_read!(ns_get_id, 0xb7, 13, u64);
}

/// The namespace's own number, unique within this boot; `None` before Linux 6.18.
pub fn id(namespace: impl AsFd) -> Option<u64> {
    let mut id = 0;
    // SAFETY: the descriptor is open for the length of the call, which writes eight bytes to
    // `id`, or nothing where the kernel does not know the request (ENOTTY).
    let done = unsafe { request::ns_get_id(namespace.as_fd().as_raw_fd(), &raw mut id) };
    done.is_ok().then_some(id).filter(|id| *id != 0)
}
