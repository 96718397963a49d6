//! Cloudflare's cron expressions: five fields in UTC, with names of months and days, `L`, `W` and `#`. Days of the week
//! count from 1 for Sunday to 7 for Saturday, unlike those of most other crons.

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};

/// A schedule.
#[derive(Debug, Clone)]
pub struct Schedule(Cron);

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no schedule: {reason}")]
pub struct ScheduleError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Schedule {
    /// Reads an expression such as `*/5 0-6 * JAN-MAR MON#2`.
    ///
    /// # Errors
    /// [`ScheduleError`] when it is none.
    pub fn parse(text: &str) -> Result<Self, ScheduleError> {
        let wrong = |reason: String| ScheduleError {
            text: text.to_owned(),
            reason,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        // The library would take a nickname such as `@daily`, too.
        let [minute, hour, ..] = fields.as_slice() else {
            return Err(wrong(counted(fields.len())));
        };
        if fields.len() != 5 {
            return Err(wrong(counted(fields.len())));
        }
        for (name, field) in [("minute", minute), ("hour", hour)] {
            if field
                .bytes()
                .any(|byte| byte.is_ascii_alphabetic() || byte == b'#')
            {
                return Err(wrong(format!("`{field}` is no {name}")));
            }
        }
        CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .alternative_weekdays(true)
            .build()
            .parse(&fields.join(" "))
            .map(Self)
            .map_err(|error| wrong(plain(&error.to_string())))
    }

    /// Whether its time is the minute that `time` is in.
    #[must_use]
    pub fn is_due(&self, time: Timestamp) -> bool {
        let time = time.to_zoned(TimeZone::UTC).datetime();
        let Ok(minute) = time.with().second(0).subsec_nanosecond(0).build() else {
            return false;
        };
        // The search ends in an error only for times beyond the calendar.
        self.0.is_time_matching(&minute).unwrap_or(false)
    }
}

/// What the library says, without its own words for the kind of mistake.
fn plain(said: &str) -> String {
    let said = said.trim_end_matches('.');
    let said = said.split_once("rror: ").map_or(said, |(_, rest)| rest);
    let said = said.strip_prefix("Invalid pattern: ").unwrap_or(said);
    let mut letters = said.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}

fn counted(count: usize) -> String {
    format!(
        "it has {count} {}, not five: minute, hour, day, month, day of the week",
        if count == 1 { "field" } else { "fields" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_count_from_sunday_and_times_are_utc() {
        for (cron, due, not) in [
            (
                "*/5 * * * *",
                "2026-07-30T12:05:59Z",
                "2026-07-30T12:06:00Z",
            ),
            ("0 2 * * *", "2026-07-30T02:00:00Z", "2026-07-30T03:00:00Z"),
            // 2026-07-26 is a Sunday.
            ("0 0 * * 1", "2026-07-26T00:00:00Z", "2026-07-27T00:00:00Z"),
            (
                "0 0 * * SUN",
                "2026-07-26T00:00:00Z",
                "2026-07-27T00:00:00Z",
            ),
            (
                "0 0 * * MON-FRI",
                "2026-07-27T00:00:00Z",
                "2026-08-01T00:00:00Z",
            ),
            (
                "0 0 * * 2-6",
                "2026-07-27T00:00:00Z",
                "2026-08-01T00:00:00Z",
            ),
            // The last Friday, the last day, the second Monday, the weekday nearest to the 15th.
            ("0 0 * * 6L", "2026-07-31T00:00:00Z", "2026-07-24T00:00:00Z"),
            ("0 0 L * *", "2026-02-28T00:00:00Z", "2026-02-27T00:00:00Z"),
            (
                "0 0 * * MON#2",
                "2026-07-13T00:00:00Z",
                "2026-07-20T00:00:00Z",
            ),
            (
                "0 0 15W * *",
                "2026-08-14T00:00:00Z",
                "2026-08-15T00:00:00Z",
            ),
            (
                "0 0 1 JAN *",
                "2026-01-01T00:00:00Z",
                "2026-02-01T00:00:00Z",
            ),
        ] {
            let schedule = Schedule::parse(cron).unwrap();
            assert!(schedule.is_due(due.parse().unwrap()), "{cron} {due}");
            assert!(!schedule.is_due(not.parse().unwrap()), "{cron} {not}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "@daily",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "* * * * 0",
            "x * * * *",
            "*/0 * * * *",
            "é * * * *",
            "5-1 * * * *",
            "L * * * *",
            "* W * * *",
            "* 5#2 * * *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
