//! What two definitions of a service differ in, and what takes effect when.

use super::spec::Spec;

/// A key of a service's file that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: &'static str,
    /// Whether only a new start brings it about; the rest takes effect at once.
    pub at_start: bool,
}

impl Spec {
    /// What is different in `new`, in the order of the keys in the documentation.
    pub fn differences(&self, new: &Spec) -> Vec<Difference> {
        // Whole, so that nobody adds a key and forgets it here.
        let Spec {
            name: _,
            exec,
            test,
            health,
            watchdog,
            sockets,
            on_demand,
            fd_store,
            reload,
            stop_command,
            oneshot,
            after,
            requires,
            stop_signal,
            signal_to,
            grace,
            exit_grace,
            kill_timeout,
            start_timeout,
            restart,
            log,
            log_to,
            env,
            env_files,
            dir,
            remain,
            pid_namespace,
            keep,
            min_guarantee,
            on_end,
            on_failure,
            essential,
            role,
            stop_after,
            user,
            group,
            umask,
            limits,
            nice,
            oom_score_adj,
            resources,
        } = self;
        let signal = *stop_signal != new.stop_signal || *signal_to != new.signal_to;
        let listens = self.listens() != new.listens();
        let told = self.is_told() || new.is_told();
        let at_start = [
            ("exec", *exec != new.exec),
            // What it says it with is given to it at its start.
            ("ready", *test != new.test && told),
            ("oneshot", *oneshot != new.oneshot),
            ("remain", *remain != new.remain),
            ("pid_namespace", *pid_namespace != new.pid_namespace),
            ("role", *role != new.role),
            ("sockets", *sockets != new.sockets),
            (
                "watchdog",
                *watchdog != new.watchdog || listens && *reload == new.reload,
            ),
            ("reload", *reload != new.reload && listens),
            ("log", *log != new.log || *log_to != new.log_to),
            ("env", *env != new.env),
            ("env_file", *env_files != new.env_files),
            ("dir", *dir != new.dir),
            ("user", *user != new.user),
            ("group", *group != new.group),
            ("umask", *umask != new.umask),
            ("limits", *limits != new.limits),
            ("nice", *nice != new.nice),
            ("oom_score_adj", *oom_score_adj != new.oom_score_adj),
            ("resources", *resources != new.resources),
        ];
        let at_once = [
            ("ready", *test != new.test && !told),
            ("health", *health != new.health),
            ("start", *on_demand != new.on_demand),
            ("fd_store", *fd_store != new.fd_store),
            ("reload", *reload != new.reload && !listens),
            ("after", *after != new.after),
            ("requires", *requires != new.requires),
            ("stop_after", *stop_after != new.stop_after),
            ("stop", *stop_command != new.stop_command),
            ("signal", signal),
            ("shutdown_timeout", *grace != new.grace),
            ("exit_grace", *exit_grace != new.exit_grace),
            ("kill_timeout", *kill_timeout != new.kill_timeout),
            ("start_timeout", *start_timeout != new.start_timeout),
            ("restart", *restart != new.restart),
            ("survivors", *keep != new.keep),
            ("min_guarantee", *min_guarantee != new.min_guarantee),
            ("on_end", *on_end != new.on_end),
            ("on_failure", *on_failure != new.on_failure),
            ("essential", *essential != new.essential),
        ];
        let changed = |keys: &[(&'static str, bool)], at_start: bool| {
            let changed = keys.iter().filter(|(_, changed)| *changed);
            let changed = changed.map(|(key, _)| Difference { key, at_start });
            changed.collect::<Vec<_>>()
        };
        let mut all = changed(&at_start, true);
        all.extend(changed(&at_once, false));
        all
    }
}
