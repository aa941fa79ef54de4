//! The loop: what comes from the kernel goes to the job, and what the job asks is done.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal as Number;

use super::first::First;
use super::guardian::Guard;
use super::result::{JobEnd, Moment, NotStarted, Process, Usage};
use super::site::Site;
use super::start::{self, Ours};
use super::{JobOptions, Onlooker, leftovers};
use crate::control::Clocks;
use crate::core::{Event, Exit, Job, OpId, Receipt, Signal, Time, job::GENERATION};
use crate::driver::option_for;
use crate::sys::clock::{self, BootTimer};
use crate::sys::kill::EventsFile;
use crate::sys::limits::Unmet;
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::ProcId;
use crate::sys::reap;
use crate::sys::signalfd::{self, Signals};
use crate::sys::spawn::{Born, Mark};
use crate::sys::terminal::{self, Terminal};

/// When a cgroup is read again after something happened that may have emptied it; the last is
/// repeated where nothing notifies us.
const REREADS_MS: [u64; 8] = [1, 2, 4, 8, 16, 32, 64, 128];

/// What ends us, unless it was ignored when we were started (nohup, a shell's background).
const ENDS: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];

pub(super) fn now() -> Time {
    Time::from_nanos(clock::boot_now())
}

/// A run on its way.
pub(super) struct Runner<'a> {
    pub(super) options: &'a JobOptions,
    pub(super) onlooker: Option<&'a mut dyn Onlooker>,
    pub(super) site: Site,
    pub(super) job: Job,
    /// The command until it is reaped.
    pub(super) main: Option<PidFd>,
    /// It led its process group, also after its end.
    pub(super) main_id: Option<ProcId>,
    /// When it was reaped, or a moment before, in clock ticks after boot.
    pub(super) main_reaped: Option<u64>,
    /// The first process of the command's pid namespace, if it has one: then that is `main_id`.
    pub(super) first: Option<First>,
    pub(super) mark: Option<u64>,
    pub(super) mark_id: Option<u64>,
    pub(super) mark_held: Option<OwnedFd>,
    /// Seen in the cgroup, or descended from one that was.
    pub(super) known: BTreeSet<ProcId>,
    /// Our children that are nobody's here: older than the command, and the guardian.
    pub(super) others: BTreeSet<u32>,
    pub(super) inherited_any: bool,
    /// Who inherited the orphans of a run that was killed.
    pub(super) orphan_reaper: Option<u32>,
    /// Outside the cgroup, and the last pass could not end them.
    pub(super) alive: BTreeSet<ProcId>,
    pub(super) kept_ids: BTreeSet<ProcId>,
    pub(super) leaks: Vec<Process>,
    pub(super) kept: Vec<Process>,
    pub(super) aux: Option<(OpId, Born)>,
    /// When that was reaped, or a moment before, in clock ticks after boot.
    pub(super) aux_reaped: Option<u64>,
    pub(super) usage: Usage,
    pub(super) terminal: Option<Terminal>,
    /// The command's group was given the terminal's foreground.
    pub(super) in_front: bool,
    /// There is a terminal, and others in our process group may want it.
    pub(super) pipeline: bool,
    /// The last of the terminal's signals that was passed on to the command.
    pub(super) passed_on: Option<i32>,
    pub(super) exec: Option<(OwnedFd, Vec<u8>)>,
    pub(super) not_started: Option<NotStarted>,
    pub(super) exit: Option<Exit>,
    pub(super) moments: Moment,
    pub(super) guard_pid: Option<u32>,
    pub(super) guard: Guard,
    notify: Option<EventsFile>,
    reread: Option<(Time, usize)>,
    timer: Option<BootTimer>,
    timer_set: Option<Time>,
}

