//! `nnbpf status`: what is installed and what it does.

use std::time::Duration;

use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::metadata::hex;
use nnbpf_runtime_loader::installation::{Attachment, Installation, Mode, Status as Snapshot};
use nnbpf_runtime_loader::permission;
use nnbpf_runtime_loader::pins::PinDirectory;
use serde_json::{Value, json};

use super::target::Target;
use super::{refused, shadow};

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
        let mut all = Vec::new();
        if self.target.is_named() {
            all.push(self.target.open()?.status().map_err(refused)?);
        } else {
            permission::check().map_err(|error| vec![error.diagnostic()])?;
            for pins in PinDirectory::all() {
                let installation = Installation::open(pins).map_err(refused)?;
                all.push(installation.status().map_err(refused)?);
            }
        }
        if self.json {
            println!("{:#}", Value::Array(all.iter().map(in_json).collect()));
        } else if all.is_empty() {
            println!("nothing is installed");
        } else {
            all.iter().for_each(show);
        }
        Ok(())
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
    let Attachment { interface, hook, by, fallback, uptime, program } = attachment;
    if program.is_none() {
        return format!("{interface}, not attached: the interface is gone, or somebody detached the program");
    }
    let reason = fallback.as_ref().map(|reason| format!(" (native refused: {reason})")).unwrap_or_default();
    format!("{interface}, {} {by}{reason}, for {} s", hook.name(), uptime.as_secs())
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
    println!("  programs    {}", status.programs.join(" "));
    if let Some((records, capacity)) = status.flows {
        println!("  flows       {records} of {capacity}");
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
    json!({
        "directory": status.directory,
        // The first one that packets come from.
        "interface": status.attachments.iter().find(|one| one.program.is_some()).map(|one| &one.interface),
        "interfaces": status.attachments.iter().map(attachment).collect::<Vec<_>>(),
        "mode": mode(status),
        "generation": match status.active {
            Some(active) => Some(active.generation),
            // Constants have the generation of what an object is compiled with.
            None => status.provenance.map(|provenance| provenance.generation),
        },
        "slot": status.active.map(|active| active.index),
        "model_hash": status.provenance.map(|provenance| hex(&provenance.model_hash)),
        "shadow": status.shadow.as_ref().map(|one| shadow::in_json(one, &[])),
        "programs": status.programs,
        "flows": status.flows.map(|(records, _)| records),
        "flow_capacity": status.flows.map(|(_, capacity)| capacity),
        "allowed": status.allowed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "blocked": blocked.collect::<Vec<_>>(),
        "counters": counters.collect::<serde_json::Map<_, _>>(),
    })
}

/// Rounded up, so that a host that is still blocked never shows zero.
fn seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}
