//! Units of time, and times as nanoseconds.

use super::number::{self, Misfit};
use crate::diag::codes::spec as codes;
use crate::spec::ast::{Name, Quantity};
use crate::spec::report::{Reporter, suggest};
use crate::spec::typed::{Nanos, TimeUnit};

/// Units that a duration may be written in, with their nanoseconds.
const DURATIONS: [(&str, u128); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Units that a feature may be counted in.
const COUNTED: [(&str, TimeUnit); 7] = [
    ("ns", TimeUnit::Nanos),
    ("us", TimeUnit::Micros),
    ("ms", TimeUnit::Millis),
    ("s", TimeUnit::Seconds),
    ("us_ticks", TimeUnit::MicroTicks),
    ("ms_ticks", TimeUnit::MilliTicks),
    ("s_ticks", TimeUnit::SecondTicks),
];

/// The unit behind `as`.
pub(super) fn time_unit(name: &Name, reporter: &mut Reporter<'_>) -> Option<TimeUnit> {
    let found = COUNTED.iter().find(|(text, _)| *text == name.text).map(|(_, unit)| *unit);
    if found.is_none() {
        let help = suggest(&name.text, COUNTED.iter().map(|(text, _)| *text));
        reporter
            .error(
                &codes::UNIT,
                name.span.clone(),
                format!("a feature cannot be counted in `{}`", name.text),
                help,
            )
            .primary("not a unit of features");
    }
    found
}

/// A time above zero, in nanoseconds.
pub(super) fn duration(quantity: &Quantity, reporter: &mut Reporter<'_>) -> Option<Nanos> {
    let text = &quantity.number.text;
    let Some(unit) = &quantity.unit else {
        reporter
            .error(
                &codes::TIME,
                quantity.span.clone(),
                format!("`{text}` is a number without a unit"),
                format!("write `{text} s`, or another of the units `ns`, `us`, `ms`, `min`, `h`"),
            )
            .primary("a time needs a unit");
        return None;
    };
    let Some((_, nanos)) = DURATIONS.iter().find(|(name, _)| *name == unit.text) else {
        let help = match unit.text.as_str() {
            "sec" | "secs" | "second" | "seconds" => "write `s`".to_owned(),
            "m" | "minute" | "minutes" | "mins" => "write `min`".to_owned(),
            "hour" | "hours" | "hr" => "write `h`".to_owned(),
            other => suggest(other, DURATIONS.iter().map(|(name, _)| *name)),
        };
        reporter
            .error(&codes::TIME, unit.span.clone(), format!("`{}` is not a unit of time", unit.text), help)
            .primary("not known");
        return None;
    };
    let help = "write a time above zero and below 292 years, for example `120 s`";
    let problem = match number::scaled(&quantity.number, *nanos) {
        Ok(value) => match u64::try_from(value) {
            Ok(0) => "the time is zero",
            Ok(value) if i64::try_from(value).is_ok() => return Some(Nanos(value)),
            Ok(_) | Err(_) => "the time is too long",
        },
        Err(Misfit::Fraction) => "the time is not a whole number of nanoseconds",
        Err(Misfit::TooLarge) => "the time is too long",
    };
    reporter.error(&codes::TIME, quantity.span.clone(), problem, help);
    None
}
