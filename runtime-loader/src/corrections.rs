//! Corrections of wrong verdicts: a file of JSON lines in a state directory, because bpffs holds no files and is
//! empty after a reboot; and what they say about recorded events.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::hosts::{Host, Prefix};
use crate::pins::PinDirectory;

/// Parent of the state directories of all installations.
pub const STATE: &str = "/var/lib/nnbpf";

/// What somebody knows better than the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Correction {
    /// When it was made, as in RFC 3339.
    pub time: String,
    pub hosts: Prefix,
    /// The right label of what these hosts send.
    pub label: String,
    pub because: String,
    /// Generation of the parameters that were active.
    pub generation: Option<u32>,
}

/// A line that is no correction, or no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct WrongLine {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

/// The file of an installation's corrections, unless the user names another.
#[must_use]
pub fn default_log(pins: &PinDirectory) -> PathBuf {
    let name = pins.path().file_name().unwrap_or_default();
    Path::new(STATE).join(name).join("corrections.jsonl")
}

impl Correction {
    fn line(&self) -> String {
        let value = json!({
            "time": self.time,
            "host": self.hosts.to_string(),
            "label": self.label,
            "because": self.because,
            "generation": self.generation,
        });
        format!("{value}\n")
    }

    fn parse(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| format!("no JSON: {error}"))?;
        let text = |name: &str| {
            let found = value.get(name).and_then(Value::as_str);
            found.map(str::to_owned).ok_or_else(|| format!("`{name}` is no text"))
        };
        let generation = value.get("generation").and_then(Value::as_u64);
        Ok(Self {
            time: text("time")?,
            hosts: Prefix::parse(&text("host")?).map_err(|error| error.to_string())?,
            label: text("label")?,
            because: text("because")?,
            generation: generation.and_then(|generation| u32::try_from(generation).ok()),
        })
    }

    /// Appends to a log, which and whose directory only the owner reads. The line is written at once and is on
    /// the disk when this returns; an unfinished line that a crash left is removed first, a whole one is ended.
    ///
    /// # Errors
    /// What the system answers.
    pub fn append(&self, log: &Path) -> io::Result<()> {
        if let Some(folder) = log.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(log)?;
        file.lock()?;
        // What a crash left of a line was never confirmed.
        let mut before = Vec::new();
        file.read_to_end(&mut before)?;
        let whole = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut line = self.line();
        let rest = before.get(whole..).unwrap_or_default();
        if std::str::from_utf8(rest).is_ok_and(|rest| Self::parse(rest).is_ok()) {
            // An editor has left out the end, or a crash nothing but it.
            line.insert(0, '\n');
        } else if !rest.is_empty() {
            file.set_len(whole as u64)?;
        }
        file.write_all(line.as_bytes())?;
        file.sync_all()
    }
}

/// Reads the text of a log. A last line without an end is what a crash left of a correction; it is passed over.
///
/// # Errors
/// The first line that is no correction.
pub fn parse(text: &str) -> Result<Vec<Correction>, WrongLine> {
    let mut corrections = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match Correction::parse(line) {
            Ok(correction) => corrections.push(correction),
            Err(_) if !line.ends_with('\n') => {}
            Err(reason) => return Err(WrongLine { line: index + 1, reason }),
        }
    }
    Ok(corrections)
}

/// Training rows: CSV with a column per feature and the column `label`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    pub csv: String,
    pub rows: usize,
    /// Verdicts of hosts that nobody corrected.
    pub others: usize,
}

/// Labels the recorded verdicts whose forward sender somebody corrected; the last correction of a host counts.
/// Other lines of the recording say nothing about a verdict and are passed over, as is a last line without an end.
///
/// # Errors
/// The first line that is no event, has no features, or has others than the lines before it.
pub fn label(corrections: &[Correction], events: &str) -> Result<Rows, WrongLine> {
    let mut names: Option<Vec<String>> = None;
    let mut rows = Rows { csv: String::new(), rows: 0, others: 0 };
    for (index, line) in events.split_inclusive('\n').enumerate() {
        let wrong = |reason: String| WrongLine { line: index + 1, reason };
        if line.trim().is_empty() {
            continue;
        }
        let event: Recorded = match serde_json::from_str(line) {
            Ok(event) => event,
            Err(_) if !line.ends_with('\n') => continue,
            Err(error) => return Err(wrong(format!("no event: {error}"))),
        };
        if event.kind != "verdict" {
            continue;
        }
        let src = event.src.ok_or_else(|| wrong("`src` is missing".to_owned()))?;
        let src = Host::parse(&src).map_err(|error| wrong(error.to_string()))?;
        let features = event.features.ok_or_else(|| wrong("`features` is missing".to_owned()))?.0;
        let these: Vec<String> = features.iter().map(|(name, _)| name.clone()).collect();
        match &names {
            Some(known) if *known != these => {
                return Err(wrong("the features are not those of the lines before it".to_owned()));
            }
            Some(_) => {}
            None => {
                rows.csv =
                    format!("{},label\n", these.iter().map(|name| field(name)).collect::<Vec<_>>().join(","));
                names = Some(these);
            }
        }
        let Some(right) = corrections.iter().rev().find(|correction| correction.hosts.contains(src)) else {
            rows.others += 1;
            continue;
        };
        for (_, value) in &features {
            rows.csv.push_str(&value.to_string());
            rows.csv.push(',');
        }
        rows.csv.push_str(&field(&right.label));
        rows.csv.push('\n');
        rows.rows += 1;
    }
    Ok(rows)
}

