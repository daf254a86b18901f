//! Times as users write and read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nnbpf_runtime_loader::installation::{Installation, InstallationError, Status};

/// Reads a whole number with a unit.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    let seconds: u64 = match unit.trim() {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return Err("write a number with `s`, `min`, `h` or `d`, such as `10min`".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(seconds))
        .map(Duration::from_secs)
        .ok_or_else(|| "write a number with `s`, `min`, `h` or `d`, such as `10min`".to_owned())
}

/// Turns the time of packets into the time of day.
#[derive(Clone, Copy)]
pub(super) struct WallClock {
    /// What is added to the time of packets; nothing for times of a capture, which are times of day already.
    offset: u64,
}

impl WallClock {
    pub(super) fn of(installation: &Installation) -> Result<Self, InstallationError> {
        Ok(Self { offset: installation.clock_offset_ns()? })
    }

    pub(super) fn of_status(status: &Status) -> Self {
        Self { offset: status.clock_offset_ns }
    }

    /// The time of packets at a time of day.
    pub(super) fn packet_ns(self, unix_ns: u64) -> u64 {
        unix_ns.saturating_sub(self.offset)
    }

    #[cfg(test)]
    pub(super) const fn offset(offset: u64) -> Self {
        Self { offset }
    }

    /// UTC as in RFC 3339, with nanoseconds.
    pub(super) fn show(self, packet_ns: u64) -> String {
        rfc3339(packet_ns.saturating_add(self.offset))
    }
}

/// The time of day, as in RFC 3339.
pub(super) fn now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// Reads what [`rfc3339`] writes, with or without a fraction of up to 9 digits.
pub(super) fn unix_ns(text: &str) -> Option<u64> {
    let (date, time) = text.trim().strip_suffix('Z')?.split_once('T')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let number = |text: &str, digits: usize| {
        let right = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
        if right { text.parse::<u64>().ok() } else { None }
    };
    let mut date = date.split('-');
    let (year, month) = (number(date.next()?, 4)?, number(date.next()?, 2)?);
    let day = number(date.next()?, 2)?;
    let mut clock = clock.split(':');
    let (hour, minute) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let second = number(clock.next()?, 2)?;
    let more = date.next().is_some() || clock.next().is_some();
    if more || !(1970..=2554).contains(&year) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let nanoseconds = number(&format!("{fraction:0<9}"), 9)?;
    if !(1..=12).contains(&month) || day == 0 {
        return None;
    }
    // As in `rfc3339`, backwards.
    let (year_from_march, month_from_march) =
        if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (year_from_march / 400, year_from_march % 400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (146_097 * era + day_of_era).checked_sub(719_468)?;
    let unix = (days * 86_400 + hour * 3600 + minute * 60 + second).checked_mul(1_000_000_000)?;
    let unix = unix.checked_add(nanoseconds)?;
    // Days that a month does not have come back as others.
    rfc3339(unix).get(..10).filter(|date| text.trim().starts_with(date)).map(|_| unix)
}

fn rfc3339(unix_ns: u64) -> String {
    let (seconds, nanoseconds) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from the first of March of the year 0, so that leap days end a year; a period of 400
    // years has 146,097 days and the 719,468 days before 1970 are added.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanoseconds:09}Z")
}

#[cfg(test)]
mod tests {
    use super::{duration, rfc3339, unix_ns};
    use std::time::Duration;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("10min"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("2 h"), Ok(Duration::from_secs(7200)));
        for wrong in ["", "10", "s", "-1s", "1.5h", "10m", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_of_day() {
        for (seconds, shown) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (1_795_158_605, "2026-11-20T07:10:05"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            let text = format!("{shown}.000000007Z");
            assert_eq!(rfc3339(seconds * 1_000_000_000 + 7), text);
            assert_eq!(unix_ns(&text), Some(seconds * 1_000_000_000 + 7));
            assert_eq!(unix_ns(&format!("{shown}Z")), Some(seconds * 1_000_000_000));
        }
        // The last time that there is, which the longest blocks have.
        assert_eq!(unix_ns(&rfc3339(u64::MAX)), Some(u64::MAX));
        for wrong in [
            "",
            "2555-01-01T00:00:00Z",
            "2554-12-31T00:00:00Z",
            "2026-11-20",
            "2026-11-31T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T00:00:00",
            "2026-11-20T00:00:00.Z",
            "+026-11-20T00:00:00Z",
        ] {
            assert_eq!(unix_ns(wrong), None, "{wrong}");
        }
    }
}
