//! Who waits for whom, by name: a name may be unknown yet, or be held by the service itself and
//! by earlier generations of it that linger beside it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::ServiceId;
use super::few::{Few, pack};

/// A name in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NameId(u32);

#[derive(Clone, Debug, Default)]
struct Node {
    name: Box<str>,
    /// The configured service of this name.
    primary: Option<ServiceId>,
    /// Leftovers and lingering generations of this name.
    ghosts: Few<ServiceId>,
    /// Who is `after` this name.
    after: Few<ServiceId>,
    /// Who `requires` this name.
    required: Few<ServiceId>,
    /// Who is `stop_after` this name.
    stops_after: Few<ServiceId>,
    /// A service of this name was forgotten: it may have been started before.
    forgotten: bool,
}

/// The edges of one service.
#[derive(Clone, Debug)]
pub(super) struct Edges {
    pub(super) name: NameId,
    pub(super) after: Few<NameId>,
    pub(super) requires: Few<NameId>,
    /// Whose verdicts its stop waits for, besides those of its dependents.
    pub(super) stop_after: Few<NameId>,
}

impl Edges {
    /// Every name this waits for.
    pub(super) fn dependencies(&self) -> impl Iterator<Item = NameId> + '_ {
        self.after.iter().chain(&self.requires).copied()
    }
}

/// The dependency graph.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    /// All nodes in the order of their names.
    by_name: Vec<NameId>,
    edges: BTreeMap<ServiceId, Edges>,
}

