//! Programs nobody here wrote, as services: loaded, stopped, verified.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::table::row;
use crate::look::{self, until};
use crate::world::World;

/// The directory of the service's cgroup.
fn main_of(world: &World) -> PathBuf {
    world.generations("web")[0].join("main")
}

/// Stops it when more than `processes` of it run, and holds that all are gone.
fn stops_with(world: &World, processes: usize) -> Value {
    world.reach("web", "up");
    until("it is loaded", || {
        (look::members(&main_of(world)).len() > processes).then_some(())
    });
    world.stop_verified("web")
}

fn script(world: &World, text: &str) -> PathBuf {
    let path = world.dir.join("script");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn stressor(words: &str) -> (World, Value) {
    let mut world = World::alone();
    let temporary = world.dir.join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    std::os::unix::fs::chown(&temporary, Some(64_906), Some(64_906)).unwrap();
    let user = "setpriv --reuid 64906 --regid 64906 --clear-groups";
    let text = format!(
        "exec: nice {user} stress-ng --quiet --temp-path {} {words}\nshutdown_timeout: 500ms\nlog: none\n",
        temporary.display()
    );
    world.service("web", &text).init();
    let receipt = stops_with(&world, 2);
    (world, receipt)
}

const STRESSED: &str = "asked, or killed after its grace";

macro_rules! stressors {
    ($($name:ident: $words:expr, $case:expr;)*) => {$(
        #[test]
        fn $name() {
            let (world, receipt) = stressor($words);
            row!(Program, $case).receipt_that(&receipt, STRESSED);
            world.end();
        }
    )*};
}

stressors! {
    stress_ng_fork: "--fork 2 --fork-max 16", "stress-ng --fork";
    stress_ng_vfork: "--vfork 2 --vfork-max 16", "stress-ng --vfork";
    stress_ng_clone: "--clone 2 --clone-max 32", "stress-ng --clone";
    stress_ng_daemon: "--daemon 2", "stress-ng --daemon";
    stress_ng_zombie: "--zombie 2 --zombie-max 64", "stress-ng --zombie";
    stress_ng_session: "--session 2", "stress-ng --session";
    stress_ng_spawn: "--spawn 2", "stress-ng --spawn";
    stress_ng_ptrace: "--ptrace 2", "stress-ng --ptrace";
}

#[test]
fn nginx() {
    let mut world = World::new();
    let (dir, port) = (world.dir.display().to_string(), look::free_port());
    let configuration = world.dir.join("nginx.conf");
    let text = format!(
        "pid {dir}/nginx.pid;\nerror_log {dir}/nginx.log;\nworker_processes 4;\nevents {{}}\n\
         http {{ access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;\n\
         fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ return 200 well; }} }} }}\n"
    );
    std::fs::write(&configuration, text).unwrap();
    let exec = format!("nginx -c {} -g 'daemon off;'", configuration.display());
    world
        .service("web", &format!("exec: {exec}\nsignal: {{stop: sigquit}}\n"))
        .init();
    let ask = |port| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.ends_with("well").then_some(())
    };
    until("it answers", || ask(port));
    for _ in 0..100 {
        ask(port).unwrap();
    }
    // One that is open keeps a worker from going at once, for as long as its timeout.
    let receipt = stops_with(&world, 4);
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "somebody listens"
    );
    row!(Program, "nginx with four workers, SIGQUIT").receipt(&receipt);
    world.end();
}

fn postgres_programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let version = versions.flatten().map(|entry| entry.path()).max().unwrap();
    version.join("bin")
}

