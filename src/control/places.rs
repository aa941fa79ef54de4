//! Room for connections: how many, and how much all of them together may have us keep. When there
//! is none left, whoever used it the least lately makes room.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::sys::clock;

/// Connections at a time.
pub(super) const CONNECTIONS: usize = 1024;

/// What is kept of a connection, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Requests that are not whole, or are not carried out yet.
    Requests,
    /// Answers that the client has not read yet.
    Answers,
}

impl Flow {
    /// Bytes that every connection may have kept.
    fn allowance(self) -> usize {
        match self {
            Flow::Requests => 32 << 10,
            Flow::Answers => 64 << 10,
        }
    }

    /// Bytes beyond those, of all connections together.
    pub(super) fn together(self) -> usize {
        match self {
            Flow::Requests => 16 << 20,
            Flow::Answers => 64 << 20,
        }
    }
}

/// Why a connection has to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crowd {
    /// There are too many connections.
    Connections,
    /// Too much is kept of them.
    Bytes(Flow),
}

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
    requests: Stock,
    answers: Stock,
    /// Calls under way and subscriptions.
    busy: usize,
    leave: Arc<Leave>,
}

/// What is kept of one connection in one direction.
#[derive(Debug)]
struct Stock {
    bytes: usize,
    /// When bytes last moved, on the boot clock (ns).
    moved_ns: u64,
}

#[derive(Debug, Default)]
struct Leave {
    why: OnceLock<Crowd>,
    told: Notify,
}

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    places: Places,
    id: u64,
    leave: Arc<Leave>,
}

/// A connection is busy as long as one of these lives.
#[derive(Debug)]
pub(super) struct Busy(Arc<Seat>);

/// So much is kept of a connection as long as this lives.
#[derive(Debug)]
pub(super) struct Kept {
    seat: Arc<Seat>,
    flow: Flow,
    bytes: usize,
}

