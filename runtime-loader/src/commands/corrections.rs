//! `nnbpf corrections`: verdicts that somebody knew better, and training rows from them.

use std::path::{Path, PathBuf};

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_compiler::metadata::{Metadata, RuleMetadata};
use nnbpf_runtime_loader::corrections::{self, Correction, default_log};
use nnbpf_runtime_loader::hosts::Prefix;
use nnbpf_runtime_loader::installation::Installation;
use nnbpf_runtime_loader::{bounded, whole_file};

use super::bad_setting;
use super::target::Target;
use super::time::now;

/// Show corrections of wrong verdicts, or write them as training rows.
#[derive(clap::Args)]
pub(crate) struct Corrections {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Print the corrections of an installation.
    List(List),
    /// Write recorded verdicts of corrected hosts as CSV: the features, and the right label.
    Export(Export),
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    log: Log,
}

#[derive(clap::Args)]
struct Export {
    /// What `nnbpf events --record FILE` wrote.
    #[arg(long, value_name = "FILE")]
    events: PathBuf,
    /// The CSV file.
    #[arg(short, long, value_name = "CSV")]
    output: PathBuf,
    #[command(flatten)]
    log: Log,
}

/// Where corrections are.
#[derive(clap::Args)]
struct Log {
    /// The file of corrections [default: /var/lib/nnbpf/NAME/corrections.jsonl].
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
}

/// The flags of commands that can correct a verdict.
#[derive(clap::Args)]
pub(crate) struct Because {
    /// Record that the verdict was wrong, and why.
    #[arg(long, value_name = "REASON")]
    because: Option<String>,
    /// The right label [default: the only one that fits].
    #[arg(long, value_name = "LABEL", requires = "because")]
    label: Option<String>,
    /// The file of corrections [default: /var/lib/nnbpf/NAME/corrections.jsonl].
    #[arg(long, value_name = "FILE", requires = "because")]
    log: Option<PathBuf>,
}

/// What a host did, by the lists that it is put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    /// It was accused wrongly.
    Harmless,
    /// It was missed.
    Harmful,
}

impl Because {
    /// The correction that was asked for, and where it goes; nothing without `--because`.
    pub(super) fn correction(
        &self,
        installation: &Installation,
        hosts: Prefix,
        truth: Truth,
    ) -> Outcome<Option<(Correction, PathBuf)>> {
        let Some(because) = &self.because else { return Ok(None) };
        let metadata = installation.metadata()?;
        let label = match &self.label {
            Some(label) if metadata.labels.contains(label) => label.clone(),
            Some(label) => {
                let known = metadata.labels.join(", ");
                return Err(bad_setting(
                    "--label",
                    format!("the model has no label `{label}`; it has {known}"),
                ));
            }
            None => only_label(&metadata, truth)?,
        };
        let generation = installation.generation().ok();
        let correction = Correction { time: now(), hosts, label, because: because.clone(), generation };
        let log = self.log.clone().unwrap_or_else(|| default_log(installation.pins()));
        Ok(Some((correction, log)))
    }
}

/// Appends a correction and says so.
pub(super) fn record(correction: &Correction, log: &Path) -> Outcome<()> {
    correction.append(log).map_err(|error| {
        vec![Diagnostic::new(
            &codes::RECORDS,
            Origin::File { file: log.display().to_string() },
            format!("cannot append to {}: {error}", log.display()),
            "name a file that you can write with `--log FILE`; the lists of hosts were not changed",
        )]
    })?;
    println!("{}: {} from now on, recorded in {}", correction.hosts, correction.label, log.display());
    Ok(())
}

/// The label that a rule acts on, or the one that none acts on, where there is one only.
fn only_label(metadata: &Metadata, truth: Truth) -> Outcome<String> {
    // Corrections are about the first output.
    let first = &metadata.plan.decision.first.name;
    let about_it = |rule: &&RuleMetadata| rule.output.as_ref().is_none_or(|output| output == first);
    let rules = metadata.spec.iter().flat_map(|spec| &spec.rules).filter(about_it);
    let acted_on: Vec<&String> = rules.map(|rule| &rule.label).collect();
    let mut fitting =
        metadata.labels.iter().filter(|label| acted_on.contains(label) == (truth == Truth::Harmful));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only.clone()),
        _ => {
            let known = metadata.labels.join(", ");
            Err(bad_setting("--label", format!("name the right label with `--label`: one of {known}")))
        }
    }
}

impl Corrections {
    pub(crate) fn run(&self) -> Outcome<()> {
        match &self.what {
            What::List(list) => {
                for Correction { time, hosts, label, because, .. } in list.log.read()?.0 {
                    // One line each, and nothing that a terminal would obey.
                    let plain = |text: &str| text.replace(char::is_control, " ");
                    println!("{}  {hosts}  {}  {}", plain(&time), plain(&label), plain(&because));
                }
                Ok(())
            }
            What::Export(export) => export.run(),
        }
    }
}

impl Export {
    fn run(&self) -> Outcome<()> {
        let (corrections, _) = self.log.read()?;
        let text = bounded::read_text(&self.events, bounded::RECORDS)
            .map_err(|error| file_error(&self.events, format!("cannot read it: {error}")))?;
        let rows = corrections::label(&corrections, &text)
            .map_err(|wrong| file_error(&self.events, wrong.to_string()))?;
        whole_file::write(&self.output, rows.csv.as_bytes())
            .map_err(|error| file_error(&self.output, format!("cannot write it: {error}")))?;
        println!(
            "{}: {} rows of corrected hosts; {} verdicts of others left out",
            self.output.display(),
            rows.rows,
            rows.others
        );
        Ok(())
    }
}

impl Log {
    fn read(&self) -> Outcome<(Vec<Correction>, PathBuf)> {
        let log = match &self.log {
            Some(log) => log.clone(),
            None => default_log(&self.target.directory()?),
        };
        let text = match bounded::read_text(&log, bounded::RECORDS) {
            Ok(text) => text,
            // Nobody has corrected anything yet.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.log.is_none() => String::new(),
            Err(error) => return Err(file_error(&log, format!("cannot read it: {error}"))),
        };
        let corrections = corrections::parse(&text).map_err(|wrong| file_error(&log, wrong.to_string()))?;
        Ok((corrections, log))
    }
}

fn file_error(file: &Path, message: String) -> Vec<Diagnostic> {
    vec![Diagnostic::new(
        &codes::RECORDS,
        Origin::File { file: file.display().to_string() },
        message,
        "`nnbpf events --record FILE` writes events, `nnbpf allow HOST --because REASON` corrections",
    )]
}
