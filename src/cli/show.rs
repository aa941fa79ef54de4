//! Commands that look and change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::api::{
    self, Info, List, ListQuery, LogLines, LogQuery, Named, Plan, PlanQuery, ReceiptQuery,
    Receipts, RpcError, ServiceState, ServiceStatus, Usage, UsageQuery, Usages, method,
};

use super::args::PlanWhat;
use super::client::Client;
use super::command::Session;
use super::error::Error;
use super::{EXIT_FAILED, render};

/// How many of a failed service's last lines are worth showing.
const LAST_WORDS: u32 = 3;

impl Session<'_> {
    pub(super) fn list(&mut self) -> Result<u8, Error> {
        let (raw, list): (_, List) = self.ask(&mut self.connect()?, method::LIST, &())?;
        if self.output.json {
            self.print_items(&raw, "services");
        } else {
            self.output.text(&render::list(&list, self.output.style));
        }
        Ok(0)
    }

    /// What an exec probe asks: one line for each service that is not as it is wanted.
    pub(super) fn health(&mut self, live: bool) -> Result<u8, Error> {
        let mut client = self.connect()?;
        let (_, info): (_, Info) = self.ask(&mut client, method::INFO, &())?;
        let mut unready = Vec::new();
        if !live {
            let (_, list): (_, List) = self.ask(&mut client, method::LIST, &())?;
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

    pub(super) fn status(&mut self, names: Vec<String>) -> Result<u8, Error> {
        let mut names = names.into_iter();
        match (names.next(), names.len()) {
            (None, _) => self.everything(),
            (Some(name), 0) => {
                let (raw, status): (_, ServiceStatus) =
                    self.ask(&mut self.connect()?, method::STATUS, &Named { name })?;
                self.print(&raw, |style| render::status(&status, style));
                Ok(0)
            }
            (Some(first), _) => self.some([first].into_iter().chain(names)),
        }
    }

    /// The supervisor, and every service.
    fn everything(&mut self) -> Result<u8, Error> {
        let mut client = self.connect()?;
        let (raw, info): (_, Info) = self.ask(&mut client, method::INFO, &())?;
        let query = ListQuery { memory: true };
        let (_, list): (_, List) = self.ask(&mut client, method::LIST, &query)?;
        drop(client);
        self.print(&raw, |style| {
            let mut text = render::info(&info, &list, style);
            if !list.services.is_empty() {
                text.push('\n');
                text.push_str(&render::statuses(&list.services, style));
            }
            text
        });
        Ok(0)
    }

    /// Several services in one table; one that is not there does not hide the others.
    fn some(&mut self, names: impl Iterator<Item = String>) -> Result<u8, Error> {
        let mut client = self.connect()?;
        let (mut found, mut code) = (Vec::new(), 0);
        for name in names {
            let named = Named { name: name.clone() };
            match self.ask::<ServiceStatus>(&mut client, method::STATUS, &named) {
                Ok((raw, _)) if self.output.json => self.output.document(&raw),
                Ok((_, status)) => found.push(status),
                Err(error @ Error::Refused(_)) => code = self.failed(&error, Some(&name)),
                Err(error) => return Err(error),
            }
        }
        if !found.is_empty() {
            self.output
                .text(&render::statuses(&found, self.output.style));
        }
        Ok(code)
    }

    pub(super) fn receipts(&mut self, query: ReceiptQuery) -> Result<u8, Error> {
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

    pub(super) fn stats(&mut self, name: String) -> Result<u8, Error> {
        let query = UsageQuery { name: Some(name) };
        let (raw, usages): (_, Usages) = self.ask(&mut self.connect()?, method::USAGE, &query)?;
        if self.output.json {
            self.print_items(&raw, "services");
            return Ok(0);
        }
        for usage in &usages.services {
            self.output.text(&render::stats(usage, self.output.style));
        }
        Ok(0)
    }

    pub(super) fn tree(&mut self, names: &[String]) -> Result<u8, Error> {
        let mut client = self.connect()?;
        let (raw, usages): (_, Usages) =
            self.ask(&mut client, method::USAGE, &UsageQuery::default())?;
        let known: BTreeMap<&str, &Usage> = usages
            .services
            .iter()
            .map(|usage| (usage.status.name.as_str(), usage))
            .collect();
        let mut code = 0;
        for name in names
            .iter()
            .filter(|name| !known.contains_key(name.as_str()))
        {
            if let Some(error) = self.unknown(&mut client, name)? {
                code = self.failed(&Error::Refused(error), Some(name));
            }
        }
        if !self.output.json {
            self.output
                .text(&render::tree(&known, names, self.output.style));
        } else if names.is_empty() {
            self.print_items(&raw, "services");
        } else {
            for usage in names.iter().filter_map(|name| known.get(name.as_str())) {
                self.output.document(&serde_json::json!(usage));
            }
        }
        Ok(code)
    }

    /// Why there is no service of this name, in the supervisor's words; `None`: there is one by
    /// now.
    fn unknown(&mut self, client: &mut Client, name: &str) -> Result<Option<RpcError>, Error> {
        let named = Named { name: name.into() };
        match self.ask::<ServiceStatus>(client, method::STATUS, &named) {
            Ok(_) => Ok(None),
            Err(Error::Refused(error)) => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    pub(super) fn why(&mut self, name: &str) -> Result<u8, Error> {
        let mut client = self.connect()?;
        // For its error when there is no such service.
        let named = Named { name: name.into() };
        let (raw, _): (_, ServiceStatus) = self.ask(&mut client, method::STATUS, &named)?;
        let (_, list): (_, List) = self.ask(&mut client, method::LIST, &())?;
        let known: BTreeMap<&str, &ServiceStatus> = list
            .services
            .iter()
            .map(|service| (service.name.as_str(), service))
            .collect();
        let chain = chain(name, &known);
        let mut unknown = BTreeMap::new();
        for name in chain.iter().filter(|name| !known.contains_key(**name)) {
            let why = self.unknown(&mut client, name)?;
            unknown.extend(why.map(|why| (*name, why)));
        }
        if self.output.json {
            self.output.document(&raw);
            for service in chain.iter().filter(|below| **below != name) {
                let status = known.get(service).map(|status| serde_json::json!(status));
                let missing = serde_json::json!({
                    "name": service, "state": "unknown", "error": unknown.get(service),
                });
                self.output.document(&status.unwrap_or(missing));
            }
            return Ok(0);
        }
        let words = last_words(chain, &known, |query| {
            let (_, log) = self.ask(&mut client, method::LOG, query)?;
            Ok(log)
        })?;
        let text = render::why(name, &known, &unknown, &words, self.output.style);
        self.output.text(&self.options.called.hints(text));
        Ok(0)
    }

    pub(super) fn plan(&mut self, what: PlanWhat) -> Result<u8, Error> {
        let query = match what {
            PlanWhat::Shutdown { deadline } => PlanQuery {
                deadline_ms: deadline.map(whole_millis),
                ..PlanQuery::default()
            },
            PlanWhat::Stop {
                service,
                with_dependents,
            } => PlanQuery {
                name: Some(service),
                with_dependents,
                deadline_ms: None,
            },
        };
        let (raw, plan): (_, Plan) = self.ask(&mut self.connect()?, method::PLAN, &query)?;
        let of = query.name;
        self.print(&raw, |style| render::plan(of.as_deref(), &plan, style));
        Ok(0)
    }
}

/// Less than a millisecond counts as one.
fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// What those of the chain said last that have failed; `ask` asks for their logs.
pub(super) fn last_words(
    chain: Vec<&str>,
    known: &BTreeMap<&str, &ServiceStatus>,
    mut ask: impl FnMut(&LogQuery) -> Result<LogLines, Error>,
) -> Result<BTreeMap<String, Vec<String>>, Error> {
    let mut words = BTreeMap::new();
    let troubled = |name: &&str| {
        let state = known.get(name).map(|service| service.state);
        matches!(state, Some(ServiceState::Failed | ServiceState::Backoff))
    };
    for name in chain.into_iter().filter(troubled) {
        let query = LogQuery {
            name: Some(name.into()),
            lines: Some(LAST_WORDS),
            ..LogQuery::default()
        };
        match ask(&query) {
            Ok(log) => drop(words.insert(name.to_owned(), log.lines)),
            // Forgotten meanwhile.
            Err(Error::Refused(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(words)
}

/// The service, and while it is blocked whatever it waits for and is not ready, and so on down.
pub(super) fn chain<'a>(
    name: &'a str,
    known: &BTreeMap<&'a str, &'a ServiceStatus>,
) -> Vec<&'a str> {
    let mut seen = BTreeSet::from([name]);
    let mut open = vec![name];
    let mut chain = Vec::new();
    while let Some(at) = open.pop() {
        chain.push(at);
        if let Some(service) = known.get(at)
            && service.state == ServiceState::Blocked
        {
            let unready = render::unready(service, known);
            open.extend(unready.into_iter().rev().filter(|name| seen.insert(name)));
        }
    }
    chain
}
