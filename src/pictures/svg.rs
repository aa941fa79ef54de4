//! Pictures: one file, no script, light and dark by the reader's setting.

use std::fmt::Write as _;

use super::timeline::{Kind, Timeline};
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
.box{fill:#0d1117}.waits{fill:#484f58}}</style>";

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

/// A timeline.
pub(crate) fn timeline(timeline: &Timeline) -> String {
    let extent = timeline.extent_ms();
    let scale = (WIDTH - LEFT - RIGHT) / extent;
    let x = |ms: f64| LEFT + ms * scale;
    #[expect(clippy::cast_precision_loss, reason = "a number of services")]
    let rows = timeline.lanes.len() as f64;
    let bottom = TOP + rows * ROW;
    let height = bottom + 44.0;
    // Writing to memory does not fail, here and below.
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" role=\"img\">{STYLE}\
         <rect class=\"box\" width=\"{WIDTH}\" height=\"{height}\"/>"
    );
    let title = format!(
        "{}: {}, {} services",
        timeline.of,
        ms(timeline.total_ms),
        timeline.lanes.len()
    );
    let _ = write!(
        out,
        "<title>{title}</title><text x=\"12\" y=\"24\" class=\"critical\">{title}</text>"
    );
    let step = step(extent);
    let mut at = 0.0;
    while at <= extent * 1.0001 {
        let (px, label) = (x(at), ms(at));
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{px:.1}\" y1=\"{TOP}\" x2=\"{px:.1}\" y2=\"{bottom}\"/>\
             <text class=\"dim\" x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            TOP - 8.0
        );
        at += step;
    }
    let mut y = TOP;
    for lane in &timeline.lanes {
        let class = if lane.critical {
            " class=\"critical\""
        } else {
            ""
        };
        let baseline = y + 17.0;
        let name = escaped(&cut(&lane.name, 22));
        let _ = write!(out, "<text x=\"12\" y=\"{baseline}\"{class}>{name}</text>");
        for (from, to, kind) in &lane.spans {
            let width = ((to - from) * scale).max(if *kind == Kind::Waits { 0.0 } else { 1.5 });
            if width > 0.0 {
                let _ = write!(
                    out,
                    "<rect class=\"{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"><title>{} {}: {}</title></rect>",
                    kind.word(),
                    x(*from),
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
        let remark = lane
            .remark
            .as_ref()
            .map(|r| format!(", {r}"))
            .unwrap_or_default();
        let told = escaped(&format!("{took}{waited}{remark}"));
        let _ = write!(
            out,
            "<text class=\"dim\" x=\"{:.1}\" y=\"{baseline}\">{told}</text>",
            WIDTH - RIGHT + 10.0
        );
        y += ROW;
    }
    if let Some(deadline) = timeline.deadline_ms.filter(|at| *at <= extent) {
        let px = x(deadline);
        let _ = write!(
            out,
            "<line class=\"deadline\" x1=\"{px:.1}\" y1=\"{TOP}\" x2=\"{px:.1}\" y2=\"{bottom}\"/>\
             <text class=\"dim\" x=\"{px:.1}\" y=\"{:.1}\" text-anchor=\"end\">deadline</text>",
            bottom + 14.0
        );
    }
    legend(timeline, bottom + 30.0, &mut out);
    out.push_str("</svg>\n");
    out
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
