//! Limits that hold, on a machine where cgroup2 has every controller.

use serde_json::Value;

use crate::machine::{End, Machine};
use crate::tiny;

/// A machine whose shell is in the root cgroup, which may give controllers although it holds
/// processes.
fn booted(name: &str) -> Machine {
    let mut machine = tiny::booted(name, "");
    machine.run("export NO_COLOR=1; echo 0 >/sys/fs/cgroup/cgroup.procs; mkdir -p /tmp; cd /tmp");
    assert_eq!(given(&mut machine, "/sys/fs/cgroup"), "");
    machine
}

/// The controllers that a cgroup gives to those below it.
fn given(machine: &mut Machine, cgroup: &str) -> String {
    machine.answer(&format!("cat {cgroup}/cgroup.subtree_control"))
}

/// The report of the last run.
fn report(machine: &mut Machine) -> Value {
    let said = machine.answer("cat r.json; rm r.json");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Ends the machine, after nothing was left enabled.
fn end(mut machine: Machine) {
    assert_eq!(given(&mut machine, "/sys/fs/cgroup"), "");
    assert_eq!(
        machine.answer("ls -d /sys/fs/cgroup/nought-run-* 2>/dev/null"),
        ""
    );
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
    let kernels: u64 = machine.answer("cat peak").parse().unwrap();
    assert!(peak >= kernels && peak <= 24 << 20, "{peak} {kernels}");
    assert!(kernels > 20 << 20, "{kernels}");
    assert!(report["cpu_ms"].as_f64().unwrap() > 0.0, "{report:#}");
    end(machine);
}

#[test]
fn a_fork_bomb_meets_its_limit_and_nothing_is_left_of_it() {
    let mut machine = booted("pids");
    let said = machine.answer(
        "nought run --pids 30 --leaks=allow --report r.json -- \
         sh -c 'bomb() { bomb | bomb & sleep 7654; }; bomb & sleep 2; ps | grep -c sleep >seen'; \
         echo; ps | grep -c '[s]leep 7654'",
    );
    assert!(said.contains("nought run: --pids 30 was reached"), "{said}");
    assert_eq!(said.lines().last().unwrap().trim(), "0", "{said}");
    let report = report(&mut machine);
    assert!(report["pids_refused"].as_u64().unwrap() > 0, "{report:#}");
    assert_eq!(report["verdict"], "verified", "{report:#}");
    end(machine);
}

#[test]
fn a_run_gets_the_processor_time_that_it_may_have() {
    let mut machine = booted("cpus");
    machine.run(
        "nought run --cpus 0.2 --timeout 4s --grace 30s --report r.json -- \
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
         sh -c 'echo 0 >/sys/fs/cgroup/ci/cgroup.procs; exec sleep 7777' & \
         until ps -o args | grep -q '^sleep 7777'; do sleep 0.1; done",
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
    let members = machine
        .answer("ls started; ps | grep -c '[s]leep 7777'; cat /sys/fs/cgroup/ci/cgroup.procs");
    assert!(members.starts_with("started"), "{members}");
    assert_eq!(members.lines().count(), 3, "{members}");
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

/// One JSON document that a command of ours prints.
fn json(machine: &mut Machine, command: &str) -> Value {
    let said = machine.run(&format!("nought --json {command}"));
    let line = said.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("{said}"))).unwrap()
}

/// What a second supervisor in the machine is given: 24 MiB for all, of which one takes more.
const BOXED: &[(&str, &str)] = &[
    (
        "hog",
        "exec: sh -c 'echo up >>/hog; sleep 2; dd if=/dev/zero of=/dev/null bs=60M count=1; \
         exit 9'\nrestart: {delay: 1h}\n",
    ),
    ("calm", "exec: sleep 7777\nresources: {pids_max: 9}\n"),
];

#[test]
fn what_all_services_use_together_is_limited_and_their_supervisor_is_not() {
    let initrd = tiny::initrd_with("together", &[], BOXED, &[]);
    let mut machine = tiny::boot("together", &initrd, "");
    machine.expect("every service is up");
    machine.expect("# ");
    machine.run(
        "export NO_COLOR=1; dmesg -n 1; echo 0 >/sys/fs/cgroup/cgroup.procs; \
         nought -s /box.sock init --container -c /etc/box --memory 24M --cpus 50% --pids 40 \
         >/said 2>&1 & while ! nought -s /box.sock status hog | grep -q killed; do sleep 0.5; done",
    );
    let status = json(&mut machine, "-s /box.sock status hog");
    assert_eq!(status["last_exit"]["code"], 9, "{status:#}");
    assert_eq!(status["last_oom_kills"], 1, "{status:#}");
    // Nobody else is killed: neither the other service, nor who ends them all.
    let calm = json(&mut machine, "-s /box.sock status calm");
    assert_eq!(
        (&calm["state"], &calm["restarts"]),
        (&Value::from("up"), &Value::from(0)),
        "{calm:#}"
    );
    let all = "/sys/fs/cgroup/nought-*/all.services";
    let said = machine.answer(&format!(
        "cat {all}/memory.max {all}/cpu.max {all}/pids.max {all}/calm/*/pids.max; \
         cut -d/ -f3 /proc/$!/cgroup | tail -n 1"
    ));
    let values = ["25165824", "50000", "100000", "40", "9", "supervisor"];
    assert_eq!(
        said.split_whitespace().collect::<Vec<_>>(),
        values,
        "{said}"
    );
    machine.run("nought -s /box.sock shutdown; wait $!");
    let said = machine.run("ls -d /sys/fs/cgroup/nought-*/all.services; cat /said");
    assert!(!said.contains("/all.services\n"), "{said}");
    assert_eq!(given(&mut machine, "/sys/fs/cgroup"), "", "{said}");
    machine.type_line("/sbin/poweroff");
    assert_eq!(machine.end().0, End::PoweredOff);
}

/// The number in a file of the only generation of a service.
fn account(machine: &mut Machine, service: &str, file: &str) -> u64 {
    let said = machine.answer(&format!("cat /sys/fs/cgroup/nought-*/{service}/*/{file}"));
    said.parse()
        .unwrap_or_else(|error| panic!("{error}: {said}"))
}

const SERVICES: &[(&str, &str)] = &[
    // Everybody of it goes when one takes too much.
    (
        "hog",
        "exec: sh -c 'echo up >>/hog; sleep 2; dd if=/dev/zero of=/dev/null bs=60M count=1; \
         sleep 1000'\n\
         resources: {memory_max: 24M, oom_group: true}\nrestart: {delay: 30s}\n",
    ),
    (
        "busy",
        "exec: sh -c 'sleep 1000 & while :; do :; done'\n\
         resources: {memory_max: 64M, cpu_max: 20%, pids_max: 50, cpu_weight: 50}\n",
    ),
    (
        "own",
        "exec: sh -c 'cd /sys/fs/cgroup$(grep ^0 /proc/self/cgroup | cut -c4-) && mkdir inner && \
         echo 0 >inner/cgroup.procs && echo +pids >cgroup.subtree_control && \
         echo 7 >inner/pids.max && echo mine; sleep 1000'\n\
         user: 1000\ngroup: 1000\nresources: {pids_max: 100, delegate: true}\n",
    ),
    (
        "impossible",
        "exec: sleep 1000\nresources: {cpuset: '77'}\nrestart: {burst: 1}\n",
    ),
    (
        "modest",
        "exec: sleep 1000\nresources: {cpuset: '77', pids_max: 9, optional: true}\n",
    ),
];

#[test]
fn a_service_that_takes_too_much_memory_is_named_and_started_again_alone() {
    let initrd = tiny::initrd("resources", SERVICES);
    let mut machine = tiny::boot("resources", &initrd, "");
    machine.expect("every service is up");
    machine.expect("# ");
    // What the kernel says on the console is in nobody's answer.
    machine.run("export NO_COLOR=1; dmesg -n 1");
    let database = json(&mut machine, "status database")["pid"].clone();
    machine.run("while test $(cat /hog | grep -c up) -lt 2; do sleep 0.2; done");
    let status = json(&mut machine, "status hog");
    assert_eq!(status["last_exit"]["signal"], "SIGKILL", "{status:#}");
    assert!(
        status["last_oom_kills"].as_u64().unwrap() >= 1,
        "{status:#}"
    );
    assert!(status["restarts"].as_u64().unwrap() >= 1, "{status:#}");
    let said = machine.run("nought status hog; nought why hog; nought receipt hog");
    assert!(said.matches("killed for memory").count() >= 3, "{said}");
    let receipts = json(&mut machine, "receipt hog");
    assert!(
        receipts.to_string().contains("\"oom_kills\":"),
        "{receipts:#}"
    );
    // Nobody else noticed.
    assert_eq!(json(&mut machine, "status database")["pid"], database);
    machine.type_line("/sbin/poweroff");
    assert_eq!(machine.end().0, End::PoweredOff);
}

#[test]
fn what_a_service_may_use_holds_and_its_account_is_the_kernels() {
    let initrd = tiny::initrd("accounts", &SERVICES[1..]);
    let mut machine = tiny::boot("accounts", &initrd, "");
    machine.expect("every service is up");
    machine.expect("# ");
    machine.run("export NO_COLOR=1");
    machine.run(
        "until nought --json stats busy | grep -q '\"throttled_ms\":[1-9]'; do sleep 0.5; done",
    );
    let before = account(&mut machine, "busy", "memory.peak");
    let stats = json(&mut machine, "stats busy");
    let after = account(&mut machine, "busy", "memory.peak");
    let peak = stats["memory_peak_bytes"].as_u64().unwrap();
    assert!(
        (before..=after).contains(&peak),
        "{before} {after}: {stats:#}"
    );
    assert_eq!(stats["memory_from"], "cgroup", "{stats:#}");
    let waited = |machine: &mut Machine| {
        let first = "head -n1 /sys/fs/cgroup/nought-*/busy/*/cpu.pressure | cut -d= -f5";
        let total: f64 = machine.answer(first).parse().unwrap();
        total / 1000.0
    };
    let before = waited(&mut machine);
    let stats = json(&mut machine, "stats busy");
    let after = waited(&mut machine);
    let told = stats["pressure"]["cpu"]["some_ms"].as_f64().unwrap();
    assert!(
        (before..=after).contains(&told),
        "{before} {after}: {stats:#}"
    );
    let pids = account(&mut machine, "busy", "pids.current");
    assert_eq!(stats["pids"], pids, "{stats:#}");
    assert_eq!(account(&mut machine, "busy", "pids.max"), 50);
    assert_eq!(account(&mut machine, "busy", "memory.max"), 64 << 20);
    assert_eq!(account(&mut machine, "busy", "cpu.weight"), 50);
    let max = machine.answer("cat /sys/fs/cgroup/nought-*/busy/*/cpu.max");
    assert_eq!(max, "20000 100000");

    // Its own cgroup is the service's to divide, its limit is not.
    machine.run("until nought log own | grep -q mine; do sleep 0.2; done");
    let said = machine.answer(
        "cat /sys/fs/cgroup/nought-*/own/*/main/inner/pids.max; \
        ls -ld /sys/fs/cgroup/nought-*/own/*/ | grep -c 1000",
    );
    assert_eq!(
        said.split_whitespace().collect::<Vec<_>>(),
        ["7", "0"],
        "{said}"
    );
    let said = machine.run("nought stop own");
    assert!(said.contains("verified"), "{said}");

    // What cannot be enforced starts nothing, unless it is optional.
    let said = machine.run("nought status impossible; nought log --help >/dev/null");
    assert!(said.contains("cpuset cannot be enforced"), "{said}");
    let modest = json(&mut machine, "status modest");
    assert_eq!(modest["state"], "up", "{modest:#}");
    assert_eq!(account(&mut machine, "modest", "pids.max"), 9);
    machine.type_line("/sbin/poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
}
