//! Finding out what a place allows.

use std::path::Path;

use nought::sys::scan::Quality;
use nought::sys::selftest::{Containment, find_abilities};
use nought::sys::spawn::SpawnMethod;

use crate::scene::{Scene, Start};

const SELF: &str = "/proc/self/exe";

#[test]
fn here_everything_works() {
    let scene = Scene::new();
    let abilities = find_abilities(Some(&scene.dir), Path::new(SELF));
    assert_eq!(abilities.notes, [""; 0]);
    assert_eq!(abilities.containment, Containment::CgroupKill);
    assert_eq!(abilities.scan, Quality::Marked);
    assert_eq!(abilities.spawn_method, SpawnMethod::Clone3Into);
    let left = std::fs::read_dir(&scene.dir).unwrap().flatten();
    assert_eq!(left.filter(|entry| entry.path().is_dir()).count(), 0);
}

#[test]
fn a_once_killed_parent_is_survived() {
    // Where clone3 into its children dies (6.18), the next method is taken, and the notes say so.
    let scene = Scene::new();
    nought::sys::cgroup::write_kill(&scene.dir).unwrap();
    let abilities = find_abilities(Some(&scene.dir), Path::new(SELF));
    assert_eq!(abilities.containment, Containment::CgroupKill);
    let fell_back = abilities.spawn_method != SpawnMethod::Clone3Into;
    assert_eq!(
        fell_back,
        !abilities.notes.is_empty(),
        "{:?}",
        abilities.notes
    );
}

#[test]
fn without_a_cgroup_the_truth_is_told() {
    let scene = Scene::new();
    let abilities = find_abilities(None, Path::new(SELF));
    assert_eq!(abilities.containment, Containment::Subreaper);
    assert_eq!(abilities.scan, Quality::Marked);

    let nowhere = scene.dir.join("nowhere");
    let abilities = find_abilities(Some(&nowhere), Path::new(SELF));
    assert_eq!(abilities.containment, Containment::Subreaper);
    assert!(
        abilities.notes[0].contains("no cgroup can be made"),
        "{:?}",
        abilities.notes
    );
}

#[test]
fn a_program_that_is_no_probe_is_found_out() {
    let scene = Scene::new();
    let abilities = find_abilities(Some(&scene.dir), Path::new("/bin/true"));
    assert_eq!(abilities.containment, Containment::Subreaper);
    assert_eq!(abilities.scan, Quality::Descent);
    let ended = |note: &&String| note.contains("ended before it said anything");
    assert!(
        abilities.notes.iter().filter(ended).count() >= 3,
        "{:?}",
        abilities.notes
    );
}

#[test]
fn a_filter_on_clone3_leads_to_fork() {
    let scene = Scene::new();
    let mut child = Start::new(&["no-clone3", scene.dir.to_str().unwrap()]).start();
    let line = child.line();
    assert!(
        line.contains("containment: CgroupKill, spawn_method: ForkThenWrite"),
        "{line}"
    );
    assert!(
        line.contains("clone3-into-cgroup in a cgroup does not work"),
        "{line}"
    );
}

#[test]
fn an_ordinary_user_has_no_mark() {
    let mut child = Start::new(&["as-user"]).start();
    let line = child.line();
    assert!(line.contains("containment: Subreaper"), "{line}");
    assert!(line.contains("scan: Descent"), "{line}");
    assert!(line.contains("no mark by time namespaces"), "{line}");
}
