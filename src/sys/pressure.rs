//! What a cgroup has waited for and moved: its pressure stall information and its io account,
//! one reading each.

use std::path::Path;
use std::time::Duration;

use super::procfs;

/// How much of the time tasks waited for one resource (Documentation/accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Percent of the last ten seconds in which at least one task waited.
    pub some_avg10: f64,
    /// All of that time since the cgroup was made.
    pub some: Duration,
    /// Percent of the last ten seconds in which all tasks that had something to do waited.
    pub full_avg10: f64,
    /// All of that time.
    pub full: Duration,
}

/// Pressure by resource.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressures {
    /// For a processor.
    pub cpu: Pressure,
    /// For memory that has to be reclaimed or read back.
    pub memory: Pressure,
    /// For block devices.
    pub io: Pressure,
}

/// What went to and came from block devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Bytes read, over all devices.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
}

/// The pressure in a cgroup and below it. It needs no controller; `None` where the kernel counts
/// none (before 4.20, without CONFIG_PSI, or with psi=0).
pub fn of_cgroup(dir: &Path) -> Option<Pressures> {
    let read = |file: &str| parse(&procfs::read_text(&dir.join(file))?);
    Some(Pressures {
        cpu: read("cpu.pressure")?,
        memory: read("memory.pressure")?,
        io: read("io.pressure")?,
    })
}

/// What a cgroup and those below it have moved; `None` without the io controller.
pub fn moved(dir: &Path) -> Option<Moved> {
    let text = procfs::read_text(&dir.join("io.stat"))?;
    let sum = |key: &str| {
        let fields = text.split_ascii_whitespace();
        let values = fields.filter_map(|field| field.strip_prefix(key)?.parse::<u64>().ok());
        values.fold(0, u64::saturating_add)
    };
    Some(Moved {
        read_bytes: sum("rbytes="),
        written_bytes: sum("wbytes="),
    })
}

/// `some avg10=0.12 avg60=0.00 avg300=0.00 total=345` and `full …`; cpu has no `full` before
/// Linux 5.13.
fn parse(text: &str) -> Option<Pressure> {
    let line = |word: &str| text.lines().find_map(|line| line.strip_prefix(word));
    let value = |line: &str, key: &str| {
        let mut fields = line.split_ascii_whitespace();
        fields.find_map(|field| field.strip_prefix(key).map(str::to_owned))
    };
    let read = |line: &str| {
        let avg10: f64 = value(line, "avg10=")?.parse().ok()?;
        let total = value(line, "total=")?.parse().ok()?;
        Some((avg10, Duration::from_micros(total)))
    };
    let (some_avg10, some) = read(line("some ")?)?;
    let (full_avg10, full) = line("full ").and_then(read).unwrap_or_default();
    Some(Pressure {
        some_avg10,
        some,
        full_avg10,
        full,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_with_and_without_its_second_line() {
        let some = "some avg10=12.50 avg60=3.00 avg300=1.00 total=2500000\n";
        let full = "full avg10=1.25 avg60=0.00 avg300=0.00 total=1000\n";
        let both = parse(&format!("{some}{full}")).unwrap();
        assert_eq!((both.some_avg10, both.full_avg10), (12.5, 1.25));
        assert_eq!(both.some, Duration::from_millis(2500));
        assert_eq!(both.full, Duration::from_millis(1));
        assert_eq!(parse(some).unwrap().full, Duration::ZERO);
        for broken in [
            "",
            "full avg10=1 total=1",
            "some avg10=x total=1",
            "some avg10=1.0",
        ] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
