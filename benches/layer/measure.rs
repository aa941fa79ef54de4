//! What the kernel layer costs, each beside the floor or its alternatives in the same run.

use std::path::Path;
use std::time::Duration;

use nought::sys::clock::boot_now;
use nought::sys::kill::{KillHow, kill_tree};
use nought::sys::procfs::Proc;
use nought::sys::scan::{ScanContext, ScanTarget, scan_pass, scan_passes};
use nought::sys::spawn::SpawnMethod;
use nought::sys::{cgroup, reap, selftest};

use crate::scene::{Scene, Start};

fn timed_us<T>(body: impl FnOnce() -> T) -> (f64, T) {
    let began = boot_now();
    let value = body();
    ((boot_now() - began) as f64 / 1000.0, value)
}

/// Takes everything off our hands that ended, so that it is not counted.
fn reap_everything() {
    while reap::reap_next().unwrap().is_some() {}
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

pub(crate) fn spawning() {
    for method in [
        SpawnMethod::Clone3Into,
        SpawnMethod::Clone3ThenWrite,
        SpawnMethod::ForkThenWrite,
    ] {
        for mark in [false, true] {
            let scene = Scene::new();
            let samples = (0..100).map(|n| {
                let dir = scene.make(&n.to_string());
                let mut start = Start::new(&["sleep"]).cgroup(&dir).method(method);
                start.spec.mark = mark;
                let (us, child) = timed_us(|| start.start());
                drop(child);
                us
            });
            println!(
                "spawn {method:?} mark {mark}: {:.0} us",
                median(samples.collect())
            );
        }
    }
}

pub(crate) fn killing() {
    for n in [1, 100, 1000] {
        let (mut floor, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..15 {
            for bare in [true, false] {
                let scene = Scene::new();
                let args = ["children", &(n - 1).to_string()];
                let _child = Start::new(&args).cgroup(&scene.dir).start().ready();
                let (us, ()) = timed_us(|| {
                    if bare {
                        cgroup::write_kill(&scene.dir).unwrap();
                        while cgroup::is_populated(&scene.dir).unwrap() {
                            std::hint::spin_loop();
                        }
                    } else {
                        let settle = Duration::from_secs(5);
                        let done = kill_tree(&scene.dir, KillHow::CgroupKill, settle);
                        assert_eq!(done.populated, Some(false));
                    }
                });
                drop(scene);
                reap_everything();
                if bare { floor.push(us) } else { ours.push(us) }
            }
        }
        let (floor, ours) = (median(floor), median(ours));
        println!(
            "kill {n}: floor {floor:.0} us, kill_tree {ours:.0} us, x{:.2}",
            ours / floor
        );
    }
}

pub(crate) fn scanning() {
    for n in [0, 60, 2000] {
        reap_everything();
        let scene = Scene::new();
        let crowd = scene.make("crowd");
        let empty = scene.make("empty");
        let _crowd = Start::new(&["children", &n.to_string()])
            .cgroup(&crowd)
            .start()
            .ready();
        let proc = Proc::open().unwrap();
        let processes = proc.pids().unwrap().len();
        let target = |mark| ScanTarget {
            cgroup: Some(empty.clone()),
            mark,
            ..Default::default()
        };
        let context = ScanContext::new();
        let per = |body: &dyn Fn()| median((0..30).map(|_| timed_us(body).0).collect());
        let marked = per(&|| drop(scan_pass(&target(Some(1)), &context)));
        let descent = per(&|| drop(scan_pass(&target(None), &context)));
        let many: Vec<ScanTarget> = (0..200).map(|n| target(Some(n))).collect();
        let many = per(&|| drop(scan_passes(&many, &context)));
        let walk = per(&|| {
            let below = proc.descendants([std::process::id()], usize::MAX).unwrap();
            for pid in below {
                let _ = proc.mark(pid);
            }
        });
        let own = per(&|| drop(proc.children(std::process::id())));
        println!(
            "scan of {processes}: marked {marked:.0} us, descent {descent:.0} us, 200 targets \
             {many:.0} us, walk below us {walk:.0} us, own children {own:.0} us"
        );
    }
}

pub(crate) fn starting_up() {
    let scene = Scene::new();
    let samples = (0..20).map(|n| {
        let dir = scene.make(&n.to_string());
        timed_us(|| selftest::find_abilities(Some(&dir), Path::new("/proc/self/exe"))).0
    });
    println!("self-test: {:.0} us", median(samples.collect()));
    let one = scene.make("census");
    let _child = Start::new(&["sleep"]).cgroup(&one).start().ready();
    let samples =
        (0..50).map(|_| timed_us(|| cgroup::census(&one, Some(std::process::id())).unwrap()).0);
    println!("census of one: {:.0} us", median(samples.collect()));
}
