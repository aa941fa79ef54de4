//! `nought doctor`: what this place can promise, why not more, what to change; and ending what
//! killed supervisors and runs left.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Doctor, Options};
use super::client::Client;
use super::output::{Output, Style};
use super::{EXIT_FAILED, EXIT_LINGERING, EXIT_UNVERIFIED, render};
use crate::api::{Verdict, method};
use crate::driver::{self, CleanUp, Cleaned, Examination, Finding};
use crate::state;

/// How long a supervisor that is there may take to say what it promises.
const ANSWER: Duration = Duration::from_secs(2);

/// Shows what can be promised here.
pub(super) fn examine(options: &Options, output: &mut Output, doctor: &Doctor) -> u8 {
    let running = running(options);
    let found = driver::examine(doctor.place);
    if output.json {
        output.document(&document(&found, running.as_ref()));
    } else {
        output.text(&text(&found, output.style));
        if let Some(info) = &running {
            let guarantee = info.get("guarantee").and_then(Value::as_str).unwrap_or("?");
            output.text(&format!(
                "\nthe supervisor on {} has: {}\n",
                render::clean(&options.socket.to_string_lossy()),
                render::clean(guarantee)
            ));
        }
    }
    match doctor.min_guarantee {
        Some(least) if !found.guarantee.meets(least) => EXIT_FAILED,
        _ => 0,
    }
}

/// What the supervisor on the socket says of itself, if one is there.
fn running(options: &Options) -> Option<Value> {
    let mut client = Client::connect(&options.socket, options.debug).ok()?;
    client.call(method::INFO, &Value::Null, ANSWER).ok()
}

fn document(found: &Examination, running: Option<&Value>) -> Value {
    let finding = |finding: &Finding| json!({"what": finding.what, "change": finding.change});
    json!({
        "guarantee": found.guarantee.to_string(),
        "containment": found.guarantee.containment.as_str(),
        "scan": found.guarantee.scan.as_str(),
        "best_verdict": found.guarantee.best_verdict(),
        "place": found.surroundings.as_str(),
        "cgroup": found.cgroup.as_deref().map(Path::to_string_lossy),
        "findings": found.findings.iter().map(finding).collect::<Vec<_>>(),
        "notes": found.notes,
        "running": running.and_then(|info| info.get("guarantee")),
    })
}

fn text(found: &Examination, style: Style) -> String {
    let mut out = String::new();
    let guarantee = found.guarantee.to_string();
    let shown = match found.findings.is_empty() {
        true => style.good(&guarantee),
        false => style.warn(&guarantee),
    };
    let _ = writeln!(
        out,
        "guarantee here: {shown} (in {})",
        found.surroundings.as_str()
    );
    let _ = writeln!(
        out,
        "  the best verdict of a stop: {}",
        found.guarantee.best_verdict()
    );
    if let Some(cgroup) = &found.cgroup {
        let _ = writeln!(
            out,
            "  our cgroup: {}",
            render::clean(&cgroup.to_string_lossy())
        );
    }
    if found.findings.is_empty() {
        out.push_str("  nothing is missing\n");
    }
    for Finding { what, change } in &found.findings {
        let _ = writeln!(
            out,
            "\nmissing: {}\n  to change that: {change}",
            render::clean(what)
        );
    }
    if !found.notes.is_empty() {
        out.push_str("\nthe start-up test says:\n");
        for note in &found.notes {
            let _ = writeln!(out, "  {}", render::clean(note));
        }
    }
    out
}

/// What a killed `nought run` left below the cgroup we are in, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// The cgroup that it left.
    pub cgroup: PathBuf,
    /// How many processes were ended.
    pub processes: usize,
    /// What is proven; `None`: it could not be looked at.
    pub verdict: Option<Verdict>,
}

/// Ends what killed runs left, by `runs`, and what killed supervisors left.
pub(super) fn clean(
    options: &Options,
    output: &mut Output,
    doctor: &Doctor,
    runs: &dyn Fn() -> Vec<Cleared>,
) -> u8 {
    let state_dirs = match state_dirs(options, doctor) {
        Ok(dirs) => dirs,
        Err(error) => {
            output.error(&format!("error: {}\n", render::clean(&error)));
            return EXIT_FAILED;
        }
    };
    // First: a clean-up for a supervisor moves us into a cgroup of its own.
    let runs: Vec<u8> = runs().iter().map(|run| say_run(output, run)).collect();
    let what = CleanUp {
        state_dirs,
        deadline: doctor.deadline,
        debug: options.debug,
    };
    let cleaned = match driver::clean(&what) {
        Ok(cleaned) => cleaned,
        Err(error) => {
            super::report_chain(&error);
            return EXIT_FAILED;
        }
    };
    if cleaned.is_empty() && !output.json {
        output.text("no supervisor has left a state directory here\n");
    }
    let supervisors = cleaned
        .iter()
        .map(|(path, result)| say(output, path, result));
    let codes: Vec<u8> = runs.into_iter().chain(supervisors).collect();
    let worst = [EXIT_FAILED, EXIT_LINGERING, EXIT_UNVERIFIED];
    worst
        .into_iter()
        .find(|code| codes.contains(code))
        .unwrap_or(0)
}

