//! Every place that offers something else, each with the same tests: what is found there is said
//! everywhere, services of all habits are stopped with the best verdict that it allows, what a
//! killed supervisor left is ended, and what cannot be ended is named. `pid-namespace`, which a
//! service asks for, has tests of its own (pid_namespace.rs).

use serde_json::{Value, json};

use crate::catalogue::place::delegated;
use crate::look::{self, until};
use crate::receipt::{assert_verified, rungs};
use crate::world::World;

/// A place, and what can be promised there.
struct Place {
    launch: fn() -> Vec<String>,
    guarantee: &'static str,
    verdict: &'static str,
}

/// Orphans that left their process group, go to process 1 and bear no mark are nobody's to be
/// found: that is why no stop is verified there.
fn end_lost_orphans(world: &World) {
    let supervisor = world.supervisor();
    for id in world.everyone() {
        if id.pid != supervisor {
            assert_ne!(look::parent(id.pid), Some(supervisor), "it is no orphan");
            look::signal(id.pid, libc::SIGKILL);
            until("it ends", || (!look::is_alive(id)).then_some(()));
        }
    }
}

fn mount() -> String {
    look::cgroup_mount().display().to_string()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

impl Place {
    fn world(&self) -> World {
        let mut world = World::new();
        world.launch = (self.launch)();
        if world.launch.contains(&"user=64905".to_owned()) {
            delegated(&world);
        }
        world
    }

    fn holds(&self, receipt: &Value) {
        let said = &receipt["guarantee"];
        let said = format!(
            "{} {}",
            said["containment"].as_str().unwrap(),
            said["scan"].as_str().unwrap()
        );
        assert_eq!(said, self.guarantee, "{receipt:#}");
        assert_eq!(receipt["verdict"], self.verdict, "{receipt:#}");
        if self.verdict == "verified" {
            assert_verified(receipt);
        } else {
            let reason = receipt["reason"].as_str().unwrap();
            assert!(reason.contains("guarantee"), "{reason}");
        }
    }

    fn end(&self, mut world: World) {
        let policy = world.launch.iter().any(|word| word.starts_with("policy"));
        let code = if self.verdict == "verified" { 0 } else { 71 };
        if code != 0 || policy {
            world.census();
            world.signal(libc::SIGTERM);
            assert_eq!(world.wait().code(), Some(code), "{}", world.log());
        }
        if policy {
            // Its monitor ends when it has seen the supervisor end.
            for monitor in world.numbers("launch", "monitor", 1) {
                let monitor = u32::try_from(monitor).unwrap();
                until("the policy ends", || {
                    look::alive(monitor).is_none().then_some(())
                });
            }
        }
        world.end();
    }

    fn says_so_everywhere(&self) {
        let mut world = self.world();
        world.fixture("web", "stay", "").init();
        let info = world.call("nought_info", Value::Null).unwrap();
        assert_eq!(info["guarantee"], self.guarantee, "{info:#}");
        let best = self.guarantee == "cgroup-kill marked";
        let notes = info["notes"].as_array().unwrap();
        let excused = world.launch.iter().any(|word| word == "no-clone3");
        assert_eq!(notes.is_empty(), best && !excused, "{info:#}");
        world.log_with(&format!("guarantee here: {}", self.guarantee));
        world.number("web", "up");
        assert_eq!(world.status("web")["guarantee"], self.guarantee);
        let output = world
            .in_place(&["doctor", "--json"])
            .arg("-s")
            .arg(world.socket())
            .output()
            .unwrap();
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(found["guarantee"], self.guarantee, "{found:#}");
        let findings = found["findings"].as_array().unwrap();
        assert_eq!(findings.is_empty(), best, "{found:#}");
        let change = |finding: &Value| finding["change"].as_str().is_some_and(|c| !c.is_empty());
        assert!(findings.iter().all(change), "{found:#}");
        self.holds(&world.stop("web"));
        self.end(world);
    }

    fn stops_every_habit(&self) {
        let mut world = self.world();
        let cases = [
            ("web", "children 3", ""),
            ("sly", "double-fork", ""),
            ("away", "session", ""),
            ("orphans", "generations 4", ""),
            ("stubborn", "stubborn", "shutdown_timeout: 100ms"),
            ("mainless", "mainless", "shutdown_timeout: 50ms"),
            ("stopped", "stopped", ""),
        ];
        for (name, habit, more) in cases {
            world.fixture(name, habit, more);
        }
        world.init();
        for (name, ..) in cases {
            world.number(name, if name == "stopped" { "pid" } else { "up" });
            world.census();
            self.holds(&world.stop(name));
        }
        if self.guarantee.starts_with("process-group") && !self.guarantee.ends_with("marked") {
            end_lost_orphans(&world);
        }
        let all = world.everyone().len();
        let monitors = usize::from(world.launch.iter().any(|w| w.starts_with("policy")));
        assert_eq!(all, 1 + monitors, "{:?}", world.everyone());
        let receipt = world.receipt("stubborn");
        assert!(
            rungs(&receipt).iter().any(|rung| rung == "kill"),
            "{receipt:#}"
        );
        world.start("web").unwrap();
        world.numbers("web", "up", 2);
        self.end(world);
    }

    fn ends_what_a_killed_supervisor_left(&self) {
        let mut world = self.world();
        world.fixture("web", "children 3", "");
        world.fixture("sly", "double-fork", "").init();
        let pids = [("web", "pid"), ("sly", "pid"), ("sly", "child")];
        let old = pids.map(|(name, word)| world.pid(name, word));
        world.reach("web", "up");
        world.kill();
        world.init();
        world.numbers("web", "up", 2);
        world.numbers("sly", "up", 2);
        let left = old.iter().filter(|pid| look::alive(**pid).is_some());
        assert_eq!(left.count(), 0, "{}", world.log());
        let receipts = world.call("nought_receipt", json!({"name": "web", "last": 5}));
        let receipts = receipts.unwrap();
        let receipts = receipts["receipts"].as_array().unwrap();
        let leftover = receipts.iter().find(|r| r["cause"] == "leftover").unwrap();
        if self.guarantee.starts_with("cgroup") {
            self.holds(leftover);
        } else {
            // Its orphans went to process 1: nobody can say that there were no others.
            assert_eq!(leftover["verdict"], "unverified", "{leftover:#}");
            assert_eq!(leftover["guarantee"]["containment"], "process-group");
        }
        self.end(world);
    }

    fn names_what_cannot_be_killed(&self) {
        let mut world = self.world();
        world
            .fixture("web", "stay", "shutdown_timeout: 50ms\nkill_timeout: 1s")
            .init();
        world.reach("web", "up");
        let pid = world.pid("web", "pid");
        let tracer = world.tool("tracer", &["trace", &pid.to_string()]);
        world.number("tracer", "tracing");
        let error = world
            .call("nought_stop", json!({"name": "web"}))
            .unwrap_err();
        assert_eq!(error["code"], -32010, "{error}");
        let first = &error["data"]["receipt"];
        assert_eq!(first["verdict"], "lingering", "{first:#}");
        assert_eq!(first["survivors"][0]["pid"], pid, "{first:#}");
        assert_eq!(first["survivors"][0]["tracer"], tracer, "{first:#}");
        assert!(world.start("web").is_err());
        world.end_tool(tracer);
        until("it has a last verdict", || {
            (world.status("web")["state"] == "down").then_some(())
        });
        let late = world.receipt("web");
        assert_eq!(late["late"], true, "{late:#}");
        self.holds(&late);
        self.end(world);
    }
}

macro_rules! places {
    ($($(#[$doc:meta])* $name:ident: $guarantee:literal, $verdict:literal, $launch:expr;)*) => {$(
        $(#[$doc])*
        mod $name {
            use super::Place;

            const HERE: Place = Place {
                launch: || $launch,
                guarantee: $guarantee,
                verdict: $verdict,
            };

            #[test]
            fn what_is_found_is_said_everywhere() {
                HERE.says_so_everywhere();
            }

            #[test]
            fn services_of_every_habit_are_stopped() {
                HERE.stops_every_habit();
            }

            #[test]
            fn what_a_killed_supervisor_left_is_ended() {
                HERE.ends_what_a_killed_supervisor_left();
            }

            #[test]
            fn what_cannot_be_killed_is_named() {
                HERE.names_what_cannot_be_killed();
            }
        }
    )*};
}

places! {
    /// Nothing is missing.
    cgroup_kill: "cgroup-kill marked", "verified", Vec::new();
    /// A security policy denies cgroup.kill.
    cgroup_signal: "cgroup-signal marked", "verified", vec![format!("policy={}", super::mount())];
    /// The same without CAP_SYS_ADMIN.
    cgroup_signal_without_marks: "cgroup-signal descent", "verified",
        vec![format!("policy={}", super::mount()), "no-capability=21".to_owned()];
    /// An ordinary user in a cgroup of its own, who sees nobody else's processes.
    hidden_processes: "cgroup-kill none", "unverified",
        super::words(&["own-mounts", "hide-processes", "user=64905"]);
    /// Root, but without CAP_SYS_PTRACE.
    processes_hidden_from_root: "cgroup-kill none", "unverified",
        super::words(&["own-mounts", "hide-processes", "no-capability=19"]);
    /// An ordinary user again, where a security policy denies cgroup.kill.
    cgroup_signal_and_hidden_processes: "cgroup-signal none", "unverified",
        vec!["own-mounts".to_owned(), format!("policy={}", super::mount()),
             "hide-processes".to_owned(), "user=64905".to_owned()];
    /// The same without a cgroup.
    no_cgroup2_and_hidden_processes: "subreaper none", "unverified",
        vec![format!("no-cgroup={}", super::mount()), "hide-processes".to_owned(),
             "user=64905".to_owned()];
    /// cgroup2 is there to be read alone.
    read_only_cgroup2: "subreaper marked", "verified",
        vec![format!("cgroup-read-only={}", super::mount())];
    /// No cgroup2 is mounted.
    no_cgroup2: "subreaper marked", "verified", vec![format!("no-cgroup={}", super::mount())];
    /// Nor does anybody become a subreaper.
    process_group: "process-group marked", "unverified",
        vec![format!("no-cgroup={}", super::mount()), "no-subreaper".to_owned()];
    /// Nor marked.
    process_group_without_marks: "process-group descent", "unverified",
        vec![format!("no-cgroup={}", super::mount()), "no-subreaper".to_owned(),
             "no-capability=21".to_owned()];
    /// Nor seen.
    process_group_and_hidden_processes: "process-group none", "unverified",
        vec![format!("no-cgroup={}", super::mount()), "hide-processes".to_owned(),
             "no-subreaper".to_owned(), "user=64905".to_owned()];
    /// A filter answers clone3 with ENOSYS.
    no_clone3: "cgroup-kill marked", "verified", super::words(&["no-clone3"]);
    /// Without CAP_SYS_ADMIN.
    no_privileges: "cgroup-kill descent", "verified", super::words(&["no-capability=21"]);
    /// No time namespace is to be had.
    no_time_namespaces: "cgroup-kill descent", "verified",
        super::words(&["user-namespace", "zero=/proc/sys/user/max_time_namespaces"]);
    /// Neither cgroups nor marks: an ordinary container.
    neither_cgroups_nor_marks: "subreaper descent", "verified",
        vec![format!("no-cgroup={}", super::mount()), "no-capability=21".to_owned()];
}
