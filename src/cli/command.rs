//! Each command: what it asks, what it prints, which exit code it ends with.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::api::{
    Done, Kill, List, Named, Plan, PlanQuery, ReceiptQuery, Receipts, Restart, ServiceState,
    ServiceStatus, ShutdownKind, Start, Stop, Verdict, method,
};
use crate::config;

use super::args::{ClientCommand, Options, TimelineWhat};
use super::client::{ANSWER, Client, Wait, alive};
use super::doctor::Cleared;
use super::error::Error;
use super::order::dependents_first;
use super::output::{Output, Style};
use super::{EXIT_FAILED, EXIT_LINGERING, EXIT_UNVERIFIED, doctor, render};

/// How long `stop --no-wait` listens for a refusal.
const REFUSAL: Duration = Duration::from_millis(50);

/// Carries `command` out; the exit code.
pub(super) fn run(
    options: &Options,
    command: ClientCommand,
    clean: &dyn Fn() -> Vec<Cleared>,
) -> u8 {
    let mut session = Session {
        options,
        output: Output::new(options.json),
        clean,
    };
    let code = match session.command(command) {
        Ok(code) => code,
        Err(error) => session.failed(&error, None),
    };
    session.output.clear_progress();
    if session.output.complete {
        code
    } else {
        code.max(EXIT_FAILED)
    }
}

pub(super) struct Session<'a> {
    pub(super) options: &'a Options,
    pub(super) output: Output,
    /// Ends what killed runs left.
    clean: &'a dyn Fn() -> Vec<Cleared>,
}

impl<'a> Session<'a> {
    fn command(&mut self, command: ClientCommand) -> Result<u8, Error> {
        match command {
            ClientCommand::List => self.list(),
            ClientCommand::Status { services } => self.status(services),
            ClientCommand::Tree { services } => self.tree(&services),
            ClientCommand::Top(top) => self.top(&top),
            ClientCommand::Why { service } => self.why(&service),
            ClientCommand::Plan { what } => self.plan(what),
            ClientCommand::Timeline {
                what,
                state_dir,
                svg,
            } => match what {
                TimelineWhat::Boot => self.timeline_boot(svg.as_deref()),
                TimelineWhat::Shutdown => Ok(self.timeline_shutdown(state_dir, svg.as_deref())),
            },
            ClientCommand::Blame => self.blame(),
            ClientCommand::Graph { dot, svg } => self.graph(dot, svg.as_deref()),
            ClientCommand::Stats { service } => self.stats(service),
            ClientCommand::Monitor { services } => self.files(Change::Monitor, services),
            ClientCommand::Forget { services } => self.files(Change::Forget, services),
            ClientCommand::Reload { services, dry_run } if services.is_empty() => {
                self.reload(dry_run)
            }
            ClientCommand::Reload { services, .. } => self.reload_services(services),
            ClientCommand::Kill { service, signal } => self.kill(service, signal),
            ClientCommand::Proxy(proxy) => self.proxy(&proxy),
            ClientCommand::Schema => {
                self.output.text(config::SCHEMA);
                Ok(0)
            }
            ClientCommand::Completions { shell } => Ok(self.completions(shell)),
            ClientCommand::Man { dir } => Ok(self.man(dir.as_deref())),
            ClientCommand::Start { names, force } => {
                let wait = names.waits(self.options.called);
                let start = |name: String| Start { name, wait, force };
                self.each(method::START, "start", names.names, None, start)
            }
            ClientCommand::Stop {
                names,
                force,
                with_dependents,
            } => {
                let listen = names.no_wait.then_some(REFUSAL);
                let dependents = match with_dependents && listen.is_none() {
                    true => self.dependents(&names.names)?,
                    false => Vec::new(),
                };
                let stop = |name: String| Stop {
                    name,
                    force,
                    with_dependents,
                };
                let own = self.each(method::STOP, "stop", names.names, listen, stop)?;
                let theirs = self.verdicts(dependents)?;
                Ok(worst([own, theirs]))
            }
            ClientCommand::Restart { names } => {
                let wait = names.waits(self.options.called);
                let restart = |name: String| Restart { name, wait };
                self.each(method::RESTART, "restart", names.names, None, restart)
            }
            ClientCommand::Receipt { service, last } => self.receipts(ReceiptQuery {
                name: service,
                last,
            }),
            ClientCommand::Log(log) => self.log(log),
            ClientCommand::Health { live } => self.health(live),
            ClientCommand::Shutdown | ClientCommand::Poweroff => {
                self.shutdown(ShutdownKind::PowerOff)
            }
            ClientCommand::Reboot => self.shutdown(ShutdownKind::Reboot),
            ClientCommand::Halt => self.shutdown(ShutdownKind::Halt),
            ClientCommand::Kexec => self.shutdown(ShutdownKind::Kexec),
            ClientCommand::Check { config } => {
                let dir = config.unwrap_or_else(|| self.options.config_dir());
                Ok(self.check(&dir))
            }
            ClientCommand::Doctor(doctor) if doctor.clean => Ok(doctor::clean(
                self.options,
                &mut self.output,
                &doctor,
                self.clean,
            )),
            ClientCommand::Doctor(doctor) => {
                Ok(doctor::examine(self.options, &mut self.output, &doctor))
            }
        }
    }

