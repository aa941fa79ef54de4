//! Ending what killed supervisors left, without starting anything: `nought doctor --clean`.
//!
//! The same core, ladder and proof as at the start of a supervisor, which then shuts down at
//! once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::asked::Ends;
use super::place::Place;
use super::run::{Driver, Parts, now};
use super::service_files::ServiceFiles;
use super::store::Store;
use super::threads::Threads;
use super::{LAST_LINES, announce, leftovers, report};
use crate::config::Dialect;
use crate::control;
use crate::core::{Event, GenId, Outcome, Settings, Supervisor};
use crate::logs::{self, Limits, Logs, Sink};
use crate::state::{StateDir, StateError};
use crate::sys::{clock, reap, signal};

/// Which state directories to look into, and how long each may take.
#[derive(Clone, Debug)]
pub struct CleanUp {
    /// The state directories.
    pub state_dirs: Vec<PathBuf>,
    /// How long ending what is left in one of them may take.
    pub deadline: Duration,
    /// Log at debug level.
    pub debug: bool,
}

/// What became of one state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// A supervisor lives: what runs there is its own.
    Alive,
    /// Nothing was left.
    Nothing,
    /// So many generations were left. Exit code: 0, 70 when anything lingers, 71 when the end
    /// could not be proven.
    Ended {
        /// How many.
        generations: usize,
        /// As `init` would end.
        exit_code: u8,
    },
}

/// Ends, with proof, what killed supervisors left behind according to their state directories.
///
/// # Errors
/// When it cannot begin; for one directory, when that cannot be opened.
pub fn clean(what: &CleanUp) -> anyhow::Result<Vec<(PathBuf, anyhow::Result<Cleaned>)>> {
    let sink = Sink::stdio();
    let level = logs::level(what.debug, std::env::var("NOUGHT_LOG").ok().as_deref())?;
    signal::unblock_all()?;
    logs::install(sink.clone(), level).context("failed to install the log")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the event loop")?;
    let mut cleaned = Vec::new();
    for path in &what.state_dirs {
        let one = runtime.block_on(clean_one(path, what.deadline, sink.clone()));
        cleaned.push((path.clone(), one));
    }
    runtime.shutdown_background();
    sink.flush(LAST_LINES);
    Ok(cleaned)
}

async fn clean_one(path: &Path, deadline: Duration, sink: Sink) -> anyhow::Result<Cleaned> {
    let dir = match StateDir::open(path) {
        Ok(dir) => dir,
        Err(StateError::Busy { .. }) => return Ok(Cleaned::Alive),
        Err(error) => return Err(error.into()),
    };
    let (left, _) = dir.leftovers()?;
    let tree_of = |instance: &crate::state::Instance| instance.cgroup_root.clone();
    let mut trees = dir.earlier_trees().to_vec();
    trees.extend(dir.previous_instance().and_then(tree_of));
    trees.retain(|tree| tree.is_dir());
    if left.is_empty() && trees.is_empty() {
        return Ok(Cleaned::Nothing);
    }
    let outcome = end_all(dir, deadline, sink).await?;
    Ok(Cleaned::Ended {
        generations: left.len(),
        exit_code: outcome.exit_code(),
    })
}

async fn end_all(dir: StateDir, deadline: Duration, sink: Sink) -> anyhow::Result<Outcome> {
    let ends = Ends::install(false).context("failed to take the signals over")?;
    if let Err(error) = reap::set_child_subreaper() {
        tracing::warn!("failed to {error}");
    }
    let place = Arc::new(Place::find(&dir));
    announce(&place);
    let (leftovers, gens) = leftovers::find(&dir, &place);
    let settings = Settings {
        deadline,
        guarantee: place.guarantee(),
        shortfall: String::new(),
        seed: clock::boot_now(),
        first_gen: GenId(dir.next_generation_hint().0.max(1)),
    };
    let mut core = Supervisor::new(settings, now());
    core.load(now(), Vec::new(), leftovers);
    core.handle(now(), Event::Terminate);
    // Nobody asks: the other end is kept open, and nothing comes.
    let (_asks, asked) = mpsc::unbounded_channel();
    let threads = Threads::new();
    let driver = Driver::new(Parts {
        core,
        previous: dir.previous_instance().cloned(),
        store: Store::new(dir, threads.clone()),
        // Nothing is started from there, and nobody asks for it.
        files: ServiceFiles {
            dir: PathBuf::new(),
            dialect: Dialect::default(),
        },
        last_resort: None,
        threads,
        place: Arc::clone(&place),
        gens,
        asks: asked,
        logs: Logs::new(Limits::default(), sink),
        gauge: control::Gauge::default(),
        tally: control::Tally::default(),
        environment: Vec::new(),
        open_files: None,
    })?;
    let (outcome, _) = driver.run(ends).await;
    report::outcome(&outcome, &place.guarantee().to_string());
    Ok(outcome)
}
