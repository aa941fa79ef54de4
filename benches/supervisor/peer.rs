//! s6 (Debian's package `s6`), measured beside ours with services of the same kind. It proves
//! nothing of what it stops: its numbers are those of the processes it started itself.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::{self, memory, now_ms, pause, wait_until};
use crate::report::{Report, Samples};
use crate::restart::Stamps;
use crate::supervisor::Scratch;
use crate::{Options, idle};

/// A running s6-svscan with its services.
struct S6 {
    child: Child,
    scratch: Scratch,
    began_ms: f64,
}

impl S6 {
    fn start(name: &str, services: &[(String, String)]) -> Self {
        let scratch = Scratch::new(&format!("s6-{name}"));
        for (service, exec) in services {
            let dir = scratch.path().join(service);
            fs::create_dir(&dir).expect("make a service directory");
            let run = dir.join("run");
            fs::write(&run, format!("#!/bin/sh\nexec {exec}\n")).expect("write run");
            fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).expect("chmod run");
        }
        let began_ms = now_ms();
        let child = Command::new("s6-svscan")
            .args(["-c", "2000"])
            .arg(scratch.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start s6-svscan: apt-get install s6");
        Self {
            child,
            scratch,
            began_ms,
        }
    }

    fn dir(&self, service: &str) -> PathBuf {
        self.scratch.path().join(service)
    }

    /// The processes that are s6's own.
    fn own(&self) -> Vec<u32> {
        let svscan = self.child.id();
        let mut own = machine::children(svscan);
        own.push(svscan);
        own
    }

    fn await_up(&self, count: usize, comm: &str) {
        wait_until("s6's services", || {
            let supervisors = machine::children(self.child.id());
            let services = supervisors.into_iter().flat_map(machine::children);
            services.filter(|pid| machine::comm(*pid) == comm).count() == count
        });
    }

    /// s6-svc with a wait; how long the whole command took.
    fn svc(&self, wait: &str, order: &str, service: &str) -> f64 {
        let began = now_ms();
        let status = Command::new("s6-svc")
            .args([wait, order])
            .arg(self.dir(service))
            .status();
        assert!(status.expect("run s6-svc").success());
        now_ms() - began
    }

    /// Until everything it started has ended.
    fn shut_down(mut self) -> f64 {
        let began = now_ms();
        let status = Command::new("s6-svscanctl")
            .arg("-t")
            .arg(self.scratch.path())
            .status();
        assert!(status.expect("run s6-svscanctl").success());
        self.child.wait().expect("wait for s6-svscan");
        now_ms() - began
    }
}

fn sleepers(count: u32) -> Vec<(String, String)> {
    (0..count)
        .map(|n| (format!("s{n}"), "sleep 100000".into()))
        .collect()
}

pub(crate) fn stop(options: &Options, report: &mut Report) {
    let s6 = S6::start("stop", &sleepers(1));
    s6.await_up(1, "sleep");
    let mut samples = Samples::default();
    for _ in 0..options.rounds(50, 10) {
        s6.svc("-wu", "-u", "s0");
        s6.await_up(1, "sleep");
        samples.push(s6.svc("-wD", "-d", "s0"));
    }
    report.title("s6: stop by signal, 1 process, ms");
    report.row("`s6-svc -wD -d`, not proven", "", &samples, None);
    s6.shut_down();
}

pub(crate) fn many(options: &Options, report: &mut Report, count: u32) {
    let (mut up, mut down) = (Samples::default(), Samples::default());
    for _ in 0..options.rounds(5, 2) {
        let s6 = S6::start("many", &sleepers(count));
        s6.await_up(count as usize, "sleep");
        up.push(now_ms() - s6.began_ms);
        pause(Duration::from_millis(500));
        down.push(s6.shut_down());
    }
    report.title(&format!("s6: {count} services, ms"));
    report.row("from the spawn until all are up", "", &up, None);
    report.row(
        "`s6-svscanctl -t` until its exit, not proven",
        "",
        &down,
        None,
    );
}

pub(crate) fn memory_of_200(report: &mut Report) {
    let s6 = S6::start("memory", &sleepers(200));
    s6.await_up(200, "sleep");
    pause(Duration::from_secs(1));
    let all: Vec<machine::Memory> = s6.own().into_iter().map(memory).collect();
    let pss = Samples::from_iter([all.iter().map(|m| m.pss).sum()]);
    let anonymous = Samples::from_iter([all.iter().map(|m| m.anonymous).sum()]);
    report.title("s6: memory of all its processes, 200 services, KiB");
    report.row("PSS", "", &pss, None);
    report.row("anonymous", "", &anonymous, None);
    s6.shut_down();
}

pub(crate) fn idle(report: &mut Report) {
    let s6 = S6::start("idle", &sleepers(50));
    s6.await_up(50, "sleep");
    pause(Duration::from_secs(4));
    let woke = idle::count(&s6.own());
    report.row("s6", "", &woke, None);
    s6.shut_down();
}

pub(crate) fn restart(options: &Options, report: &mut Report) {
    let scratch = Scratch::new("s6-stamps");
    let mut stamps = Stamps::new(&scratch.path().join("fifo"));
    let s6 = S6::start("restart", &[("phoenix".into(), stamps.command())]);
    stamps.next();
    let mut samples = Samples::default();
    for _ in 0..options.rounds(15, 4) {
        // It starts nothing twice within a second.
        pause(Duration::from_millis(1100));
        let supervisors = machine::children(s6.child.id());
        let pid = supervisors.into_iter().flat_map(machine::children).next();
        samples.push(stamps.after_kill(pid.expect("the service's pid")));
    }
    report.row("s6, nothing proven", "", &samples, None);
    // Its FIFO is closed when it is gone.
    let pid = machine::children(s6.child.id()).into_iter().next();
    s6.svc("-wD", "-d", "phoenix");
    s6.shut_down();
    assert!(pid.is_none_or(|pid| kill(Pid::from_raw(pid.cast_signed()), None::<Signal>).is_err()));
}
