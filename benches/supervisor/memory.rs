//! What the supervisor's own process takes of the memory.

use std::time::Duration;

use crate::machine::{memory, pause};
use crate::many::idle_services;
use crate::report::{Report, Samples};
use crate::supervisor::Nought;
use crate::{Options, peer};

pub(crate) fn run(options: &Options, report: &mut Report) {
    report.title("memory of the supervisor (PSS, of that anonymous), KiB");
    for count in [0, 50, 200, 1000] {
        let services = if count == 0 {
            Vec::new()
        } else {
            idle_services(count)
        };
        let nought = Nought::start("memory", &services);
        let mut client = nought.connect();
        if count > 0 {
            client.start("all");
        } else {
            client.call("nought_info", &serde_json::json!({}));
        }
        drop(client);
        let fresh = memory(nought.pid());
        pause(Duration::from_secs(if options.quick { 3 } else { 10 }));
        let rested = memory(nought.pid());
        for (when, memory) in [("right after the start", fresh), ("10 s later", rested)] {
            let pss = Samples::from_iter([memory.pss]);
            let anonymous = Samples::from_iter([memory.anonymous]);
            report.row(&format!("{count} services, {when}: PSS"), "", &pss, None);
            report.row(
                &format!("{count} services, {when}: anonymous"),
                "",
                &anonymous,
                None,
            );
        }
        nought.shut_down();
    }
    let size = std::fs::metadata(crate::supervisor::NOUGHT).map_or(0, |m| m.len());
    report.note(&format!("the program has {} KiB", size / 1024));
    if options.peers {
        peer::memory_of_200(report);
    }
}
