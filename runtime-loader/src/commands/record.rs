//! How events are written: in words for people, as JSON lines for everything else.

use std::fmt::Write as _;

use nnbpf_compiler::ir::flow::Trigger;
use nnbpf_compiler::rows::decimal::Decimal;
use nnbpf_runtime_loader::events::{Event, Feature, FuseEvent, Record};

use super::time::WallClock;

/// Percent with up to four decimals, of millionths.
pub(super) fn percent(millionths: u64) -> String {
    let text = format!("{}.{:04}", millionths / 10_000, millionths % 10_000);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The share of dropped packets in millionths, rounded down.
pub(super) fn share(drops: u64, packets: u64) -> u64 {
    let share = u128::from(drops) * 1_000_000 / u128::from(packets.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// One line without its end.
pub(super) fn in_words(record: &Record, clock: WallClock) -> String {
    match record {
        Record::Verdict(event) => verdict_in_words(event, clock),
        Record::Fuse(fuse) => format!(
            "{}  fuse blown: {} of {} packets dropped ({}, limit {}); the detector only monitors now",
            clock.show(fuse.time_ns),
            fuse.drops,
            fuse.packets,
            percent(share(fuse.drops, fuse.packets)),
            percent(fuse.limit.into()),
        ),
    }
}

fn verdict_in_words(event: &Event, clock: WallClock) -> String {
    let shown = |score: Option<f64>| score.map_or_else(|| "-".to_owned(), |score| format!("{score:.6}"));
    let further =
        event.further.iter().map(|one| format!("  {}={} {}", one.output, one.label_name, shown(one.score)));
    format!(
        "{}  {:5}  {} {} > {}  {} {}{}  {}",
        clock.show(event.time_ns),
        event.trigger.map_or("?", Trigger::name),
        transport(event.proto),
        end(&event.src.to_string(), event.sport),
        end(&event.dst.to_string(), event.dport),
        event.label_name,
        shown(event.score),
        further.collect::<String>(),
        event.actions.join("+"),
    )
}

/// Appends one JSON object and the end of the line. Written by hand, because it is done for every event.
pub(super) fn in_json(record: &Record, features: &[Feature], clock: WallClock, line: &mut String) {
    // Writing to a string never fails.
    let _infallible = match record {
        Record::Verdict(event) => verdict_in_json(event, features, clock, line),
        Record::Fuse(fuse) => fuse_in_json(fuse, clock, line),
    };
    line.push('\n');
}

/// Appends what became of events that were not delivered.
pub(super) fn losses_in_json(lost: u64, suppressed: u64, line: &mut String) {
    let _infallible = writeln!(line, r#"{{"kind":"loss","lost":{lost},"suppressed":{suppressed}}}"#);
}

fn verdict_in_json(
    event: &Event,
    features: &[Feature],
    clock: WallClock,
    line: &mut String,
) -> std::fmt::Result {
    let time = clock.show(event.time_ns);
    write!(line, r#"{{"kind":"verdict","time":"{time}","time_ns":{}"#, event.time_ns)?;
    write!(line, r#","first_ns":{},"packets":{}"#, event.first_ns, event.packets)?;
    match event.trigger.map(Trigger::name) {
        Some(name) => write!(line, r#","trigger":"{name}""#)?,
        None => line.push_str(r#","trigger":null"#),
    }
    write!(line, r#","src":"{}","dst":"{}""#, event.src, event.dst)?;
    write!(line, r#","sport":{},"dport":{},"proto":{}"#, event.sport, event.dport, event.proto)?;
    line.push_str(r#","label":"#);
    judged(line, &event.label_name, event.score)?;
    if !event.further.is_empty() {
        line.push_str(r#","further":{"#);
        separated(line, event.further.iter(), |line, one| {
            text(line, &one.output);
            line.push_str(r#":{"label":"#);
            judged(line, &one.label_name, one.score)?;
            line.push('}');
            Ok(())
        })?;
        line.push('}');
    }
    line.push_str(r#","actions":["#);
    separated(line, event.actions.iter(), |line, action| write!(line, r#""{action}""#))?;
    line.push_str(r#"],"outputs":["#);
    separated(line, event.outputs.iter(), |line, output| write!(line, "{output}"))?;
    line.push_str(r#"],"features":{"#);
    separated(line, features.iter().zip(&event.features), |line, (feature, raw)| {
        text(line, &feature.name);
        write!(line, ":{}", Decimal { raw: *raw, fraction: feature.fraction })
    })?;
    write!(line, r#"}},"generation":{}}}"#, event.generation)
}

/// A label, and its score as the next member.
fn judged(line: &mut String, label: &str, score: Option<f64>) -> std::fmt::Result {
    text(line, label);
    match score.filter(|score| score.is_finite()) {
        Some(score) => write!(line, r#","score":{score:?}"#),
        None => {
            line.push_str(r#","score":null"#);
            Ok(())
        }
    }
}

fn fuse_in_json(fuse: &FuseEvent, clock: WallClock, line: &mut String) -> std::fmt::Result {
    let time = clock.show(fuse.time_ns);
    write!(line, r#"{{"kind":"fuse","time":"{time}","time_ns":{}"#, fuse.time_ns)?;
    write!(line, r#","packets":{},"drops":{}"#, fuse.packets, fuse.drops)?;
    let share = |millionths: u64| millionths as f64 / 1e6;
    write!(
        line,
        r#","share":{:?},"limit":{:?},"window":{}}}"#,
        share(self::share(fuse.drops, fuse.packets)),
        share(fuse.limit.into()),
        fuse.window
    )
}

fn separated<T>(
    line: &mut String,
    items: impl Iterator<Item = T>,
    mut write: impl FnMut(&mut String, T) -> std::fmt::Result,
) -> std::fmt::Result {
    for (index, item) in items.enumerate() {
        if index > 0 {
            line.push(',');
        }
        write(line, item)?;
    }
    Ok(())
}

/// A JSON string; most need no escape.
fn text(line: &mut String, text: &str) {
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\') {
        line.push('"');
        line.push_str(text);
        line.push('"');
    } else {
        line.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// IPv6 addresses stand in brackets before a port.
fn end(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn transport(proto: u8) -> String {
    match proto {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => format!("proto {other}"),
    }
}

#[cfg(test)]
mod tests {
    use nnbpf_runtime_loader::events::{Event, Further, Record};
    use nnbpf_runtime_loader::hosts::Host;

    use super::super::time::WallClock;
    use super::{in_json, in_words, percent, share, text};

    #[test]
    fn shares_are_percent() {
        for (millionths, shown) in [(200_000, "20%"), (5_000, "0.5%"), (1, "0.0001%"), (1_000_000, "100%")] {
            assert_eq!(percent(millionths), shown);
        }
        assert_eq!((share(201, 1_000), share(0, 0)), (201_000, 0));
    }

    #[test]
    fn strange_names_are_escaped() {
        for name in ["attack", "", "a\"b\\c", "päckchen", "two words", "\u{7}"] {
            let mut line = String::new();
            text(&mut line, name);
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), name);
        }
    }

    #[test]
    fn what_further_outputs_say_stands_behind_the_first() {
        let one = |output: &str, label: &str, score| Further {
            output: output.to_owned(),
            label_name: label.to_owned(),
            score,
        };
        let event = Event {
            time_ns: 0,
            generation: 1,
            first_ns: 0,
            packets: 4,
            src: Host([0; 16]),
            dst: Host([0; 16]),
            sport: 1,
            dport: 2,
            proto: 6,
            trigger: None,
            label: 1,
            label_name: "attack".to_owned(),
            score: Some(0.75),
            further: vec![one("burst", "no", Some(0.5)), one("family", "web", None)],
            actions: vec!["report"],
            outputs: vec![1, 2, 3],
            features: Vec::new(),
        };
        let several = Record::Verdict(event.clone());
        let words = in_words(&several, WallClock::offset(0));
        assert!(words.ends_with("  attack 0.750000  burst=no 0.500000  family=web -  report"), "{words}");
        let mut line = String::new();
        in_json(&several, &[], WallClock::offset(0), &mut line);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["label"], &value["score"]), (&"attack".into(), &0.75.into()));
        let further = serde_json::json!({
            "burst": { "label": "no", "score": 0.5 },
            "family": { "label": "web", "score": null },
        });
        assert_eq!(value["further"], further);
        // A model with one output has no such member.
        line.clear();
        let single = Record::Verdict(Event { further: Vec::new(), ..event });
        in_json(&single, &[], WallClock::offset(0), &mut line);
        assert!(
            !line.contains("further") && line.contains(r#""label":"attack","score":0.75,"actions""#),
            "{line}"
        );
    }
}