fn say_run(output: &mut Output, run: &Cleared) -> u8 {
    let (word, code) = match run.verdict {
        Some(Verdict::Verified) => ("verified", 0),
        Some(Verdict::Lingering) => ("lingering", EXIT_LINGERING),
        Some(Verdict::Unverified) | None => ("unverified", EXIT_UNVERIFIED),
    };
    let (cgroup, processes) = (run.cgroup.to_string_lossy(), run.processes);
    if output.json {
        output.document(&json!({
            "cgroup": cgroup,
            "result": word,
            "processes": processes,
        }));
    } else {
        output.text(&format!(
            "{}: {word}: a killed run had left it, {processes} process(es) were ended\n",
            render::clean(&cgroup)
        ));
    }
    code
}

fn say(output: &mut Output, path: &Path, result: &anyhow::Result<Cleaned>) -> u8 {
    let shown = path.display();
    let (word, text, code) = match result {
        Ok(Cleaned::Alive) => (
            "alive",
            "its supervisor lives: nothing to clean".to_owned(),
            0,
        ),
        Ok(Cleaned::Nothing) => ("nothing", "nothing was left".to_owned(), 0),
        Ok(Cleaned::Ended {
            generations,
            exit_code,
        }) => {
            let (verdict, code) = match exit_code {
                0 => ("verified", 0),
                70 => ("lingering", EXIT_LINGERING),
                _ => ("unverified", EXIT_UNVERIFIED),
            };
            (
                verdict,
                format!("{verdict}: {generations} start(s) were left"),
                code,
            )
        }
        Err(error) => ("failed", format!("failed: {error:#}"), EXIT_FAILED),
    };
    if output.json {
        let generations = match result {
            Ok(Cleaned::Ended { generations, .. }) => *generations,
            _ => 0,
        };
        output.document(&json!({
            "state_dir": path.to_string_lossy(),
            "result": word,
            "generations": generations,
            "error": result.as_ref().err().map(|error| format!("{error:#}")),
        }));
    } else {
        output.text(&format!(
            "{}: {}\n",
            render::clean(&shown.to_string()),
            render::clean(&text)
        ));
    }
    code
}

/// Whether a supervisor made its files there: opening a state directory makes what is missing,
/// and a directory of others' is not to be written to.
fn is_state_dir(dir: &Path) -> bool {
    dir.join("lock").is_file() && dir.join("generations").is_dir()
}

/// The state directories that are meant.
fn state_dirs(options: &Options, doctor: &Doctor) -> Result<Vec<PathBuf>, String> {
    // Looking for what was left must not make a place for it.
    let missing = |dir: &Path| {
        std::fs::symlink_metadata(dir)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    if let Some(dir) = &doctor.state_dir {
        if missing(dir) {
            let dir = dir.display();
            return Err(format!(
                "there is no state directory {dir}: name the one that `nought init` was given with \
                 --state-dir"
            ));
        }
        if !is_state_dir(dir) {
            return Err(format!(
                "{} is no state directory: it has no lock and no generations; name the one that \
                 `nought init` was given with --state-dir",
                dir.display()
            ));
        }
        return Ok(vec![dir.clone()]);
    }
    let euid = nix::unistd::geteuid().as_raw();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR");
    let own = state::default_path(&options.socket, euid, runtime.as_deref());
    if doctor.one_socket {
        let own = own.map_err(|error| error.to_string())?;
        return Ok(Some(own)
            .filter(|dir| is_state_dir(dir))
            .into_iter()
            .collect());
    }
    let root = own.map_err(|error| error.to_string())?;
    let root = root.parent().unwrap_or(&root);
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("failed to list {}: {error}", root.display())),
    };
    let mut dirs: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_state_dir(path))
        .collect();
    dirs.sort();
    Ok(dirs)
}
