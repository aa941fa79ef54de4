//! `reload`: the service files are read again.

use std::time::Duration;

use super::client::{Wait, alive};
use super::command::Session;
use super::end::show_stopping;
use super::error::Error;
use super::{EXIT_FAILED, render};
use crate::api::{Reload, Reloaded, method};

impl Session<'_> {
    pub(super) fn reload(&mut self, dry_run: bool) -> Result<u8, Error> {
        let options = self.options;
        let mut client = self.connect()?;
        let id = client.send(method::RELOAD, &Reload { dry_run })?;
        let output = &mut self.output;
        let mut meanwhile = |waited: Duration| {
            show_stopping(options, output, waited);
            match waited.as_secs().is_multiple_of(5) {
                true => alive(&options.socket).map(drop),
                false => Ok(()),
            }
        };
        let wait = Wait::Work(options.timeout);
        let raw = client.answer(id, wait, "the reload", &mut meanwhile)?;
        let reloaded: Reloaded = client.typed(&raw)?;
        for warning in &reloaded.warnings {
            self.output.error(&format!("{warning}\n"));
        }
        self.print(&raw, |style| render::reload(&reloaded, style));
        let failed = reloaded.changes.iter().any(|c| c.failed.is_some());
        Ok(if failed { EXIT_FAILED } else { 0 })
    }
}
