//! The C library's heap, kept small. Where there is another C library than glibc these do
//! nothing.
#![expect(unsafe_code, reason = "nix wraps no malloc functions")]

/// One arena for all threads (mallopt(3)): glibc would give each an own one of its own pages,
/// for speed that nobody here needs. Before the first thread.
pub fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number in the allocator; no other thread exists that could allocate.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Gives whole free pages back to the kernel (malloc_trim(3)). Takes some 100 µs for a heap of
/// some MiB, during which other threads wait to allocate.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own lock; nothing that is in use moves.
    unsafe {
        libc::malloc_trim(0);
    }
}
