//! What would be done.

use std::fmt::Write as _;

use super::{Table, clean, count, millis};
use crate::api::{Plan, Planned};
use crate::cli::output::Style;

/// `nought plan shutdown` and `nought plan stop S`.
pub(in crate::cli) fn plan(of: Option<&str>, plan: &Plan, style: Style) -> String {
    let what = match of {
        None => "a shutdown".into(),
        Some(service) => format!("a stop of {}", clean(service)),
    };
    if plan.services.is_empty() {
        return format!("{what} would stop nothing: nothing of it runs\n");
    }
    let waves = plan.services.iter().map(|planned| planned.wave).max();
    let waves = waves
        .and_then(|last| usize::try_from(last).ok())
        .map_or(0, |last| last + 1);
    let mut out = format!(
        "{what} would stop {} in {}, at the worst in {}",
        count(plan.services.len(), "service", "services"),
        count(waves, "wave", "waves"),
        millis(plan.worst_ms),
    );
    if let Some(deadline) = plan.deadline_ms {
        let _ = write!(out, " of the {} it has", millis(deadline));
    }
    if let Some(reserve) = plan.end_reserve_ms {
        let _ = write!(
            out,
            ", {} of them for flush and final sweep",
            millis(reserve)
        );
    }
    out.push_str("; nothing was done\n");
    let head = [
        "WAVE",
        "SERVICE",
        "STATE",
        "ASKED BY",
        "WISH",
        "GRACE",
        "RESERVE",
        "LATEST END",
        "WAITS FOR",
    ];
    let mut table = Table::with_head(&[0, 4, 5, 6, 7], &head, style);
    for planned in &plan.services {
        table.rows.push(vec![
            (u64::from(planned.wave) + 1).to_string().into(),
            clean(&planned.service).into_owned().into(),
            clean(&planned.state).into_owned().into(),
            asked_by(planned).into(),
            millis(planned.wish_ms).into(),
            millis(planned.grace_ms).into(),
            millis(planned.proof_ms).into(),
            millis(planned.ends_at_ms).into(),
            names(&planned.waits_for).into(),
        ]);
    }
    out.push_str(&table.render("  "));
    let cut = plan.services.iter().filter(|p| p.grace_ms < p.wish_ms);
    for planned in cut {
        let _ = writeln!(
            out,
            "  {}: the deadline leaves {} of the {} of grace its file asks for",
            clean(&planned.service),
            millis(planned.grace_ms),
            millis(planned.wish_ms),
        );
    }
    out
}

fn asked_by(planned: &Planned) -> String {
    let signal = format!("{} to {}", clean(&planned.signal), clean(&planned.to));
    if planned.stop_command {
        format!("its stop command, {signal}")
    } else {
        signal
    }
}

fn names(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| clean(name)).collect();
    names.join(", ")
}
