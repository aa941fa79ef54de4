//! What is run: services, what a killed supervisor left behind, requests, and how it ends.

use std::time::Duration;

use crate::core::{
    Check, Containment, EndAction, GenId, Guarantee, Health, Leftover, Reach, Request,
    RestartPolicy, RestartWhen, Role, ScanQuality, Settings, ShutdownKind, Spec, Test, imply_order,
};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::orders::stop_orders;

/// How a run comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Faults heal, then a shutdown is demanded: Finish has to come.
    HealThenShutdown,
    /// Faults heal and requests stop: whatever can be up has to come up; then a shutdown.
    HealThenProgress,
    /// A shutdown in the middle of it all: Finish has to come at the deadline at the latest.
    Shutdown,
}

/// Something from outside, at a moment (ms since the start).
#[derive(Clone, Debug)]
pub enum Outside {
    Request(Request),
    Terminate,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub settings: Settings,
    pub specs: Vec<Spec>,
    pub leftovers: Vec<Leftover>,
    pub faults: Faults,
    pub outside: Vec<(u64, Outside)>,
    pub end: End,
    /// When faults heal or the shutdown is demanded (ms).
    pub end_at_ms: u64,
    pub kind: ShutdownKind,
}

/// How large a random scenario may be; shrinking lowers these.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub services: u64,
    pub requests: u64,
}

impl Size {
    pub const ORDINARY: Size = Size {
        services: 6,
        requests: 6,
    };
}

const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn settings(deadline: Duration) -> Settings {
    Settings {
        deadline,
        guarantee: Guarantee::default(),
        shortfall: String::new(),
        seed: 7,
        first_gen: GenId(100),
    }
}

impl Scenario {
    /// A random one.
    pub fn draw(dice: &mut Dice, size: Size) -> Self {
        let faults = Faults::draw(dice);
        let count = usize::try_from(dice.between(1, size.services)).unwrap();
        let specs: Vec<Spec> = (0..count).map(|n| draw_spec(dice, n, count)).collect();
        let leftovers = draw_leftovers(dice, count);
        let mut settings = settings(ms(dice.pick(&[500, 5_000, 25_000, 90_000])));
        settings.guarantee.scan = dice.pick(&[
            ScanQuality::Marked,
            ScanQuality::Marked,
            ScanQuality::Marked,
            ScanQuality::Descent,
            ScanQuality::None,
        ]);
        if dice.chance(50) {
            settings.guarantee.containment = Containment::ProcessGroup;
        }
        let horizon = dice.pick(&[200, 2_000, 20_000]);
        let requests = dice.between(0, size.requests);
        let mut outside: Vec<(u64, Outside)> = (0..requests)
            .map(|_| (dice.between(0, horizon), draw_outside(dice, count)))
            .collect();
        let end = dice.pick(&[End::HealThenShutdown, End::HealThenProgress, End::Shutdown]);
        let end_at_ms = dice.between(0, horizon);
        // Some come while the shutdown is under way.
        if end != End::HealThenProgress && dice.chance(300) {
            for _ in 0..2 {
                let at = end_at_ms + dice.between(0, 3_000);
                outside.push((at, draw_outside(dice, count)));
            }
        }
        if end != End::HealThenProgress && dice.chance(80) {
            outside.push((end_at_ms + dice.between(0, 3_000), Outside::Terminate));
        }
        let mut specs = specs;
        if end == End::HealThenProgress {
            for spec in &mut specs {
                spec.essential = false;
                spec.on_end = EndAction::Ignore;
                spec.on_failure = EndAction::Ignore;
            }
            outside.retain(|(_, what)| {
                !matches!(
                    what,
                    Outside::Terminate | Outside::Request(Request::Shutdown { .. })
                )
            });
        }
        Self {
            settings,
            specs,
            leftovers,
            faults,
            outside,
            end,
            end_at_ms,
            kind: dice.pick(&[ShutdownKind::PowerOff, ShutdownKind::Reboot]),
        }
    }

    /// Services without faults, requests or leftovers, shut down after a while.
    pub fn plain(specs: Vec<Spec>) -> Self {
        Self {
            settings: settings(ms(90_000)),
            specs,
            leftovers: Vec::new(),
            faults: Faults::none(),
            outside: Vec::new(),
            end: End::HealThenProgress,
            end_at_ms: 1_000,
            kind: ShutdownKind::PowerOff,
        }
    }
}

