//! Limits that hold, on a machine where cgroup2 has every controller.

use serde_json::Value;

use crate::machine::{End, Machine};
use crate::tiny;

/// A machine whose shell is in the root cgroup, which may give controllers although it holds
/// processes.
fn booted(name: &str) -> Machine {
    let mut machine = tiny::booted(name, "quiet");
    machine.run("export NO_COLOR=1; echo 0 >/sys/fs/cgroup/cgroup.procs; mkdir -p /tmp; cd /tmp");
    assert_eq!(given(&mut machine, "/sys/fs/cgroup"), "");
    machine
}

/// The controllers that a cgroup gives to those below it.
fn given(machine: &mut Machine, cgroup: &str) -> String {
    let said = machine.run(&format!("cat {cgroup}/cgroup.subtree_control"));
    said.trim().to_owned()
}

/// The report of the last run.
fn report(machine: &mut Machine) -> Value {
    let said = machine.run("cat r.json; rm r.json");
    serde_json::from_str(said.trim()).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Ends the machine, after nothing was left enabled.
fn end(mut machine: Machine) {
    assert_eq!(given(&mut machine, "/sys/fs/cgroup"), "");
    let left = machine.run("ls -d /sys/fs/cgroup/nought-run-* 2>/dev/null");
    assert_eq!(left.trim(), "");
    machine.type_line("/sbin/poweroff");
    assert_eq!(machine.end().0, End::PoweredOff);
}

/// Takes so many MiB at once and writes to all of it.
fn hog(mib: u32) -> String {
    format!("dd if=/dev/zero of=/dev/null bs={mib}M count=1")
}

#[test]
fn a_run_that_takes_too_much_memory_is_killed_and_told_so() {
    let mut machine = booted("memory");
    let said = machine.run(&format!(
        "nought run --memory 24M --report r.json --junit r.xml -- {}; echo code $?",
        hog(60)
    ));
    assert!(said.contains("code 137"), "{said}");
    let words = "nought run: out of memory: the command was killed for memory (--memory 24";
    assert!(said.contains(words), "{said}");
    let junit = machine.run("cat r.xml");
    assert!(junit.contains("SIGKILL: out of memory"), "{junit}");
    let first = report(&mut machine);
    assert_eq!(first["oom_kills"], 1, "{first:#}");
    assert_eq!(first["verdict"], "verified", "{first:#}");

    // A child's death for memory is told, too, whatever its parent makes of it. The kernel's own
    // number of the peak is the report's.
    let said = machine.run(&format!(
        "nought run --memory 24M --report r.json -- sh -c '{}; cat \
         /sys/fs/cgroup$(grep ^0: /proc/self/cgroup | cut -c4-)/memory.peak >peak; exit 3'; \
         echo code $?",
        hog(60)
    ));
    assert!(said.contains("code 3"), "{said}");
    assert!(
        said.contains("1 process of the command was killed for memory"),
        "{said}"
    );
    let report = report(&mut machine);
    let peak = report["memory_peak_bytes"].as_u64().unwrap();
    let kernels: u64 = machine.run("cat peak").trim().parse().unwrap();
    assert!(peak >= kernels && peak <= 24 << 20, "{peak} {kernels}");
    assert!(kernels > 20 << 20, "{kernels}");
    assert!(report["cpu_ms"].as_f64().unwrap() > 0.0, "{report:#}");
    end(machine);
}

#[test]
fn a_fork_bomb_meets_its_limit_and_nothing_is_left_of_it() {
    let mut machine = booted("pids");
    let said = machine.run(
        "nought run --pids 30 --leaks=allow --report r.json -- \
         sh -c 'bomb() { bomb | bomb & sleep 7654; }; bomb & sleep 2; ps | grep -c sleep >seen'; \
         echo; ps | grep -c '[s]leep 7654'",
    );
    assert!(said.contains("nought run: --pids 30 was reached"), "{said}");
    assert_eq!(said.trim().lines().last().unwrap().trim(), "0", "{said}");
    let report = report(&mut machine);
    assert!(report["pids_refused"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(report["verdict"], "verified", "{report:#}");
    end(machine);
}

#[test]
fn a_run_gets_the_processor_time_that_it_may_have() {
    let mut machine = booted("cpus");
    machine.run(
        "nought run --cpus 0.2 --timeout 4s --grace 1s --report r.json -- \
         sh -c 'trap \"cat /sys/fs/cgroup$(grep ^0: /proc/self/cgroup | cut -c4-)/cpu.stat >stat; \
         exit\" TERM; while :; do :; done'",
    );
    let stat = machine.run("cat stat");
    let throttled = stat
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled "))
        .unwrap_or_else(|| panic!("{stat}"));
    assert!(throttled.trim().parse::<u64>().unwrap() > 5, "{stat}");
    let report = report(&mut machine);
    let used = report["cpu_ms"].as_f64().unwrap() / report["total_ms"].as_f64().unwrap();
    assert!((0.05..0.3).contains(&used), "{used}: {report:#}");
    assert!(
        report["throttled_ms"].as_f64().unwrap() > 500.0,
        "{report:#}"
    );
    end(machine);
}

#[test]
fn where_others_share_the_cgroup_they_are_named_and_stay() {
    let mut machine = booted("shared");
    machine.run(
        "cd /sys/fs/cgroup && mkdir ci && echo +memory +pids >cgroup.subtree_control; cd /tmp; \
         sh -c 'echo 0 >/sys/fs/cgroup/ci/cgroup.procs; exec sleep 7777' & sleep 0.5",
    );
    let inside = |words: &str| {
        format!(
            "sh -c 'echo 0 >/sys/fs/cgroup/ci/cgroup.procs; exec nought run {words}'; echo code $?"
        )
    };
    let said = machine.run(&inside("--memory 64M -- touch started"));
    assert!(said.contains("code 125"), "{said}");
    assert!(
        said.contains("other processes are in our cgroup /sys/fs/cgroup/ci"),
        "{said}"
    );
    assert!(said.contains("(sleep)"), "{said}");
    let said = machine.run(&inside("--memory 64M --limits=optional -- touch started"));
    assert!(said.contains("code 0"), "{said}");
    let members =
        machine.run("ls started; ps | grep -c '[s]leep 7777'; cat /sys/fs/cgroup/ci/cgroup.procs");
    assert!(members.starts_with("started"), "{members}");
    assert_eq!(members.trim().lines().count(), 3, "{members}");
    // Alone, we leave it for the time of the run, and take back what we gave.
    machine.run(
        "kill %1; while test -n \"$(cat /sys/fs/cgroup/ci/cgroup.procs)\"; do sleep 0.1; done",
    );
    let said = machine.run(&inside(&format!(
        "--memory 24M --report r.json -- {}",
        hog(60)
    )));
    assert!(
        said.contains("code 137") && said.contains("killed for memory"),
        "{said}"
    );
    assert_eq!(report(&mut machine)["verdict"], "verified");
    assert_eq!(given(&mut machine, "/sys/fs/cgroup/ci"), "");
    let kept = machine.run(&inside(
        "--pids 20 --keep *8888* -- sh -c \"setsid sleep 8888 & :\"",
    ));
    assert!(kept.contains("code 0"), "{kept}");
    // What was given before is not ours to take.
    assert_eq!(given(&mut machine, "/sys/fs/cgroup"), "memory pids");
    let left = machine.run(
        "ls -d /sys/fs/cgroup/ci/*/; pkill sleep; rmdir /sys/fs/cgroup/ci; \
        echo -memory -pids >/sys/fs/cgroup/cgroup.subtree_control",
    );
    assert!(!left.contains("nought-run"), "{left}");
    end(machine);
}

#[test]
fn a_killed_run_takes_its_limits_along() {
    let mut machine = booted("killed");
    machine.run(
        "nought run --memory 64M --pids 50 -- sh -c 'echo >up; sleep 1000' & \
         while ! test -e up; do sleep 0.1; done",
    );
    assert_eq!(given(&mut machine, "/sys/fs/cgroup"), "memory pids");
    // Two at a time: the first to end takes nothing from the other.
    let said = machine.run("nought run --memory 32M -- true; echo code $?");
    assert!(said.contains("code 0"), "{said}");
    assert_eq!(given(&mut machine, "/sys/fs/cgroup"), "memory pids");
    machine.run(
        "kill -9 $!; i=0; while ls -d /sys/fs/cgroup/nought-run-* && test $i -lt 300; \
         do sleep 0.1; i=$((i+1)); done",
    );
    end(machine);
}
