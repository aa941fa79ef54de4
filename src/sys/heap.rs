//! The heap and the stack, kept small. What asks the C library does nothing where that is another
//! than glibc.
#![expect(
    unsafe_code,
    reason = "nix wraps no malloc functions, and its madvise takes a pointer"
)]

use std::collections::BTreeMap;

/// One arena for all threads (mallopt(3)): glibc would give each an own one of its own pages,
/// for speed that nobody here needs. Before the first thread.
pub fn share_one_arena() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets a number in the allocator; no other thread exists that could allocate.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Builds a map anew from what is in it: one that was filled in ascending order is half empty.
pub fn pack<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = std::mem::take(map).into_iter().collect();
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

/// Below the frame of whoever asks this much is left alone: what is called next needs it at once.
const STACK_MARGIN: usize = 1 << 10;
/// And below that this much is given back. No other mapping can be there: the kernel keeps 1 MiB
/// below a stack that grows free (stack_guard_gap, mm/mmap.c, since Linux 4.12).
const STACK_REACH: usize = 512 << 10;

/// Gives the pages of the first thread's stack back that nobody is in any more: to read service
/// files and to start goes deeper than anything that comes later. Does nothing in another thread,
/// whose stack has neighbours.
pub fn give_back_stack() {
    if nix::unistd::gettid() == nix::unistd::getpid() {
        give_back_below(STACK_REACH);
    }
}

/// Gives back what is below our frame, and no further than `reach`.
#[inline(never)]
fn give_back_below(reach: usize) {
    /// The kernel wants a page's beginning, and refuses (EINVAL) where pages are larger: then
    /// nothing is given back.
    const PAGE: usize = 4096;
    let here = std::hint::black_box(0_u8);
    let top = (&raw const here as usize).saturating_sub(STACK_MARGIN) / PAGE * PAGE;
    let bottom = top.saturating_sub(reach);
    // SAFETY: below the stack pointer by more than the red zone nothing is alive, and what is
    // touched there next is zeroes, as on a stack that grows; the callers see to it that no other
    // mapping is in reach. ENOMEM says that the stack has never been that deep, after the rest was
    // given back.
    unsafe {
        libc::madvise(
            bottom as *mut libc::c_void,
            top - bottom,
            libc::MADV_DONTNEED,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_below_is_given_back_and_what_is_in_use_stays() {
        const DEEP: usize = 256 << 10;
        #[inline(never)]
        fn dig(fill: u8) -> usize {
            let hole = std::hint::black_box([fill; DEEP]);
            hole.as_ptr() as usize
        }
        /// How many of these pages are there (pagemap, proc(5): bit 63 of each entry).
        fn present(from: usize, pages: usize) -> usize {
            use std::os::unix::fs::FileExt as _;
            let map = std::fs::File::open("/proc/self/pagemap").unwrap();
            let mut entries = vec![0; pages * 8];
            map.read_exact_at(&mut entries, (from / 4096 * 8) as u64)
                .unwrap();
            entries
                .chunks(8)
                .filter(|entry| entry[7] & 0x80 != 0)
                .count()
        }
        let kept = std::hint::black_box([7_u8; 8192]);
        let hole = dig(1);
        let pages = DEEP / 4096 - 8;
        assert_eq!(present(hole, pages), pages);
        give_back_below(DEEP * 2);
        assert_eq!(present(hole, pages), 0);
        assert!(std::hint::black_box(kept).iter().all(|byte| *byte == 7));
        assert_eq!(dig(2), hole);
    }

    #[test]
    fn a_packed_map_has_what_it_had() {
        let mut map: BTreeMap<u32, u32> = (0..1000).map(|n| (n, n + 1)).collect();
        map.retain(|n, _| n % 3 != 0);
        let before = map.clone();
        pack(&mut map);
        assert_eq!(map, before);
        map.insert(0, 5);
        assert_eq!(map.first_key_value(), Some((&0, &5)));
    }
}
