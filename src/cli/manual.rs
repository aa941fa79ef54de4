//! What needs no supervisor: the check of service files, and manual pages and completions made of
//! the command line's definition.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;

use super::args::Cli;
use super::command::Session;
use super::{EXIT_FAILED, render};
use crate::config;

impl Session<'_> {
    pub(super) fn completions(&mut self, shell: clap_complete::Shell) -> u8 {
        let script = script(shell);
        self.output.text(&String::from_utf8_lossy(&script));
        0
    }

    pub(super) fn man(&mut self, dir: Option<&Path>) -> u8 {
        let made = match dir {
            Some(dir) => pages(dir),
            None => page().map(|page| self.output.text(&String::from_utf8_lossy(&page))),
        };
        match made {
            Ok(()) => 0,
            Err(error) => {
                let dir = dir.unwrap_or(Path::new("."));
                self.output.error(&format!(
                    "error: cannot write manual pages to {}\n  because: {error}\n  hint: name \
                     another directory with --dir\n",
                    dir.display()
                ));
                EXIT_FAILED
            }
        }
    }

    pub(super) fn check(&mut self, dir: &Path) -> u8 {
        let loaded = config::load_dir_as(self.options.called.dialect(), dir);
        for problem in &loaded.problems {
            let at = problem.position.as_ref();
            let raw = serde_json::json!({
                "severity": problem.severity.as_str(),
                "file": problem.path.to_string_lossy(),
                "line": at.map(|at| at.line),
                "column": at.map(|at| at.column),
                "message": problem.message,
                "hint": problem.hint,
            });
            self.print(&raw, |_| {
                let text = problem.to_string();
                let lines = text
                    .lines()
                    .map(|line| format!("{}\n", render::clean(line)));
                lines.collect()
            });
        }
        let errors = loaded
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .count();
        let warnings = loaded.problems.len() - errors;
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let services = loaded.services.len();
        if !self.output.json {
            self.output.text(&format!(
                "{}: {services} service{}, {errors} error{}, {warnings} warning{}\n",
                render::clean(&dir.to_string_lossy()),
                plural(services),
                plural(errors),
                plural(warnings),
            ));
        }
        if errors > 0 { EXIT_FAILED } else { 0 }
    }
}

/// The completions of a shell.
fn script(shell: clap_complete::Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "nought", &mut out);
    out
}

/// The program's manual page, in roff.
fn page() -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut out)?;
    Ok(out)
}

/// Writes the pages of the program and of every command: `nought.1`, `nought-stop.1`, ….
fn pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}
