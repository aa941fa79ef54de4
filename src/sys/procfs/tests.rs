//! Samples of files of /proc, and nonsense.

use super::*;

const TAIL: &str =
    "S 1 42 43 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 777 100 200 18446744073709551615 1 1";

#[test]
fn a_stat_line_is_read() {
    let stat = parse_stat(format!("42 (cat) {TAIL}\n").as_bytes()).unwrap();
    assert_eq!(stat.comm, "cat");
    assert_eq!(
        (stat.pid, stat.ppid, stat.pgrp, stat.session),
        (42, 1, 42, 43)
    );
    assert_eq!((stat.num_threads, stat.start_time), (9, 777));
    assert!(!stat.kernel_thread && !stat.is_dead());
}

#[test]
fn a_command_name_may_hold_anything() {
    for comm in ["a b", ") S 1 (", "x\ny", "", "((", "))"] {
        let stat = parse_stat(format!("7 ({comm}) {TAIL}\n").as_bytes()).unwrap();
        assert_eq!(stat.comm, comm);
        assert_eq!(stat.start_time, 777);
    }
}

#[test]
fn nonsense_is_refused() {
    for text in ["", "1", "1 (x", "x (y) S 1", "1 (a) S", ") ("] {
        assert_eq!(parse_stat(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn only_the_kernels_threads_are_in_no_group() {
    // Elsewhere none of them is to be seen, and whoever is of a group outside is in none, too.
    if !sees_kernel_threads() {
        return;
    }
    assert!(!has_no_group(std::process::id()));
    let proc = Proc::open().unwrap();
    let threads = proc.pids().unwrap().into_iter();
    let threads = threads.filter_map(|pid| proc.stat(pid).ok().flatten());
    let threads: Vec<_> = threads.filter(|stat| stat.kernel_thread).collect();
    assert!(!threads.is_empty());
    // One that has ended meanwhile is in none either, and says so by an error.
    let lives = |id| proc.stat_of(id).is_ok_and(|stat| stat.is_some());
    let grouped = |thread: &&ProcStat| !has_no_group(thread.pid) && lives(thread.id());
    assert_eq!(threads.iter().find(grouped), None);
}

#[test]
fn a_cgroup_file_is_read() {
    let name = |text: &str| parse_cgroup(text.as_bytes()).map(|c| (c.path, c.deleted));
    assert_eq!(name("1:cpu:/\n0::/a/b\n"), Some(("/a/b".into(), false)));
    assert_eq!(name("0::/a/b (deleted)\n"), Some(("/a/b".into(), true)));
    assert_eq!(name("0::/../x\n"), Some(("/../x".into(), false)));
    assert_eq!(name("1:cpu:/\n"), None);
}

#[test]
fn below_is_by_whole_names() {
    assert!(is_at_or_below("/a/b", "/a"));
    assert!(is_at_or_below("/a", "/a/"));
    assert!(is_at_or_below("/a", "/"));
    assert!(!is_at_or_below("/ab", "/a"));
    assert!(!is_at_or_below("/", "/a"));
}
