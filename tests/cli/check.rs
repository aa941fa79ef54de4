//! Commands that need no supervisor: check.

use serde_json::Value;

use crate::fake::{check, directory, output, program};

/// Files that have every problem there is, and files that have none. After a change, look at
/// what `cargo run -- check -c tests/cli/check/bad` says and put it into bad.out.
#[test]
fn a_table_of_good_and_bad_files() {
    let run = |what: &str| {
        let mut command = program();
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/check/");
        command.current_dir(dir).args(["check", "-c", what]);
        output(command, std::path::Path::new("SOCKET"))
    };
    check(
        &run("good"),
        0,
        "good: 6 services, 0 errors, 0 warnings\n",
        "",
    );
    check(&run("bad"), 1, include_str!("check/bad.out"), "");
}

/// The order of stops keeps nobody from running: what has no effect in it is a warning.
#[test]
fn a_stop_order_of_its_own_is_held_against_the_others() {
    let dir = directory();
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    write("db.yaml", "exec: /bin/db\n");
    write(
        "web.yaml",
        "exec: /bin/web\nrequires: [db]\nstop_after: [db, dbb]\n",
    );
    // Turned round, which is what it is for.
    write("php.yaml", "exec: /bin/php\n");
    write(
        "nginx.yaml",
        "exec: /bin/nginx\nafter: [php]\nstop_after: [php]\n",
    );
    // Three in a circle, each of which would be fine with one of the others.
    write("b.yaml", "exec: /bin/b\nafter: [c]\n");
    write("c.yaml", "exec: /bin/c\n");
    write("a.yaml", "exec: /bin/a\nafter: [b]\nstop_after: [c]\n");
    let mut command = program();
    command.args(["check", "-c"]).arg(&dir);
    check(
        &output(command, &dir),
        0,
        "\
SOCKET/a.yaml:3:14: warning: a cycle in the order of stops: a → c → b → a: the `stop_after` of `a` has no effect
    stop_after: [c]
                 ^
    hint: whoever comes after another stops before it: take this name out, or turn the other order round
SOCKET/web.yaml:3:14: warning: a cycle in the order of stops: web → db → web: the `stop_after` of `web` has no effect
    stop_after: [db, dbb]
                 ^^
    hint: whoever comes after another stops before it: take this name out, or turn the other order round
SOCKET/web.yaml:3:18: warning: there is no service `dbb`: the stop of `web` waits for nobody
    stop_after: [db, dbb]
                     ^^^
    hint: add dbb.yaml, or take the name out
SOCKET: 7 services, 0 errors, 3 warnings
",
        "",
    );
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn check_lists_every_problem_of_every_file() {
    let dir = directory();
    std::fs::write(dir.join("a.yaml"), "exec: /bin/a\nafter: [c]\n").unwrap();
    std::fs::write(dir.join("b.yaml"), "exce: /bin/b\n").unwrap();
    let path = dir.display().to_string();
    let run = |json: bool| {
        let mut command = program();
        command.args(["check", "-c"]).arg(&dir);
        if json {
            command.arg("--json");
        }
        output(command, &dir)
    };
    check(
        &run(false),
        1,
        "\
SOCKET/a.yaml:2:9: warning: there is no service `c`: `a` will wait for it
    after: [c]
            ^
    hint: add c.yaml, or take the name out
SOCKET/b.yaml:1:1: error: unknown key `exce`
    exce: /bin/b
    ^^^^
    hint: did you mean `exec`?
SOCKET/b.yaml:1:1: error: `exec` is missing
    exce: /bin/b
    ^
    hint: add `exec: COMMAND`, the command to run
SOCKET: 1 service, 2 errors, 1 warning
",
        "",
    );
    let json = run(true);
    let lines: Vec<Value> = json
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[1]["line"], &lines[1]["severity"], &lines[1]["hint"]),
        (
            &Value::from(1),
            &Value::from("error"),
            &Value::from("did you mean `exec`?")
        )
    );
    std::fs::write(dir.join("b.yaml"), "exec: /bin/b\n").unwrap();
    std::fs::remove_file(dir.join("a.yaml")).unwrap();
    check(
        &run(false),
        0,
        "SOCKET: 1 service, 0 errors, 0 warnings\n",
        "",
    );
    std::fs::remove_dir_all(&dir).unwrap();
    let said = run(false);
    assert_eq!(said.code, 1, "{path}");
    assert!(
        said.stdout
            .starts_with("SOCKET: error: cannot read the directory"),
        "{}",
        said.stdout
    );
}
