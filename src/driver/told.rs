//! What a service says of itself: sd_notify(3), a newline on a descriptor, a line of its output.
//!
//! A notice counts when it comes from a process of that start: one in its cgroup, or with its
//! mark. A sender that is gone before it was looked at (`systemd-notify --no-block`) is taken by
//! its user id. Whoever else sends is named in the log, and means nothing.

use std::ffi::OsString;
use std::io::pipe;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::task::AbortHandle;

use super::fd_store::Store;
use super::generation::Generation;
use super::message::Message;
use super::run::{Driver, now};
use super::translate::failed;
use crate::core::{Check, Event, Failed, GenId, LogMode, Spec, Told};
use crate::sys::procfs::{Proc, is_at_or_below};
use crate::sys::sd_notify::{NotifySocket, Said};
use crate::sys::{SysError, readiness};

/// Notices that are taken before others get their turn.
const NOTICES_A_TURN: usize = 16;
/// Characters of a `STATUS=` that are kept.
const STATUS_MOST: usize = 200;

/// What a start is given so that it can say something of itself.
#[derive(Debug, Default)]
pub(super) struct Voice {
    pub(super) vars: Vec<(OsString, OsString)>,
    pub(super) descriptors: Vec<(OwnedFd, u32)>,
    /// Some of them as sd_listen_fds(3) has them.
    pub(super) listen_pid: bool,
}

/// Whose process a sender is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    Ours,
    Gone,
    Stranger,
}

