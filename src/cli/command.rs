//! Each command: what it asks, what it prints, which exit code it ends with.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::api::{
    self, Done, Info, List, LogLines, LogQuery, Named, ReceiptQuery, Receipts, Restart,
    ServiceState, ServiceStatus, Shutdown, ShutdownDone, ShutdownKind, Start, Stop, Verdict,
    method,
};
use crate::config;

use super::args::{ClientCommand, Log, Options};
use super::client::{ANSWER, Client, Wait, alive};
use super::error::Error;
use super::output::{Output, Style};
use super::{EXIT_FAILED, EXIT_LINGERING, EXIT_UNVERIFIED, render};

/// How long `stop --no-wait` listens for a refusal.
const REFUSAL: Duration = Duration::from_millis(50);

/// Carries `command` out; the exit code.
pub(super) fn run(options: &Options, command: ClientCommand) -> u8 {
    let mut session = Session {
        options,
        output: Output::new(options.json),
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

struct Session<'a> {
    options: &'a Options,
    output: Output,
}

impl Session<'_> {
    fn command(&mut self, command: ClientCommand) -> Result<u8, Error> {
        match command {
            ClientCommand::List => self.list(),
            ClientCommand::Status { service: None } => self.info(),
            ClientCommand::Status {
                service: Some(name),
            } => self.status(name),
            ClientCommand::Start { names, force } => {
                let wait = !names.no_wait;
                let start = |name: String| Start { name, wait, force };
                self.each(method::START, "start", names.names, None, start)
            }
            ClientCommand::Stop { names, force } => {
                let listen = names.no_wait.then_some(REFUSAL);
                let stop = |name: String| Stop { name, force };
                self.each(method::STOP, "stop", names.names, listen, stop)
            }
            ClientCommand::Restart { names } => {
                let wait = !names.no_wait;
                let restart = |name: String| Restart { name, wait };
                self.each(method::RESTART, "restart", names.names, None, restart)
            }
            ClientCommand::Receipt { service, last } => self.receipts(ReceiptQuery {
                name: service,
                last,
            }),
            ClientCommand::Log(log) => self.log(log),
            ClientCommand::Health { live } => self.health(live),
            ClientCommand::Shutdown => self.shutdown(ShutdownKind::PowerOff),
            ClientCommand::Reboot => self.shutdown(ShutdownKind::Reboot),
            ClientCommand::Check { config } => Ok(self.check(&config)),
        }
    }

    fn connect(&self) -> Result<Client<'_>, Error> {
        Client::connect(&self.options.socket, self.options.debug)
    }

    /// A question: the raw answer, and the same typed.
    fn ask<T: serde::de::DeserializeOwned>(
        &self,
        client: &mut Client<'_>,
        method: &str,
        params: &impl Serialize,
    ) -> Result<(Value, T), Error> {
        let raw = client.call(method, params, self.options.timeout.unwrap_or(ANSWER))?;
        let typed = client.typed(&raw)?;
        Ok((raw, typed))
    }

    fn failed(&mut self, error: &Error, service: Option<&str>) -> u8 {
        if self.output.json {
            self.output.document(&error.to_json(service));
        }
        self.output.error(&error.render(Style::of_stderr()));
        error.exit_code()
    }

    fn print(&mut self, raw: &Value, text: impl FnOnce(Style) -> String) {
        if self.output.json {
            self.output.document(raw);
        } else {
            self.output.text(&text(self.output.style));
        }
    }

    /// The members of `raw`'s array `key`, a document each.
    fn print_items(&mut self, raw: &Value, key: &str) {
        for item in raw.get(key).and_then(Value::as_array).into_iter().flatten() {
            self.output.document(item);
        }
    }

    fn list(&mut self) -> Result<u8, Error> {
        let (raw, list): (_, List) = self.ask(&mut self.connect()?, method::LIST, &Value::Null)?;
        if self.output.json {
            self.print_items(&raw, "services");
        } else {
            self.output.text(&render::list(&list, self.output.style));
        }
        Ok(0)
    }

    fn info(&mut self) -> Result<u8, Error> {
        let mut client = self.connect()?;
        let (raw, info) = self.ask(&mut client, method::INFO, &Value::Null)?;
        let (_, list): (_, List) = self.ask(&mut client, method::LIST, &Value::Null)?;
        drop(client);
        self.print(&raw, |style| render::info(&info, &list, style));
        Ok(0)
    }

    fn status(&mut self, name: String) -> Result<u8, Error> {
        let (raw, status): (_, ServiceStatus) =
            self.ask(&mut self.connect()?, method::STATUS, &Named { name })?;
        self.print(&raw, |style| render::status(&status, style));
        Ok(0)
    }

    /// What an exec probe asks: one line for each service that is not as it is wanted.
    fn health(&mut self, live: bool) -> Result<u8, Error> {
        let mut client = self.connect()?;
        let (_, info): (_, Info) = self.ask(&mut client, method::INFO, &Value::Null)?;
        let mut unready = Vec::new();
        if !live {
            let (_, list): (_, List) = self.ask(&mut client, method::LIST, &Value::Null)?;
            unready = api::unready(&list.services);
        }
        let stopping = info.shutting_down && !live;
        let ready = !stopping && unready.is_empty();
        let names = unready
            .iter()
            .map(|unready| serde_json::json!({"service": unready.service, "why": unready.why}));
        let raw = serde_json::json!({
            "ready": ready,
            "shutting_down": info.shutting_down,
            "unready": names.collect::<Vec<_>>(),
        });
        self.print(&raw, |style| {
            let mut text = String::new();
            if ready {
                text.push_str(&format!("{}\n", style.good("ok")));
            }
            if stopping {
                text.push_str("the supervisor is shutting down\n");
            }
            for unready in &unready {
                let (name, why) = (render::clean(&unready.service), render::clean(&unready.why));
                text.push_str(&format!("{name}: {why}\n"));
            }
            text
        });
        Ok(if ready { 0 } else { EXIT_FAILED })
    }

    fn receipts(&mut self, query: ReceiptQuery) -> Result<u8, Error> {
        let (raw, receipts): (_, Receipts) =
            self.ask(&mut self.connect()?, method::RECEIPT, &query)?;
        if self.output.json {
            self.print_items(&raw, "receipts");
            return Ok(0);
        }
        if receipts.receipts.is_empty() {
            let name = render::clean(&query.name);
            self.output
                .text(&format!("{name}: no receipt yet: it was never stopped\n"));
        }
        for (index, receipt) in receipts.receipts.iter().enumerate() {
            let gap = if index > 0 { "\n" } else { "" };
            let text = render::receipt(receipt, self.output.style);
            self.output.text(&format!("{gap}{text}"));
        }
        Ok(0)
    }

    fn log(&mut self, log: Log) -> Result<u8, Error> {
        let query = LogQuery {
            name: log.service,
            lines: log.lines,
        };
        let (raw, log): (_, LogLines) = self.ask(&mut self.connect()?, method::LOG, &query)?;
        if self.output.json {
            self.output.document(&raw);
            return Ok(0);
        }
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        let mut text = String::new();
        for line in &log.lines {
            // A file gets what the service wrote, a terminal what cannot drive it.
            if terminal {
                text.push_str(&render::clean(line));
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        self.output.text(&text);
        if log.lost > 0 {
            self.output.error(&format!(
                "note: {} earlier lines are no longer kept\n",
                log.lost
            ));
        }
        Ok(0)
    }

    fn shutdown(&mut self, kind: ShutdownKind) -> Result<u8, Error> {
        let options = self.options;
        let mut client = Client::connect(&options.socket, options.debug)?;
        let id = client.send(method::SHUTDOWN, &Shutdown { kind })?;
        let output = &mut self.output;
        let mut meanwhile = |waited: Duration| {
            let line = format!("waiting for every service to stop, {} s", waited.as_secs());
            output.show_progress(&line);
            // Towards its end it takes no new connection, and answers on this one.
            match waited
                .as_secs()
                .is_multiple_of(5)
                .then(|| alive(&options.socket))
            {
                Some(Err(error @ Error::NoAnswer { .. })) => Err(error),
                _ => Ok(()),
            }
        };
        let raw = client.answer(
            id,
            Wait::Work(options.timeout),
            "the shutdown",
            &mut meanwhile,
        )?;
        let done: ShutdownDone = client.typed(&raw)?;
        self.print(&raw, |style| render::shut_down(&done, style));
        Ok(
            match (done.lingering.is_empty(), done.unverified.is_empty()) {
                (false, _) => EXIT_LINGERING,
                (true, false) => EXIT_UNVERIFIED,
                (true, true) => 0,
            },
        )
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
        let mut asked = VecDeque::new();
        for name in names {
            let id = client.send(method, &params(name.clone()))?;
            asked.push_back((id, name));
        }
        let mut codes = BTreeMap::new();
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
            codes.insert(code, ());
        }
        let worst = codes.into_keys().find(|code| *code != 0);
        Ok(worst.unwrap_or_default())
    }

    fn check(&mut self, dir: &Path) -> u8 {
        let loaded = config::load_dir(dir);
        for problem in &loaded.problems {
            let at = problem.position.as_ref();
            let raw = serde_json::json!({
                "severity": problem.severity.as_str(),
                "file": problem.path.to_string_lossy(),
                "line": at.map(|at| at.line),
                "column": at.map(|at| at.column),
                "message": problem.message,
                "hint": problem.hint,
            });
            self.print(&raw, |_| format!("{problem}\n"));
        }
        let errors = loaded
            .problems
            .iter()
            .filter(|problem| problem.is_error())
            .count();
        let warnings = loaded.problems.len() - errors;
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let services = loaded.services.len();
        if !self.output.json {
            self.output.text(&format!(
                "{}: {services} service{}, {errors} error{}, {warnings} warning{}\n",
                dir.display(),
                plural(services),
                plural(errors),
                plural(warnings),
            ));
        }
        if errors > 0 { EXIT_FAILED } else { 0 }
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
    match done.receipt.as_ref().map(|receipt| receipt.verdict) {
        None | Some(Verdict::Verified) => 0,
        Some(Verdict::Lingering) => EXIT_LINGERING,
        Some(Verdict::Unverified) => EXIT_UNVERIFIED,
    }
}

/// What came of one start, stop or restart.
fn done_line(done: &Done, verb: &str, style: Style) -> String {
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
                ServiceState::Up | ServiceState::Done => style.good(done.state.as_str()),
                other => style.warn(other.as_str()),
            };
            format!("{}{name}: {word}\n", stopped.unwrap_or_default())
        }
    }
}
