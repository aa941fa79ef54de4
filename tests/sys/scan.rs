//! The scan: who is found, who is killed, who is only named.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nought::sys::cgroup;
use nought::sys::kill::{KillHow, kill_tree};
use nought::sys::procfs::Proc;
use nought::sys::reap;
use nought::sys::scan::{
    Evidence, PassResult, Quality, ScanContext, ScanTarget, scan_pass, scan_passes,
};

use crate::scene::{BOUND, Child, Scene, Start, is_dead, until};

const SETTLE: Duration = BOUND;

/// A start in `inside` whose escapees go to `outside`.
struct Stage {
    scene: Scene,
    inside: std::path::PathBuf,
    outside: std::path::PathBuf,
}

impl Stage {
    fn new() -> Self {
        let scene = Scene::new();
        let (inside, outside) = (scene.make("inside"), scene.make("outside"));
        Self {
            scene,
            inside,
            outside,
        }
    }

    fn start(&self, args: &[&str]) -> Child {
        let outside = self.outside.to_str().unwrap();
        let args: Vec<&str> = args.iter().copied().chain([outside]).collect();
        Start::new(&args)
            .cgroup(&self.inside)
            .marked()
            .env("NOUGHT_TEST", "one")
            .start()
    }

    /// The one escapee, when those between it and the main process are gone.
    fn daemon(&self) -> u32 {
        until("one is left outside", || {
            match cgroup::procs(&self.outside).unwrap()[..] {
                [daemon] => Some(daemon),
                _ => None,
            }
        })
    }

    fn target(&self, child: &Child) -> ScanTarget {
        ScanTarget {
            cgroup: Some(self.inside.clone()),
            cgroup_path: Some(self.scene.name_of(&self.inside)),
            mark: child.born.mark.as_ref().map(|mark| mark.inode),
            main: Some(child.born.id),
            env_marker: Some(("NOUGHT_TEST".into(), "one".into())),
            ..ScanTarget::default()
        }
    }
}

/// Passes until one is conclusive: the other tests fork all the time.
fn settle(target: &ScanTarget) -> Vec<PassResult> {
    let mut passes = Vec::new();
    until("a conclusive pass", || {
        let pass = scan_pass(target, &ScanContext::new());
        assert_eq!(pass.error, None);
        let conclusive = pass.conclusive;
        passes.push(pass);
        conclusive.then_some(())
    });
    passes
}

fn only_escapee(passes: &[PassResult]) -> (u32, Evidence) {
    let all: Vec<_> = passes.iter().flat_map(|pass| &pass.escaped).collect();
    assert_eq!(all.len(), 1, "{all:?}");
    (all[0].process.pid, all[0].evidence)
}

#[test]
fn a_daemon_with_wiped_environment_in_a_foreign_cgroup_is_found() {
    let stage = Stage::new();
    let mut child = stage.start(&["daemon"]);
    assert_eq!(child.line(), "ready");
    let daemon = stage.daemon();
    until("the main process ended", || {
        is_dead(child.pid()).then_some(())
    });
    assert!(!cgroup::is_populated(&stage.inside).unwrap());

    let passes = settle(&stage.target(&child));
    assert_eq!(only_escapee(&passes), (daemon, Evidence::Marked));
    assert!(passes.iter().all(|pass| pass.quality == Quality::Marked));
    assert!(
        !passes[0].conclusive,
        "a pass that found somebody proves nothing"
    );
    assert!(is_dead(daemon));
    reap::reap_pid(daemon).unwrap();
}

#[test]
fn a_populated_cgroup_ends_the_pass() {
    let stage = Stage::new();
    let child = Start::new(&["sleep"])
        .cgroup(&stage.inside)
        .marked()
        .start()
        .ready();
    let pass = scan_pass(&stage.target(&child), &ScanContext::new());
    assert_eq!((pass.populated, pass.conclusive), (Some(true), false));
    assert!(pass.escaped.is_empty());
    assert!(!is_dead(child.pid()));
}

#[test]
fn what_the_file_keeps_is_kept() {
    let stage = Stage::new();
    let mut child = stage.start(&["daemon"]);
    assert_eq!(child.line(), "ready");
    until("the main process ended", || {
        is_dead(child.pid()).then_some(())
    });
    let mut target = stage.target(&child);
    target.keep = Some(Box::new(|process| process.session != process.pid));
    let passes = settle(&target);
    assert_eq!(
        passes.iter().map(|pass| pass.escaped.len()).sum::<usize>(),
        0
    );
    let kept = passes[0].kept[0].pid;
    assert!(!is_dead(kept));
    kill_tree(&stage.outside, KillHow::CgroupKill, SETTLE);
    reap::reap_pid(kept).unwrap();
}

