//! The last shutdown, as the receipts of its services tell of it.

use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::receipt::{Budget, Rung, Verdict};

/// Two receipts of one shutdown do not say moments further apart than this for when it began
/// (ms), except for what was on its way down already.
const SAME_MS: f64 = 100.0;
/// The wall clock and CLOCK_BOOTTIME are not further apart in one receipt of a boot than in
/// another (ms), unless somebody sets the wall clock between them.
const SAME_BOOT_MS: f64 = 10_000.0;

/// `nought_lastShutdown`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LastShutdown {
    /// What each service's receipt says; empty when there was no shutdown.
    pub receipts: Vec<Course>,
}

/// How a service went down in a shutdown: fields of its receipt, without the lists of processes,
/// which can be long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// The service's name.
    pub service: String,
    /// What is proven.
    #[serde(default)]
    pub verdict: Verdict,
    /// The service whose verdict it waited for last before it was asked; null: none.
    #[serde(default)]
    pub waited_for: Option<String>,
    /// When its end began, milliseconds on CLOCK_BOOTTIME.
    #[serde(default)]
    pub began_mono_ms: f64,
    /// When the verdict fell, milliseconds on CLOCK_BOOTTIME.
    #[serde(default)]
    pub ended_mono_ms: f64,
    /// When the verdict fell, wall clock, RFC 3339; null when that could not be read.
    #[serde(default)]
    pub ended_at: Option<String>,
    /// What it was given of the shutdown's deadline: what is no shutdown's has none.
    pub budget: Budget,
    /// Everything the ladder did and saw, in order.
    #[serde(default)]
    pub rungs: Vec<Rung>,
}

impl Course {
    /// What a stored receipt, a line of JSON, says; `None`: it is not of a shutdown, or no
    /// receipt.
    pub fn of_line(line: &str) -> Option<Self> {
        // Most are of single stops: not worth reading.
        if !line.contains("\"budget\"") {
            return None;
        }
        let course: Self = serde_json::from_str(line).ok()?;
        let moments = [
            course.began_mono_ms,
            course.ended_mono_ms,
            course.budget.asked_ms,
            course.budget.deadline_ms,
        ];
        // What is no moment at all comes from a file that is not ours.
        let sound = |ms: &f64| ms.is_finite() && ms.abs() < 1e15;
        moments.iter().all(sound).then_some(course)
    }

    /// When the shutdown began, by what this receipt knows of it.
    pub fn asked_mono_ms(&self) -> f64 {
        self.began_mono_ms - self.budget.asked_ms
    }

    fn ended_wall_ms(&self) -> Option<f64> {
        let at = humantime::parse_rfc3339(self.ended_at.as_ref()?).ok()?;
        let since = at.duration_since(UNIX_EPOCH).ok()?;
        Some(since.as_secs_f64() * 1000.0)
    }

    /// How far CLOCK_BOOTTIME, which begins anew with each boot, is behind the wall clock.
    fn boot_wall_ms(&self) -> Option<f64> {
        Some(self.ended_wall_ms()? - self.ended_mono_ms)
    }
}

/// When the shutdown of these receipts began, milliseconds on CLOCK_BOOTTIME; `None`: there are none.
pub fn shutdown_began(of_it: &[Course]) -> Option<f64> {
    // What was on its way down already says another moment: the latest is the shutdown's.
    let moments = of_it.iter().map(Course::asked_mono_ms);
    moments.max_by(f64::total_cmp)
}