/// See [`super::run`].
pub(super) fn run(options: &JobOptions, onlooker: &mut dyn Onlooker) -> JobEnd {
    let ignored = signalfd::ignored();
    let terminal = Terminal::open();
    let pipeline = terminal.is_some() && terminal::in_pipeline();
    let signals = match Signals::new(&wanted(ignored, options, pipeline)) {
        Ok(signals) => signals,
        Err(error) => return refused(options, 125, error.to_string(), Site::none()),
    };
    let account = match options.user.as_deref().map(start::account).transpose() {
        Ok(account) => account,
        Err(error) => return refused(options, 125, error.to_string(), Site::none()),
    };
    let mut site = Site::make();
    site.pidns = options.pidns;
    if let Some(base) = &site.base {
        for said in leftovers::end_all(base, options, &site.id) {
            onlooker.note(&said);
        }
    }
    if let Err(why) = limit(&mut site, options, onlooker) {
        return refused(options, 125, why, site);
    }
    let others: BTreeSet<u32> = reap::children().unwrap_or_default().into_iter().collect();
    let mut guard = Guard::default();
    // The foreground is ours to give only if we have it. Others of a pipeline may want it (`| less`):
    // there the command gets it once it needs it.
    let in_front = !pipeline && terminal.as_ref().is_some_and(Terminal::is_ours);
    let ours = Ours {
        terminal: terminal.as_ref().filter(|_| in_front),
        account: account.as_ref(),
        ignored,
    };
    let born = start::start(options, &mut site, &mut guard, &ours, onlooker);
    let born = match born {
        Ok(born) => born,
        Err(not) => {
            if let Some(terminal) = terminal.as_ref().filter(|_| in_front) {
                let _ = terminal.take();
            }
            return not_begun(options, site, guard, not);
        }
    };
    let job = Job::new(options.settings.clone(), site.guarantee, now(), born.id.pid);
    let mut runner = Runner::new(options, site, job);
    runner.onlooker = Some(onlooker);
    runner.inherited_any = !others.is_empty();
    runner.others = others;
    runner.guard_pid = guard.pid();
    runner.others.extend(runner.guard_pid);
    runner.guard = guard;
    runner.terminal = terminal;
    runner.in_front = in_front;
    runner.pipeline = pipeline;
    runner.take_in(born);
    runner.watch();
    let receipt = runner.work(Some(&signals));
    runner.take_terminal();
    runner.guard.dismiss();
    runner.finish(receipt)
}

/// Sets the limits; why the command is not to be started without those that cannot be had.
fn limit(site: &mut Site, options: &JobOptions, onlooker: &mut dyn Onlooker) -> Result<(), String> {
    // One line for all that fail for the same reason.
    let mut said: Vec<(Vec<&str>, String)> = Vec::new();
    for Unmet { limit, why } in site.limit(&options.limits) {
        let option = option_for(limit);
        match said.iter_mut().find(|(_, known)| *known == why) {
            Some((names, _)) => names.push(option),
            None => said.push((vec![option], why)),
        }
    }
    let said = said
        .into_iter()
        .map(|(names, why)| format!("{} cannot be enforced: {why}", names.join(", ")));
    let said: Vec<String> = said.collect();
    if said.is_empty() {
        return Ok(());
    }
    if !options.limits_optional {
        return Err(format!(
            "limit the command: {}; --limits=optional runs it without",
            said.join("; ")
        ));
    }
    for line in &said {
        onlooker.note(&format!("{line}; the command runs without"));
    }
    site.unmet = said;
    Ok(())
}

/// What we take over: what ends us, what is passed on, and what tells of children and terminals.
fn wanted(ignored: u64, options: &JobOptions, pipeline: bool) -> Vec<Number> {
    let is_ignored = |number: i32| ignored & (1 << (number - 1)) != 0;
    let asked = ENDS
        .iter()
        .chain(&options.forward)
        .filter(|signal| !is_ignored(signal.number()) || **signal == Signal::TERM);
    let mut numbers: Vec<Number> = asked
        .filter_map(|signal| Number::try_from(signal.number()).ok())
        .collect();
    // TTOU only to be blocked: who is in the background may then take the terminal.
    numbers.extend([Number::SIGCHLD, Number::SIGCONT, Number::SIGTTOU]);
    // Ctrl-Z reaches us and not the command there.
    if pipeline && !is_ignored(libc::SIGTSTP) {
        numbers.push(Number::SIGTSTP);
    }
    numbers
}

fn not_begun(options: &JobOptions, site: Site, mut guard: Guard, not: NotStarted) -> JobEnd {
    let job = Job::not_started(options.settings.clone(), site.guarantee, now());
    let mut runner = Runner::new(options, site, job);
    // That it could not be made does not matter any more.
    let _ = guard.settle();
    runner.others.extend(guard.pid());
    runner.not_started = Some(not);
    let receipt = runner.work(None);
    guard.dismiss();
    runner.finish(receipt)
}

