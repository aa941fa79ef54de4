//! docs/catalogue.md: a row for each case, held against what its test saw. With
//! `NOUGHT_WRITE_CATALOGUE=1` the tests write their rows instead of failing.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Survive,
    Program,
    Lie,
    Place,
}

impl Part {
    fn title(self) -> &'static str {
        match self {
            Part::Survive => "## Ways to survive a stop",
            Part::Program => "## Programs nobody here wrote",
            Part::Lie => "## Ways to lie to the supervisor",
            Part::Place => "## Places that offer less",
        }
    }
}

/// What a verdict may take beyond the times that its service has, on a busy machine.
const SLACK_MS: f64 = 5_000.0;

/// One case, to be completed with what came of it.
#[must_use]
pub(crate) struct Row {
    pub(crate) part: Part,
    pub(crate) case: &'static str,
    pub(crate) test: &'static str,
}

/// The row of the test this is called in: `row!(Survive, "case")`.
macro_rules! row {
    ($part:ident, $case:expr) => {{
        fn here() {}
        $crate::catalogue::table::Row {
            part: $crate::catalogue::table::Part::$part,
            case: $case,
            test: $crate::catalogue::table::name_of(here),
        }
    }};
}
pub(crate) use row;

pub(crate) fn name_of<T>(_: T) -> &'static str {
    std::any::type_name::<T>()
}

impl Row {
    /// A stop of one receipt, whichever its verdict.
    pub(crate) fn receipt(self, receipt: &Value) {
        let ends = ends(receipt);
        self.receipt_that(receipt, ends);
    }

    /// The same where the way it ends is not the same each time.
    pub(crate) fn receipt_that(self, receipt: &Value, ends: &str) {
        let took = in_time(receipt);
        let verdict = receipt["verdict"].as_str().unwrap();
        let verdict = format!("{verdict}{}", named(receipt));
        self.write(&verdict, ends, Some(took), &guarantee(receipt));
    }

    /// A stop that ends lingering, and verified by itself later.
    pub(crate) fn lingering(self, first: &Value, late: &Value) {
        let took = in_time(first);
        assert_eq!(first["verdict"], "lingering", "{first:#}");
        assert_eq!(late["verdict"], "verified", "{late:#}");
        assert_eq!(late["late"], true, "{late:#}");
        let ends = "at its kill timeout; verified by itself when what held it is gone";
        self.write("lingering, named", ends, Some(took), &guarantee(first));
    }

    /// Anything else, in words: there is no stop whose time could be given.
    pub(crate) fn says(self, verdict: &str, ends: &str, guarantee: &str) {
        self.write(verdict, ends, None, guarantee);
    }

    fn write(self, verdict: &str, ends: &str, took_ms: Option<f64>, guarantee: &str) {
        let test = self
            .test
            .trim_start_matches("kernel::")
            .trim_end_matches("::here");
        let test = test.trim_end_matches("::{{closure}}");
        let case = self.case;
        let row =
            |ms: &str| format!("| {case} | {verdict} | {ends} | {ms} | {guarantee} | `{test}` |");
        hold(self.part, test, took_ms, row);
    }
}

/// Where the ladder was when it ended.
fn ends(receipt: &Value) -> &'static str {
    let rungs = crate::receipt::rungs(receipt);
    let is_empty = |list: &str| receipt[list].as_array().unwrap().is_empty();
    // One that met nobody (a removal that came a moment early leads to it, too) ended nobody.
    let killed = !is_empty("killed") || !is_empty("foreign");
    let killed = killed || receipt["exit"]["signal"] == "SIGKILL";
    let has = |word: &str| rungs.iter().any(|rung| rung == word);
    let killed = has("kill") && killed;
    match (has("inspect"), killed, !is_empty("escaped")) {
        (true, ..) => "at its kill timeout",
        (false, true, false) => "killed after its grace",
        (false, true, true) => "killed after its grace, escapees too",
        (false, false, true) => "when asked; escapees are killed",
        (false, false, false) => "when asked",
    }
}

/// Who is on the receipt beside the service's own.
fn named(receipt: &Value) -> &'static str {
    let is_empty = |list: &str| receipt[list].as_array().unwrap().is_empty();
    match (is_empty("foreign"), is_empty("survivors")) {
        (true, true) => "",
        (false, true) => ", the stranger named",
        (true, false) => ", the survivors named",
        (false, false) => ", strangers and survivors named",
    }
}

