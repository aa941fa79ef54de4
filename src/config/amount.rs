//! Amounts as service files and the command line write them: bytes, and processor time.

/// Powers of 1024, as the kernel's own files read them.
const UNITS: [(char, u64); 4] = [
    ('K', 1 << 10),
    ('M', 1 << 20),
    ('G', 1 << 30),
    ('T', 1 << 40),
];

/// Parses `512M`, `1.5G`, `2GiB`, `1048576`. `None` for anything else, zero, and what does not
/// fit in 63 bits.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let bare = text.strip_suffix("iB").or_else(|| text.strip_suffix('B'));
    let bare = bare.or_else(|| text.strip_suffix('i')).unwrap_or(text);
    let unit = UNITS.iter().find_map(|(letter, bytes)| {
        let number = bare.strip_suffix([*letter, letter.to_ascii_lowercase()])?;
        Some((number, *bytes))
    });
    let (number, unit) = unit.unwrap_or((bare, 1));
    let bytes = decimal(number, unit)?;
    (bytes > 0 && i64::try_from(bytes).is_ok()).then_some(bytes)
}

/// Parses `1.5` (processors) or `150%`: millionths of a processor. `None` for anything else,
/// below a hundredth, and above a million processors.
pub fn parse_processors(text: &str) -> Option<u64> {
    let text = text.trim();
    let millionths = match text.strip_suffix('%') {
        Some(percent) => decimal(percent.trim_end(), 10_000)?,
        None => decimal(text, 1_000_000)?,
    };
    (10_000..=1_000_000_000_000)
        .contains(&millionths)
        .then_some(millionths)
}

/// `number` (digits, at most one point) times `unit`, cut off below 1.
fn decimal(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u128>().ok()? * u128::from(unit) / scale;
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    whole.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read() {
        for (text, bytes) in [
            ("1", 1),
            ("1048576", 1 << 20),
            ("64K", 64 << 10),
            ("64k", 64 << 10),
            ("512M", 512 << 20),
            ("512MiB", 512 << 20),
            ("512Mi", 512 << 20),
            ("512MB", 512 << 20),
            ("1.5G", 3 << 29),
            ("2T", 2 << 40),
        ] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in [
            "",
            "0",
            "-1",
            "M",
            "1.M",
            ".5M",
            "1,5G",
            "2 GB x",
            "max",
            "9999999999T",
            "1e3",
            "0.1",
        ] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn processors_are_read() {
        for (text, millionths) in [
            ("1", 1_000_000),
            ("1.5", 1_500_000),
            ("0.25", 250_000),
            ("150%", 1_500_000),
            ("12.5 %", 125_000),
            ("0.01", 10_000),
        ] {
            assert_eq!(parse_processors(text), Some(millionths), "{text}");
        }
        for text in ["", "0", "0.001", "%", "-1", "a", "1.5.1", "99999999"] {
            assert_eq!(parse_processors(text), None, "{text}");
        }
    }
}
