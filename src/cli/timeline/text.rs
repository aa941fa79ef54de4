//! A timeline for a terminal.

use std::fmt::Write as _;

use crate::cli::output::Style;
use crate::cli::render::{clean, millis as ms};
use crate::pictures::timeline::{Kind, Lane, Timeline};

/// A bar is not shorter than this.
const LEAST_BAR: usize = 20;
/// Names are cut beyond this.
const NAME_MOST: usize = 24;

fn sign(kind: Kind) -> char {
    match kind {
        Kind::Waits => '.',
        Kind::Starts | Kind::Asked => '=',
        Kind::Up => '-',
        Kind::Killed => '#',
        Kind::Proven => '+',
    }
}

fn paint(style: Style, kind: Kind, text: &str) -> String {
    match kind {
        Kind::Waits => style.dim(text),
        Kind::Starts | Kind::Asked => style.warn(text),
        Kind::Up | Kind::Proven => style.good(text),
        Kind::Killed => style.bad(text),
    }
}

/// What stands in a column of a bar.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Empty,
    Of(Kind),
    Deadline,
}

/// A line for each service: `*` marks those that everything waited for.
pub(super) fn draw(timeline: &Timeline, width: usize, style: Style) -> String {
    let shown = |lane: &Lane| {
        clean(&lane.name)
            .chars()
            .take(NAME_MOST)
            .collect::<String>()
    };
    let names = timeline
        .lanes
        .iter()
        .map(|lane| shown(lane).chars().count());
    let name_width = names.max().unwrap_or(0);
    let told: Vec<String> = timeline.lanes.iter().map(tell).collect();
    let told_width = told
        .iter()
        .map(|text| text.chars().count())
        .max()
        .unwrap_or(0);
    let bar = width
        .saturating_sub(name_width + told_width + 7)
        .max(LEAST_BAR);
    let mut text = head(timeline);
    for (lane, told) in timeline.lanes.iter().zip(&told) {
        let star = if lane.critical { "*" } else { " " };
        let name = format!("{:name_width$}", shown(lane));
        let bar = self::bar(lane, timeline, bar, style);
        let _ = writeln!(text, "{star} {name} |{bar}| {told}");
    }
    let kinds = timeline
        .kinds()
        .map(|kind| paint(style, kind, &format!("{} {}", sign(kind), kind.word())));
    // There may be none of any length.
    let legend: Vec<String> = kinds.chain(["* what all waited for".to_owned()]).collect();
    let _ = writeln!(text, "{}", legend.join(", "));
    text
}

fn head(timeline: &Timeline) -> String {
    let (count, total) = (timeline.lanes.len(), ms(timeline.total_ms));
    let end = if timeline.of == "boot" {
        "ready"
    } else {
        "gone"
    };
    let deadline = timeline
        .deadline_ms
        .map(|deadline| format!(", deadline {}", ms(deadline)));
    let deadline = deadline.unwrap_or_default();
    let plural = if count == 1 { "" } else { "s" };
    format!(
        "{}: {total} until the last of {count} service{plural} was {end}{deadline}\n",
        timeline.of
    )
}

fn bar(lane: &Lane, timeline: &Timeline, width: usize, style: Style) -> String {
    let extent = timeline.extent_ms();
    // Numbers of a screen's size: nothing is lost.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "columns of a terminal"
    )]
    let column = |ms: f64| ((ms / extent * width as f64).round().max(0.0) as usize).min(width);
    let mut cells = vec![Cell::Empty; width];
    for (from, to, kind) in &lane.spans {
        let (from, to) = (column(*from).min(width.saturating_sub(1)), column(*to));
        // What took any time shows, but not over what came before.
        let to = if *kind == Kind::Waits {
            to
        } else {
            to.max(from + 1)
        };
        for cell in cells.iter_mut().take(to).skip(from) {
            *cell = Cell::Of(*kind);
        }
    }
    let mut mark = |at: usize, what: Cell| {
        if let Some(cell) = cells.get_mut(at) {
            *cell = what;
        }
    };
    let line = timeline.deadline_ms.filter(|at| *at <= extent).map(column);
    // What lasted beyond it is seen on both sides of it.
    if let Some(at) = line {
        mark(at, Cell::Deadline);
    }
    // However short a kill was, it shows.
    for (from, _, kind) in &lane.spans {
        if *kind == Kind::Killed {
            mark(
                column(*from).min(width.saturating_sub(1)),
                Cell::Of(Kind::Killed),
            );
        }
    }
    if line == Some(width) {
        cells.push(Cell::Deadline);
    }
    let mut text = String::new();
    for run in cells.chunk_by(|a, b| a == b) {
        match run.first() {
            Some(Cell::Of(kind)) => {
                let signs: String = run.iter().map(|_| sign(*kind)).collect();
                text.push_str(&paint(style, *kind, &signs));
            }
            Some(Cell::Deadline) => text.push_str(&style.bad("!")),
            Some(Cell::Empty) | None => text.extend(run.iter().map(|_| ' ')),
        }
    }
    text
}

