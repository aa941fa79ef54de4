//! All files of a directory together.

use std::path::Path;

use nought::config::load_dir;

use crate::{Dir, rendered};

#[test]
fn one_bad_file_never_stops_the_others() {
    let dir = Dir::new("bad");
    dir.file("a.yaml", "exec: /bin/a\nafter: [broken, gone, zeds]\n");
    dir.file("broken.yaml", "exce: /bin/b\n");
    dir.file("latin.yaml", b"exec: a\ndir: /caf\xe9\n");
    dir.file("old.yml", "exec: /bin/old\n");
    dir.file("LOUD.YAML", "exec: /bin/loud\n");
    dir.file(".hidden.yaml", "not: read");
    dir.file("README", "not a service");
    dir.file("shell.yaml", "exec: a | b\ndir: here\nafter: [zed]\n");
    dir.file("two.dots.yaml", "exec: a\n");
    dir.file("zed.yaml", "exec: z\noneshot: true\nrestart: always\n");
    std::fs::create_dir(dir.0.join("folder.yaml")).unwrap();
    let (names, problems) = dir.load();
    assert_eq!(names, ["a", "shell", "zed"]);
    assert_eq!(
        problems,
        "\
LOUD.YAML: warning: this file is ignored: service files end in `.yaml`
    hint: rename it to LOUD.yaml, or move it away
a.yaml:2:9: warning: the file of `broken` has errors: `a` will wait until they are mended
    after: [broken, gone, zeds]
            ^^^^^^
    hint: see what is said of broken.yaml
a.yaml:2:17: warning: there is no service `gone`: `a` will wait for it
    after: [broken, gone, zeds]
                    ^^^^
    hint: add gone.yaml, or take the name out
a.yaml:2:23: warning: there is no service `zeds`: `a` will wait for it
    after: [broken, gone, zeds]
                          ^^^^
    hint: did you mean `zed`?
broken.yaml:1:1: error: unknown key `exce`
    exce: /bin/b
    ^^^^
    hint: did you mean `exec`?
broken.yaml:1:1: error: `exec` is missing
    exce: /bin/b
    ^
    hint: add `exec: COMMAND`, the command to run
folder.yaml: error: this is not a file
    hint: move it away, or rename it
latin.yaml:2:10: error: this is not UTF-8
    dir: /caf\u{fffd}
             ^
    hint: save the file as UTF-8
old.yml: warning: this file is ignored: service files end in `.yaml`
    hint: rename it to old.yaml, or move it away
shell.yaml:1:7: warning: no shell runs `exec`: the command gets `|` as an argument
    exec: a | b
          ^^^^^
    hint: for a shell write a list: [sh, -c, '…']
shell.yaml:2:6: warning: `dir` is relative to wherever the supervisor was started
    dir: here
         ^^^^
    hint: give the whole path, from `/`
two.dots.yaml: error: a service's name cannot contain '.'
    hint: a service is called what its file is called, without `.yaml`: rename the file
zed.yaml:3:10: warning: `restart` has no effect on a oneshot
    restart: always
             ^^^^^^
    hint: leave it out: a oneshot runs once for each start
"
    );
}

#[test]
fn a_cycle_is_named_on_each_of_its_members() {
    let dir = Dir::new("cycle");
    dir.file("a.yaml", "exec: a\nafter: [out, b]\n");
    dir.file("b.yaml", "exec: b\nrequires: [c]\n");
    dir.file("c.yaml", "exec: c\nafter: [a, b]\n");
    dir.file("out.yaml", "exec: o\n");
    dir.file("self.yaml", "exec: s\nafter: [self]\n");
    dir.file("into.yaml", "exec: i\nafter: [a]\n");
    let (names, problems) = dir.load();
    assert_eq!(names, ["a", "b", "c", "into", "out", "self"]);
    let heads: Vec<&str> = problems
        .lines()
        .filter(|line| line.contains("error"))
        .collect();
    assert_eq!(
        heads,
        [
            "a.yaml:2:14: error: a dependency cycle: a → b → c → a",
            "b.yaml:2:12: error: a dependency cycle: b → c → b",
            "c.yaml:2:9: error: a dependency cycle: c → a → b → c",
            "self.yaml:2:9: error: a dependency cycle: self → self",
        ]
    );
}

#[test]
fn a_long_chain_and_a_large_cycle_load() {
    let dir = Dir::new("chain");
    for n in 0..600 {
        let after = if n == 0 { 599 } else { n - 1 };
        dir.file(
            &format!("s{n}.yaml"),
            format!("exec: a\nafter: [s{after}]\n"),
        );
    }
    let loaded = load_dir(&dir.0);
    assert_eq!(loaded.services.len(), 600);
    assert_eq!(loaded.problems.len(), 600);
}

#[test]
fn a_directory_that_is_not_there_is_a_problem() {
    let loaded = load_dir(Path::new("/nonexistent/nought"));
    assert!(loaded.has_errors());
    let said = rendered(&loaded.problems);
    assert!(
        said.starts_with("/nonexistent/nought: error: cannot read the directory"),
        "{said}"
    );
}
