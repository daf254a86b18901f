//! Settings of the event filter as users write and read them.

use nnbpf_compiler::ir::flow::guard::{EventFilter, LABEL_BITS, acts};

const SECOND: u64 = 1_000_000_000;
/// What the filter may ask a verdict for.
const FILTERED: [(i32, &str); 4] =
    [(acts::DROP, "drop"), (acts::BLOCK, "block"), (acts::BLOCK_RECEIVER, "block_dst"), (acts::MARK, "mark")];
/// Fastest rate: an event per nanosecond.
const FASTEST: u64 = SECOND;
/// Without `burst`, what comes in this part of a second may come at once.
const BURST_PART: u64 = 10;

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settings(pub(super) EventFilter);

impl Settings {
    /// Reads `label=attack,acts=drop,sample=1/10,rate=1000/s,burst=50`, or `all`.
    pub(super) fn parse(text: &str, labels: &[String]) -> Result<Self, String> {
        let mut filter = EventFilter::default();
        if text.trim() == "all" {
            return Ok(Self(filter));
        }
        let (mut rate, mut burst) = (None, None);
        for setting in text.split(',') {
            let Some((name, value)) = setting.trim().split_once('=') else {
                return Err(format!("`{}` is no setting", setting.trim()));
            };
            match name.trim() {
                "label" => filter.labels |= 1 << label(value.trim(), labels)?,
                "acts" => filter.acts |= acts_of(value.trim())?,
                "sample" => filter.sample = sample(value.trim())?,
                "rate" => rate = Some(number(value.trim().trim_end_matches("/s"), 1..=FASTEST)?),
                "burst" => burst = Some(number(value.trim(), 1..=u64::from(u32::MAX))?),
                other => return Err(format!("there is no setting `{other}`")),
            }
        }
        match (rate, burst) {
            (Some(rate), burst) => {
                let burst = burst.unwrap_or_else(|| (rate / BURST_PART).max(1));
                filter.interval_ns = SECOND / rate;
                filter.burst_ns = (burst - 1).saturating_mul(filter.interval_ns);
            }
            (None, Some(_)) => return Err("`burst` needs a `rate`".to_owned()),
            (None, None) => {}
        }
        Ok(Self(filter))
    }
}

/// The bit of a label.
fn label(name: &str, labels: &[String]) -> Result<u32, String> {
    let index = labels.iter().position(|label| label == name).or_else(|| {
        // Models without names have numbers.
        name.parse().ok().filter(|_| labels.is_empty())
    });
    let Some(index) = index else {
        return Err(format!("the model has no label `{name}`; it has {}", labels.join(", ")));
    };
    Ok(u32::try_from(index).unwrap_or(u32::MAX) % LABEL_BITS)
}

fn acts_of(value: &str) -> Result<u32, String> {
    let bits = value.split('|').map(|act| {
        let known = FILTERED.iter().find(|(_, name)| *name == act.trim()).map(|(bit, _)| *bit);
        known.ok_or_else(|| format!("`{}` is none of `drop`, `block`, `block_dst` and `mark`", act.trim()))
    });
    bits.collect::<Result<Vec<_>, _>>().map(|bits| bits.iter().fold(0, |all, bit| all | bit.cast_unsigned()))
}

fn sample(value: &str) -> Result<u32, String> {
    let of = value.strip_prefix("1/").unwrap_or(value);
    let of = number(of, 1..=u64::from(u32::MAX))?;
    Ok(u32::try_from(of).unwrap_or(u32::MAX))
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no number from {} to {}", range.start(), range.end());
    text.trim().parse().ok().filter(|number| range.contains(number)).ok_or_else(wrong)
}

/// The filter in the words of [`Settings::parse`].
pub(super) fn describe(filter: &EventFilter, labels: &[String]) -> String {
    let mut parts = Vec::new();
    for bit in (0..LABEL_BITS).filter(|bit| filter.labels >> bit & 1 != 0) {
        let name = labels.get(bit as usize).cloned().unwrap_or_else(|| bit.to_string());
        parts.push(format!("label={name}"));
    }
    let wanted: Vec<&str> = FILTERED
        .iter()
        .filter(|(bit, _)| filter.acts & bit.cast_unsigned() != 0)
        .map(|(_, name)| *name)
        .collect();
    if !wanted.is_empty() {
        parts.push(format!("acts={}", wanted.join("|")));
    }
    if filter.sample > 1 {
        parts.push(format!("sample=1/{}", filter.sample));
    }
    if let (Some(rate), Some(ahead)) =
        (SECOND.checked_div(filter.interval_ns), filter.burst_ns.checked_div(filter.interval_ns))
    {
        parts.push(format!("rate={rate}/s,burst={}", ahead + 1));
    }
    if parts.is_empty() { "all".to_owned() } else { parts.join(",") }
}

#[cfg(test)]
mod tests {
    use super::{Settings, describe};

    fn labels() -> Vec<String> {
        ["benign", "attack"].map(str::to_owned).to_vec()
    }

    #[test]
    fn settings_read_back() {
        for text in [
            "all",
            "label=attack",
            "label=benign,label=attack",
            "acts=drop|block",
            "sample=1/10",
            "rate=1000/s,burst=100",
            "label=attack,acts=drop,sample=1/3,rate=50/s,burst=7",
        ] {
            let settings = Settings::parse(text, &labels()).unwrap();
            assert_eq!(describe(&settings.0, &labels()), text);
        }
        let settings = Settings::parse("rate=1000/s", &labels()).unwrap();
        assert_eq!((settings.0.interval_ns, settings.0.burst_ns), (1_000_000, 99_000_000));
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for wrong in [
            "",
            "attack",
            "label=evil",
            "acts=report",
            "sample=0",
            "sample=1/x",
            "rate=0/s",
            "burst=3",
            "rate=2000000000/s",
            "colour=red",
            "rate=10/s,",
        ] {
            assert!(Settings::parse(wrong, &labels()).is_err(), "{wrong}");
        }
    }
}