    pub(super) fn connect(&self) -> Result<Client<'a>, Error> {
        Client::connect(&self.options.socket, self.options.debug)
    }

    /// A question: the raw answer, and the same typed.
    pub(super) fn ask<T: serde::de::DeserializeOwned>(
        &self,
        client: &mut Client<'_>,
        method: &str,
        params: &impl Serialize,
    ) -> Result<(Value, T), Error> {
        let raw = client.call(method, params, self.options.timeout.unwrap_or(ANSWER))?;
        let typed = client.typed(&raw)?;
        Ok((raw, typed))
    }

    pub(super) fn failed(&mut self, error: &Error, service: Option<&str>) -> u8 {
        if self.output.json {
            self.output.document(&error.to_json(service));
        }
        let text = self.options.called.hints(error.render(Style::of_stderr()));
        self.output.error(&text);
        error.exit_code()
    }

    pub(super) fn print(&mut self, raw: &Value, text: impl FnOnce(Style) -> String) {
        if self.output.json {
            self.output.document(raw);
        } else {
            self.output.text(&text(self.output.style));
        }
    }

    /// The members of `raw`'s array `key`, a document each.
    pub(super) fn print_items(&mut self, raw: &Value, key: &str) {
        for item in raw.get(key).and_then(Value::as_array).into_iter().flatten() {
            self.output.document(item);
        }
    }

    /// One request for each of `names`, sent at once, so that they work side by side; printed in
    /// the order of the names, each as soon as it and those before it are answered.
    fn each<P: Serialize>(
        &mut self,
        method: &str,
        verb: &str,
        names: Vec<String>,
        listen: Option<Duration>,
        params: impl Fn(String) -> P,
    ) -> Result<u8, Error> {
        let mut client = Client::connect(&self.options.socket, self.options.debug)?;
        let mut asked = Vec::new();
        for name in self.in_order(&mut client, verb, &names)? {
            let id = client.send(method, &params(name.clone()))?;
            asked.push((id, name));
        }
        let place = |name: &String| names.iter().position(|given| given == name);
        asked.sort_by_key(|(_, name)| place(name));
        let mut codes = Vec::new();
        let wait = Wait::Work(listen.or(self.options.timeout));
        for (id, name) in asked {
            let what = format!("to {verb} {}", render::clean(&name));
            let answer = {
                let (options, output) = (self.options, &mut self.output);
                let mut meanwhile = |waited| watch(options, output, &name, waited);
                client.answer(id, wait, &what, &mut meanwhile)
            };
            let code = match answer {
                Ok(raw) => {
                    let done: Done = client.typed(&raw)?;
                    self.print(&raw, |style| done_line(&done, verb, style));
                    verdict_code(&done)
                }
                Err(Error::TimedOut { .. }) if listen.is_some() => {
                    let raw = serde_json::json!({"service": name, "state": "stopping"});
                    let line =
                        format!("{}: stop asked for, not waited for\n", render::clean(&name));
                    self.print(&raw, |_| line);
                    0
                }
                Err(error @ (Error::Refused(_) | Error::TimedOut { .. })) => {
                    self.failed(&error, Some(&name))
                }
                Err(error) => return Err(error),
            };
            codes.push(code);
        }
        Ok(worst(codes))
    }

    /// Who would go down with `names` and is none of them, in the order of their waves.
    fn dependents(&self, names: &[String]) -> Result<Vec<String>, Error> {
        let mut client = self.connect()?;
        let mut found: Vec<String> = Vec::new();
        for name in names {
            let query = PlanQuery {
                name: Some(name.clone()),
                with_dependents: true,
                deadline_ms: None,
            };
            let plan: Plan = match self.ask(&mut client, method::PLAN, &query) {
                Ok((_, plan)) => plan,
                // The stop itself says what is wrong.
                Err(Error::Refused(_)) => continue,
                Err(error) => return Err(error),
            };
            let others = plan.services.into_iter().map(|planned| planned.service);
            for other in others.filter(|other| !names.contains(other)) {
                if !found.contains(&other) {
                    found.push(other);
                }
            }
        }
        Ok(found)
    }

    /// What became of those that went down with others: their verdicts have fallen, or fall soon.
    fn verdicts(&mut self, names: Vec<String>) -> Result<u8, Error> {
        let mut client = self.connect()?;
        let mut codes = Vec::new();
        for name in names {
            let named = Named { name: name.clone() };
            let (_, status): (_, ServiceStatus) = self.ask(&mut client, method::STATUS, &named)?;
            let query = ReceiptQuery { name, last: 1 };
            match status.state {
                ServiceState::Stopping => {
                    let (force, with_dependents) = (false, false);
                    let stop = |name| Stop {
                        name,
                        force,
                        with_dependents,
                    };
                    codes.push(self.each(method::STOP, "stop", vec![query.name], None, stop)?);
                }
                ServiceState::Down | ServiceState::Lingering => {
                    let (raw, receipts): (_, Receipts) =
                        self.ask(&mut client, method::RECEIPT, &query)?;
                    for receipt in &receipts.receipts {
                        let raw = raw.pointer("/receipts/0").cloned().unwrap_or_default();
                        self.print(&raw, |style| render::stopped(receipt, style));
                        codes.push(verdict_exit(receipt.verdict));
                    }
                }
                // It was left running: the stop was refused.
                _ => {}
            }
        }
        Ok(worst(codes))
    }

    /// In which order they are asked: what goes down together goes down dependents first.
    fn in_order(
        &self,
        client: &mut Client<'_>,
        verb: &str,
        names: &[String],
    ) -> Result<Vec<String>, Error> {
        if verb != "stop" || names.len() < 2 {
            return Ok(names.to_vec());
        }
        match self.ask::<List>(client, method::LIST, &()) {
            Ok((_, list)) => Ok(dependents_first(names, &list)),
            // As given: the core keeps the order of whatever goes down at the same time.
            Err(Error::Refused(_)) => Ok(names.to_vec()),
            Err(error) => Err(error),
        }
    }

    /// Takes services in or out, one after another.
    fn files(&mut self, change: Change, names: Vec<String>) -> Result<u8, Error> {
        let mut client = self.connect()?;
        let mut worst = 0;
        for name in names {
            let named = Named { name: name.clone() };
            match client.call(
                change.method(),
                &named,
                self.options.timeout.unwrap_or(ANSWER),
            ) {
                Ok(_) => {
                    let raw = serde_json::json!({"service": name, "done": change.done()});
                    let line = format!("{}: {}\n", render::clean(&name), change.done());
                    self.print(&raw, |_| line);
                }
                Err(error @ Error::Refused(_)) => {
                    let code = self.failed(&error, Some(&name));
                    worst = if worst == 0 { code } else { worst.min(code) };
                }
                Err(error) => return Err(error),
            }
        }
        Ok(worst)
    }

    fn kill(&mut self, name: String, signal: String) -> Result<u8, Error> {
        let within = self.options.timeout.unwrap_or(ANSWER);
        let kill = Kill { name, signal };
        self.connect()?.call("service_kill", &kill, within)?;
        let known = crate::driver::Signal::parse(&kill.signal).map(|signal| signal.to_string());
        let sent = known.as_deref().unwrap_or(&kill.signal);
        let raw = serde_json::json!({"service": kill.name, "signal": sent});
        let (name, signal) = (render::clean(&kill.name), render::clean(&kill.signal));
        self.print(&raw, |_| format!("{name}: {signal} sent\n"));
        Ok(0)
    }
}

