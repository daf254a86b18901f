//! Reports of the program in the kernel, or of an engine that stands for it.

use std::net::IpAddr;
use std::path::Path;

use serde_json::Value;

/// A five-tuple without direction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ends {
    lower: (IpAddr, u16),
    upper: (IpAddr, u16),
    proto: u8,
}

impl Ends {
    /// From the columns source, destination, source port, destination port, protocol.
    pub fn parse([src, dst, sport, dport, proto]: [&str; 5]) -> Option<Self> {
        let src = (src.parse().ok()?, sport.parse().ok()?);
        let dst = (dst.parse().ok()?, dport.parse().ok()?);
        Some(Self { lower: src.min(dst), upper: src.max(dst), proto: proto.parse().ok()? })
    }

    pub fn hosts(&self) -> [IpAddr; 2] {
        [self.lower.0, self.upper.0]
    }
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Report {
    pub time_ns: u64,
    pub ends: Ends,
    pub trigger: String,
    pub label: String,
    /// With six decimals.
    pub score: String,
}

impl Report {
    /// Reads what `nnbpfc replay` wrote (`*.csv`) or `nnbpf events --json` printed.
    pub fn read(path: &Path, text: &str) -> Result<Vec<Self>, String> {
        if path.extension().is_some_and(|extension| extension == "csv") {
            replayed(text, |_, action| action.split('+').any(|action| action == "report"))
        } else {
            text.lines().map(event).collect()
        }
    }

    /// All verdicts of a class in what `nnbpfc replay` wrote, whether a rule reports them or not.
    pub fn of_class(text: &str, class: &str) -> Result<Vec<Self>, String> {
        replayed(text, |label, _| label == class)
    }
}

fn event(line: &str) -> Result<Report, String> {
    let parse = || {
        let event: Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| event.get(name)?.as_str().map(str::to_owned);
        let number = |name: &str| event.get(name)?.as_u64();
        let (sport, dport, proto) = (number("sport")?, number("dport")?, number("proto")?);
        let numbers = [sport, dport, proto].map(|number| number.to_string());
        let [sport, dport, proto] = numbers.each_ref().map(String::as_str);
        Some(Report {
            time_ns: number("time_ns")?,
            ends: Ends::parse([&text("src")?, &text("dst")?, sport, dport, proto])?,
            trigger: text("trigger")?,
            label: text("label")?,
            score: format!("{:.6}", event.get("score")?.as_f64()?),
        })
    };
    parse().ok_or_else(|| format!("this is no event: {line}"))
}

/// Rows of `nnbpfc replay` that `choose` takes by label and action.
fn replayed(text: &str, choose: impl Fn(&str, &str) -> bool) -> Result<Vec<Report>, String> {
    let mut reports = Vec::new();
    for row in csv::Reader::from_reader(text.as_bytes()).records() {
        let row = row.map_err(|error| format!("verdicts: {error}"))?;
        let cell = |index: usize| row.get(index).unwrap_or_default();
        if !choose(cell(8), cell(10)) {
            continue;
        }
        let wrong = || format!("verdicts: this is no verdict: {row:?}");
        reports.push(Report {
            time_ns: cell(1).parse().map_err(|_| wrong())?,
            ends: Ends::parse([cell(2), cell(3), cell(4), cell(5), cell(6)]).ok_or_else(wrong)?,
            trigger: cell(7).to_owned(),
            label: cell(8).to_owned(),
            score: cell(9).to_owned(),
        });
    }
    Ok(reports)
}