#[test]
fn a_replaced_mark_is_attributed_by_the_record() {
    let stage = Stage::new();
    let mut child = stage.start(&["mark-replaced"]);
    let replaced = child.said_pid();
    let proc = Proc::open().unwrap();
    let target = stage.target(&child);
    assert_ne!(proc.mark(replaced).unwrap().inode(), target.mark);
    until("it is orphaned", || {
        (proc.stat(replaced).unwrap()?.ppid == std::process::id()).then_some(())
    });

    // Nothing ties it to the start any more: not ours.
    let passes = settle(&ScanTarget {
        main: Some(child.born.id),
        ..target
    });
    assert!(passes.iter().all(|pass| pass.escaped.is_empty()));
    assert!(!is_dead(replaced));

    // Seen before it was orphaned: ours.
    let recorded = BTreeSet::from([proc.stat(replaced).unwrap().unwrap().id()]);
    let passes = settle(&ScanTarget {
        recorded,
        ..stage.target(&child)
    });
    assert_eq!(only_escapee(&passes), (replaced, Evidence::Recorded));
    reap::reap_pid(replaced).unwrap();
}

#[test]
fn a_foreign_orphan_is_left_alone() {
    let stage = Stage::new();
    let child = Start::new(&["sleep"])
        .cgroup(&stage.inside)
        .marked()
        .start()
        .ready();
    let target = stage.target(&child);
    kill_tree(&stage.inside, KillHow::CgroupKill, SETTLE);

    // Laid out as a supervisor's: a service, and a generation of it.
    stage.scene.make("other");
    let other = stage.scene.make("other/1");
    let mut parent = Start::new(&["orphan"]).cgroup(&other).start();
    let silent = parent.said_pid();
    let mut parent = Start::new(&["orphan"])
        .cgroup(&other)
        .env("NOUGHT_TEST", "one")
        .start();
    let hinting = parent.said_pid();
    let proc = Proc::open().unwrap();
    for pid in [silent, hinting] {
        until("it is ours to reap", || {
            (proc.stat(pid).unwrap()?.ppid == std::process::id()).then_some(())
        });
    }
    let passes = settle(&target);
    let last = passes.last().unwrap();
    let named: Vec<_> = last
        .foreign
        .iter()
        .map(|s| (s.process.pid, s.why.as_str()))
        .collect();
    assert_eq!(named.len(), 1, "{named:?}");
    assert_eq!(named[0].0, hinting);
    assert!(
        named[0].1.contains("carries the environment marker"),
        "{}",
        named[0].1
    );
    assert!(last.escaped.is_empty());
    assert!(!is_dead(silent) && !is_dead(hinting));

    // In a cgroup of another generation of ours it is not even mentioned.
    let context = ScanContext {
        generations: [(stage.scene.name_of(&other), None)].into(),
        ..ScanContext::new()
    };
    assert!(scan_pass(&target, &context).foreign.is_empty());
    // Without that one's mark it may have gone there itself.
    let context = ScanContext {
        generations: [(stage.scene.name_of(&other), Some(1))].into(),
        ..ScanContext::new()
    };
    let named: Vec<u32> = scan_pass(&target, &context)
        .foreign
        .iter()
        .map(|stranger| stranger.process.pid)
        .collect();
    assert_eq!(named, [hinting]);
    kill_tree(&other, KillHow::CgroupKill, SETTLE);
    reap::reap_pid(silent).unwrap();
    reap::reap_pid(hinting).unwrap();
}

#[test]
fn who_joined_the_mark_from_outside_is_named_not_killed() {
    let scene = Scene::new();
    let mut supervisor = Start::new(&["supervise"]).cgroup(&scene.dir).start();
    let line = supervisor.line();
    let numbers: Vec<u64> = line
        .split(' ')
        .skip(1)
        .map(|n| n.parse().unwrap())
        .collect();
    let (main, mark) = (numbers[0], numbers[1]);
    // Not below that supervisor, but below us.
    let mut joiner = Start::new(&["join", &main.to_string()])
        .cgroup(&scene.dir)
        .start();
    let joined = joiner.said_pid();
    let proc = Proc::open().unwrap();
    assert_eq!(proc.mark(joined).unwrap().inode(), Some(mark));
    supervisor.tell();
    let line = supervisor.line();
    assert!(
        line.starts_with(&format!("escaped [{main}] foreign [(")),
        "{line}"
    );
    assert!(
        line.contains(&format!(
            "({joined}, \"marked, but its ancestors lead outside"
        )),
        "{line}"
    );
    assert!(line.ends_with("error None"), "{line}");
    assert!(!is_dead(joined));
}

