//! A world driven by hand, for short stories about one situation each.

use std::time::Duration;

use crate::core::{
    Effect, Event, Exit, Failed, Fence, GenId, KillReport, Leftover, OpId, Receipt, Reply, Request,
    RequestId, ScanReport, Settings, ShutdownKind, Spec, Supervisor, Time,
};
use crate::scenario::{settings, spec};

pub struct Hand {
    pub core: Supervisor,
    pub now_ms: u64,
    pub effects: Vec<Effect>,
    requests: u64,
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Hand {
    pub fn new(specs: Vec<Spec>) -> Self {
        Self::with(settings(ms(90_000)), specs, Vec::new())
    }

    pub fn with(settings: Settings, specs: Vec<Spec>, leftovers: Vec<Leftover>) -> Self {
        let mut core = Supervisor::new(settings, Time::default());
        core.load(Time::default(), specs, leftovers);
        let mut hand = Self {
            core,
            now_ms: 0,
            effects: Vec::new(),
            requests: 0,
        };
        hand.collect();
        hand
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.now_ms * 1_000_000)
    }

    fn collect(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            self.effects.push(effect);
        }
    }

    pub fn tell(&mut self, event: Event) {
        self.core.handle(self.now(), event);
        self.collect();
    }

    /// Lets time pass, timer by timer.
    pub fn pass_ms(&mut self, by_ms: u64) {
        let until = self.now_ms + by_ms;
        while let Some(at) = self
            .core
            .poll_timeout()
            .filter(|at| at.as_millis() <= until)
        {
            self.now_ms = self.now_ms.max(at.as_nanos().div_ceil(1_000_000));
            self.core.handle_timeout(self.now());
            self.collect();
        }
        self.now_ms = until;
    }

    pub fn ask(&mut self, request: Request) -> RequestId {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.tell(Event::Request { id, request });
        id
    }

    pub fn start(&mut self, service: &str) -> RequestId {
        let service = service.into();
        self.ask(Request::Start {
            service,
            wait: true,
            force: false,
        })
    }

    pub fn stop(&mut self, service: &str) -> RequestId {
        let service = service.into();
        let force = false;
        self.ask(Request::Stop { service, force })
    }

    pub fn restart(&mut self, service: &str) -> RequestId {
        let service = service.into();
        let wait = true;
        self.ask(Request::Restart { service, wait })
    }

    pub fn reply(&self, request: RequestId) -> Option<&Reply> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Reply { id, reply } if *id == request => Some(reply),
            _ => None,
        })
    }

    pub fn state(&self, name: &str) -> &'static str {
        self.core.view(name).unwrap().state
    }

    pub fn r#gen(&self, name: &str) -> GenId {
        let generation = self.core.view(name).unwrap().r#gen;
        generation.unwrap_or_else(|| panic!("{name} is {}", self.state(name)))
    }

    /// Its main process comes to be and executes its program.
    pub fn run(&mut self, name: &str) {
        let r#gen = self.r#gen(name);
        let pid = u32::try_from(r#gen.0).unwrap();
        self.tell(Event::Spawned { r#gen, pid });
        self.reads(name, true, true);
        self.tell(Event::Execed { r#gen });
    }

    pub fn reads(&mut self, name: &str, main: bool, whole: bool) {
        let r#gen = self.r#gen(name);
        self.tell(Event::Cgroup { r#gen, main, whole });
    }

    /// Its main process ends and nothing is left.
    pub fn exits(&mut self, name: &str, code: i32) {
        let r#gen = self.r#gen(name);
        let exit = Exit::Code(code);
        self.tell(Event::MainExited { r#gen, exit });
        if matches!(self.state(name), "stopping" | "lingering") {
            self.reads(name, false, false);
        }
    }

    /// Forgets the effects so far.
    pub fn forget(&mut self) {
        self.effects.clear();
    }

    pub fn has(&self, test: impl Fn(&Effect) -> bool) -> bool {
        self.effects.iter().any(test)
    }

    pub fn signalled(&self, of: GenId) -> bool {
        self.has(|effect| matches!(effect, Effect::Signal { r#gen, .. } if *r#gen == of))
    }

    pub fn killed(&self, of: GenId) -> bool {
        self.has(|effect| matches!(effect, Effect::Kill { r#gen, .. } if *r#gen == of))
    }

    /// The newest operation of this kind that was asked for.
    pub fn op(&self, find: impl Fn(&Effect) -> Option<OpId>) -> OpId {
        let found = self.effects.iter().rev().find_map(find);
        found.unwrap_or_else(|| panic!("no such effect among {:#?}", self.effects))
    }

    pub fn scan_op(&self, of: GenId) -> OpId {
        self.op(|effect| match effect {
            Effect::Scan { r#gen, op } if *r#gen == of => Some(*op),
            _ => None,
        })
    }

    pub fn kill_op(&self, of: GenId) -> OpId {
        self.op(|effect| match effect {
            Effect::Kill { r#gen, op } if *r#gen == of => Some(*op),
            _ => None,
        })
    }

    pub fn aux(&self, of: GenId) -> OpId {
        self.op(|effect| match effect {
            Effect::RunAux { r#gen, aux, .. } if *r#gen == of => Some(*aux),
            _ => None,
        })
    }

    pub fn scanned(&mut self, of: GenId, populated: bool) {
        let op = self.scan_op(of);
        let report = ScanReport {
            populated: Some(populated),
            conclusive: true,
            ..ScanReport::default()
        };
        let r#gen = of;
        self.tell(Event::Scanned { r#gen, op, report });
    }

    pub fn kill_done(&mut self, of: GenId, populated: bool) {
        let op = self.kill_op(of);
        let report = KillReport {
            populated: Some(populated),
            ..KillReport::default()
        };
        let r#gen = of;
        self.tell(Event::Killed { r#gen, op, report });
    }

    pub fn fenced(&mut self, of: GenId, result: Fence) {
        let op = self.op(|effect| match effect {
            Effect::Fence { r#gen, op } if *r#gen == of => Some(*op),
            _ => None,
        });
        let r#gen = of;
        self.tell(Event::Fenced { r#gen, op, result });
    }

    /// Every scan finds nothing and the cgroup is removed.
    pub fn proven(&mut self, of: GenId) {
        for _ in 0..6 {
            self.scanned(of, false);
            let scan = self.scan_op(of);
            let fence = |effect: &Effect| matches!(effect, Effect::Fence { r#gen, op } if *r#gen == of && *op > scan);
            if self.has(fence) {
                return self.fenced(of, Fence::Removed);
            }
        }
        panic!("no fence among {:#?}", self.effects);
    }

    /// Ends by itself and is proven gone.
    pub fn ends(&mut self, name: &str, code: i32) {
        let r#gen = self.r#gen(name);
        self.exits(name, code);
        self.proven(r#gen);
    }

    /// Lets the stop of a service end in a verdict of lingering: nothing works on it.
    pub fn lingers(&mut self, name: &str) {
        self.pass_ms(60_000);
        assert_eq!(self.state(name), "lingering");
    }

    pub fn receipts(&self, of: GenId) -> Vec<&Receipt> {
        let receipts = self.effects.iter().filter_map(|effect| match effect {
            Effect::Receipt(receipt) if receipt.r#gen == of => Some(&**receipt),
            _ => None,
        });
        receipts.collect()
    }
}

pub fn failed() -> Failed {
    crate::world::failed("do it to")
}

pub fn requires(name: &str, of: &[&str]) -> Spec {
    let mut spec = spec(name);
    spec.requires = of.iter().map(|&name| name.into()).collect();
    spec
}

pub fn oneshot(name: &str, of: &[&str]) -> Spec {
    let mut spec = requires(name, of);
    spec.oneshot = true;
    spec
}

pub fn shutdown(hand: &mut Hand) -> RequestId {
    let kind = ShutdownKind::PowerOff;
    hand.ask(Request::Shutdown { kind })
}

/// db, setup (a oneshot, done) requires it, web requires setup; all there.
pub fn web_on_setup_on_db() -> Hand {
    let specs = vec![
        spec("db"),
        oneshot("setup", &["db"]),
        requires("web", &["setup"]),
    ];
    let mut hand = Hand::new(specs);
    hand.run("db");
    hand.run("setup");
    hand.ends("setup", 0);
    assert_eq!(hand.state("setup"), "done");
    hand.run("web");
    hand.forget();
    hand
}