fn guarantee(receipt: &Value) -> String {
    let words = &receipt["guarantee"];
    format!(
        "{} {}",
        words["containment"].as_str().unwrap(),
        words["scan"].as_str().unwrap()
    )
}

/// A verdict comes no later than the times that its service has allow: how long it took (ms).
fn in_time(receipt: &Value) -> f64 {
    let rungs = receipt["rungs"].as_array().unwrap();
    let graces = rungs.iter().filter_map(|rung| rung["grace_ms"].as_f64());
    let bound = graces.sum::<f64>() + 5_000.0 + SLACK_MS;
    let took = receipt["elapsed_ms"].as_f64().unwrap();
    assert!(took < bound, "it took {took} ms: {receipt:#}");
    took
}

/// The next of 1, 2, 5, 10, 20, 50 … at or above.
fn coarse(ms: f64) -> u32 {
    let mut step = 1;
    loop {
        for factor in [1, 2, 5] {
            if ms <= f64::from(step * factor) {
                return step * factor;
            }
        }
        step *= 10;
    }
}

/// A time that a row gives is written anew when it was measured this much shorter or longer: a run
/// alone changes no row.
const STALE: f64 = 10.0;

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/catalogue.md"))
}

/// Holds a row against the table, or writes it there: all of it has to be there as it is, and the
/// time that it gives must not be exceeded by more than [`SLACK_MS`].
fn hold(part: Part, test: &str, took_ms: Option<f64>, row: impl Fn(&str) -> String) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let writes = std::env::var_os("NOUGHT_WRITE_CATALOGUE").is_some();
    let text = fs::read_to_string(path()).unwrap();
    let stated = text.lines().find_map(|line| {
        let ms = line.rsplit(" | ").nth(2)?;
        (line == row(ms)).then_some(ms)
    });
    let holds = stated.is_some_and(|stated| match (stated.parse::<f64>(), took_ms) {
        (Ok(stated), Some(took)) if writes => {
            let now = f64::from(coarse(took));
            now < stated * STALE && stated < now * STALE
        }
        (Ok(stated), Some(took)) => took <= stated + SLACK_MS,
        (Err(_), None) => stated == NO_TIME,
        _ => false,
    });
    if holds {
        return;
    }
    let ms = took_ms.map_or(NO_TIME.to_owned(), |took| coarse(took).to_string());
    let row = row(&ms);
    assert!(
        writes,
        "docs/catalogue.md does not say what came of this:\n{row}\n(NOUGHT_WRITE_CATALOGUE=1 \
         writes it there: then look at the difference)"
    );
    let own = format!("| `{test}` |");
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.ends_with(&own)).collect();
    let title = lines.iter().position(|line| *line == part.title()).unwrap();
    // The heads of the table come after an empty line; its rows are in order.
    let first = title + 4;
    let rows = lines[first..]
        .iter()
        .take_while(|line| line.starts_with('|'));
    let at = first + rows.take_while(|line| **line < row.as_str()).count();
    lines.insert(at, &row);
    fs::write(path(), lines.join("\n") + "\n").unwrap();
}

/// What stands where there is no time to give.
const NO_TIME: &str = "–";

#[test]
fn times_are_rounded_up_to_one_two_and_five() {
    let all = [0.3, 1.0, 1.1, 2.0, 3.0, 5.1, 11.0, 49.0, 51.0, 1400.0];
    assert_eq!(all.map(coarse), [1, 1, 2, 2, 5, 10, 20, 50, 100, 2000]);
}

#[test]
fn the_table_and_the_tests_name_each_other() {
    let own = std::env::current_exe().unwrap();
    let listed = Command::new(own)
        .args(["--list", "--format", "terse"])
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let tests: BTreeSet<&str> = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    let text = fs::read_to_string(path()).unwrap();
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.ends_with("` |"));
    let named: BTreeSet<&str> = rows
        .map(|row| row.trim_end_matches("` |").rsplit('`').next().unwrap())
        .collect();
    let gone: Vec<_> = named.difference(&tests).collect();
    assert!(
        gone.is_empty(),
        "docs/catalogue.md has rows of tests that are not there: {gone:?}"
    );
    let cases = tests
        .iter()
        .filter(|test| test.starts_with("catalogue::") && !test.starts_with("catalogue::table::"));
    let missing: Vec<_> = cases.filter(|test| !named.contains(*test)).collect();
    assert!(
        missing.is_empty(),
        "docs/catalogue.md has no row of {missing:?}"
    );
}
