//! `nnbpf status`: what is installed and what it does.

use std::time::{Duration, UNIX_EPOCH};

use nnbpf_compiler::diag::{Outcome, render};
use nnbpf_compiler::ir::flow::Counter;
use nnbpf_compiler::ir::flow::guard::EventFilter;
use nnbpf_compiler::metadata::hex;
use nnbpf_runtime_loader::installation::{
    Attachment, Generation, Installation, InstallationError, Mode, Status as Snapshot,
};
use nnbpf_runtime_loader::permission;
use nnbpf_runtime_loader::pins::PinDirectory;
use serde_json::{Value, json};

use super::attach::way;
use super::record::share;
use super::target::Target;
use super::time::WallClock;
use super::{filter, fuse, refused, shadow};

/// Show what is installed: mode, parameters, flows, host lists, counters.
#[derive(clap::Args)]
pub(crate) struct Status {
    /// Print a JSON array with an object per installation.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Status {
    pub(crate) fn run(&self) -> Outcome<()> {
        let (mut all, mut errors) = (Vec::new(), Vec::new());
        if self.target.is_named() {
            all.push(self.target.open()?.status().map_err(refused)?);
        } else {
            permission::check().map_err(|error| vec![error.diagnostic()])?;
            for pins in PinDirectory::all() {
                match Installation::open(pins) {
                    // It was removed since, or says nothing about itself; the others do, beside one that is damaged.
                    Err(InstallationError::NotInstalled { .. }) => {}
                    Err(error @ InstallationError::Incomplete { .. }) => {
                        eprint!("{}", render::plain(&error.diagnostic(), &[]));
                    }
                    installation => match installation.and_then(|installation| installation.status()) {
                        Ok(status) => all.push(status),
                        Err(error) => errors.push(error.diagnostic()),
                    },
                }
            }
        }
        if self.json {
            println!("{:#}", Value::Array(all.iter().map(in_json).collect()));
        } else if all.is_empty() && errors.is_empty() {
            println!("nothing is installed");
        } else {
            all.iter().for_each(show);
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

fn mode(status: &Snapshot) -> &'static str {
    match status.config.mode {
        Mode::Monitor => "monitor",
        Mode::Enforce => "enforce",
    }
}

/// Where and how it is attached, and since when.
fn interface(attachment: &Attachment) -> String {
    let name = &attachment.interface;
    if attachment.program.is_none() {
        return format!("{name}, not attached: the interface is gone, or somebody detached the program");
    }
    format!("{name}, {}, for {} s", way(attachment), attachment.uptime.as_secs())
}

/// Nanoseconds per packet, as the kernel has measured them.
fn latency(status: &Snapshot) -> String {
    match mean_ns(status) {
        Some((mean, runs)) => format!("{mean} ns per packet, over {runs} packets"),
        None if status.statistics => "no packet yet".to_owned(),
        None => "off; `sysctl kernel.bpf_stats_enabled=1` turns it on".to_owned(),
    }
}

/// Of the entry program, tail calls included: mean, and the number of runs.
fn mean_ns(status: &Snapshot) -> Option<(u64, u64)> {
    let entry = status.details.iter().find(|program| program.name == "nn_entry")?;
    Some((entry.run_time_ns.checked_div(entry.runs)?, entry.runs))
}

fn past(generation: &Generation, active: u32) -> String {
    let Generation { number, change, code, restores, model_hash, .. } = generation;
    let restores = restores.map(|restores| format!(" of {restores}")).unwrap_or_default();
    let model: String = hex(model_hash).chars().take(12).collect();
    let active = if *number == active { ", active" } else { "" };
    format!("{number}: {}{restores}, programs {code}, model {model}{active}", change.name())
}

fn count(status: &Snapshot, wanted: impl Fn(&str) -> bool) -> u64 {
    status.counters.iter().filter(|(name, _)| wanted(name)).map(|(_, count)| count).sum()
}

fn show(status: &Snapshot) {
    println!("{}", status.directory);
    if status.attachments.is_empty() {
        println!("  interface   not attached");
    }
    for attachment in &status.attachments {
        println!("  interface   {}", interface(attachment));
    }
    println!("  mode        {}", mode(status));
    if status.fuse.limit != 0 {
        println!("  fuse        {}", fuse::describe(&status.fuse, WallClock::of_status(status)));
    }
    if status.filter != EventFilter::default() {
        println!("  events      {}", filter::describe(&status.filter, &status.labels));
    }
    match (status.active, status.provenance) {
        (Some(active), _) => {
            println!("  parameters  generation {}, slot {}", active.generation, active.index);
        }
        (None, Some(_)) => println!("  parameters  constants in the code"),
        (None, None) => {}
    }
    match (status.active, status.provenance) {
        (_, Some(provenance)) => println!("  model       {}", hex(&provenance.model_hash)),
        (Some(_), None) => println!("  model       not known: the parameters were not written by nnbpf"),
        (None, None) => {}
    }
    if let Some(one) = &status.shadow {
        println!("  shadow      {}", shadow::line(one));
    }
    if let Some(hash) = status.object_hash {
        println!("  object      {}", hex(&hash));
    }
    for program in &status.details {
        println!("  program     {:12} id {}, tag {}", program.name, program.id, program.tag);
    }
    println!("  latency     {}", latency(status));
    println!("  memory      {} KiB", status.memory.div_ceil(1024));
    for generation in &status.history {
        println!("  history     {}", past(generation, status.generation));
    }
    if let Some((records, capacity)) = status.flows {
        println!("  flows       {records} of {capacity}");
    }
    for (name, records, capacity) in &status.tables {
        println!("  per {name:<7} {records} of {capacity}");
    }
    for prefix in &status.allowed {
        println!("  allowed     {prefix}");
    }
    for (host, left) in &status.blocked {
        match left {
            None => println!("  blocked     {host}"),
            Some(left) => println!("  blocked     {host} for {} s", seconds(*left)),
        }
    }
    for (name, count) in &status.counters {
        println!("  {name:20} {count:>12}");
    }
}

fn attachment(attachment: &Attachment) -> Value {
    json!({
        "interface": attachment.interface,
        "hook": attachment.hook.name(),
        "mode": attachment.by.name(),
        "fallback": attachment.fallback,
        "attached": attachment.program.is_some(),
        "program_id": attachment.program,
        "uptime_seconds": attachment.uptime.as_secs_f64(),
    })
}

fn in_json(status: &Snapshot) -> Value {
    let counters = status.counters.iter().map(|(name, count)| ((*name).to_owned(), json!(count)));
    let blocked = status
        .blocked
        .iter()
        .map(|(host, left)| json!({ "host": host.to_string(), "seconds": left.map(seconds) }));
    let attached = status.attachments.iter().filter(|attachment| attachment.program.is_some());
    let uptime = attached.map(|attachment| attachment.uptime).max();
    let packets = Counter::all().filter(|counter| matches!(counter, Counter::Packet(_)));
    let packets: Vec<&str> = packets.map(Counter::name).collect();
    let packets = count(status, |name| packets.contains(&name));
    json!({
        "directory": status.directory,
        // The first one that packets come from.
        "interface": status.attachments.iter().find(|one| one.program.is_some()).map(|one| &one.interface),
        "interfaces": status.attachments.iter().map(attachment).collect::<Vec<_>>(),
        "mode": mode(status),
        "fuse": fuse_in_json(status),
        "events": filter::describe(&status.filter, &status.labels),
        "generation": status.generation,
        "slot": status.active.map(|active| active.index),
        "model_hash": status.provenance.map(|provenance| hex(&provenance.model_hash)),
        "shadow": status.shadow.as_ref().map(|one| shadow::in_json(one, &[])),
        "programs": status.programs,
        "program_details": status.details.iter().map(|program| json!({
            "name": program.name,
            "id": program.id,
            "tag": program.tag,
            "runs": program.runs,
            "run_time_ns": program.run_time_ns,
        })).collect::<Vec<_>>(),
        "program_generation": status.code,
        "object_hash": status.object_hash.map(|hash| hex(&hash)),
        "uptime_seconds": uptime.map(|uptime| uptime.as_secs_f64()),
        "packets": packets,
        "verdicts": count(status, |name| name == "verdicts"),
        "latency_ns": mean_ns(status).map(|(mean, _)| mean),
        "statistics": status.statistics,
        "memory_bytes": status.memory,
        "history": status.history.iter().map(|one| json!({
            "generation": one.number,
            "change": one.change.name(),
            "restores": one.restores,
            "program_generation": one.code,
            "model_hash": hex(&one.model_hash),
            "unix_seconds": one.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        })).collect::<Vec<_>>(),
        "flows": status.flows.map(|(records, _)| records),
        "flow_capacity": status.flows.map(|(_, capacity)| capacity),
        "tables": status
            .tables
            .iter()
            .map(|(name, records, capacity)| json!({ "name": name, "records": records, "capacity": capacity }))
            .collect::<Vec<_>>(),
        "allowed": status.allowed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "blocked": blocked.collect::<Vec<_>>(),
        "counters": counters.collect::<serde_json::Map<_, _>>(),
    })
}

/// Shares of 1; nothing without a fuse.
fn fuse_in_json(status: &Snapshot) -> Option<Value> {
    let fuse = &status.fuse;
    (fuse.limit != 0).then(|| {
        let of_one = |millionths: u64| millionths as f64 / 1e6;
        json!({
            "limit": of_one(fuse.limit.into()),
            "window": fuse.window,
            "blown": fuse.blown.map(|blown| json!({
                "time": WallClock::of_status(status).show(blown.at_ns),
                "share": of_one(share(blown.drops, blown.packets)),
                "packets": blown.packets,
                "drops": blown.drops,
            })),
        })
    })
}

/// Rounded up, so that a host that is still blocked never shows zero.
fn seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}
