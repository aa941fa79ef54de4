//! Words of the command line to checked values; what is wrong with one says what to write.

use std::time::Duration;

use crate::config;

/// A length of time.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).ok_or_else(|| {
        "write whole seconds (`10`) or a number with its unit: `250ms`, `1.5s`, `2m`".into()
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
    fn a_group_is_a_name_or_a_number() {
        assert_eq!(group("0"), Ok(0));
        assert_eq!(group("root"), Ok(0));
        assert!(group("no such group").is_err());
    }
}