impl Graph {
    fn intern(&mut self, name: &str) -> NameId {
        let place = match self.place_of(name) {
            Ok((_, id)) => return id,
            Err(place) => place,
        };
        let id = NameId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node {
            name: name.into(),
            ..Node::default()
        });
        self.by_name.insert(place, id);
        id
    }

    /// Where a name is in the order of names, or where it would be.
    fn place_of(&self, name: &str) -> Result<(usize, NameId), usize> {
        let place = self
            .by_name
            .binary_search_by(|id| self.name(*id).cmp(name))?;
        self.by_name.get(place).map(|id| (place, *id)).ok_or(place)
    }

    /// The node of this name.
    fn named(&self, name: &str) -> Option<&Node> {
        self.place_of(name).ok().and_then(|(_, id)| self.node(id))
    }

    /// Gives back what many additions left room for.
    pub(super) fn tidy_up(&mut self) {
        self.nodes.shrink_to_fit();
        self.by_name.shrink_to_fit();
        pack(&mut self.edges);
    }

    fn node(&self, id: NameId) -> Option<&Node> {
        self.nodes.get(id.0 as usize)
    }

    fn node_mut(&mut self, id: NameId) -> Option<&mut Node> {
        self.nodes.get_mut(id.0 as usize)
    }

    /// Adds a service; `ghost` ones do not answer to their name as a dependency to be ready.
    pub(super) fn add(
        &mut self,
        id: ServiceId,
        name: &str,
        after: &[String],
        requires: &[String],
        ghost: bool,
    ) {
        let name = self.intern(name);
        let after: Vec<NameId> = after.iter().map(|dep| self.intern(dep)).collect();
        let requires: Vec<NameId> = requires.iter().map(|dep| self.intern(dep)).collect();
        for dep in &after {
            if let Some(node) = self.node_mut(*dep) {
                node.after.push(id);
            }
        }
        for dep in &requires {
            if let Some(node) = self.node_mut(*dep) {
                node.required.push(id);
            }
        }
        if let Some(node) = self.node_mut(name) {
            if ghost {
                node.ghosts.push(id);
            } else {
                node.primary = Some(id);
            }
        }
        self.edges.insert(
            id,
            Edges {
                name,
                after: after.into(),
                requires: requires.into(),
                stop_after: Few::default(),
            },
        );
    }

    /// Gives a service other dependencies than it had.
    pub(super) fn set_dependencies(
        &mut self,
        id: ServiceId,
        after: &[String],
        requires: &[String],
    ) {
        let Some(name) = self
            .edges
            .get(&id)
            .map(|edges| self.name(edges.name).to_owned())
        else {
            return;
        };
        self.forget_edges(id);
        self.add(id, &name, after, requires, false);
    }

    /// Gives a service a stop order of its own, in the place of the one it had.
    pub(super) fn set_stop_after(&mut self, id: ServiceId, names: &[String]) {
        self.forget_stop_after(id);
        let names: Vec<NameId> = names.iter().map(|name| self.intern(name)).collect();
        for name in &names {
            if let Some(node) = self.node_mut(*name) {
                node.stops_after.push(id);
            }
        }
        if let Some(edges) = self.edges.get_mut(&id) {
            edges.stop_after = names.into();
        }
    }

    /// Who has to have a verdict before the service is asked to stop, when both go down: its
    /// dependents, unless it is `stop_after` them the other way round, and whom its own
    /// `stop_after` names.
    pub(super) fn stopped_before(&self, id: ServiceId) -> impl Iterator<Item = ServiceId> + '_ {
        let edges = self.edges.get(&id);
        let node = edges.and_then(|edges| self.node(edges.name));
        let name = edges.map(|edges| edges.name);
        let turned = move |dependent: &ServiceId| {
            let edges = self.edges.get(dependent);
            edges.is_none_or(|edges| !name.is_some_and(|name| edges.stop_after.contains(&name)))
        };
        let after = node.into_iter().flat_map(|node| node.after.iter());
        let required = node.into_iter().flat_map(|node| node.required.iter());
        let own = edges.into_iter().flat_map(|edges| edges.stop_after.iter());
        let own = own
            .filter_map(|name| self.node(*name))
            .flat_map(|node| node.primary.iter().chain(&node.ghosts));
        after
            .copied()
            .filter(turned)
            .chain(required.copied())
            .chain(own.copied())
    }

    /// The services whose `stop_after` closes a cycle in the order of stops. What an earlier
    /// supervisor left goes down before they run, so its order does not count.
    pub(super) fn stop_cycles(&self) -> Vec<ServiceId> {
        let configured = |id: &ServiceId| {
            let node = self.edges.get(id).and_then(|edges| self.node(edges.name));
            node.is_some_and(|node| node.primary == Some(*id))
        };
        let own = self.edges.iter().filter(|(_, e)| !e.stop_after.is_empty());
        let cyclic = own.filter(|(id, _)| {
            let mut seen = BTreeSet::new();
            let mut open: Vec<ServiceId> = self.stopped_before(**id).collect();
            while let Some(at) = open.pop() {
                if at == **id {
                    return true;
                }
                if configured(&at) && seen.insert(at) {
                    open.extend(self.stopped_before(at));
                }
            }
            false
        });
        cyclic.map(|(id, _)| *id).collect()
    }

    /// Takes a service out; its name stays known to those that wait for it.
    pub(super) fn remove(&mut self, id: ServiceId) {
        self.forget_edges(id);
        let Some(edges) = self.edges.remove(&id) else {
            return;
        };
        if let Some(node) = self.node_mut(edges.name) {
            node.ghosts.retain(|other| *other != id);
            if node.primary == Some(id) {
                node.primary = None;
                node.forgotten = true;
            }
        }
    }

    /// Whether an earlier service of the same name was taken out.
    pub(super) fn was_forgotten(&self, id: ServiceId) -> bool {
        let node = self.edges.get(&id).and_then(|edges| self.node(edges.name));
        node.is_some_and(|node| node.forgotten)
    }

    fn forget_edges(&mut self, id: ServiceId) {
        let names = self
            .edges
            .get(&id)
            .into_iter()
            .flat_map(Edges::dependencies);
        for dependency in names.collect::<Vec<_>>() {
            if let Some(node) = self.node_mut(dependency) {
                node.after.retain(|other| *other != id);
                node.required.retain(|other| *other != id);
            }
        }
        self.forget_stop_after(id);
    }

    /// The service has no stop order of its own any more.
    pub(super) fn forget_stop_after(&mut self, id: ServiceId) {
        let names = match self.edges.get_mut(&id) {
            Some(edges) => std::mem::take(&mut edges.stop_after),
            None => return,
        };
        for name in &names {
            if let Some(node) = self.node_mut(*name) {
                node.stops_after.retain(|other| *other != id);
            }
        }
    }

    /// The leftovers and lingering generations of this name.
    pub(super) fn ghosts_named(&self, name: &str) -> &[ServiceId] {
        self.named(name).map_or(&[], |node| &node.ghosts)
    }

    /// The configured service of this name.
    pub(super) fn find(&self, name: &str) -> Option<ServiceId> {
        self.named(name).and_then(|node| node.primary)
    }

    /// The configured service of this name.
    pub(super) fn primary(&self, name: NameId) -> Option<ServiceId> {
        self.node(name).and_then(|node| node.primary)
    }

    /// The name itself.
    pub(super) fn name(&self, name: NameId) -> &str {
        self.node(name).map_or("?", |node| &node.name)
    }

    /// The edges of a service.
    pub(super) fn edges(&self, id: ServiceId) -> Option<&Edges> {
        self.edges.get(&id)
    }

    /// Leftovers and lingering generations that share the service's name.
    pub(super) fn ghosts_of(&self, id: ServiceId) -> &[ServiceId] {
        let node = self.edges.get(&id).and_then(|edges| self.node(edges.name));
        node.map_or(&[], |node| &node.ghosts)
    }

    /// Everything that holds the name of one of the service's dependencies.
    pub(super) fn dependencies(&self, id: ServiceId) -> impl Iterator<Item = ServiceId> + '_ {
        let names = self
            .edges
            .get(&id)
            .into_iter()
            .flat_map(Edges::dependencies);
        names
            .filter_map(|name| self.node(name))
            .flat_map(|node| node.primary.iter().chain(&node.ghosts).copied())
    }

    /// Who waits for the service's name, through `after` or `requires`.
    pub(super) fn dependents(&self, id: ServiceId) -> impl Iterator<Item = ServiceId> + '_ {
        let node = self.edges.get(&id).and_then(|edges| self.node(edges.name));
        node.into_iter()
            .flat_map(|node| node.after.iter().chain(&node.required).copied())
    }

    /// Who requires the service's name.
    pub(super) fn requirers(&self, id: ServiceId) -> impl Iterator<Item = ServiceId> + '_ {
        let node = self.edges.get(&id).and_then(|edges| self.node(edges.name));
        node.into_iter()
            .flat_map(|node| node.required.iter().copied())
    }

    /// The members of the shortest cycle through `id`, in the order in which each waits for the
    /// next; none: it is on no cycle.
    pub(super) fn cycle_through(&self, id: ServiceId) -> Vec<ServiceId> {
        let mut came_from: BTreeMap<ServiceId, ServiceId> = BTreeMap::new();
        let mut queue = VecDeque::from([id]);
        while let Some(at) = queue.pop_front() {
            let names = self
                .edges
                .get(&at)
                .into_iter()
                .flat_map(Edges::dependencies);
            for dependency in names.filter_map(|name| self.primary(name)) {
                if dependency == id {
                    let back = |at: &ServiceId| came_from.get(at).copied();
                    let mut path: Vec<ServiceId> = std::iter::successors(Some(at), back).collect();
                    path.reverse();
                    return path;
                }
                if let std::collections::btree_map::Entry::Vacant(slot) =
                    came_from.entry(dependency)
                {
                    slot.insert(at);
                    queue.push_back(dependency);
                }
            }
        }
        Vec::new()
    }

    /// A cycle for people: `a → b → a`; a long one is cut in its middle.
    pub(super) fn cycle_text(&self, cycle: &[ServiceId]) -> String {
        const SHOWN: usize = 5;
        let names = cycle.iter().chain(cycle.first());
        let mut names: Vec<&str> = names.map(|id| self.name_of(*id)).collect();
        if names.len() > 2 * SHOWN + 1 {
            let hidden = SHOWN..names.len() - SHOWN;
            names.splice(hidden, ["…"]);
        }
        names.join(" → ")
    }

    /// The name a service bears; it stays what it is when the service is gone.
    pub(super) fn name_id(&self, id: ServiceId) -> Option<NameId> {
        self.edges.get(&id).map(|edges| edges.name)
    }

    /// The name a service bears.
    pub(super) fn name_of(&self, id: ServiceId) -> &str {
        self.edges
            .get(&id)
            .map_or("?", |edges| self.name(edges.name))
    }

    /// What another supervisor left behind was started by other files than today's: where the
    /// two orders contradict each other, the leftovers' gives way.
    pub(super) fn forget_ghosts_on_cycles(&mut self, unordered: &BTreeSet<ServiceId>) {
        let is_ghost = |id: &ServiceId| {
            let node = self.edges.get(id).and_then(|edges| self.node(edges.name));
            node.is_some_and(|node| node.ghosts.contains(id))
        };
        let ghosts = unordered.iter().copied().filter(is_ghost);
        let cyclic: Vec<ServiceId> = ghosts.filter(|id| self.waits_for_own_name(*id)).collect();
        for id in cyclic {
            self.forget_edges(id);
            if let Some(edges) = self.edges.get_mut(&id) {
                edges.after = Few::default();
                edges.requires = Few::default();
            }
        }
    }

    fn waits_for_own_name(&self, id: ServiceId) -> bool {
        let Some(own) = self.edges.get(&id).map(|edges| edges.name) else {
            return false;
        };
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            for dependency in self.dependencies(at) {
                if self.edges.get(&dependency).is_some_and(|e| e.name == own) {
                    return true;
                }
                if seen.insert(dependency) {
                    open.push(dependency);
                }
            }
        }
        false
    }

    /// The services that are on, or between, cycles: all others are peeled off from both ends.
    pub(super) fn unordered(&self) -> BTreeSet<ServiceId> {
        let mut left: BTreeSet<ServiceId> = self.edges.keys().copied().collect();
        for toward_dependencies in [true, false] {
            let count = |id: ServiceId, left: &BTreeSet<ServiceId>| {
                if toward_dependencies {
                    self.dependencies(id)
                        .filter(|dep| left.contains(dep))
                        .count()
                } else {
                    self.dependents(id).filter(|dep| left.contains(dep)).count()
                }
            };
            let mut counts: BTreeMap<ServiceId, usize> =
                left.iter().map(|id| (*id, count(*id, &left))).collect();
            let mut free: Vec<ServiceId> = counts
                .iter()
                .filter(|(_, n)| **n == 0)
                .map(|(id, _)| *id)
                .collect();
            while let Some(id) = free.pop() {
                left.remove(&id);
                let next: Vec<ServiceId> = if toward_dependencies {
                    self.dependents(id).collect()
                } else {
                    self.dependencies(id).collect()
                };
                for other in next {
                    if let Some(n) = counts.get_mut(&other).filter(|n| **n > 0) {
                        *n -= 1;
                        if *n == 0 {
                            free.push(other);
                        }
                    }
                }
            }
        }
        left
    }
}
