//! The verdict on the whole as a container leaves it behind, for `kubectl describe pod`.

use serde::{Deserialize, Serialize};

/// No more of a termination message is read (`terminationMessagePath`, Kubernetes API:
/// `ContainerStateTerminated.message` holds at most 4096 bytes).
pub const TERMINATION_BYTES: usize = 4096;

/// How everything ended. Fields may be added, never renamed or retyped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Termination {
    /// `verified`, `lingering` or `unverified`.
    pub verdict: String,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// Why the verdict is not `verified`; null when it is.
    pub reason: Option<String>,
    /// What could be promised here, both words: `cgroup-kill marked`.
    pub guarantee: String,
    /// Whether the deadline came before every verdict.
    pub deadline_hit: bool,
    /// Services of which something lives.
    pub lingering: Vec<String>,
    /// Services whose end could not be proven.
    pub unverified: Vec<String>,
    /// What lives.
    pub survivors: Vec<TerminationSurvivor>,
    /// How many entries of the lists above did not fit.
    pub omitted: usize,
}

/// A process that is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TerminationSurvivor {
    /// Its pid, as the supervisor sees it.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// Its state letter, as in proc_pid_stat(5).
    pub state: String,
    /// Its cgroup.
    pub cgroup: String,
}

impl Termination {
    /// The document, cut until it is shorter than [`TERMINATION_BYTES`]: the lists give way from
    /// their ends, the longest first.
    pub fn to_json(&self) -> String {
        let mut cut = self.clone();
        loop {
            let text = serde_json::to_string(&cut).unwrap_or_default();
            if text.len() < TERMINATION_BYTES || !cut.shorten() {
                return text;
            }
        }
    }

    /// Takes something out; `false`: there is nothing more to take.
    fn shorten(&mut self) -> bool {
        let longest = self
            .lingering
            .len()
            .max(self.unverified.len())
            .max(self.survivors.len());
        if longest == 0 {
            return self.reason.take().is_some();
        }
        self.omitted += 1;
        if self.survivors.len() == longest {
            self.survivors.pop();
        } else if self.unverified.len() == longest {
            self.unverified.pop();
        } else {
            self.lingering.pop();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_whole_and_what_does_not_is_cut_and_counted() {
        let mut termination = Termination {
            verdict: "lingering".into(),
            exit_code: 70,
            lingering: vec!["web".into()],
            ..Termination::default()
        };
        let read = |text: &str| serde_json::from_str::<Termination>(text).unwrap();
        assert_eq!(read(&termination.to_json()), termination);
        for pid in 0..1000 {
            termination.survivors.push(TerminationSurvivor {
                pid,
                command: "\"quoted\\\n\" ".repeat(usize::try_from(pid % 50).unwrap()),
                ..TerminationSurvivor::default()
            });
            termination.unverified.push("x".repeat(200));
        }
        let text = termination.to_json();
        assert!(
            text.len() < TERMINATION_BYTES && text.len() > 3000,
            "{}",
            text.len()
        );
        let cut = read(&text);
        let left = cut.survivors.len() + cut.unverified.len() + cut.lingering.len();
        assert_eq!(left + cut.omitted, 2001);
        assert!(!cut.survivors.is_empty() && cut.lingering == ["web"]);
        termination.reason = Some("y".repeat(5000));
        assert!(termination.to_json().len() < TERMINATION_BYTES);
    }
}