impl Places {
    /// A place, if need be that of the one that was idle the longest.
    pub(super) fn take(&self) -> Seat {
        let mut table = self.lock();
        if table.taken.len() >= CONNECTIONS {
            table.make_room();
        }
        let id = table.next;
        table.next += 1;
        let leave = Arc::new(Leave::default());
        let stock = || Stock {
            bytes: 0,
            moved_ns: clock::boot_now(),
        };
        let taken = Taken {
            requests: stock(),
            answers: stock(),
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
        self.lock().make_room()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Those that wait for an answer or for log lines go last: they are not idle.
    fn make_room(&mut self) -> bool {
        let idle = self
            .taken
            .iter()
            .min_by_key(|(id, taken)| (taken.busy > 0, taken.active_ns(), **id));
        let Some(id) = idle.map(|(id, _)| *id) else {
            return false;
        };
        self.dismiss(id, Crowd::Connections);
        true
    }

    /// Sends away those of whom nothing has moved for the longest, until there is room for what
    /// all have beyond their allowance. `false`: that was `asking` itself.
    fn make_room_for(&mut self, asking: u64, flow: Flow) -> bool {
        let own = self
            .taken
            .get(&asking)
            .map_or(0, |taken| taken.beyond(flow));
        if own > flow.together() {
            self.dismiss(asking, Crowd::Bytes(flow));
            return false;
        }
        while self.beyond(flow) > flow.together() {
            let holders = self
                .taken
                .iter()
                .filter(|(_, taken)| taken.beyond(flow) > 0);
            let still = holders.min_by_key(|(id, taken)| (taken.stock(flow).moved_ns, **id));
            let Some(id) = still.map(|(id, _)| *id) else {
                return true;
            };
            self.dismiss(id, Crowd::Bytes(flow));
            if id == asking {
                return false;
            }
        }
        true
    }

    fn beyond(&self, flow: Flow) -> usize {
        self.taken.values().map(|taken| taken.beyond(flow)).sum()
    }

    fn dismiss(&mut self, id: u64, why: Crowd) {
        if let Some(taken) = self.taken.remove(&id) {
            let _ = taken.leave.why.set(why);
            taken.leave.told.notify_one();
        }
    }
}

impl Taken {
    fn active_ns(&self) -> u64 {
        self.requests.moved_ns.max(self.answers.moved_ns)
    }

    fn stock(&self, flow: Flow) -> &Stock {
        match flow {
            Flow::Requests => &self.requests,
            Flow::Answers => &self.answers,
        }
    }

    fn stock_mut(&mut self, flow: Flow) -> &mut Stock {
        match flow {
            Flow::Requests => &mut self.requests,
            Flow::Answers => &mut self.answers,
        }
    }

    fn beyond(&self, flow: Flow) -> usize {
        self.stock(flow).bytes.saturating_sub(flow.allowance())
    }
}

impl Seat {
    /// Bytes came, or went.
    pub(super) fn moved(&self, flow: Flow) {
        if let Some(taken) = self.places.lock().taken.get_mut(&self.id) {
            taken.stock_mut(flow).moved_ns = clock::boot_now();
        }
    }

    /// Waits until somebody else needs the place: why.
    pub(super) async fn dismissed(&self) -> Crowd {
        self.leave.told.notified().await;
        self.leave.why.get().copied().unwrap_or(Crowd::Connections)
    }

    /// Busy until what this returns is dropped.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.change(|busy| busy.saturating_add(1));
        Busy(Arc::clone(self))
    }

    /// Books `bytes` more that are kept of this connection, until what this returns is dropped.
    /// When all together have too much, those go of whom nothing has moved for the longest;
    /// `None`: this one has to, or had to before.
    pub(super) fn keep(self: &Arc<Self>, flow: Flow, bytes: usize) -> Option<Kept> {
        let mut table = self.places.lock();
        let taken = table.taken.get_mut(&self.id)?;
        let stock = taken.stock_mut(flow);
        stock.bytes = stock.bytes.saturating_add(bytes);
        if taken.beyond(flow) > 0 && !table.make_room_for(self.id, flow) {
            return None;
        }
        Some(Kept {
            seat: Arc::clone(self),
            flow,
            bytes,
        })
    }

    /// Gives the place back, although calls of it are still under way.
    pub(super) fn leave(&self) {
        self.places.lock().taken.remove(&self.id);
    }

    fn change(&self, change: impl FnOnce(usize) -> usize) {
        if let Some(taken) = self.places.lock().taken.get_mut(&self.id) {
            taken.busy = change(taken.busy);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|busy| busy.saturating_sub(1));
        // It was waiting for its answer until now.
        self.0.moved(Flow::Requests);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(taken) = self.seat.places.lock().taken.get_mut(&self.seat.id) {
            let stock = taken.stock_mut(self.flow);
            stock.bytes = stock.bytes.saturating_sub(self.bytes);
        }
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
        seats[1].moved(Flow::Requests);
        seats.push(Arc::new(places.take()));
        assert!(!here(&places).contains(&2), "0 is busy, 1 spoke after 2");
        assert_eq!(here(&places).len(), CONNECTIONS);
        drop(busy);
        assert!(places.make_room() && !here(&places).contains(&3));
        seats.clear();
        assert!(here(&places).is_empty() && !places.make_room());
    }

    #[test]
    fn what_is_kept_of_all_together_is_bounded() {
        for flow in [Flow::Requests, Flow::Answers] {
            let places = Places::default();
            let each = flow.allowance() + flow.together() / 10;
            let seats: Vec<Arc<Seat>> = (0..11).map(|_| Arc::new(places.take())).collect();
            let mut kept: Vec<Kept> = Vec::new();
            for seat in &seats[..10] {
                kept.extend(seat.keep(flow, each));
            }
            assert_eq!(here(&places).len(), 11, "{flow:?}: there is room for ten");
            seats[0].moved(flow);
            kept.extend(seats[10].keep(flow, each));
            assert!(
                !here(&places).contains(&1),
                "of 1 nothing moved the longest"
            );
            assert_eq!((here(&places).len(), kept.len()), (10, 11));
            assert_eq!(seats[1].leave.why.get(), Some(&Crowd::Bytes(flow)));
            assert!(seats[1].keep(flow, 1).is_none(), "it has gone");
            // What is within its allowance concerns nobody.
            let small = Arc::new(places.take());
            assert!(small.keep(flow, flow.allowance()).is_some());
            assert_eq!(here(&places).len(), 11);
            // And when it is dropped there is room again.
            kept.clear();
            let whole = flow.together() + flow.allowance();
            assert!(small.keep(flow, whole).is_some());
            assert!(small.keep(flow, whole + 1).is_none(), "for nobody");
        }
    }
}