pub fn spec(name: &str) -> Spec {
    Spec::new(name, vec![name.into()])
}

fn draw_spec(dice: &mut Dice, n: usize, count: usize) -> Spec {
    let mut spec = spec(NAMES[n]);
    // Mostly backwards, so that cycles are rare.
    for (other, name) in NAMES.iter().enumerate().take(count) {
        let likely = if other < n { 350 } else { 6 };
        if dice.chance(likely) {
            if dice.chance(450) {
                spec.requires.push((*name).into());
            } else {
                spec.after.push((*name).into());
            }
        }
    }
    if dice.chance(15) {
        spec.after.push("nobody".into());
    }
    spec.oneshot = dice.chance(250);
    spec.remain = dice.chance(150);
    if dice.chance(120) {
        spec.keep.push("kept".into());
    }
    let stop_all = |dice: &mut Dice| {
        if dice.chance(60) {
            EndAction::StopAll
        } else {
            EndAction::Ignore
        }
    };
    spec.on_end = stop_all(dice);
    spec.on_failure = stop_all(dice);
    spec.essential = dice.chance(60);
    if dice.chance(40) {
        spec.min_guarantee = Some(Guarantee {
            containment: Containment::Subreaper,
            scan: dice.pick(&[ScanQuality::Marked, ScanQuality::Descent]),
        });
    }
    if dice.chance(250) {
        let mut test = Test::new(Check::Exec(vec!["test".into()]));
        test.timeout = ms(dice.pick(&[100, 1_000, 10_000]));
        test.retries = dice.pick(&[None, None, Some(0), Some(3)]);
        test.interval = dice.pick(&[None, None, Some(ms(10))]);
        if dice.chance(250) {
            test = Test::new(Check::Notify);
        }
        spec.test = Some(Box::new(test));
    }
    if dice.chance(150) {
        let mut health = Health::new(Check::Exec(vec!["health".into()]));
        health.test.interval = Some(ms(dice.pick(&[2_000, 10_000, 60_000])));
        health.test.timeout = ms(dice.pick(&[1_000, 10_000]));
        health.failures = dice.pick(&[1, 3]);
        spec.health = Some(Box::new(health));
    }
    if dice.chance(60) {
        spec.watchdog = Some(ms(dice.pick(&[6_000, 30_000])));
    }
    if dice.chance(150) {
        spec.stop_command = Some(vec!["stop".into()]);
    }
    spec.signal_to = dice.pick(&[Reach::Main, Reach::Group, Reach::All]);
    spec.grace = ms(dice.pick(&[0, 20, 500, 10_000]));
    spec.exit_grace = ms(dice.pick(&[0, 20, 2_000]));
    spec.kill_timeout = ms(dice.pick(&[50, 5_000, 5_000]));
    spec.start_timeout = dice.pick(&[None, None, Some(ms(100)), Some(ms(5_000))]);
    spec.restart = RestartPolicy {
        when: dice.pick(&[
            RestartWhen::Always,
            RestartWhen::Always,
            RestartWhen::OnFailure,
            RestartWhen::Never,
        ]),
        burst: dice.pick(&[None, None, Some(3)]),
        max_delay: ms(20_000),
        ..RestartPolicy::default()
    };
    spec
}

/// Some of them are to the others what containers of a pod are.
fn draw_roles(dice: &mut Dice, specs: &mut [Spec], end: End) {
    for spec in &mut *specs {
        spec.role = dice.pick(&[
            None,
            Some(Role::Main),
            Some(Role::Sidecar),
            Some(Role::Init),
        ]);
        match spec.role {
            // What has to come up may not end with the last main before.
            Some(Role::Main) if end == End::HealThenProgress => spec.role = None,
            Some(Role::Init) => {
                spec.oneshot = true;
                spec.remain = false;
            }
            Some(Role::Sidecar) => {
                spec.oneshot = false;
                spec.restart.when = RestartWhen::Always;
            }
            Some(Role::Main) | None => {}
        }
    }
    imply_order(specs);
}

