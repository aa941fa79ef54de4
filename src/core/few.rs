//! What is not used costs nothing: lists that are mostly empty, and room that was left over.

use std::collections::BTreeMap;
use std::ops::Deref;

use super::machine::Supervisor;

/// A list that takes no more than a pointer while nothing is in it: of what few services have,
/// each service has one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::box_collection,
    reason = "a vector takes three words when it is empty"
)]
pub(super) struct Few<T>(Option<Box<Vec<T>>>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Few<T> {
    /// Adds one at the end.
    pub(super) fn push(&mut self, item: T) {
        // Mostly it stays alone.
        let list = self
            .0
            .get_or_insert_with(|| Box::new(Vec::with_capacity(1)));
        list.push(item);
    }

    /// Keeps those that `stays` says.
    pub(super) fn retain(&mut self, stays: impl FnMut(&T) -> bool) {
        if let Some(list) = &mut self.0 {
            list.retain(stays);
            if list.is_empty() {
                self.0 = None;
            }
        }
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(mut list: Vec<T>) -> Self {
        list.shrink_to_fit();
        Self((!list.is_empty()).then(|| Box::new(list)))
    }
}

impl<T> IntoIterator for Few<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.map_or(Vec::new(), |list| *list).into_iter()
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Supervisor {
    /// Gives back memory that was left over when many services were taken in or started; decides
    /// nothing.
    pub fn tidy_up(&mut self) {
        pack(&mut self.services);
        pack(&mut self.gens);
        self.graph.tidy_up();
    }
}

/// Builds a map anew from what is in it: one that was filled in ascending order is half empty.
pub(super) fn pack<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = std::mem::take(map).into_iter().collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::service::{Run, Service};
    use crate::core::{Effect, GenId, ServiceId};

    #[test]
    fn a_service_is_no_larger_than_it_was_measured() {
        // docs/benchmarks.md: each byte here is one for every service.
        assert!(size_of::<Service>() <= 288, "{}", size_of::<Service>());
        assert!(size_of::<Run>() <= 160, "{}", size_of::<Run>());
    }

    #[test]
    fn a_queue_that_is_empty_keeps_no_room_for_a_start_of_everything() {
        let mut out = super::super::machine::Out::default();
        for number in 0..1000 {
            out.push(Effect::Spawn {
                r#gen: GenId(number),
                service: ServiceId(0),
            });
        }
        assert_eq!(std::iter::from_fn(|| out.poll()).count(), 1000);
        assert!(out.effects.capacity() < 100, "{}", out.effects.capacity());
    }

    #[test]
    fn an_empty_list_takes_a_pointer_and_holds_nothing() {
        assert_eq!(size_of::<Few<[u64; 9]>>(), size_of::<usize>());
        let mut few = Few::default();
        assert!(few.is_empty());
        few.push(1);
        few.push(2);
        assert_eq!(*few, [1, 2]);
        few.retain(|n| *n == 2);
        assert_eq!((&few).into_iter().collect::<Vec<_>>(), [&2]);
        few.retain(|_| false);
        assert_eq!(few, Few(None));
        assert_eq!(Few::from(Vec::<u8>::with_capacity(8)), Few(None));
        let both = Few::from(vec![3, 4]).into_iter();
        assert_eq!(both.collect::<Vec<_>>(), [3, 4]);
    }
}
