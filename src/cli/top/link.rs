//! What is asked of the supervisor, each kind of question on a thread and a connection of its own:
//! the keyboard waits for none of them. Threads end with the process, or when nobody listens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use serde_json::Value;

use super::model::{Event, Told, Verb};
use crate::api::{
    Done, Info, LogLines, LogQuery, ReceiptQuery, Receipts, Restart, ServiceStatus, Start, Stop,
    UsageQuery, Usages, method,
};
use crate::cli::client::{ANSWER, Client, Wait};
use crate::cli::command::done_line;
use crate::cli::error::Error;
use crate::cli::output::Style;
use crate::cli::render::Tone;
use crate::cli::show::{chain, last_words};
use crate::sys::clock;

/// Where events go; whoever is slow to take them holds up whoever sends them.
pub(super) type News = SyncSender<Event>;

/// How often it is asked what seldom changes.
const INFO: Duration = Duration::from_secs(5);
/// A connection that is silent for so long is given up for another: its supervisor may have been
/// replaced.
const SILENCE: Duration = Duration::from_secs(30);
/// How long to wait before another connection is tried.
const AGAIN: Duration = Duration::from_secs(1);
/// A follower takes no more than one batch in this time, and the supervisor drops what a flood has
/// more: nobody reads it.
const BATCH: Duration = Duration::from_millis(100);
/// How long a follower that is not wanted any more may stay.
const FOLLOWED: Duration = Duration::from_millis(500);
/// Lines of the log that are asked for at first.
const FIRST_LINES: u32 = 500;

/// The supervisor's socket, and how to speak of what goes over it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) socket: PathBuf,
    pub(super) debug: bool,
    /// How long to wait for an answer, where somebody has said so.
    pub(super) timeout: Option<Duration>,
}

impl Link {
    pub(super) fn connect(&self) -> Result<Client<'_>, Error> {
        Client::connect(&self.socket, self.debug)
    }
}

/// In one line.
fn brief(error: &Error) -> String {
    let mut text = error.to_string();
    if let Some(cause) = std::error::Error::source(error) {
        text.push_str(&format!(" ({cause})"));
    }
    text
}

impl Link {
    /// As long as it takes, up to `--timeout` or else [`SILENCE`]: a supervisor that was stopped
    /// goes on where it was.
    fn patience(&self) -> Duration {
        self.timeout.unwrap_or(SILENCE)
    }
}

pub(super) fn info(client: &mut Client<'_>, link: &Link) -> Result<Info, Error> {
    let raw = client.call(method::INFO, &Value::Null, link.patience())?;
    client.typed(&raw)
}

/// The answer as it came, and typed.
pub(super) fn usages(client: &mut Client<'_>, link: &Link) -> Result<(Value, Usages), Error> {
    let raw = client.call(method::USAGE, &UsageQuery::default(), link.patience())?;
    let usages = client.typed(&raw)?;
    Ok((raw, usages))
}

