//! Whom a service runs as, and with what: user, group, limits, priorities, environment.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::look::{self, until};
use crate::world::World;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nmine:x:4711:4712:me:/home/mine:/bin/zsh\n";
const GROUP: &str = "root:x:0:\nmine:x:4712:\nadm:x:4:mine\nssl:x:110:other,mine\nextra:x:4800:\n";

/// Says everything that a service's file can ask for, a line each, into `said` of the open
/// directory, and stays.
const SAYS: &str = r#"#!/bin/sh
exec 3> "$OUT.part"
field() { sed -n "s/^$1:[[:space:]]*//p" /proc/self/status | tr '\t' ' ' | tr -s ' ' >&3; }
for name in Uid Gid Groups; do field "$name"; done
echo "$HOME,$USER,$LOGNAME,$SHELL,$MAIL" >&3
echo "$(umask),$(nice),$(cat /proc/self/oom_score_adj)" >&3
echo "$(ulimit -Sn),$(ulimit -Hn),$(ulimit -c),$(ulimit -St)" >&3
echo "to stderr" > /dev/stderr && echo "opened" >&3
pwd >&3
exec 3>&-
mv "$OUT.part" "$OUT"
exec sleep 1000
"#;

/// A world whose supervisor sees these users and groups.
fn with_users() -> World {
    let mut world = World::new();
    for (path, text) in [("passwd", PASSWD), ("group", GROUP)] {
        let file = world.dir.join(path);
        fs::write(&file, text).unwrap();
        world
            .launch
            .push(format!("cover=/etc/{path}>{}", file.display()));
    }
    world
}

fn says(world: &mut World, name: &str, more: &str) {
    let program = world.program("says", SAYS);
    let out = world.open_dir().join(name);
    let text = format!(
        "exec: {}\nenv: {{OUT: {}}}\n{more}\n",
        program.display(),
        out.display()
    );
    world.service(name, &text);
}

fn said(world: &World, name: &str) -> Vec<String> {
    let path = world.open_dir().join(name);
    until(&format!("{name} speaks\n{}", world.log()), || {
        let text = fs::read_to_string(&path).ok()?;
        Some(text.lines().map(|line| line.trim().to_owned()).collect())
    })
}

#[test]
fn a_service_runs_as_whom_its_file_says_and_with_what() {
    let mut world = with_users();
    says(
        &mut world,
        "web",
        "user: mine\numask: 027\nnice: 5\noom_score_adj: 300\n\
         limits: {nofile: '256:512', core: 0, cpu: 1h}\ndir: /tmp",
    );
    says(&mut world, "number", "user: 4711\ngroup: extra");
    says(&mut world, "nobody", "user: 65000\ngroup: 65001\n");
    says(&mut world, "group", "group: ssl");
    says(&mut world, "plain", "");
    world.init();
    let web = said(&world, "web");
    assert_eq!(web[0], "4711 4711 4711 4711");
    assert_eq!(web[1], "4712 4712 4712 4712");
    assert_eq!(web[2], "4 110 4712");
    assert_eq!(web[3], "/home/mine,mine,mine,/bin/zsh,");
    assert_eq!(web[4], "0027,5,300");
    assert_eq!(web[5], "256,512,0,3600");
    assert_eq!(web[6], "opened", "/dev/stderr can be opened: {web:?}");
    assert_eq!(web[7], "/tmp");
    let number = said(&world, "number");
    assert_eq!(
        number[..3],
        ["4711 4711 4711 4711", "4800 4800 4800 4800", "4 110 4800"]
    );
    assert_eq!(number[3], "/home/mine,mine,mine,/bin/zsh,");
    let nobody = said(&world, "nobody");
    assert_eq!(
        nobody[..2],
        ["65000 65000 65000 65000", "65001 65001 65001 65001"]
    );
    assert_eq!(nobody[3], "/,,,,", "it is not told that it is root");
    let group = said(&world, "group");
    assert_eq!(group[..2], ["0 0 0 0", "110 110 110 110"]);
    let plain = said(&world, "plain");
    assert_eq!(plain[0], "0 0 0 0");
    for name in ["web", "number", "nobody", "group", "plain"] {
        world.stop_verified(name);
    }
    world.end();
}

