//! Pictures: one file, no script, light and dark by the reader's setting.

use std::fmt::Write as _;

use super::timeline::{Kind, Lane, Timeline};
use super::words::millis as ms;
use super::xml::escaped;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 56.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;

/// Colours that both backgrounds bear, and what is written on them.
pub(super) const STYLE: &str = "<style>\
text{font:12px system-ui,sans-serif;fill:#1f2328}\
.dim{fill:#656d76}.axis{stroke:#d0d7de}.box{fill:#ffffff}\
.waits{fill:#d0d7de}.starts,.asked{fill:#d29922}.ready{fill:#3fb950}.killed{fill:#cf222e}.proof{fill:#3fb950}\
.deadline{stroke:#cf222e;stroke-dasharray:4 3}.critical{font-weight:bold}\
.edge{stroke:#8c959f;fill:none}.requires{stroke-width:2}.arrow{fill:#8c959f}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#8d96a0}.axis{stroke:#30363d}\
.box{fill:#0d1117}.waits{fill:#484f58}.deadline{stroke:#ff7b72}}</style>";

/// `text`, cut so that it fits.
pub(super) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.into();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A step of the axis that gives a handful of marks.
fn step(extent: f64) -> f64 {
    let rough = extent / 6.0;
    // In steps: logarithms would make every start of this program load a library of mathematics.
    let mut power = 1.0;
    while power > rough && power > 1e-9 {
        power /= 10.0;
    }
    while power * 10.0 <= rough && power < 1e12 {
        power *= 10.0;
    }
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps
        .iter()
        .map(|n| n * power)
        .find(|step| *step >= rough)
        .unwrap_or(rough)
}

/// More marks than this no axis has, whatever the numbers are.
const MARKS: usize = 12;

/// Where a timeline's moments stand.
struct Axis {
    extent: f64,
    scale: f64,
    /// Below the last lane.
    bottom: f64,
}

impl Axis {
    fn x(&self, ms: f64) -> f64 {
        LEFT + ms * self.scale
    }

    fn draw(&self, out: &mut String) {
        let step = step(self.extent);
        let mut at = 0.0;
        for _ in 0..MARKS {
            if at > self.extent * 1.0001 {
                return;
            }
            let (px, label) = (self.x(at), ms(at));
            let _ = write!(
                out,
                "<line class=\"axis\" x1=\"{px:.1}\" y1=\"{TOP}\" x2=\"{px:.1}\" y2=\"{}\"/>\
                 <text class=\"dim\" x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                self.bottom,
                TOP - 8.0
            );
            at += step;
        }
    }

    /// The line, or how far beyond the picture it is.
    fn deadline(&self, deadline: f64, out: &mut String) {
        let (mut px, mut label) = (WIDTH - RIGHT, format!("deadline {} →", ms(deadline)));
        if deadline <= self.extent {
            (px, label) = (self.x(deadline), "deadline".into());
            let _ = write!(
                out,
                "<line class=\"deadline\" x1=\"{px:.1}\" y1=\"{TOP}\" x2=\"{px:.1}\" y2=\"{}\"/>",
                self.bottom
            );
        }
        let _ = write!(
            out,
            "<text class=\"dim\" x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            self.bottom + 14.0
        );
    }
}

/// A timeline.
pub(crate) fn timeline(timeline: &Timeline) -> String {
    let extent = timeline.extent_ms();
    #[expect(clippy::cast_precision_loss, reason = "a number of services")]
    let rows = timeline.lanes.len() as f64;
    let bottom = TOP + rows * ROW;
    let axis = Axis {
        extent,
        scale: (WIDTH - LEFT - RIGHT) / extent,
        bottom,
    };
    let height = bottom + 44.0;
    // Writing to memory does not fail, here and below.
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">{STYLE}\
         <rect class=\"box\" width=\"{WIDTH}\" height=\"{height}\"/>"
    );
    let title = escaped(&heading(timeline));
    let _ = write!(
        out,
        "<title>{title}</title><text x=\"12\" y=\"24\" class=\"critical\">{title}</text>"
    );
    axis.draw(&mut out);
    let mut y = TOP;
    for lane in &timeline.lanes {
        self::lane(lane, y, &axis, &mut out);
        y += ROW;
    }
    if let Some(deadline) = timeline.deadline_ms {
        axis.deadline(deadline, &mut out);
    }
    legend(timeline, bottom + 30.0, &mut out);
    out.push_str("</svg>\n");
    out
}

fn heading(timeline: &Timeline) -> String {
    let count = timeline.lanes.len();
    let plural = if count == 1 { "" } else { "s" };
    let mut text = format!(
        "{}: {}, {count} service{plural}",
        timeline.of,
        ms(timeline.total_ms)
    );
    if let Some(deadline) = timeline.deadline_ms {
        let _ = write!(text, ", deadline {}", ms(deadline));
    }
    // Without the milliseconds, and the date apart from the time.
    let ended = timeline.ended_at.as_ref().and_then(|at| at.get(..19));
    if let Some(ended) = ended {
        let _ = write!(text, ", ended {} UTC", ended.replacen('T', " ", 1));
    }
    text
}

