//! Sockets in the simulation: what the world makes of them, and what has to hold of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{Event, Exit, GenId, OpId, ServiceId, Spec, Supervisor, Target, Told};
use crate::invariants::{Check, hold};
use crate::kernel::MS;
use crate::observer::Observer;
use crate::world::{Channel, Deed, What, World, failed};

/// What an onlooker knows of sockets.
#[derive(Debug, Default)]
pub struct Sockets {
    /// For whom something may be open.
    pub holding: BTreeSet<ServiceId>,
    /// The newest listening of each.
    asked: BTreeMap<ServiceId, OpId>,
    /// Whose sockets are open.
    open: BTreeSet<ServiceId>,
    /// To whom somebody has connected since it listens.
    demanded: BTreeSet<ServiceId>,
    /// Who goes down only to take over a new definition, as far as was asked.
    pub held: BTreeSet<String>,
}

impl Sockets {
    pub fn on_listen(&mut self, service: ServiceId, op: OpId) {
        self.holding.insert(service);
        self.asked.insert(service, op);
        self.demanded.remove(&service);
    }

    pub fn on_demanded(&mut self, service: ServiceId, op: OpId) {
        if self.asked.get(&service) == Some(&op) {
            self.demanded.insert(service);
        }
    }

    pub fn on_listening(&mut self, service: ServiceId, op: OpId) {
        if self.asked.get(&service) == Some(&op) && self.holding.contains(&service) {
            self.open.insert(service);
        }
    }

    pub fn on_close(&mut self, service: ServiceId) {
        self.holding.remove(&service);
        self.open.remove(&service);
        self.asked.remove(&service);
    }
}

impl Observer {
    /// Whether somebody may connect to a service that starts on demand, running or not.
    pub fn answers(&self, name: &str) -> bool {
        let on_demand = self.services.get(name).is_some_and(|s| s.spec.on_demand);
        let current = self.current(name).and_then(|id| self.gens.get(&id));
        let goes = current.is_some_and(|seen| seen.stopping.is_some());
        let named = |id: &ServiceId| self.sockets_of.get(id).is_some_and(|of| of == name);
        on_demand && !goes && self.sockets.open.iter().any(named)
    }

    pub fn check_listen(&mut self, core: &Supervisor, id: ServiceId) -> Check {
        let spec = core.spec(id).ok_or("nobody listens")?;
        hold(spec.on_demand, || format!("{} listens unasked", spec.name))?;
        hold(self.shutdown_began.is_none(), || {
            format!("{} listens in a shutdown", spec.name)
        })?;
        let left = self.gens.values().any(|g| g.leftover && g.last.is_none());
        hold(!left, || {
            format!("{} listens before a leftover has its verdict", spec.name)
        })?;
        if self.current(&spec.name).is_some() {
            return Err(format!("{} listens while it runs", spec.name));
        }
        if self.sockets.open.contains(&id) {
            self.situations
                .insert("a service comes when it is wanted and goes again");
        }
        self.sockets_of.insert(id, spec.name.clone());
        Ok(())
    }

    /// What may come back refuses nobody meanwhile.
    pub fn check_close(&self, core: &Supervisor, id: ServiceId) -> Check {
        hold(self.sockets.holding.contains(&id), || {
            format!("{id:?} has nothing to close")
        })?;
        let views = core.views();
        let Some(view) = views.iter().find(|view| view.id == id) else {
            return Ok(());
        };
        let for_good = matches!(view.state, "failed" | "done");
        hold(for_good || view.target == Target::Down, || {
            format!(
                "{} is {}, and its sockets are closed",
                view.spec.name, view.state
            )
        })
    }

    /// Who is down for good leaves nobody waiting before an open socket.
    pub fn check_open(&self, core: &Supervisor) -> Check {
        if self.sockets.holding.is_empty() {
            return Ok(());
        }
        for view in core.views() {
            let for_good = match view.state {
                "failed" | "done" => true,
                "down" | "stopping" | "lingering" => view.target == Target::Down,
                _ => false,
            };
            let name = &view.spec.name;
            let held = self.sockets.held.contains(name);
            let open = self.sockets.holding.contains(&view.id);
            hold(!for_good || held || !open, || {
                format!("{name} is {}, and its sockets are open", view.state)
            })?;
            hold(view.state != "listening" || open, || {
                format!("{name} listens, and nothing is open")
            })?;
            let wanted = self.sockets.demanded.contains(&view.id);
            hold(view.state != "listening" || !wanted, || {
                format!("somebody connects to {name}, and it does not start")
            })?;
        }
        Ok(())
    }

    /// Definitions were taken over, also by what runs and is not on its way down.
    pub fn note_amended(&mut self, specs: Vec<Spec>) {
        self.situations.insert("a definition changes");
        for spec in specs {
            for seen in self.gens.values_mut() {
                let runs = seen.stopping.is_none() && seen.last.is_none() && !seen.leftover;
                if runs && seen.name == spec.name {
                    seen.spec = spec.clone();
                }
            }
            if let Some(service) = self.services.get_mut(&spec.name) {
                service.spec = spec;
            }
        }
        self.learn_orders();
    }
}

impl World {
    pub fn listen(&mut self, service: ServiceId, op: OpId) {
        let channel = Some(Channel::Sockets(service));
        let fails = self.faults.op_fails;
        if self.dice.chance(fails) {
            let error = failed("open a socket of");
            self.tell(Event::ListenFailed { service, op, error }, channel);
            return;
        }
        self.listening.insert(service, op);
        self.tell(Event::Listening { service, op }, channel);
        // With faults healed everybody comes to a rest.
        if !self.healed && self.dice.chance(800) {
            let delay = self.dice.between(0, 5_000) * MS;
            self.after(delay, What::Connect { service, op }, None);
        }
    }

    /// Somebody connects; that is told as long as anybody waits for it.
    pub fn connect(&mut self, service: ServiceId, op: OpId) {
        if self.listening.get(&service) == Some(&op) {
            let channel = Some(Channel::Sockets(service));
            self.tell(Event::Demanded { service, op }, channel);
        }
    }

    /// What is started on demand goes when there is nothing to do.
    pub fn idle(&mut self, r#gen: GenId, main: u32) {
        let on_demand = self
            .kernel
            .gens
            .get(&r#gen)
            .is_some_and(|g| g.spec.on_demand);
        if on_demand && self.dice.chance(500) {
            let delay = self.dice.between(0, 3_000) * MS;
            let deed = Deed::Exit(Exit::Code(0));
            self.after(delay, What::Process { pid: main, deed }, None);
        }
    }

    pub fn reload(&mut self, r#gen: GenId, op: OpId) {
        let fails = self.faults.signal_fails;
        let error = self.dice.chance(fails).then(|| failed("signal"));
        let dances = self
            .kernel
            .gens
            .get(&r#gen)
            .and_then(|g| g.spec.reload.as_ref());
        let dances = dances.is_some_and(|reload| reload.notify) && error.is_none();
        self.tell(Event::Reloaded { r#gen, op, error }, None);
        if dances && self.dice.chance(800) {
            let told = Told::Reloading;
            self.tell(Event::Told { r#gen, told }, Some(Channel::Main(r#gen)));
            if self.dice.chance(800) {
                let told = Told::Ready;
                self.tell(Event::Told { r#gen, told }, Some(Channel::Main(r#gen)));
            }
        }
    }
}