#[test]
fn its_test_and_its_stop_command_run_as_the_same_user() {
    let mut world = with_users();
    let out = world.open_dir();
    let note = |what: &str| format!("[sh, -c, 'id -u > {}/{what}; id -u']", out.display());
    let text = format!(
        "exec: sleep 1000\nuser: mine\ntest: {}\nstop: {}\nshutdown_timeout: 2s\n",
        note("test"),
        note("stop"),
    );
    world.service("web", &text).init();
    world.reach("web", "up");
    world.stop_verified("web");
    for what in ["test", "stop"] {
        let uid = fs::read_to_string(out.join(what)).unwrap();
        assert_eq!(uid.trim(), "4711", "{what}");
    }
    world.end();
}

/// As in a pod that runs as a user of its own, or a supervisor of somebody's own.
#[test]
fn an_ordinary_user_may_name_itself_and_nobody_else() {
    let mut world = with_users();
    world.launch.push("user=4800".into());
    let user = Some(4800);
    std::os::unix::fs::chown(&world.dir, user, user).unwrap();
    says(&mut world, "number", "user: 4800\ngroup: 4800");
    says(&mut world, "group", "group: 4800");
    says(
        &mut world,
        "other",
        "user: 4800\ngroup: 110\nrestart: never",
    );
    says(&mut world, "root", "user: root\nrestart: never");
    // Somebody else, by name.
    says(&mut world, "name", "user: mine\nrestart: never");
    world.init();
    for name in ["number", "group"] {
        let said = said(&world, name);
        assert_eq!(
            said[..2],
            ["4800 4800 4800 4800", "4800 4800 4800 4800"],
            "{name}"
        );
        assert_eq!(said[6], "opened", "/dev/stderr can be opened: {said:?}");
        world.stop(name);
    }
    for name in ["other", "root", "name"] {
        let detail = world.reach(name, "failed")["detail"].to_string();
        assert!(detail.contains("not permitted"), "{name}: {detail}");
    }
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    world.end();
}

/// The start fails with these words, and a neighbour is not concerned.
fn fails_with(more: &str, words: &[&str]) {
    let mut world = with_users();
    world.fixture("neighbour", "stay", "");
    let text = format!("exec: sleep 1000\nrestart: never\n{more}\n");
    world.service("broken", &text).init();
    let detail = world.reach("broken", "failed")["detail"].clone();
    for word in words {
        assert!(
            detail.as_str().unwrap().contains(word),
            "{detail} should say {word:?}"
        );
        world.log_with(word);
    }
    world.reach("neighbour", "up");
    assert!(world.generations("broken").is_empty());
    world.end();
}

#[test]
fn a_user_that_does_not_exist_is_named() {
    fails_with("user: nemo", &["user nemo", "no such user in /etc/passwd"]);
}

#[test]
fn a_group_that_does_not_exist_is_named() {
    fails_with(
        "user: mine\ngroup: nautilus",
        &["group nautilus", "no such group in /etc/group"],
    );
}

#[test]
fn a_number_without_a_group_is_not_given_the_supervisors() {
    fails_with("user: 65000", &["user 65000", "give `group`, too"]);
}

#[test]
fn a_limit_that_cannot_be_says_so() {
    fails_with(
        "limits: {nofile: unlimited}",
        &["set its limits", "not permitted"],
    );
}

#[test]
fn an_environment_file_that_is_missing_fails_the_start() {
    fails_with(
        "env_file: /no/such/file",
        &["/no/such/file", "No such file or directory"],
    );
}