/// A reading each `interval` after the last has come, and one at once when `ask` says so.
pub(super) fn poll(link: &Link, interval: Duration, ask: &Receiver<()>, news: &News) {
    loop {
        let Err(error) = readings(link, interval, ask, news) else {
            return;
        };
        if news.send(Event::Trouble(brief(&error))).is_err() {
            return;
        }
        if ask.recv_timeout(AGAIN) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// `Ok`: nobody listens any more.
fn readings(link: &Link, interval: Duration, ask: &Receiver<()>, news: &News) -> Result<(), Error> {
    let mut client = link.connect()?;
    let mut next_info = 0;
    loop {
        let began = clock::boot_now();
        if began >= next_info {
            let info = info(&mut client, link)?;
            next_info = began + clock::as_nanos(INFO);
            if news.send(Event::Info(Box::new(info))).is_err() {
                return Ok(());
            }
        }
        let (_, usages) = usages(&mut client, link)?;
        let took = clock::since(began);
        if news.send(Event::Reading(usages.services)).is_err() {
            return Ok(());
        }
        // Whoever needs long for an answer is not asked all the time.
        match ask.recv_timeout(interval.max(took)) {
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(()) | Err(RecvTimeoutError::Timeout) => while ask.try_recv().is_ok() {},
        }
    }
}

/// The log of a service until `ended`, by the number `ticket`.
pub(super) fn follow(link: &Link, name: &str, ticket: u64, ended: &Arc<AtomicBool>, news: &News) {
    // Nobody wakes it: it waits without asking.
    let (_keep, pause) = std::sync::mpsc::channel::<()>();
    while !ended.load(Ordering::Acquire) {
        let Err(error) = lines(link, name, ticket, ended, &pause, news) else {
            return;
        };
        let why = brief(&error);
        if news.send(Event::LogTrouble { ticket, why }).is_err() {
            return;
        }
        let _ = pause.recv_timeout(AGAIN);
    }
}

fn lines(
    link: &Link,
    name: &str,
    ticket: u64,
    ended: &Arc<AtomicBool>,
    pause: &Receiver<()>,
    news: &News,
) -> Result<(), Error> {
    let mut client = link.connect()?;
    let parts = ["test", "health", "stop", "reload"];
    let query = LogQuery {
        name: Some(name.to_owned()),
        lines: Some(FIRST_LINES),
        names: parts.map(|part| format!("{name}/{part}")).to_vec(),
        records: true,
    };
    let id = client.send(method::FOLLOW, &query)?;
    // Once a second it looks whether anybody still wants it.
    let began = clock::boot_now();
    let mut meanwhile =
        |_| match ended.load(Ordering::Acquire) || clock::since(began) >= link.patience() {
            true => Err(Error::NoAnswer {
                socket: link.socket.clone(),
                waited: clock::since(began),
            }),
            false => Ok(()),
        };
    client.answer(id, Wait::Work(None), method::FOLLOW, &mut meanwhile)?;
    let mut first = true;
    while !ended.load(Ordering::Acquire) {
        let Some(raw) = client.item(FOLLOWED)? else {
            continue;
        };
        let lines: LogLines = client.typed(&raw)?;
        let event = Event::Lines {
            ticket,
            lines,
            first,
        };
        if news.send(event).is_err() {
            return Ok(());
        }
        first = false;
        let _ = pause.recv_timeout(BATCH);
    }
    Ok(())
}

/// Does it, and says what came of it.
pub(super) fn act(link: &Link, verb: Verb, name: String, news: &News) {
    let (text, tone) = match done(link, verb, &name) {
        Ok(done) => {
            let text = done_line(&done, verb.word(), Style { color: false });
            let verdict = done
                .receipt
                .as_ref()
                .map(|receipt| receipt.verdict.as_str());
            let tone = verdict.map_or(Tone::Good, crate::cli::render::tone);
            (text, tone)
        }
        Err(error) => (error.render(Style { color: false }), Tone::Bad),
    };
    let text = match tone {
        Tone::Bad => format!("{} {name}: {text}", verb.word()),
        _ => text,
    };
    // Nobody left to tell: it is done all the same.
    let _ = news.send(Event::Done {
        verb,
        name,
        text,
        tone,
    });
}

fn done(link: &Link, verb: Verb, name: &str) -> Result<Done, Error> {
    let mut client = link.connect()?;
    let name = name.to_owned();
    let (wait, force, with_dependents) = (true, false, false);
    let id = match verb {
        Verb::Start => client.send(method::START, &Start { name, wait, force })?,
        Verb::Restart => client.send(method::RESTART, &Restart { name, wait })?,
        Verb::Stop => client.send(
            method::STOP,
            &Stop {
                name,
                force,
                with_dependents,
            },
        )?,
    };
    let raw = client.answer(id, Wait::Work(link.timeout), verb.word(), &mut |_| Ok(()))?;
    client.typed(&raw)
}

/// What is told of the services that are named, the newest question first.
pub(super) fn tell(link: &Link, asked: &Receiver<String>, news: &News) {
    while let Ok(mut name) = asked.recv() {
        while let Ok(newer) = asked.try_recv() {
            name = newer;
        }
        let told = told(link, &name).unwrap_or_else(|error| Told {
            name,
            trouble: Some(brief(&error)),
            ..Told::default()
        });
        if news.send(Event::Told(Box::new(told))).is_err() {
            return;
        }
    }
}

fn told(link: &Link, name: &str) -> Result<Told, Error> {
    let mut client = link.connect()?;
    let query = ReceiptQuery {
        name: name.to_owned(),
        last: 1,
    };
    let raw = client.call(method::RECEIPT, &query, link.timeout.unwrap_or(ANSWER))?;
    let mut receipts: Receipts = client.typed(&raw)?;
    let raw = client.call(method::LIST, &Value::Null, link.timeout.unwrap_or(ANSWER))?;
    let list: crate::api::List = client.typed(&raw)?;
    let known: BTreeMap<&str, &ServiceStatus> = list
        .services
        .iter()
        .map(|status| (status.name.as_str(), status))
        .collect();
    let words = last_words(chain(name, &known), &known, |query| {
        let raw = client.call(method::LOG, query, link.timeout.unwrap_or(ANSWER))?;
        client.typed(&raw)
    })?;
    Ok(Told {
        name: name.to_owned(),
        words,
        receipt: receipts.receipts.pop(),
        trouble: None,
    })
}
