//! `nnbpf status`: what is installed and what it does.

use std::time::Duration;

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::installation::{self, Attachment, Installation, Mode};
use nnbpf_runtime_loader::permission;
use nnbpf_runtime_loader::pins::PinDirectory;

use super::refused;
use super::target::Target;

/// Show what is installed: mode, parameters, flows, host lists, counters.
#[derive(clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    target: Target,
}

impl Status {
    pub(crate) fn run(&self) -> Outcome<()> {
        if self.target.is_named() {
            let status = self.target.open()?.status().map_err(refused)?;
            show(&status);
            return Ok(());
        }
        permission::check().map_err(|error| vec![error.diagnostic()])?;
        let all = PinDirectory::all();
        if all.is_empty() {
            println!("nothing is installed");
        }
        for pins in all {
            let installation = Installation::open(pins).map_err(refused)?;
            show(&installation.status().map_err(refused)?);
        }
        Ok(())
    }
}

fn show(status: &installation::Status) {
    let interface = match &status.attachment {
        Attachment::Interface(name) => name.as_str(),
        Attachment::Detached => "not attached",
    };
    let mode = match status.config.mode {
        Mode::Monitor => "monitor",
        Mode::Enforce => "enforce",
    };
    println!("{}", status.directory);
    println!("  interface   {interface}");
    println!("  mode        {mode}");
    if let Some(active) = status.active {
        println!("  parameters  generation {}, slot {}", active.generation, active.index);
    }
    println!("  programs    {}", status.programs.join(" "));
    if let Some((records, capacity)) = status.flows {
        println!("  flows       {records} of {capacity}");
    }
    println!("  list epoch  {}", status.config.epoch);
    for prefix in &status.allowed {
        println!("  allowed     {prefix}");
    }
    for (host, left) in &status.blocked {
        match left {
            None => println!("  blocked     {host}"),
            Some(left) => println!("  blocked     {host} for {} s", seconds(*left)),
        }
    }
    if !status.counters.is_empty() {
        let counters: Vec<String> = status.counters.iter().map(u64::to_string).collect();
        println!("  counters    {}", counters.join(" "));
    }
}

/// Rounded up, so that a host that is still blocked never shows zero.
fn seconds(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}