/// A CSV field, quoted where it must be.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// A line of a recording, as far as rows need it.
#[derive(serde::Deserialize)]
struct Recorded {
    kind: String,
    src: Option<String>,
    features: Option<Features>,
}

/// Names and values in the order of the line, which is that of the specification.
struct Features(Vec<(String, serde_json::Number)>);

impl<'de> serde::Deserialize<'de> for Features {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> serde::de::Visitor<'de> for Pairs {
            type Value = Features;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object of numbers")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Features, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Features(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::{Correction, label, parse};
    use crate::hosts::Prefix;

    fn correction(hosts: &str, label: &str) -> Correction {
        Correction {
            time: "2026-11-20T07:10:05.000000007Z".to_owned(),
            hosts: Prefix::parse(hosts).unwrap(),
            label: label.to_owned(),
            because: "a \"reason\",\nin two lines".to_owned(),
            generation: Some(3),
        }
    }

    #[test]
    fn a_log_reads_back_also_after_a_crash() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("new/corrections.jsonl");
        let (one, two) = (correction("10.0.0.7", "benign"), correction("2001:db8::/32", "attack"));
        one.append(&log).unwrap();
        let mut text = std::fs::read_to_string(&log).unwrap();
        text.push_str("{\"time\":\"20");
        assert_eq!(parse(&text).unwrap().len(), 1, "what a crash left is passed over");
        std::fs::write(&log, &text).unwrap();
        two.append(&log).unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(parse(&text).unwrap(), [one.clone(), two.clone()]);
        std::fs::write(&log, text.trim_end()).unwrap();
        one.append(&log).unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(parse(&text).unwrap(), [one.clone(), two, one], "a whole line is kept");
        assert_eq!(parse("{}\n").unwrap_err().line, 1);
        let mode = |path: &std::path::Path| {
            std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777
        };
        assert_eq!((mode(&log), mode(log.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn rows_have_the_right_label() {
        let event = |src: &str, z: &str| {
            format!(
                "{{\"kind\":\"verdict\",\"src\":\"{src}\",\"label\":\"attack\",\"features\":{{\"z\":{z},\"a\":2}}}}\n"
            )
        };
        let text = [
            event("10.0.0.7", "0.5"),
            "{\"kind\":\"loss\",\"lost\":7,\"suppressed\":0}\n".to_owned(),
            event("10.0.0.8", "9223372036854775807"),
            event("10.9.9.9", "-3"),
            "{\"kind\":\"verd".to_owned(),
        ]
        .concat();
        let corrections = [correction("10.0.0.0/24", "benign"), correction("10.0.0.8", "probe, slow")];
        let rows = label(&corrections, &text).unwrap();
        assert_eq!(rows.csv, "z,a,label\n0.5,2,benign\n9223372036854775807,2,\"probe, slow\"\n");
        assert_eq!((rows.rows, rows.others), (2, 1));
        let other = "{\"kind\":\"verdict\",\"src\":\"10.0.0.7\",\"features\":{\"z\":1}}\n";
        for (line, wrong) in [
            (2, format!("{}{other}", event("10.0.0.7", "1"))),
            (1, "{\"kind\":\"verdict\",\"src\":\"10.0.0.7\"}\n".to_owned()),
            (1, "{\"kind\":\"verdict\",\"src\":\"x\",\"features\":{}}\n".to_owned()),
            (1, "no\n".to_owned()),
        ] {
            assert_eq!(label(&corrections, &wrong).unwrap_err().line, line, "{wrong}");
        }
    }
}
