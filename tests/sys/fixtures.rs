//! What the tests start: small programs with bad habits.

use std::io::{BufRead, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nought::sys::mount::find_base;
use nought::sys::procfs::own_mark;
use nought::sys::scan::{ScanContext, ScanTarget, scan_pass, scan_passes};
use nought::sys::{cgroup, clock, kill, reap, selftest};

use crate::scene::{self, NAME, Start};

/// Runs before `main`, so that fixtures have no other thread.
#[used]
// SAFETY: the loader calls the functions of this section once each, with C's calling convention.
#[unsafe(link_section = ".init_array")]
static ENTER: extern "C" fn() = enter;

extern "C" fn enter() {
    if selftest::run_if_probe().is_some() {
        exit(0);
    }
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let [NAME, rest @ ..] = args.as_slice() {
        run(rest);
        exit(0);
    }
}

fn run(args: &[&str]) {
    match args {
        ["sleep"] => stay("ready"),
        ["children", n] => children(n.parse().unwrap()),
        ["mainless"] => mainless(),
        ["bomb", uid] => bomb(uid.parse().unwrap()),
        ["daemon", outside] => daemon(Path::new(outside), &["sleep"]),
        ["mark-replaced", outside] => daemon(Path::new(outside), &["replace"]),
        ["replace"] => replace_mark(),
        ["orphan"] => orphan(),
        ["thread-in", dir] => thread_in(Path::new(dir)),
        ["relay", outside] => relay(Path::new(outside)),
        ["join", pid] => join(pid),
        ["supervise"] => supervise(),
        ["supervise-relay", inside, outside] => supervise_relay(inside, outside),
        ["reap-all"] => reap_all(),
        ["no-clone3", dir] => no_clone3(Path::new(dir)),
        ["as-user"] => as_user(),
        ["cgroup-namespace", dir] => cgroup_namespace(Path::new(dir)),
        ["trace", pid] => trace(pid.parse().unwrap()),
        ["leave-behind"] => leave_behind(),
        other => panic!("no fixture {other:?}"),
    }
}

fn exit(code: i32) -> ! {
    // SAFETY: ends this process; nothing here needs to run at exit.
    unsafe { libc::_exit(code) }
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

fn stay(line: &str) -> ! {
    say(line);
    pause()
}

fn pause() -> ! {
    loop {
        // SAFETY: waits for a signal.
        unsafe { libc::pause() };
    }
}

/// Runs `body` in a forked child and returns its pid; the child ends after it.
fn forked(body: impl FnOnce()) -> i32 {
    // SAFETY: fixtures that fork have a single thread.
    match unsafe { libc::fork() } {
        0 => {
            body();
            exit(0)
        }
        pid => {
            assert!(pid > 0, "fork: {}", std::io::Error::last_os_error());
            pid
        }
    }
}

fn children(n: usize) {
    for _ in 0..n {
        forked(|| pause());
    }
    stay("ready");
}

/// The main thread ends, another lives on.
fn mainless() {
    std::thread::spawn(|| stay("ready"));
    // SAFETY: ends this thread only, without unwinding (as pthread_exit would); nothing on its
    // stack is used by the other.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

fn bomb(uid: u32) {
    let limit = libc::rlimit {
        rlim_cur: 60,
        rlim_max: 60,
    };
    // SAFETY: plain system calls on a local and integers, in a process with one thread.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &raw const limit), 0);
        assert_eq!(libc::setgid(uid), 0);
        assert_eq!(libc::setuid(uid), 0);
    }
    say("ready");
    loop {
        // SAFETY: one thread; both go on.
        unsafe { libc::fork() };
    }
}

fn move_to(dir: &Path) {
    if dir != Path::new("-") {
        std::fs::write(dir.join("cgroup.procs"), "0").unwrap();
    }
}

/// Leaves the cgroup, forks twice with a session between, wipes its environment by an exec.
fn daemon(outside: &Path, then: &[&str]) {
    move_to(outside);
    forked(|| {
        // SAFETY: becomes a session's leader.
        unsafe { libc::setsid() };
        forked(|| exec_self(then));
    });
}

fn exec_self(args: &[&str]) -> ! {
    use std::ffi::CString;
    let args: Vec<CString> = [NAME]
        .iter()
        .chain(args)
        .map(|arg| CString::new(*arg).unwrap())
        .collect();
    let none: [CString; 0] = [];
    let never = nix::unistd::execve(c"/proc/self/exe", &args, &none);
    panic!("exec: {never:?}");
}

/// A user namespace of its own gives the right to a time namespace of its own.
fn replace_mark() {
    // SAFETY: one thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWUSER | 0x80) }, 0);
    // Its children are born in it.
    forked(|| pid_and_stay());
}

fn pid_and_stay() -> ! {
    stay(&format!("pid {}", std::process::id()))
}

fn orphan() {
    forked(|| pid_and_stay());
}

/// Moves a thread of itself into the threaded cgroup `dir`.
fn thread_in(dir: &Path) {
    let dir = dir.to_path_buf();
    std::thread::spawn(move || {
        std::fs::write(dir.join("cgroup.threads"), "0").unwrap();
        stay("ready");
    });
    pause();
}

/// Leaves the cgroup and goes on by forking and exiting, for ever.
fn relay(outside: &Path) {
    move_to(outside);
    say("ready");
    // SAFETY: one thread; the parent ends.
    while unsafe { libc::fork() } == 0 {
        // SAFETY: a session's leader, now and then; fails when it is one already.
        unsafe { libc::setsid() };
    }
}

/// Joins a process's time namespace, as `nsenter` does.
fn join(pid: &str) {
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/time")).unwrap();
    // SAFETY: one thread; the descriptor is open.
    assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), 0x80) }, 0);
    let child = forked(|| pause());
    stay(&format!("pid {child}"));
}

