//! `--watch`: the service files are brought about when they change.
//!
//! Editors write a file in several steps, and tools several files in a row: it is read when
//! nothing has happened for a moment. What is not sound then changes nothing, and the next
//! change is another chance.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::{sleep, timeout};

use super::run::now;
use crate::control::{self, Context};
use crate::sys::directory::{Directory, Happened};
use crate::sys::readiness;

/// So long nothing has happened before the files are read.
const QUIET: Duration = Duration::from_millis(300);
/// But they are read at last when it never is.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a directory that is gone is looked for.
const AGAIN: Duration = Duration::from_secs(2);

/// Watches `dir` for ever.
pub(super) async fn watch(dir: PathBuf, context: Context) {
    let mut gone = false;
    loop {
        let watched = Directory::watch(&dir).map_err(|error| error.to_string());
        let watched = watched.and_then(|directory| {
            readiness::readable(directory).map_err(|error| format!("watch the directory: {error}"))
        });
        match watched {
            Ok(mut watched) => {
                if std::mem::take(&mut gone) {
                    tracing::info!("{} is there again", dir.display());
                    reload(&context).await;
                }
                follow(&mut watched, &context).await;
                let dir = dir.display();
                tracing::warn!("{dir} is gone: no change there is noticed until it is back");
            }
            Err(error) if !gone => {
                tracing::warn!("failed to {error}: no change there is noticed until it is back");
            }
            Err(_) => {}
        }
        gone = true;
        sleep(AGAIN).await;
    }
}

/// Until the directory itself is gone.
async fn follow(watched: &mut AsyncFd<Directory>, context: &Context) {
    while next(watched).await {
        let began = now();
        while now().since(began) < PATIENCE {
            match timeout(QUIET, next(watched)).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(_) => break,
            }
        }
        reload(context).await;
    }
}

/// The next change; `false`: none can be heard of any more.
async fn next(watched: &mut AsyncFd<Directory>) -> bool {
    loop {
        let Ok(mut ready) = watched.readable_mut().await else {
            return false;
        };
        let happened = ready.get_inner_mut().drain();
        ready.clear_ready();
        match happened {
            Ok(Happened::Changed) => return true,
            Ok(Happened::Nothing) => {}
            Ok(Happened::Gone) => return false,
            Err(error) => {
                tracing::warn!("failed to {error}");
                return false;
            }
        }
    }
}

/// Says what is wrong; what changes says itself.
async fn reload(context: &Context) {
    match control::reload(context).await {
        Ok(reloaded) => {
            for warning in reloaded.warnings {
                log(&warning, false);
            }
            for changed in reloaded.changes {
                if let Some(why) = changed.failed {
                    tracing::warn!("{}: its new file is not in force: {why}", changed.service);
                }
            }
        }
        Err(error) => {
            log(&error.message, true);
            for cause in error.data.iter().flat_map(|data| &data.cause_chain) {
                log(cause, true);
            }
        }
    }
}

/// A record is one line, and a problem shows its place in several.
fn log(text: &str, error: bool) {
    for line in text.lines() {
        if error {
            tracing::error!("{line}");
        } else {
            tracing::warn!("{line}");
        }
    }
}