#[test]
fn who_joined_the_mark_from_another_service_is_named_not_killed() {
    let stage = Stage::new();
    let child = Start::new(&["daemon", stage.outside.to_str().unwrap()])
        .cgroup(&stage.inside)
        .marked()
        .env("NOUGHT_TEST", "one");
    let mut child = child.start();
    assert_eq!(child.line(), "ready");
    until("the main process ended", || {
        is_dead(child.pid()).then_some(())
    });
    let daemon = stage.daemon();
    stage.scene.make("other");
    stage.scene.make("other/web");
    let other = stage.scene.make("other/web/1");
    let mut joiner = Start::new(&["join", &daemon.to_string()])
        .cgroup(&other)
        .start();
    let joined = joiner.said_pid();

    // `outside` is no generation's cgroup here, `other` is.
    let context = ScanContext {
        generations: [(stage.scene.name_of(&other), None)].into(),
        ..ScanContext::new()
    };
    let pass = scan_pass(&stage.target(&child), &context);
    let escaped: Vec<u32> = pass.escaped.iter().map(|e| e.process.pid).collect();
    assert_eq!(escaped, [daemon]);
    let foreign: BTreeSet<u32> = pass.foreign.iter().map(|s| s.process.pid).collect();
    assert_eq!(
        foreign,
        BTreeSet::from([joiner.pid(), joined]),
        "{:?}",
        pass.foreign
    );
    assert!(!is_dead(joiner.pid()) && !is_dead(joined));
    reap::reap_pid(daemon).unwrap();
}

#[test]
fn without_a_mark_descent_finds_what_it_can() {
    let stage = Stage::new();
    let outside = stage.outside.to_str().unwrap();
    let start = |args: &[&str]| {
        Start::new(args)
            .cgroup(&stage.inside)
            .env("NOUGHT_TEST", "two")
            .start()
    };
    let mut orphaned = start(&["orphan"]);
    let orphan = orphaned.said_pid();
    let mut target = stage.target(&orphaned);
    target.env_marker = Some(("NOUGHT_TEST".into(), "two".into()));
    std::fs::write(stage.outside.join("cgroup.procs"), orphan.to_string()).unwrap();
    until("the main process ended", || {
        is_dead(orphaned.pid()).then_some(())
    });
    let passes = settle(&target);
    assert_eq!(only_escapee(&passes), (orphan, Evidence::Session));
    assert!(passes.iter().all(|pass| pass.quality == Quality::Descent));
    reap::reap_pid(orphan).unwrap();

    // A wiped environment and a session of its own: only the record tells.
    let mut child = start(&["daemon", outside]);
    assert_eq!(child.line(), "ready");
    let daemon = stage.daemon();
    until("the main process ended", || {
        is_dead(child.pid()).then_some(())
    });
    let target = ScanTarget {
        mark: None,
        ..stage.target(&child)
    };
    assert!(settle(&target).iter().all(|pass| pass.escaped.is_empty()));
    let id = Proc::open().unwrap().stat(daemon).unwrap().unwrap().id();
    let target = ScanTarget {
        recorded: BTreeSet::from([id]),
        ..target
    };
    assert_eq!(only_escapee(&settle(&target)), (daemon, Evidence::Recorded));
    reap::reap_pid(daemon).unwrap();
}

#[test]
fn one_look_serves_many_targets() {
    let stage = Stage::new();
    let mut ones = stage.start(&["daemon"]);
    assert_eq!(ones.line(), "ready");
    let one = stage.daemon();
    until("the main process ended", || {
        is_dead(ones.pid()).then_some(())
    });
    let busy = stage.scene.make("busy");
    let sleeper = Start::new(&["sleep"])
        .cgroup(&busy)
        .marked()
        .start()
        .ready();
    let busy = ScanTarget {
        cgroup: Some(busy),
        ..stage.target(&sleeper)
    };
    let results = scan_passes(&[busy, stage.target(&ones)], &ScanContext::new());
    assert_eq!(results[0].populated, Some(true));
    assert!(results[0].escaped.is_empty());
    assert_eq!(results[1].escaped[0].process.pid, one);
    assert!(!is_dead(sleeper.pid()));
    reap::reap_pid(one).unwrap();
}

