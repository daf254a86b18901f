//! What is printed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::attacks::{Attacks, Kind};
use super::flows::Flows;

#[derive(Default)]
struct Row {
    flows: usize,
    judged: usize,
    classified: usize,
    reported: usize,
}

/// A line per kind of attack and one for ordinary traffic.
pub fn table(flows: &Flows, attacks: &Attacks) -> String {
    let mut ordinary = Row::default();
    let mut kinds: BTreeMap<&Kind, Row> = BTreeMap::new();
    for (hosts, first_ns, flow) in flows.iter() {
        let row = match attacks.kind(hosts, first_ns) {
            Some(kind) => kinds.entry(kind).or_default(),
            None => &mut ordinary,
        };
        row.flows += 1;
        row.judged += usize::from(flow.judged);
        row.classified += usize::from(flow.classified);
        row.reported += usize::from(flow.reported);
    }
    let mut text = format!("  {:28}{:>8}{:>8}{:>20}{:>20}\n", "", "flows", "judged", "attack", "reported");
    for (kind, row) in &kinds {
        let name = if kind.held_out { format!("{} *", kind.name) } else { kind.name.clone() };
        text += &line(&name, row);
    }
    let sum = |part: fn(&Row) -> usize| kinds.values().map(part).sum();
    let all = Row {
        flows: sum(|row| row.flows),
        judged: sum(|row| row.judged),
        classified: sum(|row| row.classified),
        reported: sum(|row| row.reported),
    };
    text += &line("all attacks", &all);
    text += &line("ordinary traffic (accused)", &ordinary);
    text + "  * a kind of attack that the model was not trained on\n"
}

fn line(name: &str, row: &Row) -> String {
    let (classified, reported) = (of(row.classified, row.judged), of(row.reported, row.judged));
    format!("  {name:28}{:>8}{:>8}{classified:>20}{reported:>20}\n", row.flows, row.judged)
}

/// A number with its share.
fn of(part: usize, whole: usize) -> String {
    if whole == 0 { "-".to_owned() } else { format!("{part} {:6.1} %", 100.0 * part as f64 / whole as f64) }
}

/// Splits the blocked hosts of a status into attackers and others.
pub fn blocked(status: &str, attacks: &Attacks) -> Result<(), String> {
    let status: Value = serde_json::from_str(status).map_err(|error| format!("status: {error}"))?;
    let hosts = status.pointer("/0/blocked").and_then(Value::as_array).ok_or("status: no blocked hosts")?;
    let hosts = hosts.iter().filter_map(|entry| entry.get("host")?.as_str()?.parse().ok());
    let (attackers, others): (Vec<IpAddr>, Vec<IpAddr>) = hosts.partition(|host| attacks.is_attacker(*host));
    let names: Vec<String> = others.iter().map(ToString::to_string).collect();
    let mut text = format!("  blocked hosts: {} that attack, {} that do not", attackers.len(), others.len());
    if !names.is_empty() {
        text += &format!(" ({})", names.join(" "));
    }
    println!("{text}");
    Ok(())
}
