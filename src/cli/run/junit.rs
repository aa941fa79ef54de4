//! A run's end as JUnit's XML, which most CI systems show: two cases, the command and what it
//! left behind.

use std::fmt::Write as _;

use super::show::{argv, exit_words, out_of_memory};
use super::{Leaks, RunArgs};
use crate::api::{RunReport, Verdict};
use crate::pictures::xml::escaped;

pub(super) fn document(report: &RunReport, args: &RunArgs) -> String {
    let command = command_failure(report, args);
    let left = left_failure(report, args);
    let failures = usize::from(command.is_some()) + usize::from(left.is_some());
    let seconds = |ms: f64| format!("{:.3}", ms / 1000.0);
    let total = seconds(report.total_ms);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites tests=\"2\" failures=\"{failures}\" time=\"{total}\">\n  \
         <testsuite name=\"nought run\" tests=\"2\" failures=\"{failures}\" errors=\"0\" \
         skipped=\"0\" time=\"{total}\">"
    );
    let name = escaped(&report.command.join(" "));
    let took = seconds(report.command_ms.unwrap_or(report.total_ms));
    case(&mut out, &name, &took, command, "");
    let warned: String = report
        .leaks
        .iter()
        .map(|process| format!("{} {}\n", process.pid, argv(process)))
        .collect();
    let after = (report.total_ms - report.command_ms.unwrap_or(0.0)).max(0.0);
    case(
        &mut out,
        "nothing is left behind",
        &seconds(after),
        left,
        &warned,
    );
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

fn case(out: &mut String, name: &str, time: &str, failure: Option<String>, said: &str) {
    let _ = write!(
        out,
        "    <testcase classname=\"nought\" name=\"{name}\" time=\"{time}\""
    );
    if failure.is_none() && said.is_empty() {
        out.push_str("/>\n");
        return;
    }
    out.push_str(">\n");
    if let Some(failure) = failure {
        let _ = writeln!(out, "      <failure message=\"{}\"/>", escaped(&failure));
    }
    if !said.is_empty() {
        let _ = writeln!(out, "      <system-out>{}</system-out>", escaped(said));
    }
    out.push_str("    </testcase>\n");
}

fn command_failure(report: &RunReport, args: &RunArgs) -> Option<String> {
    if let Some(error) = &report.error {
        return Some(format!("failed to {error}"));
    }
    if report.ended_by == "run-killed" {
        return Some("nought run was killed, and the command with it".to_owned());
    }
    if report.ended_by == "timeout" {
        return Some("timed out".to_owned());
    }
    let exit = report.exit.as_ref().map(exit_words);
    let failed = exit.filter(|words| words != "exit code 0")?;
    Some(match out_of_memory(report, args) {
        Some(memory) => format!("{failed}: {memory}"),
        None => failed,
    })
}

fn left_failure(report: &RunReport, args: &RunArgs) -> Option<String> {
    let reason = || report.reason.clone().unwrap_or_default();
    match report.verdict {
        Some(Verdict::Lingering) => Some(format!("something survived: {}", reason())),
        _ if args.leaks == Leaks::Fail && !report.leaks.is_empty() => {
            Some(format!("{} process(es) still ran", report.leaks.len()))
        }
        _ => None,
    }
}
