//! Service files: what they mean, every problem they can have, and that nothing in them panics.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may be blunt, in what they share too"
)]

mod content;
mod directory;
mod fuzz;
mod keys;
mod operate;
mod problems;
mod sockets;
mod zinit;

use std::fmt::Write as _;
use std::path::Path;

use nought::config::{self, load_dir, parse};
use nought::core::Spec;

pub(crate) const FULL: &str = r#"
exec: sh -c 'exec "$0" --serve' /bin/web
test: {exec: [curl, -f, "http://localhost/"], interval: 100ms, timeout: 3, retries: 5}
oneshot: false
after: [net, "log-dir"]
requires:
  - db
stop: [webctl, quit]
signal: {stop: sigint, to: all}
shutdown_timeout: 30
exit_grace: 500ms
kill_timeout: 1.5s
start_timeout: 2m
restart: {policy: on-failure, delay: 1s, max_delay: 1m, stable_after: 5s, burst: 3, window: 10m}
log: stdout
env: {PORT: 8080, EMPTY: , NAME: "a b", "x-y": ~}
env_file: [/etc/default/web, -/etc/default/local]
dir: /srv
remain: true
survivors: {keep: [web-worker, 'shell*']}
min_guarantee: cgroup-signal marked
on_end: ignore
on_failure: stop_all
essential: false
user: web
group: 33
umask: 027
limits: {nofile: 1024:65536, core: 0, as: 2G, cpu: 10m, rttime: 1ms, memlock: unlimited, nproc: {soft: 5, hard: 9}}
nice: -5
oom_score_adj: 500
resources: {memory_max: 512M, memory_high: 1.5G, memory_swap_max: 0, oom_group: true, cpu_max: 150%, cpu_weight: 200,
  pids_max: 500, io_weight: 50, io_max: {"8:0": {rbps: 10M, wiops: 100}, /dev/sdb: {wbps: 1K, riops: 5}}, cpuset: "0-3,8",
  delegate: true, optional: true}
x-owner: {anything: [goes, here]}
"#;

pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_string()).collect()
}

pub(crate) fn good(text: &str) -> Spec {
    parse("web", text, Path::new("web.yaml")).unwrap_or_else(|problems| {
        panic!("{text}\n{}", rendered(&problems));
    })
}

pub(crate) fn rendered(problems: &[config::Problem]) -> String {
    problems.iter().fold(String::new(), |mut out, problem| {
        writeln!(out, "{problem}").unwrap();
        out
    })
}

pub(crate) fn bad(text: &str) -> String {
    match parse("web", text, Path::new("web.yaml")) {
        Ok(spec) => panic!("{text}\nis {spec:?}"),
        Err(problems) => rendered(&problems),
    }
}

/// A directory that goes away with the test.
pub(crate) struct Dir(pub(crate) std::path::PathBuf);

impl Dir {
    pub(crate) fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("nought-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    /// What loading it gives: names, and problems without the directory's path.
    pub(crate) fn load(&self) -> (Vec<String>, String) {
        let loaded = load_dir(&self.0);
        let names = loaded.services.iter().map(|(spec, _)| spec.name.clone());
        let problems = rendered(&loaded.problems);
        let dir = format!("{}/", self.0.display());
        (names.collect(), problems.replace(&dir, ""))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// xorshift64*: enough to mutate text with.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap() % n.max(1)
    }
}