fn refused(options: &JobOptions, code: u8, text: String, site: Site) -> JobEnd {
    let job = Job::not_started(options.settings.clone(), site.guarantee, now());
    let mut runner = Runner::new(options, site, job);
    runner.not_started = Some(NotStarted { code, text });
    runner.finish(None)
}

impl<'a> Runner<'a> {
    pub(super) fn new(options: &'a JobOptions, site: Site, job: Job) -> Self {
        Self {
            options,
            onlooker: None,
            site,
            job,
            main: None,
            main_id: None,
            main_reaped: None,
            first: None,
            mark: None,
            mark_id: None,
            mark_held: None,
            known: BTreeSet::new(),
            others: BTreeSet::new(),
            inherited_any: false,
            orphan_reaper: None,
            alive: BTreeSet::new(),
            kept_ids: BTreeSet::new(),
            leaks: Vec::new(),
            kept: Vec::new(),
            aux: None,
            aux_reaped: None,
            usage: Usage::default(),
            terminal: None,
            in_front: false,
            pipeline: false,
            passed_on: None,
            exec: None,
            not_started: None,
            exit: None,
            moments: Moment {
                started: clock::boot_now(),
                ..Moment::default()
            },
            guard_pid: None,
            guard: Guard::default(),
            notify: None,
            reread: None,
            timer: None,
            timer_set: None,
        }
    }

    fn take_in(&mut self, born: Born) {
        let Born {
            id,
            pidfd,
            mark,
            exec_pipe,
            first,
            ..
        } = born;
        self.main_id = Some(id);
        match first {
            Some(first) => self.first = Some(First::new(id.pid, pidfd, first.reports)),
            None => self.main = pidfd,
        }
        self.mark = mark.as_ref().map(|mark| mark.inode);
        self.mark_id = mark.as_ref().and_then(|mark| mark.id);
        self.mark_held = mark.map(|Mark { fd, .. }| fd);
        self.exec = Some((exec_pipe, Vec::new()));
    }

    fn watch(&mut self) {
        let Some(dir) = self.site.job() else { return };
        // Without, the cgroup is read again and again while it is to empty.
        self.notify = EventsFile::open(&dir).ok();
        // What changes from here on is told.
        self.notify.as_ref().map(EventsFile::read);
    }

    pub(super) fn unwatch(&mut self) {
        self.notify = None;
    }

    // ---- the loop -----------------------------------------------------------------------

    /// Until the verdict.
    pub(super) fn work(&mut self, signals: Option<&Signals>) -> Option<Box<Receipt>> {
        loop {
            while let Some(ask) = self.job.poll() {
                if let Some(receipt) = self.carry_out(ask) {
                    return Some(receipt);
                }
            }
            if !self.sleep(signals) {
                return None;
            }
            self.on_exec_ready();
            self.on_reports();
            while let Some(came) = signals.and_then(Signals::next) {
                self.on_signal(came);
            }
            self.reap();
            self.on_time();
        }
    }

    /// Sleeps until something happens; `false` when nothing ever would.
    fn sleep(&mut self, signals: Option<&Signals>) -> bool {
        let due = [self.job.poll_timeout(), self.reread.map(|(at, _)| at)];
        let due = due.into_iter().flatten().min();
        if due.is_none() && signals.is_none() && self.notify.is_none() {
            return false;
        }
        let timeout = self.set_timer(due);
        let mut fds = Vec::with_capacity(5);
        if let Some(notify) = &self.notify {
            fds.push(PollFd::new(notify.as_fd(), PollFlags::POLLPRI));
        }
        let mut want = |fd| fds.push(PollFd::new(fd, PollFlags::POLLIN));
        signals.map(AsFd::as_fd).map(&mut want);
        // That the command executes wakes nobody: that it could not is said with its end. In a pid
        // namespace it is from then on that it can be found.
        let exec = self.exec.as_ref().filter(|_| self.first.is_some());
        exec.map(|(fd, _)| fd.as_fd()).map(&mut want);
        let reports = self.first.as_ref().and_then(|first| first.reports.as_ref());
        reports.map(AsFd::as_fd).map(&mut want);
        self.timer.as_ref().map(AsFd::as_fd).map(&mut want);
        // EINTR, or a shortage of memory: look at everything and sleep again.
        let _ = poll(&mut fds, timeout);
        let first = fds.first().and_then(PollFd::revents);
        let changed = self.notify.is_some() && first.is_some_and(|events| !events.is_empty());
        if changed {
            // Read through that descriptor, or it stays as it is.
            self.notify.as_ref().map(EventsFile::read);
            self.read();
        }
        true
    }

