//! Signal numbers by name, without a system header: the core is pure.

use std::fmt;

/// A signal number, valid on Linux (1 to 64). Names are those of x86-64, arm64 and riscv64
/// (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// glibc's SIGRTMIN: the kernel's 32 and 33 belong to the threads library.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

impl Signal {
    /// Hang-up.
    pub const HUP: Signal = Signal(1);
    /// Interrupt.
    pub const INT: Signal = Signal(2);
    /// Quit.
    pub const QUIT: Signal = Signal(3);
    /// Kill; cannot be caught.
    pub const KILL: Signal = Signal(9);
    /// Terminate.
    pub const TERM: Signal = Signal(15);
    /// Continue.
    pub const CONT: Signal = Signal(18);

    /// The signal with this number, when there is one.
    pub fn from_number(number: i32) -> Option<Signal> {
        u8::try_from(number)
            .ok()
            .filter(|n| (1..=RTMAX).contains(n))
            .map(Signal)
    }

    /// Parses `SIGTERM`, `term`, `15`, `RTMIN+3`, `SIGRTMAX-1`, in any case.
    pub fn parse(text: &str) -> Option<Signal> {
        let upper = text.trim().to_ascii_uppercase();
        if let Ok(number) = upper.parse::<i32>() {
            return Signal::from_number(number);
        }
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(rest) = name.strip_prefix("RTMIN") {
            let offset = if rest.is_empty() {
                0
            } else {
                rest.strip_prefix('+')?.parse::<u8>().ok()?
            };
            return RTMIN
                .checked_add(offset)
                .filter(|n| *n <= RTMAX)
                .map(Signal);
        }
        if let Some(rest) = name.strip_prefix("RTMAX") {
            let offset = if rest.is_empty() {
                0
            } else {
                rest.strip_prefix('-')?.parse::<u8>().ok()?
            };
            return RTMAX
                .checked_sub(offset)
                .filter(|n| *n >= RTMIN)
                .map(Signal);
        }
        let alias = match name {
            "IOT" => "ABRT",
            "CLD" => "CHLD",
            "POLL" => "IO",
            other => other,
        };
        let index = NAMES.iter().position(|known| *known == alias)?;
        u8::try_from(index + 1).ok().map(Signal)
    }

    /// The number to hand to kill(2).
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0).wrapping_sub(1)) {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 >= RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "SIG{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_offsets_parse() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("RTMIN+3", 37),
            ("SIGRTMAX", 64),
            ("Poll", 29),
        ] {
            assert_eq!(
                Signal::parse(text).map(Signal::number),
                Some(number),
                "{text}"
            );
        }
        for text in [
            "",
            "SIG",
            "0",
            "65",
            "-1",
            "RTMIN+31",
            "RTMAX-31",
            "TERMINATE",
        ] {
            assert_eq!(Signal::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_number_displays_as_a_name_that_parses_back() {
        for number in (1..=31).chain(34..=64) {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(Signal::parse(&signal.to_string()), Some(signal), "{signal}");
        }
    }
}
