//! Durations as service files and the command line write them.

use std::time::Duration;

/// Nanoseconds of each unit, longest spelling first where one begins with another.
const UNITS: [(&str, u64); 6] = [
    ("ms", 1_000_000),
    ("us", 1_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// What a duration looks like, for hints.
pub(crate) const EXAMPLES: &str = "write whole seconds (`10`) or a number with its unit: `250ms`, `1.5s`, `2m`, `1h30m` (us, ms, s, m, h, d)";

/// Parses `10` (seconds), `250ms`, `1.5s`, `2m`, `1h30m`. `None` for anything else, a negative
/// number, a fraction without a unit, and what does not fit in 64 bits of nanoseconds
/// (584 years).
pub fn parse(text: &str) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let nanos = text.parse::<u64>().ok()?.checked_mul(1_000_000_000)?;
        return Some(Duration::from_nanos(nanos));
    }
    let mut rest = text;
    let mut total = 0u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let (unit, unit_ns) = UNITS.iter().find(|(unit, _)| after.starts_with(unit))?;
        total = total.checked_add(scaled(number, *unit_ns)?)?;
        rest = after.get(unit.len()..)?.trim_start();
    }
    Some(Duration::from_nanos(total))
}

/// `number` (digits, at most one point) times `unit_ns`, exactly, below a nanosecond cut off.
fn scaled(number: &str, unit_ns: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return None;
    }
    let mut nanos = whole.parse::<u64>().ok()?.checked_mul(unit_ns)?;
    let mut place = unit_ns;
    for digit in fraction.bytes() {
        place /= 10;
        nanos = nanos.checked_add(u64::from(digit.wrapping_sub(b'0')) * place)?;
    }
    Some(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_duration_is() {
        for (text, nanos) in [
            ("0", 0),
            ("10", 10_000_000_000),
            (" 10 ", 10_000_000_000),
            ("250ms", 250_000_000),
            ("1.5s", 1_500_000_000),
            ("2m", 120_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1m 30s", 90_000_000_000),
            ("7us", 7_000),
            ("0.0000000001s", 0),
            ("1d", 86_400_000_000_000),
        ] {
            assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn what_is_none() {
        for text in [
            "",
            " ",
            "-1",
            "1.5",
            "1.",
            ".5s",
            "1.2.3s",
            "s",
            "5x",
            "10 seconds",
            "1e3s",
            "é",
            "99999999999999999999",
            "18446744073709551615",
            "999999999999d",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