#[test]
fn what_is_no_environment_file_fails_the_start_with_its_line() {
    let path = std::env::temp_dir().join(format!("nought-env-{}", std::process::id()));
    fs::write(&path, "A=1\nnonsense\n").unwrap();
    fails_with(
        &format!("env_file: {}", path.display()),
        &[&format!("{}:2", path.display()), "no `=`"],
    );
    fs::remove_file(path).unwrap();
    fails_with("env_file: /tmp", &["/tmp", "not a file"]);
    fails_with("env_file: /dev/null", &["/dev/null", "not a file"]);
}

#[test]
fn environment_files_come_between_what_is_inherited_and_env() {
    let mut world = with_users();
    let write = |world: &World, name: &str, text: &str| {
        let path = world.dir.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let first = write(
        &world,
        "first",
        "# first\nA=1\nB=1\nC=1\nHOME=/elsewhere\nPATH=/bin:/usr/bin\n",
    );
    let second = write(&world, "second", "export B='2 2'\nC=2\n");
    let out = world.open_dir().join("out");
    let text = format!(
        "exec: [sh, -c, 'echo \"$A,$B,$C,$HOME,$USER\" > $OUT.part; mv $OUT.part $OUT; exec sleep 1000']\n\
         user: mine\nenv_file: ['{first}', '-/no/such/file', '{second}']\n\
         env: {{C: 3, OUT: '{}'}}\n",
        out.display()
    );
    world.service("web", &text).init();
    let said = until("web speaks", || fs::read_to_string(&out).ok());
    assert_eq!(said.trim(), "1,2 2,3,/elsewhere,mine");
    // Read at each start.
    fs::remove_file(&out).unwrap();
    fs::write(&second, "B=new\n").unwrap();
    world
        .call("nought_restart", json!({"name": "web"}))
        .unwrap();
    let said = until("web speaks", || fs::read_to_string(&out).ok());
    assert_eq!(said.trim(), "1,new,3,/elsewhere,mine");
    world.end();
}

/// A file system that answers nothing holds up the service whose file is there, and nobody else.
#[test]
fn an_environment_file_that_hangs_holds_nobody_up() {
    let mut world = World::new();
    let dead = world.dir.join("dead");
    fs::create_dir(&dead).unwrap();
    let server = world.tool("server", &["file-system", dead.to_str().unwrap(), "deaf"]);
    world.number("server", "serving");
    world.launch.push(format!("mounts-of={server}"));
    let lines = format!(
        "env_file: {}\nrestart: {{delay: 1ms, max_delay: 1ms}}",
        dead.join("env").display()
    );
    // More than starts are under way at a time.
    for n in 0..8 {
        world.fixture(&format!("hung{n}"), "stay", &lines);
    }
    world.fixture("neighbour", "stay", "");
    world.init();
    let began = look::boot_ns();
    world.reach("neighbour", "up");
    world.stop_verified("neighbour");
    world.start("neighbour").unwrap();
    let took = look::boot_ns() - began;
    assert!(took < 2_500_000_000, "{took} ns");
    world.reach("hung0", "starting");
    world.log_with("no answer within 3 s");
    world.log_with("an earlier attempt to read it still hangs");
    // Threads that hang do not grow in number with the attempts.
    let threads = || {
        fs::read_dir(
            Path::new("/proc")
                .join(world.supervisor().to_string())
                .join("task"),
        )
        .unwrap()
        .count()
    };
    assert!(threads() < 40, "{}", threads());
    world.stop_verified("neighbour");
    world.end();
}

#[test]
fn a_script_without_an_interpreter_is_run_by_the_shell_as_execvp_does() {
    let mut world = World::new();
    let out = world.open_dir().join("out");
    let script = format!(
        "echo \"$0 $1\" > {0}.part\nmv {0}.part {0}\nexec sleep 1000\n",
        out.display()
    );
    let program = world.program("script", &script);
    world
        .service("web", &format!("exec: {} 'a b'\n", program.display()))
        .init();
    let said = until("the script speaks", || fs::read_to_string(&out).ok());
    assert_eq!(said.trim(), format!("{} a b", program.display()));
    world.stop_verified("web");
    world.end();
}