fn lane(lane: &Lane, y: f64, axis: &Axis, out: &mut String) {
    let class = if lane.critical {
        " class=\"critical\""
    } else {
        ""
    };
    let baseline = y + 17.0;
    let name = escaped(&cut(&lane.name, 22));
    // Letters of any width: what is too wide ends where the bars begin.
    let _ = write!(
        out,
        "<svg x=\"12\" y=\"{y}\" width=\"{}\" height=\"{ROW}\"><text y=\"17\"{class}>{name}</text></svg>",
        LEFT - 18.0
    );
    // However short a kill was, it shows: over what came after it.
    let killed = |kind: Kind| kind == Kind::Killed;
    let (kills, others): (Vec<_>, Vec<_>) =
        lane.spans.iter().copied().partition(|span| killed(span.2));
    for (from, to, kind) in others.into_iter().chain(kills) {
        let least = match kind {
            Kind::Waits => 0.0,
            Kind::Killed => 3.0,
            _ => 1.5,
        };
        let width = ((to - from) * axis.scale).max(least);
        if width > 0.0 {
            let _ = write!(
                out,
                "<rect class=\"{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"><title>{} {}: {}</title></rect>",
                kind.word(),
                axis.x(from),
                y + 5.0,
                escaped(&lane.name),
                kind.word(),
                ms(to - from)
            );
        }
    }
    let took = lane.took_ms.map_or_else(|| "not yet".into(), ms);
    let waited = match &lane.waited_for {
        Some(other) if lane.waited_ms >= 1.0 => format!(" after {}", cut(other, 12)),
        _ => String::new(),
    };
    let remark = lane.remark.as_ref().map(|r| format!(", {r}"));
    let told = escaped(&format!("{took}{waited}{}", remark.unwrap_or_default()));
    let _ = write!(
        out,
        "<text class=\"dim\" x=\"{:.1}\" y=\"{baseline}\">{told}</text>",
        WIDTH - RIGHT + 10.0
    );
}

fn legend(timeline: &Timeline, y: f64, out: &mut String) {
    let mut x = 12.0;
    for kind in timeline.kinds() {
        let word = kind.word();
        let _ = write!(
            out,
            "<rect class=\"{word}\" x=\"{x}\" y=\"{}\" width=\"12\" height=\"12\" rx=\"2\"/><text x=\"{}\" y=\"{}\">{word}</text>",
            y - 10.0,
            x + 18.0,
            y
        );
        x += 80.0;
    }
    let _ = write!(
        out,
        "<text class=\"critical\" x=\"{x}\" y=\"{y}\">bold: what all waited for</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Course;
    use crate::pictures::timeline::tests::{stopped, three};
    use crate::pictures::timeline::{boot, shutdown};

    #[test]
    fn a_shutdown_has_its_deadline_in_the_picture_or_says_how_far_it_is() {
        let mut courses = stopped();
        courses[1].ended_at = Some("2026-11-22T10:00:06.200Z".into());
        courses[0].ended_at = Some("2026-11-22T10:00:06.400Z".into());
        courses[2].ended_at = Some("2026-11-22T10:00:00.400Z".into());
        let near = timeline(&shutdown(courses.clone()).unwrap());
        assert!(
            near.contains("<line class=\"deadline\" x1=\"770.0\""),
            "{near}"
        );
        let title = "<title>shutdown: 1.2 s, 2 services, deadline 2.5 s, ended 2026-11-22 10:00:06 UTC</title>";
        assert!(near.contains(title), "{near}");
        for course in &mut courses {
            course.budget.deadline_ms = 25_000.0;
        }
        let far = timeline(&shutdown(courses).unwrap());
        assert!(!far.contains("<line class=\"deadline\""), "{far}");
        assert!(far.contains(">deadline 25 s →</text>"), "{far}");
        assert!(!timeline(&boot(&three())).contains(">deadline"));
    }

    #[test]
    fn nothing_of_a_receipt_becomes_markup() {
        let bad = "a\"<b>'&</text>";
        let mut courses = stopped();
        courses.truncate(2);
        for course in &mut courses {
            course.service = bad.into();
            course.waited_for = Some(bad.into());
            course.ended_at = Some(bad.repeat(4));
        }
        let svg = timeline(&shutdown(courses).unwrap());
        assert!(!svg.contains("<b>") && !svg.contains("\"<b"), "{svg}");
        assert!(svg.contains("a&quot;&lt;b&gt;"), "{svg}");
    }

    #[test]
    fn a_thousand_services_and_impossible_moments_are_drawn_within_bounds() {
        let mut courses: Vec<Course> = (0..1000)
            .map(|n| Course {
                service: format!("service-{n}"),
                ..stopped()[1].clone()
            })
            .collect();
        let svg = timeline(&shutdown(courses.clone()).unwrap());
        assert_eq!(
            svg.matches("class=\"killed\"").count(),
            1001,
            "and the legend"
        );
        assert!(svg.len() < 1 << 20, "{}", svg.len());
        courses[0].began_mono_ms = -1e308;
        courses[0].ended_mono_ms = 1e308;
        let svg = timeline(&shutdown(courses).unwrap());
        assert!(svg.matches("class=\"axis\"").count() <= MARKS);
    }
}