fn tell(lane: &Lane) -> String {
    let took = lane.took_ms.map_or_else(|| "not yet".into(), ms);
    let waited = match &lane.waited_for {
        Some(name) if lane.waited_ms >= 1.0 => {
            format!(" after {} for {}", ms(lane.waited_ms), clean(name))
        }
        _ => String::new(),
    };
    let remark = lane.remark.as_ref().map(|remark| format!(", {remark}"));
    format!("{took}{waited}{}", remark.unwrap_or_default())
}

/// The longest starts first.
pub(super) fn blame(timeline: &Timeline, style: Style) -> String {
    let mut lanes: Vec<&Lane> = timeline.lanes.iter().collect();
    let took = |lane: &Lane| lane.took_ms.unwrap_or(f64::INFINITY);
    lanes.sort_by(|a, b| took(b).total_cmp(&took(a)).then(a.name.cmp(&b.name)));
    let times: Vec<String> = lanes
        .iter()
        .map(|lane| lane.took_ms.map_or_else(|| "not yet".into(), ms))
        .collect();
    let width = times
        .iter()
        .map(|time| time.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for (lane, time) in lanes.iter().zip(times) {
        let star = if lane.critical { "*" } else { " " };
        let name = clean(&lane.name);
        let waited = match &lane.waited_for {
            Some(other) if lane.waited_ms >= 1.0 => {
                let waited = format!("  waited {} for {}", ms(lane.waited_ms), clean(other));
                style.dim(&waited)
            }
            _ => String::new(),
        };
        let _ = writeln!(text, "{time:>width$} {star} {name}{waited}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::timeline::tests::{stopped, three};
    use crate::pictures::timeline::{boot, shutdown};

    const PLAIN: Style = Style { color: false };

    #[test]
    fn a_boot_fits_its_width() {
        let text = draw(&boot(&three()), 60, PLAIN);
        assert_eq!(
            text,
            "boot: 1 s until the last of 3 services was ready\n\
             \x20 cache |======================| not yet, starting\n\
             * db    |=========-------------| 400 ms\n\
             * web   |.........============-| 600 ms after 400 ms for db\n\
             . waits, = starts, - ready, * what all waited for\n"
        );
    }

    #[test]
    fn a_shutdown_shows_its_deadline() {
        let text = draw(&shutdown(stopped()).unwrap(), 60, PLAIN);
        assert!(
            text.starts_with(
                "shutdown: 1.2 s until the last of 2 services was gone, deadline 2.5 s\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("!| 1 s, unverified\n") && text.contains('#'),
            "{text}"
        );
    }

    #[test]
    fn a_shutdown_that_missed_its_deadline_shows_where_that_was() {
        let mut courses = stopped();
        for course in &mut courses {
            course.budget.deadline_ms = 600.0;
        }
        let text = draw(&shutdown(courses).unwrap(), 60, PLAIN);
        let web = "* web |========#+!++++++   | 1 s, unverified\n";
        assert!(text.contains(web), "{text}");
        let db = "* db  |..........!......==+| 200 ms after 1 s for web, unverified\n";
        assert!(text.contains(db), "{text}");
    }

    #[test]
    fn where_nothing_took_any_time_the_legend_says_the_rest() {
        let mut services = three();
        services.truncate(1);
        let text = draw(&boot(&services), 60, PLAIN);
        let end = "| not yet, starting\n* what all waited for\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn the_longest_is_blamed_first() {
        assert_eq!(
            blame(&boot(&three()), PLAIN),
            "not yet   cache\n 600 ms * web  waited 400 ms for db\n 400 ms * db\n"
        );
    }
}
