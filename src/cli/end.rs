//! The end of everything: shutdown, poweroff, reboot, halt, kexec.

use std::time::Duration;

use crate::api::{List, Shutdown, ShutdownDone, ShutdownKind, method};

use super::args::Options;
use super::called::default_socket;
use super::client::{ANSWER, Client, Wait, alive};
use super::command::Session;
use super::error::Error;
use super::output::Output;
use super::{EXIT_LINGERING, EXIT_UNVERIFIED, process1, render};

impl Session<'_> {
    pub(super) fn shutdown(&mut self, kind: ShutdownKind) -> Result<u8, Error> {
        if kind == ShutdownKind::Kexec && !process1::kernel_is_loaded() {
            return Err(Error::NoKernel);
        }
        let error = match self.shutdown_by_socket(kind) {
            Err(error @ (Error::Connect { .. } | Error::Unfit { .. } | Error::NoAnswer { .. })) => {
                error
            }
            other => return other,
        };
        let ours = self.options.socket == default_socket();
        let Some(ask) = ours.then(|| process1::Ask::of(kind)).flatten() else {
            return Err(error);
        };
        // Said before: we are among those whom a broken process 1 then ends.
        let note = format!("note: {error}: process 1 is sent {}\n", ask.name);
        self.output.error(&note);
        if ask.send() { Ok(0) } else { Err(error) }
    }

    fn shutdown_by_socket(&mut self, kind: ShutdownKind) -> Result<u8, Error> {
        let options = self.options;
        let mut client = Client::connect(&options.socket, options.debug)?;
        let id = client.send(method::SHUTDOWN, &Shutdown { kind })?;
        let output = &mut self.output;
        let mut meanwhile = |waited: Duration| {
            show_stopping(options, output, waited);
            // Towards its end it takes no new connection, and answers on this one.
            match waited
                .as_secs()
                .is_multiple_of(5)
                .then(|| alive(&options.socket))
            {
                Some(Err(error @ Error::NoAnswer { .. })) => Err(error),
                _ => Ok(()),
            }
        };
        let raw = client.answer(
            id,
            Wait::Work(options.timeout),
            "the shutdown",
            &mut meanwhile,
        )?;
        let done: ShutdownDone = client.typed(&raw)?;
        self.print(&raw, |style| render::shut_down(&done, style));
        // Process 1 ends us with it, within its namespace, once this connection is closed: the
        // kernel does that when our exit code is settled.
        std::mem::forget(client);
        Ok(
            match (done.lingering.is_empty(), done.unverified.is_empty()) {
                (false, _) => EXIT_LINGERING,
                (true, false) => EXIT_UNVERIFIED,
                (true, true) => 0,
            },
        )
    }
}

/// Shows on a terminal who is still on the way down.
pub(super) fn show_stopping(options: &Options, output: &mut Output, waited: Duration) {
    if output.wants_progress() {
        let line = stopping(options, waited);
        output.show_progress(&line);
    }
}

/// Who is still on the way down. Towards the end of a shutdown nobody answers any more.
fn stopping(options: &Options, waited: Duration) -> String {
    let list = Client::connect(&options.socket, false).and_then(|mut client| {
        let list = client.call(method::LIST, &(), ANSWER)?;
        client.typed::<List>(&list)
    });
    render::stopping(list.as_ref().ok(), waited)
}
