//! `nnbpf hosts`: the lists of blocked and allowed hosts, as a table, as JSON, and as a file.

use std::path::PathBuf;

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_runtime_loader::hosts::{Block, HostLists};
use nnbpf_runtime_loader::installation::Installation;
use nnbpf_runtime_loader::{bounded, whole_file};
use serde_json::{Value, json};

use super::host_file::{self, Format};
use super::refused;
use super::target::Target;
use super::time::WallClock;

/// List blocked and allowed hosts, or carry them from and to a file.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Hosts {
    /// Print a JSON object with both lists.
    #[arg(long)]
    json: bool,
    /// Remove blocks whose time is over; every change of a list does that too.
    #[arg(long, conflicts_with = "json")]
    sweep: bool,
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    file: Option<FileCommand>,
}

#[derive(clap::Subcommand)]
enum FileCommand {
    /// Write both lists to a file.
    Export(Export),
    /// Add what a file holds to the lists; a line that is wrong refuses the whole file.
    Import(Import),
}

#[derive(clap::Args)]
struct Export {
    /// CSV where the name ends in .csv, otherwise JSON lines.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args)]
struct Import {
    /// CSV where the name ends in .csv, otherwise JSON lines.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    target: Target,
}

impl Hosts {
    pub(crate) fn run(&self) -> Outcome<()> {
        match &self.file {
            Some(FileCommand::Export(export)) => return export.run(),
            Some(FileCommand::Import(import)) => return import.run(),
            None => {}
        }
        let installation = self.target.open()?;
        if self.sweep {
            let swept = installation.sweep().map_err(refused)?;
            println!("{swept} expired blocks removed");
            return Ok(());
        }
        let clock = WallClock::of(&installation).map_err(refused)?;
        let lists = installation.hosts().map_err(refused)?;
        if self.json {
            println!("{:#}", in_json(&lists, clock));
        } else {
            show(&lists, clock);
        }
        Ok(())
    }
}

impl Export {
    fn run(&self) -> Outcome<()> {
        let installation = self.target.open()?;
        let clock = WallClock::of(&installation).map_err(refused)?;
        let lists = installation.hosts().map_err(refused)?;
        drop(installation);
        let text = host_file::write(&lists, Format::of(&self.file), clock);
        whole_file::write(&self.file, text.as_bytes()).map_err(|error| {
            file_error(&self.file, format!("cannot write {}: {error}", self.file.display()), HELP)
        })?;
        let blocked = lists.blocked.iter().filter(|block| !block.expired).count();
        println!("{}: {blocked} blocked, {} allowed", self.file.display(), lists.allowed.len());
        Ok(())
    }
}

impl Import {
    fn run(&self) -> Outcome<()> {
        let text = bounded::read_text(&self.file, bounded::HOSTS).map_err(|error| {
            let help = bounded::help(&error, HELP);
            file_error(&self.file, format!("cannot read {}: {error}", self.file.display()), help)
        })?;
        let installation = self.target.open()?;
        let clock = WallClock::of(&installation).map_err(refused)?;
        let lists = host_file::read(&text, Format::of(&self.file), clock).map_err(|wrong| {
            file_error(&self.file, format!("line {}: {}", wrong.line, wrong.reason), HELP)
        })?;
        let over = import(&installation, lists)?;
        println!(
            "{}: {} blocked, {} allowed, {} whose time is over left out",
            self.file.display(),
            over.blocked,
            over.allowed,
            over.left_out
        );
        Ok(())
    }
}

/// What an import did.
struct Imported {
    blocked: usize,
    allowed: usize,
    left_out: usize,
}

fn import(installation: &Installation, mut lists: HostLists) -> Outcome<Imported> {
    let now = installation.now_ns().map_err(refused)?;
    let before = lists.blocked.len();
    lists.blocked.retain(|block| block.until > now);
    let left_out = before - lists.blocked.len();
    installation.add_hosts(&lists).map_err(refused)?;
    Ok(Imported { blocked: lists.blocked.len(), allowed: lists.allowed.len(), left_out })
}

fn until(block: &Block, clock: WallClock) -> Option<String> {
    (block.until != Block::FOR_EVER).then(|| clock.show(block.until))
}

fn show(lists: &HostLists, clock: WallClock) {
    if lists.blocked.is_empty() && lists.allowed.is_empty() {
        println!("no host is blocked or allowed");
        return;
    }
    println!("{:8} {:40} until", "list", "host");
    for block in &lists.blocked {
        let list = if block.expired { "expired" } else { "blocked" };
        let until = until(block, clock).unwrap_or_else(|| "-".to_owned());
        println!("{list:8} {:40} {until}", block.host.to_string());
    }
    for prefix in &lists.allowed {
        println!("{:8} {:40} -", "allowed", prefix.to_string());
    }
}

fn in_json(lists: &HostLists, clock: WallClock) -> Value {
    let blocked = lists.blocked.iter().map(|block| {
        json!({
            "host": block.host.to_string(),
            "until": until(block, clock),
            "expired": block.expired,
        })
    });
    json!({
        "blocked": blocked.collect::<Vec<_>>(),
        "allowed": lists.allowed.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

const HELP: &str = "`nnbpf hosts export FILE` writes such a file; the lists were not changed";

fn file_error(file: &std::path::Path, message: String, help: impl Into<String>) -> Vec<Diagnostic> {
    vec![Diagnostic::new(&codes::RECORDS, Origin::File { file: file.display().to_string() }, message, help)]
}
