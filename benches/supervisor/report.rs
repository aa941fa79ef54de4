//! Numbers, their table and their JSON.

use std::path::Path;

use crate::machine;

/// Measurements of one thing, in one unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let place = (last as f64 * share).round() as usize;
        sorted.get(place).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn min(&self) -> f64 {
        self.at(0.0)
    }

    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    pub(crate) fn p90(&self) -> f64 {
        self.at(0.9)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

/// Everything measured in this run.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<serde_json::Value>,
}

impl Report {
    pub(crate) fn print_machine(&mut self) {
        let machine = machine::describe();
        println!("{machine}");
        self.rows.push(serde_json::json!({ "machine": machine }));
    }

    /// Begins a table.
    pub(crate) fn title(&self, title: &str) {
        println!("\n{title}");
        println!(
            "  {:<52} {:>4} {:>9} {:>9} {:>9}  ratio",
            "", "n", "min", "median", "p90"
        );
    }

    /// A line of the table; `base` is what its ratio is to, medians and minima.
    pub(crate) fn row(
        &mut self,
        what: &str,
        unit: &str,
        samples: &Samples,
        base: Option<&Samples>,
    ) {
        let (min, median, p90) = (samples.min(), samples.median(), samples.p90());
        let ratio = base.map(|base| (median / base.median(), min / base.min()));
        let text = ratio.map_or_else(String::new, |(median, min)| {
            format!("{median:.2} (min {min:.2})")
        });
        let count = samples.0.len();
        println!("  {what:<52} {count:>4} {min:>9.3} {median:>9.3} {p90:>9.3}  {text} {unit}");
        self.rows.push(serde_json::json!({
            "what": what, "unit": unit, "n": count, "min": min, "median": median, "p90": p90,
            "ratio": ratio.map(|(median, _)| median), "ratio_of_minima": ratio.map(|(_, min)| min),
        }));
    }

    /// A remark below the table.
    pub(crate) fn note(&mut self, note: &str) {
        println!("  ({note})");
        self.rows.push(serde_json::json!({ "note": note }));
    }

    pub(crate) fn write(&self, path: &Path) {
        let text = serde_json::to_string_pretty(&self.rows).expect("numbers are JSON");
        std::fs::write(path, text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    }
}