/// A supervisor of its own: starts a marked sleeper, and on a line from standard input says
/// what a scan for it finds.
fn supervise() {
    reap::set_child_subreaper().unwrap();
    let child = Start::new(&["sleep"]).marked().start();
    let mark = child.born.mark.as_ref().unwrap().inode;
    say(&format!(
        "main {} {mark} {}",
        child.pid(),
        own_mark().unwrap()
    ));
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    let target = ScanTarget {
        mark: Some(mark),
        ..ScanTarget::default()
    };
    let result = scan_pass(&target, &ScanContext::new());
    let escaped: Vec<_> = result.escaped.iter().map(|e| e.process.pid).collect();
    let foreign: Vec<_> = result
        .foreign
        .iter()
        .map(|s| (s.process.pid, &s.why))
        .collect();
    say(&format!(
        "escaped {escaped:?} foreign {foreign:?} error {:?}",
        result.error
    ));
}

/// A supervisor of its own with relays outside the cgroup: scans until nothing is left.
fn supervise_relay(inside: &str, outside: &str) {
    reap::set_child_subreaper().unwrap();
    let started: Vec<_> = (0..4)
        .map(|_| {
            Start::new(&["relay", outside])
                .marked()
                .cgroup(Path::new(inside))
                .start()
                .ready()
        })
        .collect();
    std::thread::spawn(|| {
        loop {
            if let Ok(None) = reap::reap_next() {
                scene::nap(Duration::from_micros(100));
            }
        }
    });
    let target = |child: &scene::Child| ScanTarget {
        cgroup: Some(PathBuf::from(inside)),
        mark: child.born.mark.as_ref().map(|mark| mark.inode),
        ..ScanTarget::default()
    };
    let targets: Vec<_> = started.iter().map(target).collect();
    let began = clock::boot_now();
    let mut passes = 0;
    loop {
        let results = scan_passes(&targets, &ScanContext::new());
        assert!(
            results.iter().all(|result| result.error.is_none()),
            "{results:?}"
        );
        passes += 1;
        if results.iter().all(|result| result.conclusive) {
            break;
        }
        assert!(
            clock::boot_now() - began < 60_000_000_000,
            "relays outrun the scan"
        );
    }
    let took_us = (clock::boot_now() - began) / 1000;
    let left = cgroup::is_populated(Path::new(outside)).unwrap();
    say(&format!("left {left}, {passes} passes, {took_us} us"));
    kill::kill_tree(
        Path::new(outside),
        kill::KillHow::CgroupKill,
        Duration::from_secs(5),
    );
}

/// Children that exit, are killed, and dump no core: reaped by whoever comes first.
fn reap_all() {
    forked(|| exit(7));
    let stopped = forked(|| pause());
    // SAFETY: signals our own child.
    unsafe { libc::kill(stopped, libc::SIGKILL) };
    let mut seen = Vec::new();
    scene::until("both are reaped", || {
        while let Some(reaped) = reap::reap_next().unwrap() {
            seen.push((reaped.pid == stopped as u32, reaped.ended));
        }
        (seen.len() == 2).then_some(())
    });
    seen.sort_by_key(|(killed, _)| *killed);
    let third = forked(|| pause());
    let children = reap::children().unwrap();
    say(&format!("{seen:?} {}", children == [third as u32]));
    // SAFETY: as above.
    unsafe { libc::kill(third, libc::SIGKILL) };
    reap::reap_pid(third as u32).unwrap();
}

/// A seccomp filter as container engines had it: clone3 answers ENOSYS.
fn no_clone3(dir: &Path) {
    reap::set_child_subreaper().unwrap();
    let op = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            1,
            libc::SYS_clone3 as u32,
        ),
        op(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        ),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program and its instructions outlive the call, which copies them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let set = libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        );
        assert_eq!(set, 0);
    }
    let abilities = selftest::find_abilities(Some(dir), Path::new("/proc/self/exe"));
    say(&format!("{abilities:?}"));
}

/// As an ordinary user nothing can be marked.
fn as_user() {
    reap::set_child_subreaper().unwrap();
    // SAFETY: plain system calls in a process with one thread. Dumpable again, so that /proc
    // shows us our own children.
    unsafe {
        assert_eq!(libc::setgid(65_533), 0);
        assert_eq!(libc::setuid(65_533), 0);
        assert_eq!(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0), 0);
    }
    let abilities = selftest::find_abilities(None, Path::new("/proc/self/exe"));
    say(&format!("{abilities:?}"));
}

/// Where the base is found from within a cgroup namespace under an old mount.
fn cgroup_namespace(dir: &Path) {
    move_to(dir);
    // SAFETY: one thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }, 0);
    let base = find_base().unwrap();
    say(&format!(
        "{} {}",
        base.dir.display(),
        base.own_path.display()
    ));
}

/// Keeps `pid` from ending: it stops at its exit, for us, and we do nothing.
fn trace(pid: i32) {
    let nothing = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: PTRACE_SEIZE takes no address and its options as a number.
    let seized =
        unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, libc::PTRACE_O_TRACEEXIT) };
    assert_eq!(seized, 0, "{}", std::io::Error::last_os_error());
    stay("ready");
}

/// A supervisor that dies and leaves two marked sleepers, the first with its marker.
fn leave_behind() {
    let with = Start::new(&["sleep"])
        .marked()
        .env("NOUGHT_TEST", "left")
        .start()
        .ready();
    let without = Start::new(&["sleep"]).marked().start().ready();
    let inode = |child: &scene::Child| child.born.mark.as_ref().unwrap().inode;
    say(&format!(
        "{} {} {} {}",
        with.pid(),
        inode(&with),
        without.pid(),
        inode(&without)
    ));
    exit(0);
}
