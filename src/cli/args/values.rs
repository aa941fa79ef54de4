//! Words of the command line to checked values; what is wrong with one says what to write.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config;
use crate::sys::clock;

/// A length of time.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| {
        "write whole seconds (`10`) or a number with its unit: `250ms`, `1.5s`, `2m`".into()
    })
}

/// A length of time that is not zero.
pub(in crate::cli) fn positive(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("zero would leave no time for anything: write 1s or more".into()),
        length => Ok(length),
    }
}

/// How often to look.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        length if length < Duration::from_millis(100) => {
            Err("the supervisor would be asked all the time: write 100ms or more".into())
        }
        length => Ok(length),
    }
}

/// So long ago, or a time in UTC.
pub(super) fn moment(text: &str) -> Result<SystemTime, String> {
    let now = UNIX_EPOCH + Duration::from_millis(clock::wall_now_ms());
    if let Some(ago) = config::parse_duration(text) {
        return Ok(now.checked_sub(ago).unwrap_or(UNIX_EPOCH));
    }
    humantime::parse_rfc3339_weak(text).map_err(|_| {
        "write how long ago (`5m`), or a time in UTC: `2026-11-23 05:00:00`, `2026-11-23T05:00:00Z`"
            .into()
    })
}

/// A group by its name or number.
pub(super) fn group(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match nix::unistd::Group::from_name(text) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err("there is no such group".into()),
        Err(error) => Err(format!("it cannot be looked up: {error}")),
    }
}

/// A number of lines.
pub(super) fn lines(text: &str) -> Result<u32, String> {
    let number = text.parse().ok();
    number.ok_or_else(|| format!("write a number of lines, {} at the most", u32::MAX))
}

/// A number of receipts.
pub(super) fn receipts(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("write a number from 1 to {}", u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_at_all_is_refused_where_it_means_nothing() {
        for zero in ["0", "0s", "0ms"] {
            assert!(positive(zero).is_err(), "{zero}");
            assert_eq!(duration(zero), Ok(Duration::ZERO));
        }
        assert_eq!(positive("25"), Ok(Duration::from_secs(25)));
    }

    #[test]
    fn a_group_is_a_name_or_a_number() {
        assert_eq!(group("0"), Ok(0));
        assert_eq!(group("root"), Ok(0));
        assert!(group("no such group").is_err());
    }
}
