//! The same Debian disk booted with nought and with systemd as process 1, in QEMU without KVM:
//! from the kernel's hand-over until every service is up, from the request until the power is
//! off, and the memory in use. As root; see docs/benchmarks.md.
//!
//! `cargo bench --bench host -- [ROUNDS]`, after `cargo build --release` of the static binary.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot go on says so by failing"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "it starts programs and looks at the clock"
)]
#![expect(
    dead_code,
    reason = "the machines of integration/vm, of which it needs a part"
)]

#[path = "../../integration/vm/debian.rs"]
mod debian;
#[path = "../../integration/vm/machine.rs"]
mod machine;
#[path = "../../integration/vm/parts.rs"]
mod parts;

use std::time::Instant;

use debian::Disk;
use machine::End;

struct Init {
    name: &'static str,
    append: &'static str,
    poweroff: &'static str,
}

const INITS: [Init; 2] = [
    Init {
        name: "nought",
        append: "init=/usr/sbin/init",
        poweroff: "poweroff",
    },
    Init {
        name: "systemd",
        append: "init=/lib/systemd/systemd",
        poweroff: "systemctl poweroff",
    },
];

/// What one round measured.
struct Round {
    up_s: f64,
    down_s: f64,
    pss_kib: f64,
    used_kib: f64,
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok());
    let rounds: usize = rounds.unwrap_or(5);
    println!("medians of {rounds} rounds | up | down | PSS of process 1 | memory in use");
    for init in &INITS {
        let rounds: Vec<Round> = (0..rounds).map(|_| round(init)).collect();
        let median = |of: fn(&Round) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        println!(
            "{} | {:.2} s | {:.2} s | {:.1} MiB | {:.1} MiB",
            init.name,
            median(|round| round.up_s),
            median(|round| round.down_s),
            median(|round| round.pss_kib) / 1024.0,
            median(|round| round.used_kib) / 1024.0,
        );
    }
}

fn round(init: &Init) -> Round {
    let disk = Disk::new();
    let append = format!("quiet {}", init.append);
    let mut machine = disk.boot(init.name, &append);
    machine.expect("every service is up at ");
    let up_at = machine.rest_of_line();
    machine.log_in();
    let number = |text: String| -> f64 {
        let number: String = text
            .chars()
            .filter(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        number.parse().unwrap()
    };
    let handed_over = machine
        .run("dmesg | sed -n 's/^\\[ *\\([0-9.]*\\)\\] Run .* as init process/\\1/p' | head -n 1");
    let pss = machine.run("sed -n 's/^Pss: *//p' /proc/1/smaps_rollup");
    let used = machine.run("free -k | awk '/^Mem:/ {print $3}'");
    let began = Instant::now();
    machine.type_line(init.poweroff);
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    Round {
        up_s: number(up_at) - number(handed_over),
        down_s: began.elapsed().as_secs_f64(),
        pss_kib: number(pss),
        used_kib: number(used),
    }
}
