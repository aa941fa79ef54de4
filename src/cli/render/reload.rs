//! What a reload changes.

use std::fmt::Write as _;

use super::clean;
use crate::api::{Change, Reloaded};
use crate::cli::output::Style;

/// A line for each service that changes, and how many do not.
pub(in crate::cli) fn reload(reloaded: &Reloaded, style: Style) -> String {
    let mut text = String::new();
    let names = reloaded.changes.iter().map(|c| clean(&c.service));
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    for changed in &reloaded.changes {
        let keys = changed.keys.join(", ");
        let what = match changed.change {
            Change::Add => "added".to_owned(),
            Change::Remove => "removed".to_owned(),
            Change::Restart => format!("restarts: {keys} changed"),
            Change::Start => format!("starts: {keys} changed"),
            Change::Amend => format!("takes over {keys}"),
        };
        let _ = write!(text, "{:width$}  {what}", clean(&changed.service));
        if let Some(why) = &changed.failed {
            let _ = write!(text, "  {}", style.bad(&format!("failed: {}", clean(why))));
        }
        text.push('\n');
    }
    let untouched = reloaded.untouched;
    let _ = match (reloaded.changes.is_empty(), reloaded.dry_run) {
        (true, _) => writeln!(text, "nothing changes: {untouched} service(s) as they were"),
        (false, true) => writeln!(text, "{untouched} untouched; nothing was done (--dry-run)"),
        (false, false) => writeln!(text, "{untouched} untouched"),
    };
    text
}
