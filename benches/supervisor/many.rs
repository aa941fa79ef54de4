//! Hundreds of services: until all are up, and until all are gone.

use crate::floor::Yard;
use crate::machine::now_ms;
use crate::report::{Report, Samples};
use crate::supervisor::Nought;
use crate::{Options, peer};

pub(crate) fn run(options: &Options, report: &mut Report) {
    for (count, many, few) in [(200, 5, 2), (1000, 3, 1)] {
        let rounds = options.rounds(many, few);
        let mut floor = (Samples::default(), Samples::default());
        let mut ours = (Samples::default(), Samples::default());
        for _ in 0..rounds {
            let (up, down) = by_hand(count);
            floor.0.push(up);
            floor.1.push(down);
            let (up, down) = by_nought(count);
            ours.0.push(up);
            ours.1.push(down);
        }
        report.title(&format!("{count} services, ms"));
        report.row("by hand, one after the other: up", "", &floor.0, None);
        report.row(
            "from the spawn until all are up",
            "",
            &ours.0,
            Some(&floor.0),
        );
        report.row("by hand, together, one pass: down", "", &floor.1, None);
        report.row(
            "shutdown until its exit, verified",
            "",
            &ours.1,
            Some(&floor.1),
        );
        let per = |samples: &Samples| samples.median() / f64::from(count);
        report.note(&format!(
            "per service: up {:.3} ms, down {:.3} ms",
            per(&ours.0),
            per(&ours.1)
        ));
        if options.peers && count == 200 {
            peer::many(options, report, count);
        }
    }
}

fn by_hand(count: u32) -> (f64, f64) {
    let mut yard = Yard::new();
    let began = now_ms();
    let crowds = (0..count)
        .map(|_| yard.start_only("sleep 100000"))
        .collect();
    let up = now_ms() - began;
    crate::machine::pause(std::time::Duration::from_millis(500));
    let down = yard.stop_all(crowds);
    (up, down)
}

fn by_nought(count: u32) -> (f64, f64) {
    let nought = Nought::start("many", &idle_services(count));
    let mut client = nought.connect();
    client.start("all");
    let up = now_ms() - nought.began_ms;
    crate::machine::pause(std::time::Duration::from_millis(500));
    drop(client);
    let down = nought.shut_down();
    (up, down)
}

/// So many services that sleep, and one called `all` that comes after them.
pub(crate) fn idle_services(count: u32) -> Vec<(String, String)> {
    let names: Vec<String> = (0..count).map(|n| format!("s{n}")).collect();
    let mut services: Vec<(String, String)> = names
        .iter()
        .map(|name| (name.clone(), "exec: sleep 100000\n".into()))
        .collect();
    let after = serde_json::json!(names);
    services.push((
        "all".into(),
        format!("exec: sleep 100000\nafter: {after}\n"),
    ));
    services
}
