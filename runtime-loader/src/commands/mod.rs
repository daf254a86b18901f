//! The subcommands and what they share: which installation is meant, and how errors are reported.

mod allow;
mod attach;
mod block;
mod corrections;
mod detach;
mod events;
mod filter;
mod fuse;
mod host_file;
mod hosts;
mod load;
mod mode;
mod promote;
mod shadow;
mod record;
mod rollback;
mod status;
mod sweep;
mod target;
mod time;
mod unblock;
mod unload;
mod update;

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_runtime_loader::hosts::HostError;
use nnbpf_runtime_loader::installation::InstallationError;

/// Loads, watches and hot-updates the objects that nnbpfc writes.
#[derive(clap::Parser)]
#[command(name = "nnbpf", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Load(load::Load),
    Attach(attach::Attach),
    Detach(detach::Detach),
    Status(status::Status),
    Events(events::Events),
    Mode(mode::Mode),
    Fuse(fuse::Fuse),
    Update(update::Update),
    Shadow(shadow::Shadow),
    Promote(promote::Promote),
    Rollback(rollback::Rollback),
    Allow(allow::Allow),
    Block(block::Block),
    Unblock(unblock::Unblock),
    Hosts(hosts::Hosts),
    Corrections(corrections::Corrections),
    Sweep(sweep::Sweep),
    Unload(unload::Unload),
}

impl Command {
    pub(crate) fn run(&self) -> Outcome<()> {
        match self {
            Self::Load(command) => command.run(),
            Self::Attach(command) => command.run(),
            Self::Detach(command) => command.run(),
            Self::Status(command) => command.run(),
            Self::Events(command) => command.run(),
            Self::Mode(command) => command.run(),
            Self::Fuse(command) => command.run(),
            Self::Update(command) => command.run(),
            Self::Shadow(command) => command.run(),
            Self::Promote(command) => command.run(),
            Self::Rollback(command) => command.run(),
            Self::Allow(command) => command.run(),
            Self::Block(command) => command.run(),
            Self::Unblock(command) => command.run(),
            Self::Hosts(command) => command.run(),
            Self::Corrections(command) => command.run(),
            Self::Sweep(command) => command.run(),
            Self::Unload(command) => command.run(),
        }
    }
}

/// An installation's error as a report.
fn refused(error: InstallationError) -> Vec<Diagnostic> {
    vec![error.diagnostic()]
}

/// A setting that cannot be made sense of.
fn bad_setting(flag: &str, reason: String) -> Vec<Diagnostic> {
    vec![Diagnostic::new(
        &codes::SETTING,
        Origin::Flag { flag: flag.to_owned() },
        reason,
        "write `--set` as in `label=attack,acts=drop|block,sample=1/10,rate=1000/s,burst=100` or `all`, and labels \
         as the model names them",
    )]
}

/// An address that is none.
fn bad_host(error: &HostError) -> Vec<Diagnostic> {
    vec![Diagnostic::new(
        &codes::HOST,
        Origin::Flag { flag: "HOST".to_owned() },
        error.to_string(),
        "write an address such as `192.0.2.7` or `2001:db8::7`, or for `allow` a prefix such as `10.0.0.0/8`",
    )]
}