    /// Has the timer fire at `due`; how long poll(2) may sleep where there is no timer.
    fn set_timer(&mut self, due: Option<Time>) -> PollTimeout {
        if due.is_some() && self.timer.is_none() {
            self.timer = BootTimer::new().ok();
        }
        let Some(timer) = &self.timer else {
            let left = due.map(|due| due.since(now()));
            return left.map_or(PollTimeout::NONE, |left| {
                let ms = left.as_nanos().div_ceil(1_000_000);
                PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
            });
        };
        if due != self.timer_set {
            if timer.set(due.map(Time::as_nanos)).is_err() {
                return PollTimeout::from(10_u8);
            }
            self.timer_set = due;
        }
        PollTimeout::NONE
    }

    fn on_time(&mut self) {
        if let Some(timer) = &self.timer
            && timer.clear().unwrap_or(true)
        {
            self.timer_set = None;
        }
        let now = now();
        if let Some((at, step)) = self.reread
            && at <= now
        {
            self.reread = Some((at, step + 1));
            self.read_again();
        }
        if self.job.poll_timeout().is_some_and(|at| at <= now) {
            self.job.handle_timeout(now);
        }
    }

    // ---- the cgroup ---------------------------------------------------------------------

    /// Something happened that may have emptied it: read it now and again in a moment.
    pub(super) fn look_closely(&mut self) {
        self.reread = Some((now(), 0));
        self.read_again();
    }

    fn read_again(&mut self) {
        let populated = self.read();
        let step = self.reread.map_or(0, |(_, step)| step);
        let last = REREADS_MS.len() - 1;
        self.reread = match populated {
            Some(false) => None,
            // From here on the kernel tells.
            _ if step > 3 && self.notify.is_some() => None,
            _ => REREADS_MS
                .get(step.min(last))
                .map(|ms| (now() + Duration::from_millis(*ms), step.min(last))),
        };
    }

    /// Reads whether anything lives there, and tells the job.
    pub(super) fn read(&mut self) -> Option<bool> {
        let populated = self.populated()?;
        let (r#gen, main, whole) = (GENERATION, populated, populated);
        self.job.handle(now(), Event::Cgroup { r#gen, main, whole });
        Some(populated)
    }

    // ---- the end ------------------------------------------------------------------------

    pub(super) fn note(&mut self, text: &str) {
        if let Some(onlooker) = &mut self.onlooker {
            onlooker.note(text);
        }
    }

    fn finish(self, receipt: Option<Box<Receipt>>) -> JobEnd {
        self.finish_as(receipt, true)
    }

    pub(super) fn finish_as(mut self, receipt: Option<Box<Receipt>>, remove: bool) -> JobEnd {
        let lingers = receipt
            .as_ref()
            .is_some_and(|receipt| receipt.verdict == crate::core::Verdict::Lingering);
        if remove
            && !lingers
            && let Some(why) = self.site.remove()
        {
            self.site.note(why);
        }
        self.usage.largest_process = super::execute::largest_process();
        self.moments.over = clock::boot_now();
        JobEnd {
            pid: self.program(),
            exit: self.exit.filter(|_| self.not_started.is_none()),
            why: if self.not_started.is_some() {
                crate::core::Why::NotStarted
            } else {
                self.job.why()
            },
            not_started: self.not_started,
            receipt,
            guarantee: self.site.guarantee,
            leaks: self.leaks,
            kept: self.kept,
            usage: self.usage,
            moments: self.moments,
            clocks: Clocks {
                boot: now(),
                wall_ms: clock::wall_now_ms(),
            },
            notes: self.site.notes,
            unmet: self.site.unmet,
        }
    }
}
