//! `nnbpf shadow`: a retrained model runs beside the active one and is compared with it.

use std::path::PathBuf;

use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::metadata::hex;
use nnbpf_runtime_loader::installation::Shadow as Running;
use nnbpf_runtime_loader::shadow::Counts;
use serde_json::{Value, json};

use super::target::Target;
use super::{refused, update};

/// Run a retrained model on the same features, without acting, and count where it disagrees.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["params", "status", "stop"]))]
pub(crate) struct Shadow {
    /// What nnbpfc MODEL SPEC --like OBJ -o NEW.params wrote; begins a shadow, in place of another one.
    #[arg(value_name = "NEW.params")]
    params: Option<PathBuf>,
    /// Show how often the shadow disagrees, and on which labels.
    #[arg(long)]
    status: bool,
    /// End the shadow.
    #[arg(long)]
    stop: bool,
    /// With --status: print JSON.
    #[arg(long, requires = "status")]
    json: bool,
    #[command(flatten)]
    target: Target,
}

impl Shadow {
    pub(crate) fn run(&self) -> Outcome<()> {
        let file = self.params.as_deref().map(update::read).transpose()?;
        let installation = self.target.open()?;
        if let Some((name, params)) = file {
            let active = installation.begin_shadow(&params, &name)?;
            println!("slot {} runs in the shadow of generation {}", 1 - active.index, active.generation);
            return Ok(());
        }
        let running = installation.shadow().map_err(refused)?;
        let Some(running) = running else { return Err(vec![installation.no_shadow()]) };
        if self.stop {
            installation.end_shadow()?;
            println!("ended {}", line(&running));
            return Ok(());
        }
        let labels = installation.metadata()?.labels;
        if self.json {
            println!("{:#}", in_json(&running, &labels));
        } else {
            show(&running, &labels);
        }
        Ok(())
    }
}

/// A shadow in one line.
pub(super) fn line(shadow: &Running) -> String {
    let model = shadow.provenance.map_or_else(|| "not known".to_owned(), |known| hex(&known.model_hash));
    let (verdicts, different) = (shadow.counts.verdicts(), shadow.counts.disagreements());
    format!("model {model}: {different} of {verdicts} verdicts differ")
}

fn show(shadow: &Running, labels: &[String]) {
    println!("{}", line(shadow));
    let Counts::Pairs(rows) = &shadow.counts else { return };
    let names: Vec<String> = (0..rows.len()).map(|class| name(labels, class)).collect();
    let width = names.iter().map(String::len).chain([20]).max().unwrap_or_default();
    print!("{:width$}", "active \\ shadow");
    names.iter().for_each(|name| print!("  {name:>width$}"));
    println!();
    for (name, counts) in names.iter().zip(rows) {
        print!("{name:width$}");
        counts.iter().for_each(|count| print!("  {count:>width$}"));
        println!();
    }
}

/// A class's label, or its number.
fn name(labels: &[String], class: usize) -> String {
    labels.get(class).cloned().unwrap_or_else(|| class.to_string())
}

pub(super) fn in_json(shadow: &Running, labels: &[String]) -> Value {
    let mut value = json!({
        "model_hash": shadow.provenance.map(|known| hex(&known.model_hash)),
        "verdicts": shadow.counts.verdicts(),
        "disagreements": shadow.counts.disagreements(),
    });
    if let (Counts::Pairs(rows), Some(object)) = (&shadow.counts, value.as_object_mut()) {
        object.insert("pairs".to_owned(), json!(rows));
        if !labels.is_empty() {
            object.insert("labels".to_owned(), json!(labels));
        }
    }
    value
}
