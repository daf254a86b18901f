//! `nnbpf events`: what the `report` action tells, as it happens.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::ir::flow::Trigger;
use nnbpf_runtime_loader::events::{Event, Events as Reader};
use serde_json::json;

use super::refused;
use super::target::Target;
use super::time::{WallClock, duration};

/// Print verdicts that a rule reports, one line each, until interrupted.
#[derive(clap::Args)]
pub(crate) struct Events {
    /// End after so many events.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after this time, such as 30s or 10min; 0s prints what is waiting.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Events {
    pub(crate) fn run(&self) -> Outcome<()> {
        let installation = self.target.open()?;
        let clock = WallClock::of(&installation).map_err(refused)?;
        let mut reader = Reader::open(installation)?;
        let deadline = self.time.map(|time| Instant::now() + time);
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let event = reader.next(deadline).map_err(|error| vec![error.diagnostic()])?;
            let Some(event) = event else { break };
            let line = if self.json { in_json(&event, clock) } else { in_words(&event, clock) };
            // A reader that went away, as `head` does, has seen enough.
            if writeln!(io::stdout(), "{line}").is_err() {
                break;
            }
            left -= 1;
        }
        Ok(())
    }
}

fn in_words(event: &Event, clock: WallClock) -> String {
    let score = event.score.map_or_else(|| "-".to_owned(), |score| format!("{score:.6}"));
    format!(
        "{}  {:5}  {} {} > {}  {} {score}  {}",
        clock.show(event.time_ns),
        event.trigger.map_or("?", Trigger::name),
        transport(event.proto),
        end(&event.src.to_string(), event.sport),
        end(&event.dst.to_string(), event.dport),
        event.label_name,
        event.actions.join("+"),
    )
}

fn in_json(event: &Event, clock: WallClock) -> String {
    json!({
        "time": clock.show(event.time_ns),
        "time_ns": event.time_ns,
        "first_ns": event.first_ns,
        "packets": event.packets,
        "trigger": event.trigger.map(Trigger::name),
        "src": event.src.to_string(),
        "dst": event.dst.to_string(),
        "sport": event.sport,
        "dport": event.dport,
        "proto": event.proto,
        "label": event.label_name,
        "score": event.score,
        "actions": event.actions,
        "outputs": event.outputs,
        "generation": event.generation,
    })
    .to_string()
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
