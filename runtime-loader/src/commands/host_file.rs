//! The file of `nnbpf hosts export` and `import`: a line per entry, as JSON or as CSV.
//!
//! An entry has the name of its list, the host or prefix, and until when a block lasts, as a time of day: it
//! means the same after a reboot.

use std::fmt::Write as _;
use std::path::Path;

use nnbpf_runtime_loader::hosts::{Block, Host, HostLists, Prefix};
use serde_json::{Value, json};

use super::time::{WallClock, unix_ns};

/// First line of the CSV form.
const HEADER: &str = "list,host,until";

/// How entries are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    JsonLines,
    Csv,
}

impl Format {
    /// By the name of the file.
    pub(super) fn of(file: &Path) -> Self {
        let csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        if csv { Self::Csv } else { Self::JsonLines }
    }
}

/// A line that is no entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrongLine {
    /// From 1.
    pub(super) line: usize,
    pub(super) reason: String,
}

/// All entries but expired ones.
pub(super) fn write(lists: &HostLists, format: Format, clock: WallClock) -> String {
    let mut text = String::new();
    if format == Format::Csv {
        text.push_str(HEADER);
        text.push('\n');
    }
    let mut entry = |list: &str, host: &str, until: Option<String>| {
        // Writing to a string never fails.
        let _infallible = match format {
            Format::Csv => writeln!(text, "{list},{host},{}", until.unwrap_or_default()),
            Format::JsonLines => {
                writeln!(text, "{}", json!({ "list": list, "host": host, "until": until }))
            }
        };
    };
    for block in lists.blocked.iter().filter(|block| !block.expired) {
        let until = (block.until != Block::FOR_EVER).then(|| clock.show(block.until));
        entry("blocked", &block.host.to_string(), until);
    }
    for prefix in &lists.allowed {
        entry("allowed", &prefix.to_string(), None);
    }
    text
}

/// Reads all entries; blocks whose time is over are among them.
pub(super) fn read(text: &str, format: Format, clock: WallClock) -> Result<HostLists, WrongLine> {
    let mut lists = HostLists::default();
    // Spreadsheets begin a file with a byte order mark.
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let wrong = |reason: String| WrongLine { line: index + 1, reason };
        if format == Format::Csv && index == 0 {
            if line.trim() != HEADER {
                return Err(wrong(format!("the first line is not `{HEADER}`")));
            }
            continue;
        }
        if line.trim().is_empty() {
            continue;
        }
        let [list, host, until] = match format {
            Format::Csv => of_csv(line),
            Format::JsonLines => of_json(line),
        }
        .map_err(wrong)?;
        match list.as_str() {
            "allowed" if until.is_empty() => {
                lists.allowed.push(Prefix::parse(&host).map_err(|error| wrong(error.to_string()))?);
            }
            "allowed" => return Err(wrong("allowed hosts have no end".to_owned())),
            "blocked" => {
                let host = Host::parse(&host).map_err(|error| wrong(error.to_string()))?;
                let until = match until.as_str() {
                    "" => Block::FOR_EVER,
                    text => {
                        let unix = unix_ns(text).ok_or_else(|| wrong(format!("`{text}` is no time")))?;
                        clock.packet_ns(unix)
                    }
                };
                lists.blocked.push(Block { host, until, expired: false });
            }
            other => return Err(wrong(format!("`{other}` is neither `blocked` nor `allowed`"))),
        }
    }
    Ok(lists)
}

fn of_csv(line: &str) -> Result<[String; 3], String> {
    let fields: Vec<&str> = line.split(',').map(str::trim).collect();
    match fields.as_slice() {
        [list, host, until] => Ok([list, host, until].map(|field| (*field).to_owned())),
        other => Err(format!("{} fields, not 3", other.len())),
    }
}

fn of_json(line: &str) -> Result<[String; 3], String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("no JSON: {error}"))?;
    let Value::Object(entry) = value else { return Err("no JSON object".to_owned()) };
    if let Some(unknown) = entry.keys().find(|key| !["list", "host", "until"].contains(&key.as_str())) {
        return Err(format!("unknown member `{unknown}`"));
    }
    let text = |name: &str| match entry.get(name) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(Value::Null) | None if name == "until" => Ok(String::new()),
        Some(other) => Err(format!("`{name}` is {other}, not a text")),
        None => Err(format!("`{name}` is missing")),
    };
    Ok([text("list")?, text("host")?, text("until")?])
}

#[cfg(test)]
mod tests {
    use super::{Format, WrongLine, read, write};
    use crate::commands::time::WallClock;

    const CSV: &str = "list,host,until\n\
        blocked,10.0.0.1,2026-11-20T07:10:05.000000007Z\n\
        blocked,2001:db8::7,\n\
        allowed,10.0.0.0/8,\n";

    #[test]
    fn both_forms_read_back() {
        let clock = WallClock::offset(1_000_000_000_000_000_000);
        let lists = read(CSV, Format::Csv, clock).unwrap();
        assert_eq!((lists.blocked.len(), lists.allowed.len()), (2, 1));
        assert_eq!(lists.blocked[0].until, 795_158_605_000_000_007);
        assert_eq!(write(&lists, Format::Csv, clock), CSV);
        let json = write(&lists, Format::JsonLines, clock);
        assert_eq!(read(&json, Format::JsonLines, clock).unwrap(), lists);
        for (text, format) in [(CSV, Format::Csv), (&json, Format::JsonLines)] {
            let by_spreadsheet = format!("\u{feff}{}", text.replace('\n', "\r\n"));
            assert_eq!(read(&by_spreadsheet, format, clock).unwrap(), lists);
        }
    }

    #[test]
    fn wrong_lines_are_named() {
        let clock = WallClock::offset(0);
        let at = |text: &str, format| read(text, format, clock).map_err(|wrong: WrongLine| wrong.line);
        for (line, wrong) in [
            (1, "host,list,until\n"),
            (2, "list,host,until\nblocked,10.0.0.1\n"),
            (3, "list,host,until\nblocked,10.0.0.1,\nblocked,10.0.0.0/8,\n"),
            (2, "list,host,until\nallowed,10.0.0.1,2026-11-20T07:10:05Z\n"),
            (2, "list,host,until\nblocked,10.0.0.1,tomorrow\n"),
            (2, "list,host,until\nfriends,10.0.0.1,\n"),
        ] {
            assert_eq!(at(wrong, Format::Csv), Err(line), "{wrong}");
        }
        for (line, wrong) in [
            (1, "blocked\n"),
            (1, "[]\n"),
            (2, "{\"list\":\"allowed\",\"host\":\"::/0\"}\n{\"list\":\"blocked\"}\n"),
            (1, "{\"list\":\"blocked\",\"host\":\"::1\",\"untill\":null}\n"),
            (1, "{\"list\":\"blocked\",\"host\":7}\n"),
        ] {
            assert_eq!(at(wrong, Format::JsonLines), Err(line), "{wrong}");
        }
    }
}
