//! Room for connections: when there is none left, whoever was idle the longest makes room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::sys::clock;

/// Connections at a time.
pub(super) const CONNECTIONS: usize = 1024;

/// Every connection there is; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    taken: BTreeMap<u64, Taken>,
}

#[derive(Debug)]
struct Taken {
    /// When something last came or went, on the boot clock (ns).
    active_ns: u64,
    /// Calls under way and subscriptions.
    busy: usize,
    leave: Arc<Notify>,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    places: Places,
    id: u64,
    leave: Arc<Notify>,
}

/// A connection is busy as long as one of these lives.
#[derive(Debug)]
pub(super) struct Busy(Arc<Seat>);

impl Places {
    /// A place, if need be that of the one that was idle the longest.
    pub(super) fn take(&self) -> Seat {
        let mut table = self.lock();
        if table.taken.len() >= CONNECTIONS {
            table.dismiss();
        }
        let id = table.next;
        table.next += 1;
        let leave = Arc::new(Notify::new());
        let taken = Taken {
            active_ns: clock::boot_now(),
            busy: 0,
            leave: Arc::clone(&leave),
        };
        table.taken.insert(id, taken);
        Seat {
            places: self.clone(),
            id,
            leave,
        }
    }

    /// Whoever was idle the longest goes: there are no descriptors left. `false`: nobody is here.
    pub(super) fn make_room(&self) -> bool {
        self.lock().dismiss()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Those that wait for an answer or for log lines go last: they are not idle.
    fn dismiss(&mut self) -> bool {
        let idle = self
            .taken
            .iter()
            .min_by_key(|(id, taken)| (taken.busy > 0, taken.active_ns, **id));
        let Some(id) = idle.map(|(id, _)| *id) else {
            return false;
        };
        if let Some(taken) = self.taken.remove(&id) {
            taken.leave.notify_one();
        }
        true
    }
}

impl Seat {
    /// Something came or went.
    pub(super) fn touch(&self) {
        if let Some(taken) = self.places.lock().taken.get_mut(&self.id) {
            taken.active_ns = clock::boot_now();
        }
    }

    /// Waits until somebody else needs the place.
    pub(super) async fn dismissed(&self) {
        self.leave.notified().await;
    }

    /// Busy until what this returns is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.change(|busy| busy.saturating_add(1));
        Busy(Arc::clone(self))
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        if let Some(taken) = self.places.lock().taken.get_mut(&self.id) {
            taken.busy = change(taken.busy);
            taken.active_ns = clock::boot_now();
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.id);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|busy| busy.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(places: &Places) -> Vec<u64> {
        places.lock().taken.keys().copied().collect()
    }

    #[test]
    fn the_longest_idle_goes_and_the_busy_stay() {
        let places = Places::default();
        let mut seats: Vec<Arc<Seat>> = (0..CONNECTIONS).map(|_| Arc::new(places.take())).collect();
        let busy = seats[0].busy();
        seats[1].touch();
        seats.push(Arc::new(places.take()));
        assert!(!here(&places).contains(&2), "0 is busy, 1 spoke after 2");
        assert_eq!(here(&places).len(), CONNECTIONS);
        drop(busy);
        assert!(places.make_room() && !here(&places).contains(&3));
        seats.clear();
        assert!(here(&places).is_empty() && !places.make_room());
    }
}
