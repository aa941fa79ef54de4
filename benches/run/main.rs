//! What `nought run` costs beside its kin, and what each of them leaves.
//!
//! `cargo bench --bench run`, as root. `--quick` takes fewer rounds. Whoever is not installed is
//! left out: Debian has tini, dumb-init, bubblewrap and util-linux. NOUGHT_STATIC names the static
//! program (docs/install.md), which is then measured beside the other.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a bench starts programs as people do, and gives up loudly"
)]

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const NOUGHT: &str = env!("CARGO_BIN_EXE_nought");

/// Each by its name, and the words before the command.
const KIN: [(&str, &[&str]); 7] = [
    ("env", &["env"]),
    ("timeout", &["timeout", "60"]),
    ("tini", &["tini", "-s", "--"]),
    ("dumb-init", &["dumb-init"]),
    (
        "unshare -pf --kill-child",
        &["unshare", "-p", "-f", "--kill-child"],
    ),
    (
        "bwrap --unshare-pid",
        &["bwrap", "--dev-bind", "/", "/", "--unshare-pid"],
    ),
    ("nought run", &[NOUGHT, "run", "--"]),
];

/// What leaves something, and how; `TAG` tells whose it is.
const HOSTILE: [(&str, &str); 4] = [
    ("child in the background", "sleep TAG & exit 0"),
    ("child in a session of its own", "setsid sleep TAG & exit 0"),
    (
        "double fork, wiped environment",
        "(env -i setsid sleep TAG &) ; sleep 0.05; exit 0",
    ),
    (
        "child that ignores signals",
        "setsid sh -c 'trap \"\" TERM HUP INT; sleep TAG; :' & sleep 0.05; exit 0",
    ),
];

fn main() {
    nix::sys::prctl::set_child_subreaper(true).expect("prctl");
    let quick = std::env::args().any(|word| word == "--quick");
    let rounds = if quick { 30 } else { 300 };
    println!(
        "{:<28}{:>10}{:>10}{:>12}   left of {} hostile commands",
        "",
        "median",
        "min",
        "over env",
        HOSTILE.len()
    );
    let alone = std::env::var("NOUGHT_STATIC").ok();
    let alone = alone.as_deref().map(|program| [program, "run", "--"]);
    let alone = alone
        .as_ref()
        .map(|words| ("nought run, static", &words[..]));
    let there: Vec<_> = KIN
        .into_iter()
        .chain(alone)
        .filter(|(_, words)| works(words))
        .collect();
    // In turns, so that a busy moment is everybody's.
    let mut times = vec![Vec::with_capacity(rounds); there.len()];
    let mut order: Vec<usize> = (0..there.len()).collect();
    for round in 0..rounds {
        // Nobody always comes after the same one: what that leaves to the kernel (a namespace to
        // take down) goes on into the next one's time.
        shuffle(&mut order, round);
        for &n in &order {
            times[n].push(once(there[n].1));
            reap_orphans();
        }
    }
    let mut floor = Duration::ZERO;
    for ((name, words), mut times) in there.into_iter().zip(times) {
        times.sort_unstable();
        let (median, least) = (times[times.len() / 2], times[0]);
        if name == "env" {
            floor = median;
        }
        let over = ms(median) - ms(floor);
        let left: Vec<&str> = HOSTILE
            .iter()
            .filter(|(_, script)| leaves(words, script))
            .map(|(what, _)| *what)
            .collect();
        let what = if left.is_empty() {
            "nothing".to_owned()
        } else {
            format!("{}: {}", left.len(), left.join("; "))
        };
        println!(
            "{name:<28}{:>7.2} ms{:>7.2} ms{over:>9.2} ms   {what}",
            ms(median),
            ms(least)
        );
    }
}

/// Another order for each round, the same ones every time.
fn shuffle(order: &mut [usize], round: usize) {
    let mut seed = 0x9E37_79B9_u64.wrapping_mul(round as u64 + 1);
    for at in (1..order.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        order.swap(at, (seed >> 33) as usize % (at + 1));
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn command(words: &[&str], more: &[&str]) -> Command {
    let mut command = Command::new(words.first().expect("a program"));
    command
        .args(words.get(1..).unwrap_or_default())
        .args(more)
        // Of cargo's; every dynamic program would look for its libraries there first.
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn works(words: &[&str]) -> bool {
    command(words, &["true"])
        .status()
        .is_ok_and(|status| status.success())
}

fn once(words: &[&str]) -> Duration {
    let began = Instant::now();
    let status = command(words, &["true"]).status().expect("it ran before");
    assert!(status.success());
    began.elapsed()
}

/// Whoever leaves a process to others to reap leaves one more for the next one to look at: bwrap
/// does, and a process 1 may take seconds.
fn reap_orphans() {
    while nix::sys::wait::wait().is_ok() {}
}

/// Whether anything of the command lives a moment after it is over; then it is ended.
fn leaves(words: &[&str], script: &str) -> bool {
    // A number of seconds that is nobody else's.
    let tag = format!("1000.{}{}", std::process::id(), script.len());
    let script = script.replace("TAG", &tag);
    let _ = command(words, &["sh", "-c", &script]).status();
    std::thread::sleep(Duration::from_millis(100));
    let living = living(&tag);
    for pid in &living {
        let _ = command(&["kill", "-9"], &[&pid.to_string()]).status();
    }
    !living.is_empty()
}

fn living(tag: &str) -> Vec<u32> {
    let own = std::process::id();
    let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let argv = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&argv).contains(tag)
        })
        .collect()
}
