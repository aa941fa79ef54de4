//! What the loop hears of children, signals and the terminal.

use super::first::First;
use super::start;
use super::watch::{Runner, now};
use crate::core::{Event, Exit, Signal, Why, job::GENERATION};
use crate::sys::reap::{self, Ended};
use crate::sys::spawn::read_exec_outcome;
use crate::sys::terminal;
use crate::sys::{clock, procfs, signalfd};

impl Runner<'_> {
    // ---- children and signals -----------------------------------------------------------

    pub(super) fn on_exec_ready(&mut self) {
        let Some((pipe, said)) = &mut self.exec else {
            return;
        };
        let mut buffer = [0; 64];
        let ended = loop {
            match nix::unistd::read(&*pipe, &mut buffer) {
                Ok(0) => break true,
                Ok(len) => said.extend_from_slice(buffer.get(..len).unwrap_or_default()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => break false,
                Err(_) => break true,
            }
        };
        if ended {
            let outcome = read_exec_outcome(said);
            self.not_started = start::not_executed(&outcome, self.options);
            self.exec = None;
            self.find_program();
        }
    }

    /// Takes every exit there is. Whoever ends an orphaned job has no children but guests.
    pub(super) fn reap(&mut self) {
        if self.main_id.is_none() || self.orphan_reaper.is_some() {
            return;
        }
        let main = self.main_id.map(|id| id.pid);
        if let Some(pid) = main.filter(|_| self.exit.is_none() && self.first.is_none())
            && reap::has_stopped(pid)
        {
            self.on_stopped(pid);
        }
        // Before anybody is: whoever was born earlier was born while they had their numbers.
        let before = procfs::ticks_now();
        while let Ok(Some(reaped)) = reap::reap_next() {
            let exit = exit(reaped.ended);
            if Some(reaped.pid) == main {
                self.main_reaped.get_or_insert(before);
            }
            if self.is_first(reaped.pid) {
                self.on_first_reaped(exit);
            } else if Some(reaped.pid) == main && self.exit.is_none() {
                self.on_main_exited(exit);
            } else if self
                .aux
                .as_ref()
                .is_some_and(|(_, born)| born.id.pid == reaped.pid)
            {
                self.aux_reaped = Some(before);
                self.on_aux_exited(exit);
            } else if Some(reaped.pid) == self.guard_pid {
                self.guard_pid = None;
                self.note(
                    "the guardian was killed: if this run is killed, too, what it started lives on",
                );
            } else {
                self.others.remove(&reaped.pid);
            }
        }
    }

    pub(super) fn on_main_exited(&mut self, exit: Exit) {
        // What it said of its exec comes before its end.
        self.on_exec_ready();
        self.exit = Some(exit);
        self.main = None;
        self.moments.ended = clock::boot_now();
        self.note_interrupt(exit);
        self.take_terminal();
        self.look_closely();
        self.job.handle(
            now(),
            Event::MainExited {
                r#gen: GENERATION,
                exit,
            },
        );
    }

    pub(super) fn on_signal(&mut self, number: i32) {
        let Some(signal) = Signal::from_number(number) else {
            return;
        };
        match number {
            libc::SIGCHLD | libc::SIGTTOU => {}
            libc::SIGCONT => self.go_on(),
            _ if self.options.forward.contains(&signal) => {
                let first = self.first.as_ref().and_then(First::passes_on);
                if let Some(main) = self.main.as_ref().or(first) {
                    let _ = main.send(number);
                }
            }
            _ => self.job.on_signal(now(), signal),
        }
    }

    // ---- the terminal -------------------------------------------------------------------

    /// The command was stopped: by Ctrl-Z, or because it reads in the background. As a shell
    /// sees us, so are we.
    pub(super) fn on_stopped(&mut self, pid: u32) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        let had_it = terminal.is_foreground(pid);
        if terminal::is_orphaned() {
            // Nobody could continue us; nor would the terminal have stopped it without us. In
            // the background it stays stopped until somebody continues us.
            if had_it {
                let _ = crate::sys::signal::send_group(pid, libc::SIGCONT);
            }
            return;
        }
        if had_it {
            let _ = terminal.take();
        }
        signalfd::stop_own_group();
        self.go_on();
    }

    /// We were continued, in the foreground or not.
    fn go_on(&mut self) {
        let Some(group) = self.program().filter(|_| self.exit.is_none()) else {
            return;
        };
        if let Some(terminal) = self.terminal.as_ref().filter(|terminal| terminal.is_ours())
            && terminal.give_to(group).is_ok()
        {
            self.in_front = true;
        }
        let _ = crate::sys::signal::send_group(group, libc::SIGCONT);
    }

    /// A terminal's INT or QUIT goes to its foreground, which the command had instead of us: a
    /// shell's loop or script that waits for us has to learn of it.
    fn note_interrupt(&mut self, exit: Exit) {
        let Exit::Signal { signal, .. } = exit else {
            return;
        };
        let (terminal, group) = (self.terminal.as_ref(), self.program());
        let had_it = self.in_front
            && terminal
                .zip(group)
                .is_some_and(|(terminal, group)| terminal.is_foreground(group));
        if had_it
            && self.job.why() == Why::Itself
            && matches!(signal, libc::SIGINT | libc::SIGQUIT)
            && let Some(onlooker) = &mut self.onlooker
        {
            onlooker.interrupted(signal);
        }
    }

    pub(super) fn take_terminal(&mut self) {
        let group = self.program();
        if let (Some(terminal), Some(group)) = (&self.terminal, group)
            && std::mem::take(&mut self.in_front)
            && terminal.is_foreground(group)
        {
            let _ = terminal.take();
        }
    }
}

pub(super) fn exit(ended: Ended) -> Exit {
    match ended {
        Ended::Code(code) => Exit::Code(code),
        Ended::Signal { signal, core } => Exit::Signal { signal, core },
    }
}
