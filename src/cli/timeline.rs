//! `timeline`, `blame` and `graph`: who waited for whom, how long, and what depends on what.

mod dependencies;
mod text;

use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde_json::{Value, json};

use super::command::Session;
use super::error::{Error, report_chain};
use super::{EXIT_FAILED, render};
use crate::api::{Course, List, ListQuery, method};
use crate::pictures::graph::Graph;
use crate::pictures::svg;
use crate::pictures::timeline::{self, Timeline};
use crate::state;

impl Session<'_> {
    pub(super) fn timeline_boot(&mut self, svg: Option<&Path>) -> Result<u8, Error> {
        let list = self.all_services()?;
        let timeline = timeline::boot(&list.services);
        Ok(self.draw(&timeline, svg))
    }

    /// The last shutdown's, from what the supervisor left: it has ended by then.
    pub(super) fn timeline_shutdown(&mut self, dir: Option<PathBuf>, svg: Option<&Path>) -> u8 {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR");
        let euid = geteuid().as_raw();
        let dir = match dir {
            Some(dir) => Ok(dir),
            None => state::default_path(&self.options.socket, euid, runtime.as_deref()),
        };
        let found = dir.and_then(|dir| state::newest_receipts(&dir, Course::of_line));
        let receipts = match found {
            Ok(receipts) => receipts,
            Err(error) => {
                report_chain(&error.into());
                return EXIT_FAILED;
            }
        };
        let Some(timeline) = timeline::shutdown(receipts) else {
            self.output.error(
                "error: there is no receipt of a shutdown of this socket's supervisor\n  \
                 hint: `-s` names the socket; what /run held is gone after a boot\n",
            );
            return EXIT_FAILED;
        };
        self.draw(&timeline, svg)
    }

    fn draw(&mut self, timeline: &Timeline, svg: Option<&Path>) -> u8 {
        let Some(path) = svg else {
            let width = super::output::columns();
            let document = timeline.document();
            self.print(&document, |style| text::draw(timeline, width, style));
            return 0;
        };
        self.write_picture(path, &svg::timeline(timeline))
    }

    fn write_picture(&mut self, path: &Path, picture: &str) -> u8 {
        match std::fs::write(path, picture) {
            Ok(()) => {
                let text = format!("{}\n", render::clean(&path.to_string_lossy()));
                self.print(&json!({"file": path.to_string_lossy()}), |_| text);
                0
            }
            Err(error) => {
                let path = path.display();
                self.output
                    .error(&format!("error: failed to write {path}: {error}\n"));
                EXIT_FAILED
            }
        }
    }

    /// The longest starts first.
    pub(super) fn blame(&mut self) -> Result<u8, Error> {
        let list = self.all_services()?;
        let timeline = timeline::boot(&list.services);
        let document = timeline.document();
        self.print(&document, |style| text::blame(&timeline, style));
        Ok(0)
    }

    pub(super) fn graph(&mut self, dot: bool, svg: Option<&Path>) -> Result<u8, Error> {
        let list = self.all_services()?;
        let graph = Graph::of(&list.services);
        if let Some(path) = svg {
            return Ok(self.write_picture(path, &graph.svg()));
        }
        let document: Value = graph.document();
        self.print(&document, |style| match dot {
            true => dependencies::dot(&graph),
            false => dependencies::text(&graph, style),
        });
        Ok(0)
    }

    fn all_services(&mut self) -> Result<List, Error> {
        let query = ListQuery { memory: false };
        let mut client = self.connect()?;
        let (_, list) = self.ask(&mut client, method::LIST, &query)?;
        Ok(list)
    }
}
