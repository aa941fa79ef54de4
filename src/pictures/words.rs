//! Durations for people.

use std::time::Duration;

/// `3.1 ms`, `5.02 s`, `2m 5s`, `3h 10m`, `4d 2h`.
pub(crate) fn duration(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0 => {
            let ms = duration.as_secs_f64() * 1000.0;
            if ms < 10.0 {
                format!("{} ms", trimmed(ms, 2))
            } else {
                format!("{} ms", trimmed(ms, 1))
            }
        }
        1..60 => format!("{} s", trimmed(duration.as_secs_f64(), 2)),
        60..3600 => format!("{}m {}s", secs / 60, secs % 60),
        3600..86_400 => format!("{}h {}m", secs / 3600, secs % 3600 / 60),
        _ => format!("{}d {}h", secs / 86_400, secs % 86_400 / 3600),
    }
}

/// A number with at most so many places.
pub(crate) fn trimmed(number: f64, places: usize) -> String {
    let text = format!("{number:.places$}");
    let trimmed = text.trim_end_matches('0').trim_end_matches('.');
    trimmed.to_string()
}

/// As [`duration`], of milliseconds.
pub(crate) fn millis(ms: f64) -> String {
    // What is negative or no number at all comes from a broken answer; it must not panic.
    Duration::try_from_secs_f64(ms / 1000.0).map_or_else(|_| "? ms".into(), duration)
}