#[test]
fn postgresql() {
    let mut world = World::new();
    let programs = postgres_programs();
    let data = world.dir.join("data");
    std::fs::create_dir(&data).unwrap();
    let as_postgres = [
        "--reuid",
        "postgres",
        "--regid",
        "postgres",
        "--clear-groups",
    ];
    let chowned = Command::new("chown")
        .arg("postgres:postgres")
        .arg(&data)
        .status();
    assert!(chowned.unwrap().success());
    let mut make = Command::new("setpriv");
    make.args(as_postgres).arg(programs.join("initdb"));
    make.args(["--no-sync", "-A", "trust", "-D"])
        .arg(data.join("db"));
    let made = make.current_dir(&data).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let exec = format!(
        "setpriv {} {}/postgres -D {}/db -k {} -c listen_addresses= -c fsync=off",
        as_postgres.join(" "),
        programs.display(),
        data.display(),
        data.display(),
    );
    world
        .service("web", &format!("exec: {exec}\nsignal: {{stop: sigint}}\n"))
        .init();
    let client = |program: &str, args: &[&str]| {
        let mut client = Command::new("setpriv");
        client
            .args(as_postgres)
            .arg(programs.join(program))
            .arg("-h")
            .arg(&data)
            .args(args);
        client
            .current_dir(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        client
    };
    until("it takes connections", || {
        client("psql", &["-c", "select 1", "postgres"])
            .status()
            .unwrap()
            .success()
            .then_some(())
    });
    assert!(
        client("pgbench", &["-i", "-q", "postgres"])
            .status()
            .unwrap()
            .success()
    );
    let mut load = client("pgbench", &["-c", "4", "-T", "60", "postgres"])
        .spawn()
        .unwrap();
    until("four clients are served", || {
        (look::members(&main_of(&world)).len() >= 10).then_some(())
    });
    let receipt = stops_with(&world, 5);
    let _ = load.kill();
    load.wait().unwrap();
    // What it wrote of itself: a clean stop needs no recovery.
    let mut control = Command::new("setpriv");
    control
        .args(as_postgres)
        .arg(programs.join("pg_controldata"))
        .arg(data.join("db"));
    let control = control
        .current_dir(&data)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let control = String::from_utf8_lossy(&control.stdout).into_owned();
    assert!(control.contains("shut down\n"), "{control}");
    row!(
        Program,
        "PostgreSQL with four clients at work, SIGINT; its files need no recovery"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn tmux() {
    let mut world = World::new();
    let socket = world.dir.join("tmux");
    let text = format!(
        "tmux -S {0} -f /dev/null new-session -d 'sleep 100000'\n\
         tmux -S {0} new-window -d 'setsid sleep 100000'\nexec sleep 100000",
        socket.display()
    );
    let script = script(&world, &text);
    world
        .service(
            "web",
            &format!("exec: {}\nshutdown_timeout: 1s\n", script.display()),
        )
        .init();
    let receipt = stops_with(&world, 3);
    row!(
        Program,
        "tmux: a server that became a daemon, with two windows"
    )
    .receipt_that(&receipt, STRESSED);
    world.end();
}

fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// A world with sshd as a service and a session of a client's in it.
fn with_session(more: &str) -> (World, Child) {
    let mut world = World::new();
    let (dir, port) = (world.dir.display().to_string(), look::free_port());
    let _ = std::fs::create_dir("/run/sshd");
    for key in ["host", "client"] {
        run(
            "ssh-keygen",
            &[
                "-q",
                "-t",
                "ed25519",
                "-N",
                "",
                "-f",
                &format!("{dir}/{key}"),
            ],
        );
    }
    let configuration = world.dir.join("sshd.conf");
    let text = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {dir}/host\nPidFile none\nUsePAM no\n\
         StrictModes no\nPermitRootLogin yes\nAuthorizedKeysFile {dir}/client.pub\n"
    );
    std::fs::write(&configuration, text).unwrap();
    let exec = format!("/usr/sbin/sshd -D -e -f {}", configuration.display());
    world
        .service(
            "web",
            &format!("exec: {exec}\nshutdown_timeout: 1s\n{more}\n"),
        )
        .init();
    until("it listens", || {
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
    let session = Command::new("ssh")
        .args([
            "-tt",
            "-i",
            &format!("{dir}/client"),
            "-p",
            &port.to_string(),
        ])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args(["-o", "LogLevel=ERROR", "root@127.0.0.1", "sleep 100000"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("the session runs", || sleeper(&world));
    (world, session)
}

/// What the session runs; its shell's own start files may run a sleep, too.
fn sleeper(world: &World) -> Option<u32> {
    let argv = |pid: u32| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut members = look::members(&world.nought_tree()).into_iter();
    let wanted = ["sleep", "100000", ""].join("\0");
    members.find(|pid| argv(*pid) == wanted.as_bytes())
}

#[test]
fn sshd_with_a_session() {
    let (world, mut session) = with_session("");
    let receipt = stops_with(&world, 2);
    until("the client is told", || session.try_wait().unwrap());
    row!(Program, "sshd with a live session").receipt_that(&receipt, STRESSED);
    world.end();
}

#[test]
fn sshd_whose_sessions_are_kept() {
    let (world, mut session) = with_session("survivors: {keep: [sshd]}");
    let kept = sleeper(&world).unwrap();
    let first = world.status("web")["pid"].clone();
    world
        .call("nought_restart", json!({"name": "web"}))
        .unwrap();
    assert_ne!(world.reach("web", "up")["pid"], first);
    let receipt = world.receipt("web");
    assert_eq!(receipt["verdict"], "verified", "{receipt:#}");
    assert!(
        crate::receipt::pids(&receipt, "kept").contains(&kept),
        "{receipt:#}"
    );
    assert!(
        look::alive(kept).is_some(),
        "the session was ended: {receipt:#}"
    );
    assert!(session.try_wait().unwrap().is_none());
    row!(Program, "sshd restarted with `survivors: {keep: [sshd]}`: its session lives on, and ends with the supervisor")
        .receipt_that(&receipt, STRESSED);
    world.end();
    assert!(look::alive(kept).is_none());
    session.wait().unwrap();
}

#[test]
fn cron_with_a_running_job() {
    let mut world = World::new();
    let job = world.dir.join("job");
    std::fs::write(&job, "@reboot root setsid sleep 100000\n").unwrap();
    std::fs::set_permissions(&job, PermissionsExt::from_mode(0o644)).unwrap();
    // Its own tables and nobody else's.
    let text = format!(
        "mount --make-rprivate /\nfor at in /run /etc/cron.d /var/spool/cron; do mount -t tmpfs none $at; done\n\
         mkdir /var/spool/cron/crontabs\nmount --bind /dev/null /etc/crontab\n\
         cp {} /etc/cron.d/job\nexec cron -f",
        job.display()
    );
    let script = script(&world, &text);
    let exec = format!("unshare --mount {}", script.display());
    world
        .service("web", &format!("exec: {exec}\nshutdown_timeout: 1s\n"))
        .init();
    until("the job runs", || {
        let comm =
            |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let members = look::members(world.generations("web").first()?);
        members
            .into_iter()
            .any(|pid| comm(pid) == "sleep\n")
            .then_some(())
    });
    let receipt = stops_with(&world, 1);
    row!(Program, "cron with a running job, in a session of its own")
        .receipt_that(&receipt, STRESSED);
    world.end();
}

fn container(flags: &str) -> (World, Value) {
    let mut world = World::new();
    let inside = script(
        &world,
        "setsid sleep 100000 &\n(sleep 100000 &)\ntrap '' TERM\nwait",
    );
    let exec = format!(
        "unshare --pid --fork --mount-proc {flags} {}",
        inside.display()
    );
    world
        .service("web", &format!("exec: {exec}\nshutdown_timeout: 200ms\n"))
        .init();
    let receipt = stops_with(&world, 3);
    (world, receipt)
}

#[test]
fn a_container_made_by_unshare() {
    let (world, receipt) = container("--ipc --uts --net --cgroup");
    row!(
        Program,
        "unshare: a container whose process 1 ignores the signal"
    )
    .receipt_that(&receipt, STRESSED);
    world.end();
}

#[test]
fn a_container_that_its_engine_moved_elsewhere() {
    let mut world = World::new();
    let outside = world.foreign_cgroup();
    let inside = script(
        &world,
        "setsid sleep 100000 &\n(sleep 100000 &)\ntrap '' TERM\nwait",
    );
    let engine = world.dir.join("engine");
    let text = format!(
        "#!/bin/sh\n(echo 0 >{}/cgroup.procs; exec unshare --pid --fork --mount-proc --cgroup {}) &\n\
         exec sleep 100000\n",
        outside.display(),
        inside.display()
    );
    std::fs::write(&engine, text).unwrap();
    std::fs::set_permissions(&engine, PermissionsExt::from_mode(0o755)).unwrap();
    world
        .service(
            "web",
            &format!("exec: {}\nshutdown_timeout: 10s\n", engine.display()),
        )
        .init();
    until("the container runs", || {
        (look::members(&outside).len() >= 4).then_some(())
    });
    let receipt = world.stop_verified("web");
    assert!(look::members(&outside).is_empty());
    row!(
        Program,
        "unshare: a container in a cgroup outside, as engines have theirs"
    )
    .receipt(&receipt);
    world.end();
}
