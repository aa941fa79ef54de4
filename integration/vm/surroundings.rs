//! What a machine offers its process 1: every controller and its limits, cgroup v1 alone, a
//! logger that comes and goes.

use crate::machine::{End, Machine};
use crate::tiny;

fn power_off(mut machine: Machine) -> String {
    machine.type_line("/sbin/poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    said
}

#[test]
fn every_controller_is_there_and_holds() {
    let mut machine = tiny::booted("controllers", "");
    let controllers = machine.run("cat /sys/fs/cgroup/cgroup.controllers");
    for controller in ["cpuset", "cpu", "io", "memory", "pids"] {
        assert!(controllers.contains(controller), "{controllers}");
    }
    assert!(machine.run("nought status").contains("cgroup-kill"));
    power_off(machine);
}

/// Services of a second supervisor, in a cgroup with limits.
const BOXED: &[(&str, &str)] = &[
    ("plain", "exec: sleep 100000\n"),
    // Forks until nothing more can be forked, and stays.
    (
        "crowd",
        "exec: sh -c 'test -e /go || exec sleep 100000; (while sleep 100000 & do :; done); exec sleep 100000'\n\
         shutdown_timeout: 1s\n",
    ),
    ("late", "exec: sleep 100000\nrestart: never\n"),
    (
        "eater",
        "exec: dd if=/dev/zero of=/dev/null bs=200M count=1\nrestart: never\n",
    ),
];

#[test]
fn limits_of_the_cgroup_around_a_supervisor_hold_and_are_named() {
    let initrd = tiny::initrd_with("limits", &[], BOXED, &[]);
    let mut machine = tiny::boot("limits", &initrd, "");
    machine.expect("every service is up");
    machine.expect("# ");
    machine.run(
        "cd /sys/fs/cgroup; echo '+memory +pids' >cgroup.subtree_control; mkdir box; \
         echo 64M >box/memory.max; echo 48 >box/pids.max; cd /; \
         mkdir /box; mv /etc/box/late.yaml /etc/box/eater.yaml /etc/box/crowd.yaml /box",
    );
    machine.run(
        "(echo 0 >/sys/fs/cgroup/box/cgroup.procs; \
          exec nought init --container -c /etc/box -s /run/box) >/box/log 2>&1 & \
         until nought -s /run/box health >/dev/null 2>&1; do sleep 0.1; done",
    );
    // What uses more memory than there is, is ended by the kernel, and nobody else is.
    machine.run("mv /box/eater.yaml /etc/box; nought -s /run/box monitor eater");
    let said = machine.run(
        "until nought -s /run/box status eater | grep SIGKILL; do sleep 0.1; done; \
         grep '^oom_kill ' /sys/fs/cgroup/box/memory.events; \
         nought -s /run/box status plain",
    );
    assert!(
        said.contains("SIGKILL") && said.contains("oom_kill 1"),
        "{said}"
    );
    assert!(said.contains("for") && said.contains("target up"), "{said}");
    // No more processes than there may be: the start that fails names the limit.
    machine.run("touch /go; mv /box/crowd.yaml /box/late.yaml /etc/box");
    machine.run("nought -s /run/box monitor crowd");
    machine.run(
        // Who met it has ended since, and threads end when they have nothing to do: less than there
        // are now, and more than there will be without the crowd.
        "while grep -q 'max 0' /sys/fs/cgroup/box/pids.events; do sleep 0.1; done; \
         echo 30 >/sys/fs/cgroup/box/pids.max",
    );
    let said = machine.run(
        "nought -s /run/box monitor late; nought -s /run/box start late; \
                            nought -s /run/box stop late; grep max /sys/fs/cgroup/box/pids.events; \
                            cat /box/log",
    );
    assert!(said.contains("pids.max"), "{said}");
    let said = machine.run("nought -s /run/box stop crowd");
    assert!(
        said.contains("verified") && said.contains("nothing left"),
        "{said}"
    );
    // With room again it starts.
    let said = machine.run("nought -s /run/box start late");
    assert!(said.contains("late"), "{said}");
    // Its last line comes after its answer: only its end says that it is written.
    let said = machine.run("nought -s /run/box shutdown; wait; tail -n 1 /box/log");
    assert!(said.contains("verified: every"), "{said}");
    power_off(machine);
}

#[test]
fn the_kernels_command_line_names_another_directory_of_services() {
    let only = (
        "only",
        "exec: sh -c 'echo only this is up >/dev/console; exec sh -i </dev/ttyS0 >/dev/ttyS0 2>&1'\n",
    );
    let initrd = tiny::initrd_with("config", &[], &[only], &[]);
    let mut machine = tiny::boot("config", &initrd, "nought.config=/etc/box");
    machine.expect("services from /etc/box");
    machine.expect("only this is up");
    machine.expect("# ");
    let listed = machine.run("nought list");
    assert!(
        listed.contains("only") && !listed.contains("web"),
        "{listed}"
    );
    power_off(machine);
}

#[test]
fn nobody_waits_for_entropy() {
    // The kernel makes it by force only when somebody waits for it.
    let append = "random.trust_cpu=off random.trust_bootloader=off";
    let mut machine = tiny::booted("entropy", append);
    let log = machine.run("dmesg");
    let up = log.find("nought: INFO ready: done");
    let up = up.unwrap_or_else(|| panic!("{log}"));
    assert!(!log[..up].contains("crng init done"), "{log}");
    power_off(machine);
}

/// Process 1 before ours: cgroup v1 where cgroup2 would be mounted, as a host of that age has it.
const V1: &str = "#!/bin/busybox sh\n\
    /bin/busybox mkdir -p /sys /dev\n\
    /bin/busybox mount -t sysfs none /sys\n\
    /bin/busybox mount -t tmpfs none /sys/fs/cgroup\n\
    for name in memory pids cpu; do\n\
    /bin/busybox mkdir /sys/fs/cgroup/$name\n\
    /bin/busybox mount -t cgroup -o $name none /sys/fs/cgroup/$name\n\
    done\n\
    exec /sbin/init\n";

#[test]
fn with_cgroup_v1_alone_the_guarantee_is_said_and_stops_are_proven() {
    let initrd = tiny::initrd_with("v1", &[], &[], &[("v1", V1)]);
    let mut machine = tiny::boot("v1", &initrd, "rdinit=/v1");
    machine.expect("every service is up");
    machine.expect("# ");
    let mounts = machine.run("cat /proc/mounts");
    assert!(
        mounts.contains("cgroup rw") && !mounts.contains("cgroup2"),
        "{mounts}"
    );
    let said = machine.run("nought status; nought doctor");
    assert!(said.contains("subreaper marked"), "{said}");
    assert!(
        said.contains("cgroup2"),
        "it does not say what is missing: {said}"
    );
    let said = machine.run("nought stop web; nought receipt web; nought start web");
    assert!(said.contains("web: verified"), "{said}");
    assert!(said.contains("guarantee  subreaper marked"), "{said}");
    let said = power_off(machine);
    assert!(
        said.contains("verified: every service is gone, nothing is left (subreaper marked)"),
        "{said}"
    );
    assert!(said.contains("nobody is left"), "{said}");
}

#[test]
fn the_log_goes_to_the_kernel_until_a_logger_runs_and_then_to_that() {
    let mut machine = tiny::booted("logger", "");
    let count = |machine: &mut Machine, command: &str| -> u32 {
        let said = machine.answer(command);
        said.parse().unwrap_or_else(|_| panic!("{said}"))
    };
    let in_kernel = "dmesg | grep -c 'nought: INFO web: verified'";
    let in_file = "grep -c 'nought\\[1\\]: web: verified' /messages";
    machine.run("nought restart web");
    assert_eq!(count(&mut machine, in_kernel), 1);
    machine.run(
        "syslogd -n -O /messages & until test -S /dev/log; do sleep 0.1; done; nought restart web; \
         for i in $(seq 100); do grep -q 'web: verified' /messages && break; sleep 0.1; done",
    );
    assert_eq!(count(&mut machine, in_file), 1);
    assert_eq!(
        count(&mut machine, in_kernel),
        1,
        "in one place, not in both"
    );
    // A logger that has gone loses nothing: the kernel has it again.
    machine.run("kill $!; wait; nought restart web");
    assert_eq!(count(&mut machine, in_kernel), 2);
    power_off(machine);
}
