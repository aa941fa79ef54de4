//! The heap, kept small. What asks the C library does nothing where that is another than glibc.
#![expect(unsafe_code, reason = "nix wraps no malloc functions")]

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

#[cfg(test)]
mod tests {
    use super::*;

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
