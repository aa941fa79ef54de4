//! Services that start on demand, definitions that change and reloads, drawn from dice of their own
//! that leave all else as it is.

use std::time::Duration;

use crate::core::{
    Check, Health, Reload, ReloadBy, Request, RestartWhen, Signal, Socket, SocketAt, Spec,
};
use crate::dice::Dice;
use crate::scenario::{Outside, Scenario};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn socket(path: &str) -> Socket {
    Socket {
        name: "it".into(),
        at: SocketAt::Stream(path.into()),
        backlog: None,
        mode: 0o666,
        user: None,
        group: None,
    }
}

/// In one run of four some services have sockets, and most of these start on demand.
pub fn draw_demand(scenario: &mut Scenario, dice: &mut Dice) {
    if !dice.chance(250) {
        return;
    }
    for spec in &mut scenario.specs {
        if !dice.chance(500) {
            continue;
        }
        spec.sockets = vec![socket("/run/it")];
        spec.on_demand = !spec.oneshot && !spec.remain && spec.role.is_none() && dice.chance(700);
    }
}

/// In one run of four definitions change, and services are asked to reload.
pub fn draw_changes(scenario: &mut Scenario, dice: &mut Dice) {
    if !dice.chance(250) {
        return;
    }
    for spec in &mut scenario.specs {
        if dice.chance(500) {
            spec.reload = Some(Box::new(draw_reload(dice)));
        }
    }
    let horizon = scenario.end_at_ms.max(200);
    let count = u32::try_from(scenario.specs.len()).unwrap();
    let mut added = Vec::new();
    for _ in 0..dice.between(1, 5) {
        let n = dice.below(count) as usize;
        let at = dice.between(0, horizon);
        let service = scenario.specs[n].name.clone();
        if dice.chance(400) {
            added.push((at, Outside::Request(Request::Reload { service })));
            continue;
        }
        let held = dice.chance(300);
        if held {
            let service = service.clone();
            added.push((at, Outside::Request(Request::StopToAmend { service })));
        }
        let mut specs = vec![amended(&scenario.specs, n, dice)];
        let other = dice.below(count) as usize;
        if dice.chance(200) && other != n {
            specs.push(amended(&scenario.specs, other, dice));
        }
        let at = at + dice.pick(&[0, 1, 50, 1_000]);
        added.push((at, Outside::Request(Request::Amend { specs })));
        if held {
            let (wait, force) = (false, false);
            let start = Request::Start {
                service,
                wait,
                force,
            };
            added.push((at + dice.pick(&[0, 1, 50]), Outside::Request(start)));
        }
    }
    scenario.outside.extend(added);
}

fn draw_reload(dice: &mut Dice) -> Reload {
    let by = if dice.chance(500) {
        ReloadBy::Signal(Signal::HUP)
    } else {
        ReloadBy::Command(vec!["reload".into()])
    };
    let mut reload = Reload::new(by);
    reload.notify = dice.chance(300);
    reload.timeout = ms(dice.pick(&[50, 1_000, 30_000]));
    reload
}

/// The same service with keys that take effect at once, and now and then one that does not.
fn amended(specs: &[Spec], n: usize, dice: &mut Dice) -> Spec {
    let mut spec = specs[n].clone();
    for _ in 0..dice.between(1, 3) {
        match dice.below(9) {
            0 => spec.grace = ms(dice.pick(&[0, 20, 500, 10_000])),
            1 => spec.exit_grace = ms(dice.pick(&[0, 20, 2_000])),
            2 => spec.kill_timeout = ms(dice.pick(&[50, 5_000])),
            3 => spec.stop_command = dice.chance(500).then(|| vec!["stop".into()]),
            4 => {
                spec.restart.when = dice.pick(&[
                    RestartWhen::Always,
                    RestartWhen::OnFailure,
                    RestartWhen::Never,
                ]);
            }
            5 => {
                let mut health = Health::new(Check::Exec(vec!["health".into()]));
                health.test.interval = Some(ms(dice.pick(&[2_000, 60_000])));
                spec.health = dice.chance(500).then_some(Box::new(health));
            }
            6 => spec.on_demand = !spec.sockets.is_empty() && spec.role.is_none() && !spec.oneshot,
            // Together with a stop order of its own that could close a cycle, which the core ignores.
            7 if specs.iter().all(|spec| spec.stop_after.is_empty()) => {
                reorder(&mut spec, specs, n, dice);
            }
            7 => {}
            _ if dice.chance(300) => spec.exec.push("anew".into()),
            _ => {
                if !spec.sockets.is_empty() {
                    spec.sockets = vec![socket("/run/other")];
                }
            }
        }
    }
    spec.on_demand &= !spec.remain;
    spec
}

fn reorder(spec: &mut Spec, specs: &[Spec], n: usize, dice: &mut Dice) {
    // What a role implies stays, and what could close a cycle is refused.
    if spec.role.is_some() {
        return;
    }
    (spec.after, spec.requires) = (Vec::new(), Vec::new());
    for (other, known) in specs.iter().enumerate() {
        let likely = if other < n { 350 } else { 20 };
        if other != n && dice.chance(likely) {
            if dice.chance(450) {
                spec.requires.push(known.name.clone());
            } else {
                spec.after.push(known.name.clone());
            }
        }
    }
}