/// Some stop in an order of their own, which closes no cycle.
fn draw_stop_order(dice: &mut Dice, specs: &mut [Spec]) {
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    for spec in &mut *specs {
        let other = names[dice.below(u32::try_from(names.len()).unwrap()) as usize].clone();
        if dice.chance(300) && other != spec.name {
            spec.stop_after.push(other);
        }
    }
    let known: Vec<&Spec> = specs.iter().collect();
    let above = stop_orders(&known);
    if above.iter().any(|(name, above)| above.contains(name)) {
        specs.iter_mut().for_each(|spec| spec.stop_after.clear());
    }
}

fn draw_leftovers(dice: &mut Dice, count: usize) -> Vec<Leftover> {
    if !dice.chance(200) {
        return Vec::new();
    }
    (0..dice.between(1, 3))
        .map(|n| {
            let name = dice.below(u32::try_from(count + 1).unwrap()) as usize;
            let mut spec = draw_spec(dice, name, count.max(name));
            spec.stop_command = None;
            if dice.chance(200) {
                spec.after.push(dice.pick(&NAMES).into());
            }
            Leftover {
                spec,
                r#gen: GenId(n + 1),
            }
        })
        .collect()
}

/// Services that are stopped, taken out, and taken in again, perhaps as others: in one run of
/// five. Dice of their own leave all else as it is.
pub fn draw_membership(scenario: &mut Scenario, dice: &mut Dice) {
    if !dice.chance(200) {
        return;
    }
    let specs = &scenario.specs;
    let count = specs.len();
    // What is required by something that is done when it is over, and so on.
    let below: Vec<usize> = (0..count)
        .filter(|n| {
            let mut oneshots = specs.iter().filter(|spec| spec.oneshot);
            oneshots.any(|spec| spec.requires.iter().any(|name| *name == NAMES[*n]))
        })
        .collect();
    let horizon = scenario.end_at_ms.max(200);
    let mut added = Vec::new();
    for _ in 0..dice.between(1, 4) {
        let most = u32::try_from(count + 1).unwrap();
        let mut n = (dice.below(most) as usize).min(NAMES.len() - 1);
        if !below.is_empty() && dice.chance(600) {
            n = dice.pick(&below);
        }
        let service = NAMES[n].to_owned();
        let mut at = dice.between(horizon / 4, horizon);
        let force = dice.chance(300);
        if dice.chance(800) {
            let service = service.clone();
            let request = if dice.chance(700) {
                Request::Stop { service, force }
            } else {
                Request::StopWithDependents { service, force }
            };
            added.push((at, Outside::Request(request)));
            at += dice.pick(&[0, 1, 50, 1_000, 12_000]);
        }
        if dice.chance(800) {
            added.push((at, Outside::Request(Request::Forget { service })));
            at += dice.pick(&[0, 1, 50, 1_000]);
        }
        if dice.chance(600) {
            let mut spec = Box::new(draw_spec(dice, n, count.max(n)));
            if scenario.end == End::HealThenProgress {
                spec.essential = false;
                spec.on_end = EndAction::Ignore;
                spec.on_failure = EndAction::Ignore;
            }
            added.push((at, Outside::Request(Request::Load { spec })));
        }
    }
    scenario.outside.extend(added);
}

/// Roles in one run of five, and stop orders of their own in another; likewise.
pub fn draw_pod(scenario: &mut Scenario, dice: &mut Dice) {
    if dice.chance(200) {
        draw_roles(dice, &mut scenario.specs, scenario.end);
    }
    // Whoever comes later could close a cycle.
    let changes = scenario
        .outside
        .iter()
        .any(|(_, what)| matches!(what, Outside::Request(Request::Load { .. })));
    if dice.chance(200) && !changes {
        draw_stop_order(dice, &mut scenario.specs);
    }
}

fn draw_outside(dice: &mut Dice, count: usize) -> Outside {
    let service = if dice.chance(20) {
        "nobody".into()
    } else {
        NAMES[dice.below(u32::try_from(count).unwrap()) as usize].to_owned()
    };
    let wait = dice.chance(500);
    let force = dice.chance(250);
    Outside::Request(match dice.below(100) {
        0..35 => Request::Stop { service, force },
        35..65 => Request::Start {
            service,
            wait,
            force,
        },
        65..96 => Request::Restart { service, wait },
        96..98 => Request::Shutdown {
            kind: ShutdownKind::Reboot,
        },
        _ => return Outside::Terminate,
    })
}
