//! `reload`: the service files are read again, or services read their own.

use std::time::Duration;

use super::client::{Wait, alive};
use super::command::Session;
use super::end::show_stopping;
use super::error::Error;
use super::{EXIT_FAILED, render};
use crate::api::{Named, Reload, Reloaded, ServiceReloaded, method};

impl Session<'_> {
    /// Services read their own configuration again, side by side; told in the order of their names.
    pub(super) fn reload_services(&mut self, names: Vec<String>) -> Result<u8, Error> {
        let options = self.options;
        let mut client = self.connect()?;
        let mut asked = Vec::new();
        for name in names {
            let id = client.send(method::RELOAD_SERVICE, &Named { name: name.clone() })?;
            asked.push((id, name));
        }
        let mut code = 0;
        for (id, name) in asked {
            let wait = Wait::Work(options.timeout);
            let what = format!("to reload {}", render::clean(&name));
            let mut meanwhile = |waited: Duration| match waited.as_secs().is_multiple_of(5) {
                true => alive(&options.socket).map(drop),
                false => Ok(()),
            };
            match client.answer(id, wait, &what, &mut meanwhile) {
                Ok(raw) => {
                    let reloaded: ServiceReloaded = client.typed(&raw)?;
                    let service = render::clean(&reloaded.service);
                    self.print(&raw, |style| match reloaded.done {
                        true => format!("{service}: {}\n", style.good("reloaded")),
                        false => format!("{service}: asked to reload\n"),
                    });
                }
                Err(error @ (Error::Refused(_) | Error::TimedOut { .. })) => {
                    self.failed(&error, Some(&name));
                    code = EXIT_FAILED;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(code)
    }

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