impl Driver {
    /// Listens to what the start may say, from now until its last verdict.
    pub(super) fn listen_to(&mut self, r#gen: GenId, spec: &Spec) -> Result<Voice, Failed> {
        let mut voice = Voice::default();
        let mut hearing = Vec::new();
        let mut notices = None;
        if spec.listens() && !spec.oneshot {
            let (socket, name) = NotifySocket::bind().map_err(|error| failed(&error))?;
            let what = std::path::Path::new("a socket");
            let watched = readiness::readable(socket)
                .map_err(|error| failed(&SysError::io("watch", what, &error)))?;
            notices = Some(watched);
            voice.vars.push(("NOTIFY_SOCKET".into(), name.into()));
        }
        if let Some(watchdog) = spec.watchdog {
            let micros = watchdog.as_micros().to_string();
            voice.vars.push(("WATCHDOG_USEC".into(), micros.into()));
        }
        match spec.test.as_ref().map(|test| &test.check) {
            Some(Check::Fd(number)) if !spec.oneshot => {
                let (task, write) = self.hear_newline(r#gen, *number)?;
                hearing.push(task);
                voice.descriptors.push((write, *number));
            }
            Some(Check::LogRegex(regex)) if !spec.oneshot => {
                hearing.push(self.hear_line(r#gen, spec, regex)?);
            }
            _ => {}
        }
        if let Some(generation) = self.gens.get_mut(&r#gen)
            && (!hearing.is_empty() || notices.is_some())
        {
            generation.rare.hearing = hearing;
            generation.rare.notices = notices;
        }
        Ok(voice)
    }

    /// Takes notices from now on that its main process is known: until then nobody could tell whose
    /// they are, and what is sent waits in the socket. A process may speak before we hear that it
    /// was born.
    pub(super) fn hear_notices(&mut self, r#gen: GenId) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        let rare = generation.rare.if_any();
        let Some(watched) = rare.and_then(|rare| rare.notices.take()) else {
            return;
        };
        // What was sent before comes before the end of whoever sent it.
        let waiting = std::iter::from_fn(|| watched.get_ref().receive().ok().flatten());
        let early: Vec<Said> = waiting.take(NOTICES_A_TURN).collect();
        let inbox = self.inbox.clone();
        let task = tokio::spawn(async move {
            while let Ok(mut ready) = watched.readable().await {
                for _ in 0..NOTICES_A_TURN {
                    match watched.get_ref().receive() {
                        Ok(Some(said)) => {
                            // Fails only when the loop has ended.
                            let _ = inbox.send(Message::Said { r#gen, said });
                        }
                        Ok(None) => {
                            ready.clear_ready();
                            break;
                        }
                        Err(error) => return tracing::warn!("failed to {error}"),
                    }
                }
                drop(ready);
                tokio::task::yield_now().await;
            }
        });
        generation.rare.hearing.push(task.abort_handle());
        for said in early {
            self.on_said(r#gen, said);
        }
    }

    fn hear_newline(&self, r#gen: GenId, number: u32) -> Result<(AbortHandle, OwnedFd), Failed> {
        let failed = |error: std::io::Error| Failed {
            doing: "make a pipe for".into(),
            what: format!("descriptor {number}"),
            errno: error.raw_os_error().unwrap_or(0),
            why: error.to_string(),
        };
        let (read, write) = pipe().map_err(failed)?;
        let mut read = Receiver::from_owned_fd(read.into()).map_err(failed)?;
        let inbox = self.inbox.clone();
        let task = tokio::spawn(async move {
            let mut bytes = [0; 256];
            while let Ok(count @ 1..) = read.read(&mut bytes).await {
                if bytes.get(..count).is_some_and(|said| said.contains(&b'\n')) {
                    let _ = inbox.send(Message::Event(ready(r#gen)));
                    return;
                }
            }
        });
        Ok((task.abort_handle(), write.into()))
    }

    fn hear_line(&self, r#gen: GenId, spec: &Spec, regex: &str) -> Result<AbortHandle, Failed> {
        let no = |why: String| Failed {
            doing: "look for a line in the output of".into(),
            what: spec.name.clone(),
            errno: 0,
            why,
        };
        if spec.log == LogMode::None {
            return Err(no("its `log` is `none`: nothing of it is read".into()));
        }
        let regex = regex_lite::Regex::new(regex).map_err(|error| no(error.to_string()))?;
        let (_, mut follow) = self.logs.follow(std::slice::from_ref(&spec.name), 0);
        let inbox = self.inbox.clone();
        let task = tokio::spawn(async move {
            loop {
                let batch = follow.next().await;
                let said = |line: &std::sync::Arc<crate::logs::Line>| {
                    regex.is_match(&String::from_utf8_lossy(&line.text))
                };
                if batch.lines.iter().any(said) {
                    let _ = inbox.send(Message::Event(ready(r#gen)));
                    return;
                }
            }
        });
        Ok(task.abort_handle())
    }

    /// A notice came: what it says counts if a process of the start sent it.
    pub(super) fn on_said(&mut self, r#gen: GenId, mut said: Said) {
        let Some(generation) = self.gens.get(&r#gen) else {
            return;
        };
        let counts = match self.sender(generation, said.pid) {
            Sender::Ours => true,
            Sender::Gone => {
                let resolved = generation.resolved.as_ref();
                let user = resolved.and_then(|resolved| resolved.run_as.uid);
                let user = user.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
                said.uid == user || said.uid == 0
            }
            Sender::Stranger => false,
        };
        if counts {
            let service = generation.service;
            if let Some(store) = Store::read(&said.text) {
                let descriptors = std::mem::take(&mut said.descriptors);
                self.store_descriptors(service, store, descriptors);
            }
            for told in parse(&said.text) {
                match told {
                    Told::MainPid(pid) => self.name_main(r#gen, pid),
                    told => self.core.handle(now(), Event::Told { r#gen, told }),
                }
            }
        } else {
            let words = said.text.lines().next().unwrap_or_default();
            let (pid, uid) = (said.pid, said.uid);
            let words = plain(words);
            let service = &generation.name;
            tracing::warn!(
                "{service}: process {pid} (user {uid}), which is none of it, says {words:?} in its name: ignored"
            );
        }
        // A sender that waits for this (`BARRIER=1`) goes on.
        self.drop_descriptors(said.descriptors);
    }

    pub(super) fn sender(&self, generation: &Generation, pid: u32) -> Sender {
        let Ok(proc) = Proc::open() else {
            return Sender::Stranger;
        };
        match proc.stat(pid) {
            Ok(Some(stat)) if !stat.is_dead() => {}
            _ => {
                return if pid == 0 {
                    Sender::Stranger
                } else {
                    Sender::Gone
                };
            }
        }
        let tree = generation.dir.as_deref();
        let tree = tree.and_then(|dir| self.place.path_in_proc(dir));
        let cgroup = proc.cgroup(pid).ok().flatten();
        let inside = match (&tree, &cgroup) {
            (Some(tree), Some(cgroup)) => is_at_or_below(&cgroup.path, tree),
            _ => false,
        };
        let bears = || {
            let mark = generation.mark;
            mark.is_some() && proc.mark(pid).ok().and_then(|mark| mark.inode()) == mark
        };
        if inside || bears() || generation.leader == Some(pid) {
            Sender::Ours
        } else {
            Sender::Stranger
        }
    }
}

fn ready(r#gen: GenId) -> Event {
    let told = Told::Ready;
    Event::Told { r#gen, told }
}

/// What a message says, in its order; what is not known here is skipped, as sd_notify(3) asks.
fn parse(text: &str) -> Vec<Told> {
    let told = text.lines().filter_map(|line| {
        let (key, value) = line.split_once('=')?;
        Some(match (key, value) {
            ("READY", "1") => Told::Ready,
            ("STOPPING", "1") => Told::Stopping,
            ("RELOADING", "1") => Told::Reloading,
            ("WATCHDOG", "1") => Told::Alive,
            ("WATCHDOG", "trigger") => Told::GivesUp,
            ("EXTEND_TIMEOUT_USEC", micros) => {
                Told::Extend(Duration::from_micros(micros.parse().ok()?))
            }
            ("STATUS", words) => Told::Status(plain(words)),
            ("MAINPID", pid) => Told::MainPid(pid.parse().ok()?),
            _ => return None,
        })
    });
    told.collect()
}

/// Words for a table: one line, nothing that moves a cursor, not too long.
fn plain(words: &str) -> String {
    words
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(STATUS_MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_line_by_line_and_what_is_unknown_is_skipped() {
        let text = "STATUS=Serving \u{1b}[31m3\nREADY=1\nX_MINE=1\nMAINPID=12\nnothing\nREADY=2\n\
                    EXTEND_TIMEOUT_USEC=1500000\nWATCHDOG=1\nWATCHDOG=trigger\nSTOPPING=1\n";
        let told = [
            Told::Status("Serving  [31m3".into()),
            Told::Ready,
            Told::MainPid(12),
            Told::Extend(Duration::from_millis(1500)),
            Told::Alive,
            Told::GivesUp,
            Told::Stopping,
        ];
        assert_eq!(parse(text), told);
        assert_eq!(parse(""), []);
        assert_eq!(
            parse(&format!("STATUS={}", "x".repeat(4000))),
            [Told::Status("x".repeat(STATUS_MOST))]
        );
    }
}
