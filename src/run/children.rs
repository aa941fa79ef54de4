//! What the loop hears of children, signals and the terminal.

use nix::sys::signal::Signal as Number;

use super::first::First;
use super::start;
use super::watch::{Runner, now};
use crate::core::{Event, Exit, Signal, Why, job::GENERATION};
use crate::sys::reap::{self, Ended};
use crate::sys::signalfd::{self, Came};
use crate::sys::spawn::read_exec_outcome;
use crate::sys::terminal;
use crate::sys::{clock, procfs, signal};

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
            && let Some(by) = reap::has_stopped(pid)
        {
            self.on_stopped(pid, by);
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

    pub(super) fn on_signal(&mut self, came: Came) {
        let number = came.signal;
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
            libc::SIGTSTP => {
                self.pass_on(number);
            }
            libc::SIGINT | libc::SIGQUIT
                if came.by_kernel && !self.in_front && self.pass_on(number) => {}
            _ => self.job.on_signal(now(), signal),
        }
    }

    // ---- the terminal -------------------------------------------------------------------

    /// In a pipeline the terminal's keys reach our process group and not the command's: passes one
    /// on to that, as if it were in ours; whether that was done.
    fn pass_on(&mut self, number: i32) -> bool {
        let running = self.pipeline && self.exit.is_none() && self.job.why() == Why::Itself;
        let Some(group) = self.program().filter(|_| running) else {
            return false;
        };
        self.passed_on = Some(number);
        signal::send_group_bare(group, number) == Ok(true)
    }

    /// The command was stopped: by Ctrl-Z, or because it needs the terminal and is in the
    /// background. As a shell sees us, so are we.
    pub(super) fn on_stopped(&mut self, pid: u32, by: i32) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        if matches!(by, libc::SIGTTIN | libc::SIGTTOU)
            && terminal.is_ours()
            && terminal.give_to(pid).is_ok()
        {
            self.in_front = true;
            let _ = signal::send_group(pid, libc::SIGCONT);
            return;
        }
        let had_it = terminal.is_foreground(pid);
        if terminal::is_orphaned() {
            // Nobody could continue us; nor would the terminal have stopped it without us. In
            // the background it stays stopped until somebody continues us.
            if had_it {
                let _ = signal::send_group(pid, libc::SIGCONT);
            }
            return;
        }
        if had_it {
            let _ = terminal.take();
        }
        // What the terminal has stopped already is not to be stopped twice.
        if by != libc::SIGTSTP || self.passed_on.take() != Some(by) {
            signalfd::stop_own_group();
        }
        if self.pipeline {
            // It does not stop us: it is passed on.
            let _ = signalfd::stop_by(Number::SIGTSTP);
        }
        self.go_on();
    }

    /// We were continued, in the foreground or not.
    fn go_on(&mut self) {
        let Some(group) = self.program().filter(|_| self.exit.is_none()) else {
            return;
        };
        let needed = self.in_front || !self.pipeline;
        if let Some(terminal) = self.terminal.as_ref().filter(|terminal| terminal.is_ours())
            && needed
            && terminal.give_to(group).is_ok()
        {
            self.in_front = true;
        }
        let _ = signal::send_group(group, libc::SIGCONT);
    }

    /// A terminal's INT or QUIT goes to its foreground, which the command had instead of us, or we
    /// passed it on: a shell's loop or script that waits for us has to learn of it.
    fn note_interrupt(&mut self, exit: Exit) {
        let Exit::Signal { signal, .. } = exit else {
            return;
        };
        let (terminal, group) = (self.terminal.as_ref(), self.program());
        let had_it = self.in_front
            && terminal
                .zip(group)
                .is_some_and(|(terminal, group)| terminal.is_foreground(group));
        let passed_on = self.passed_on == Some(signal);
        if (had_it || passed_on)
            && self.job.why() == Why::Itself
            && matches!(signal, libc::SIGINT | libc::SIGQUIT)
            && let Some(onlooker) = &mut self.onlooker
        {
            onlooker.interrupted(signal, had_it);
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
