//! Samples of the two files, from the kinds of places we run in.

use super::*;

const HYBRID: &[u8] = b"\
24 1 254:0 / / rw,relatime - ext4 /dev/root rw\n\
30 24 0:25 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
31 30 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
40 30 0:35 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

const PURE: &[u8] = b"\
24 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

fn best(mountinfo: &[u8], own: &str) -> Option<(Place, bool)> {
    let mounts = parse_mountinfo(mountinfo);
    let (mount, place) = candidates(&mounts, Path::new(own)).into_iter().next()?;
    Some((place, mount.read_only))
}

fn at(path: &str) -> Option<(Place, bool)> {
    Some((Place::At(path.into()), false))
}

#[test]
fn hybrid_takes_the_unified_mount() {
    assert_eq!(best(HYBRID, "/"), at("/sys/fs/cgroup/unified"));
    assert_eq!(best(HYBRID, "/a/b"), at("/sys/fs/cgroup/unified/a/b"));
}

#[test]
fn pure_host_adds_the_own_path() {
    assert_eq!(
        best(PURE, "/system.slice/nought.service"),
        at("/sys/fs/cgroup/system.slice/nought.service")
    );
    assert_eq!(best(PURE, "/"), at("/sys/fs/cgroup"));
}

#[test]
fn cgroup_namespace_is_its_own_root() {
    // In the namespace both the mount's root and our path are `/`.
    assert_eq!(best(PURE, "/"), at("/sys/fs/cgroup"));
}

#[test]
fn a_mount_of_a_subtree_is_subtracted() {
    let sub = b"35 24 0:30 /kubepods/pod1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(best(sub, "/kubepods/pod1/c1"), at("/sys/fs/cgroup/c1"));
    assert_eq!(
        best(sub, "/kubepods/pod10/c1"),
        None,
        "a prefix of names is no parent"
    );
}

#[test]
fn kubernetes_privileged_sees_the_node() {
    assert_eq!(
        best(PURE, "/kubepods/burstable/pod7/abc"),
        at("/sys/fs/cgroup/kubepods/burstable/pod7/abc")
    );
}

#[test]
fn a_mount_from_above_the_namespace_hides_names() {
    let above = b"35 24 0:30 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    let hidden = |rest: &str| {
        Some((
            Place::Hidden {
                levels: 2,
                rest: rest.into(),
            },
            false,
        ))
    };
    assert_eq!(best(above, "/"), hidden(""));
    assert_eq!(best(above, "/x"), hidden("x"));
    // Moved out of the namespace ourselves: the names are known again.
    assert_eq!(best(above, "/../../x"), at("/sys/fs/cgroup/x"));
    assert_eq!(
        best(above, "/../x"),
        Some((
            Place::Hidden {
                levels: 1,
                rest: "x".into()
            },
            false
        ))
    );
}

#[test]
fn a_known_writable_place_is_preferred() {
    let both = b"\
35 24 0:30 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n\
36 24 0:30 /../.. /host/cgroup rw - cgroup2 cgroup2 rw\n";
    assert_eq!(
        best(both, "/"),
        Some((
            Place::Hidden {
                levels: 2,
                rest: "".into()
            },
            false
        ))
    );
    let rw = b"\
36 24 0:30 / /host/cgroup rw - cgroup2 cgroup2 rw\n\
37 24 0:30 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n";
    assert_eq!(best(rw, "/"), at("/host/cgroup"));
}

#[test]
fn read_only_is_the_mounts_own_flag() {
    let ro = b"35 24 0:30 / /sys/fs/cgroup ro,nosuid,nodev - cgroup2 cgroup rw\n";
    assert_eq!(
        best(ro, "/"),
        Some((Place::At("/sys/fs/cgroup".into()), true))
    );
    let super_ro = b"35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev - cgroup2 cgroup ro\n";
    assert_eq!(best(super_ro, "/"), at("/sys/fs/cgroup"));
}

#[test]
fn v1_only_has_no_place() {
    let v1 = b"31 30 0:26 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n";
    assert_eq!(best(v1, "/"), None);
    assert_eq!(parse_own_path(b"9:name=systemd:/x\n1:cpu:/\n"), None);
    assert_eq!(parse_own_path(b"1:cpu:/y\n0::/a b\n"), Some("/a b".into()));
}

#[test]
fn escapes_and_optional_fields_are_read() {
    let odd =
        b"7 1 0:3 /r\\040oot /mnt/a\\011b\\134c\\012d rw shared:1 master:2 - tmpfs none\\043 rw\n\
junk\n8 1\n";
    let mounts = parse_mountinfo(odd);
    assert_eq!(mounts.len(), 1);
    assert_eq!(mounts[0].root, Path::new("/r oot"));
    assert_eq!(mounts[0].mount_point, Path::new("/mnt/a\tb\\c\nd"));
    assert_eq!(mounts[0].source, "none#");
    assert_eq!(mounts[0].id, 7);
}

#[test]
fn the_path_in_proc_follows_the_base() {
    let base = CgroupBase {
        dir: "/sys/fs/cgroup/unified/a".into(),
        mount_point: "/sys/fs/cgroup/unified".into(),
        own_path: "/a".into(),
        read_only: false,
    };
    let of = |dir: &str| path_in_proc(&base, Path::new(dir));
    assert_eq!(of("/sys/fs/cgroup/unified/a").as_deref(), Some("/a"));
    assert_eq!(
        of("/sys/fs/cgroup/unified/a/n/1").as_deref(),
        Some("/a/n/1")
    );
    assert_eq!(of("/sys/fs/cgroup/unified/b"), None);
    let Some((Place::At(dir), _)) = best(PURE, "/") else {
        panic!("no place")
    };
    assert_eq!(dir.as_os_str(), "/sys/fs/cgroup", "no slash at the end");
}

#[test]
fn a_base_above_is_named_in_both_ways() {
    let base = CgroupBase {
        dir: "/sys/fs/cgroup/pod/a/b".into(),
        mount_point: "/sys/fs/cgroup".into(),
        own_path: "/kube/pod/a/b".into(),
        read_only: false,
    };
    let above = base.above(Path::new("/sys/fs/cgroup/pod")).unwrap();
    assert_eq!(above.own_path, Path::new("/kube/pod"));
    assert_eq!(
        path_in_proc(&above, Path::new("/sys/fs/cgroup/pod/c")).as_deref(),
        Some("/kube/pod/c")
    );
    assert_eq!(base.above(Path::new("/sys/fs/cgroup/po")), None);
}