#[test]
fn fork_relays_are_caught() {
    let stage = Stage::new();
    let args = [
        "supervise-relay",
        stage.inside.to_str().unwrap(),
        stage.outside.to_str().unwrap(),
    ];
    let mut supervisor = Start::new(&args).start();
    let line = supervisor.line();
    assert!(line.starts_with("left false"), "{line}");
    println!("{line}");
}

#[test]
fn our_own_mark_is_refused() {
    let target = ScanTarget {
        mark: nought::sys::procfs::own_mark().ok(),
        ..ScanTarget::default()
    };
    let pass = scan_pass(&target, &ScanContext::new());
    assert!(pass.error.is_some() && !pass.conclusive);
}

#[test]
fn survivors_are_told_in_full() {
    let scene = Scene::new();
    let child = Start::new(&["sleep"]).cgroup(&scene.dir).start().ready();
    let proc = Proc::open().unwrap();
    until("it sleeps", || {
        (proc.stat(child.pid()).unwrap()?.state == 'S').then_some(())
    });
    let mut told = nought::sys::inspect::inspect(&[child.pid(), u32::MAX]);
    let [survivor] = told.as_mut_slice() else {
        panic!("{told:?}")
    };
    assert!(survivor.argv[0].starts_with('['));
    nought::sys::inspect::read_argv(survivor);
    assert_eq!(survivor.argv, ["nought-fixture", "sleep"]);
    assert_eq!((survivor.state, survivor.tracer), ('S', 0));
    assert_eq!(
        Path::new(&survivor.cgroup),
        Path::new(&scene.name_of(&scene.dir))
    );
    assert!(
        survivor.stack.iter().any(|frame| frame.contains("pause")),
        "{:?}",
        survivor.stack
    );
    assert!(survivor.mounts.is_empty());
}

#[test]
fn a_killed_supervisors_leftovers_need_one_more_witness() {
    let scene = Scene::new();
    let mut supervisor = Start::new(&["leave-behind"]).cgroup(&scene.dir).start();
    let line = supervisor.line();
    let numbers: Vec<u64> = line.split(' ').map(|n| n.parse().unwrap()).collect();
    let [with, mark, without, other_mark] = numbers[..] else {
        panic!("{line}")
    };
    let (with, without) = (with as u32, without as u32);
    let proc = Proc::open().unwrap();
    for pid in [with, without] {
        until("we have inherited it", || {
            (proc.stat(pid).unwrap()?.ppid == std::process::id()).then_some(())
        });
    }
    // As a new supervisor sees it that is not the one who inherits.
    let context = ScanContext {
        own_pid: u32::MAX,
        orphan_reaper: Some(std::process::id()),
        ..ScanContext::new()
    };
    let target = |mark| ScanTarget {
        mark: Some(mark),
        env_marker: Some(("NOUGHT_TEST".into(), "left".into())),
        ..ScanTarget::default()
    };
    let results = scan_passes(&[target(mark), target(other_mark)], &context);
    assert_eq!(results[0].escaped[0].process.pid, with);
    assert!(results[1].escaped.is_empty());
    assert_eq!(results[1].foreign[0].process.pid, without);
    assert!(
        results[1].error.is_some(),
        "it may be ours: the pass proves nothing"
    );
    assert!(is_dead(with) && !is_dead(without));
    reap::reap_pid(with).unwrap();
    // The mark's own number, where there is one, is that witness.
    if let Some(id) = proc.mark_id(without) {
        let another = ScanTarget {
            mark_id: Some(id + 1),
            ..target(other_mark)
        };
        let result = scan_pass(&another, &context);
        assert!(
            result.escaped.is_empty() && result.error.is_none(),
            "{result:?}"
        );
        assert_eq!(result.foreign[0].process.pid, without);
        let own = ScanTarget {
            mark_id: Some(id),
            ..target(other_mark)
        };
        assert_eq!(scan_pass(&own, &context).escaped[0].process.pid, without);
        assert!(is_dead(without));
    }
    kill_tree(&scene.dir, KillHow::CgroupKill, SETTLE);
    reap::reap_pid(without).unwrap();
}