/// What becomes of the list of services.
#[derive(Clone, Copy, Debug)]
enum Change {
    Monitor,
    Forget,
}

impl Change {
    fn method(self) -> &'static str {
        match self {
            Change::Monitor => "service_monitor",
            Change::Forget => "service_forget",
        }
    }

    fn done(self) -> &'static str {
        match self {
            Change::Monitor => "monitored",
            Change::Forget => "forgotten",
        }
    }
}

/// While a service's work goes on: says what it does to whoever watches, and makes sure every
/// five seconds that the supervisor lives.
fn watch(
    options: &Options,
    output: &mut Output,
    name: &str,
    waited: Duration,
) -> Result<(), Error> {
    if output.wants_progress() {
        let mut client = Client::connect(&options.socket, false)?;
        let name = name.to_string();
        match client.call(method::STATUS, &Named { name }, ANSWER) {
            Ok(status) => {
                let status: ServiceStatus = client.typed(&status)?;
                output.show_progress(&render::waiting(&status, waited));
            }
            // It answers; what it says of the work itself is what counts.
            Err(Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    } else if waited.as_secs().is_multiple_of(5) {
        alive(&options.socket)?;
    }
    Ok(())
}

fn verdict_code(done: &Done) -> u8 {
    let receipt = done.receipt.as_ref();
    receipt.map_or(0, |receipt| verdict_exit(receipt.verdict))
}

fn verdict_exit(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Verified => 0,
        Verdict::Lingering => EXIT_LINGERING,
        Verdict::Unverified => EXIT_UNVERIFIED,
    }
}

/// The first of 1, 3 and 4 that occurred; else 0.
fn worst(codes: impl IntoIterator<Item = u8>) -> u8 {
    let failed = codes.into_iter().filter(|code| *code != 0);
    failed.min().unwrap_or_default()
}

/// What came of one start, stop or restart.
pub(super) fn done_line(done: &Done, verb: &str, style: Style) -> String {
    let name = render::clean(&done.service);
    let stopped = done
        .receipt
        .as_ref()
        .map(|receipt| render::stopped(receipt, style));
    match (verb, stopped) {
        ("stop", Some(stopped)) => stopped,
        ("stop", None) if done.already_down => format!("{name}: already down\n"),
        (_, stopped) => {
            let word = match done.state {
                ServiceState::Up | ServiceState::Done | ServiceState::Listening => {
                    style.good(done.state.as_str())
                }
                other => style.warn(other.as_str()),
            };
            format!("{}{name}: {word}\n", stopped.unwrap_or_default())
        }
    }
}
