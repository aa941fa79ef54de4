//! What happened, one line per step; kept only for a run that is looked at.

use std::fmt::Write;

use crate::core::{AuxKind, Effect, Event};

#[derive(Debug, Default)]
pub struct Trace {
    on: bool,
    lines: Vec<String>,
}

impl Trace {
    pub fn new(on: bool) -> Self {
        Self {
            on,
            lines: Vec::new(),
        }
    }

    pub fn say(&mut self, now: u64, line: impl FnOnce() -> String) {
        if self.on {
            let ms = now / 1_000_000;
            let us = now / 1_000 % 1_000;
            self.lines.push(format!("{ms:>9}.{us:03} {}", line()));
        }
    }

    /// The last `most` lines.
    pub fn tail(&self, most: usize) -> String {
        let skipped = self.lines.len().saturating_sub(most);
        let mut text = String::new();
        if skipped > 0 {
            let _ = writeln!(text, "({skipped} lines before these)");
        }
        for line in &self.lines[skipped..] {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// One line for an event.
pub fn event(event: &Event) -> String {
    match event {
        Event::Request { id, request } => format!("◄ request {} {request:?}", id.0),
        Event::Scanned { r#gen, op, report } => format!(
            "◄ scanned g{} op{} populated {:?} escaped {:?} alive {:?} conclusive {} error {}",
            r#gen.0,
            op.0,
            report.populated,
            pids(&report.escaped),
            pids(&report.alive),
            report.conclusive,
            report.error.is_some(),
        ),
        Event::Killed { r#gen, op, report } => format!(
            "◄ killed g{} op{} populated {:?} killed {:?} error {}",
            r#gen.0,
            op.0,
            report.populated,
            pids(&report.killed),
            report.error.is_some(),
        ),
        other => format!("◄ {other:?}"),
    }
}

/// One line for an effect.
pub fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Receipt(receipt) => format!(
            "► receipt g{} {} {:?} ({:?}) {} late {} survivors {:?}",
            receipt.r#gen.0,
            receipt.service,
            receipt.verdict,
            receipt.reason,
            receipt.cause.as_str(),
            receipt.late,
            receipt.survivors.iter().map(|s| s.pid).collect::<Vec<_>>(),
        ),
        Effect::RunAux { r#gen, aux, kind } => {
            let kind = match kind {
                AuxKind::Test => "test",
                AuxKind::Health => "health check",
                AuxKind::Stop => "stop command",
                AuxKind::Reload => "reload command",
            };
            format!("► run {kind} g{} aux{}", r#gen.0, aux.0)
        }
        other => format!("► {other:?}"),
    }
}

fn pids(processes: &[crate::core::Proc]) -> Vec<u32> {
    processes.iter().map(|p| p.pid).collect()
}