/// Those of the last shutdown among the newest receipts of a shutdown of each service, in the
/// order in which they were asked.
pub fn last_shutdown(newest: Vec<Course>) -> Vec<Course> {
    // A state directory may outlive a boot: CLOCK_BOOTTIME alone does not say what was last.
    let ended = |course: &Course| course.ended_wall_ms().unwrap_or(f64::NEG_INFINITY);
    let order = |a: &&Course, b: &&Course| {
        let mono = a.ended_mono_ms.total_cmp(&b.ended_mono_ms);
        ended(a).total_cmp(&ended(b)).then(mono)
    };
    let Some(last) = newest.iter().max_by(order) else {
        return newest;
    };
    let (boot, asked) = (last.boot_wall_ms(), last.asked_mono_ms());
    let same_boot = |course: &Course| match (course.boot_wall_ms(), boot) {
        (Some(own), Some(boot)) if (own - boot).abs() >= SAME_BOOT_MS => {
            // Or the wall clock was set in its midst.
            (course.asked_mono_ms() - asked).abs() < SAME_MS
        }
        _ => true,
    };
    let mut of_it = newest;
    of_it.retain(same_boot);
    let began = shutdown_began(&of_it).unwrap_or(asked);
    of_it.retain(|course| {
        let same = (course.asked_mono_ms() - began).abs() < SAME_MS;
        same || course.ended_mono_ms >= began
    });
    let moment = |course: &Course| course.began_mono_ms;
    of_it.sort_by(|a, b| {
        let order = moment(a).total_cmp(&moment(b));
        order.then_with(|| a.service.cmp(&b.service))
    });
    of_it
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(service: &str, asked_ms: f64, began: f64, ended: f64) -> Course {
        let budget = Budget {
            asked_ms,
            ..Budget::default()
        };
        Course {
            service: service.into(),
            began_mono_ms: began,
            ended_mono_ms: ended,
            budget,
            ..Course::default()
        }
    }

    fn names(courses: Vec<Course>) -> Vec<String> {
        let last = last_shutdown(courses);
        last.into_iter().map(|course| course.service).collect()
    }

    #[test]
    fn what_ended_before_it_began_is_of_an_earlier_one() {
        let web = course("web", 0.0, 5000.0, 6000.0);
        let db = course("db", 1000.0, 6000.0, 6200.0);
        let old = course("old", 0.0, 100.0, 200.0);
        // Asked by itself before, and still on its way.
        let slow = course("slow", 0.0, 4000.0, 5500.0);
        assert_eq!(names(vec![web, old, db, slow]), ["slow", "web", "db"]);
        assert!(last_shutdown(Vec::new()).is_empty());
    }

    #[test]
    fn what_is_of_an_earlier_boot_is_not_of_it_however_long_that_lasted() {
        let at = |mut course: Course, at: &str| {
            course.ended_at = Some(at.into());
            course
        };
        let old = course("old", 0.0, 900_000_000.0, 900_000_100.0);
        let old = at(old, "2026-11-20T10:00:00.100Z");
        let web = at(course("web", 0.0, 5000.0, 6000.0), "2026-11-22T10:00:06Z");
        let db = course("db", 1000.0, 6000.0, 6200.0);
        let db = at(db, "2026-11-22T10:00:06.200Z");
        assert_eq!(names(vec![old, web, db]), ["web", "db"]);
    }

    #[test]
    fn a_wall_clock_that_is_set_in_its_midst_hides_nobody() {
        let mut web = course("web", 0.0, 5000.0, 5100.0);
        web.ended_at = Some("2026-11-22T10:00:00Z".into());
        let mut db = course("db", 100.0, 5100.0, 9100.0);
        db.ended_at = Some("2026-11-22T11:00:04Z".into());
        assert_eq!(names(vec![db, web]), ["web", "db"]);
    }

    #[test]
    fn a_line_without_a_share_of_a_deadline_or_with_impossible_moments_is_none() {
        let line = |budget: &str, ended: &str| {
            format!(r#"{{"service":"a","began_mono_ms":1.0,"ended_mono_ms":{ended}{budget}}}"#)
        };
        let share = r#","budget":{"deadline_ms":2.0},"killed":[{"pid":1}]"#;
        let found = Course::of_line(&line(share, "2.0")).unwrap();
        assert_eq!((found.budget.deadline_ms, found.ended_mono_ms), (2.0, 2.0));
        assert_eq!(Course::of_line(&line("", "2.0")), None);
        assert_eq!(Course::of_line(&line(share, "1e300")), None);
        assert_eq!(Course::of_line("{\"budget\""), None);
    }
}
