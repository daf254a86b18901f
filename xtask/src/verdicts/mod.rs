//! `cargo xtask verdicts`: what was found of each kind of attack, and what else was accused.

mod attacks;
mod flows;
mod reports;
mod table;

use std::path::{Path, PathBuf};

use attacks::Attacks;
use flows::Flows;
use reports::Report;

/// Compare verdicts with the ground truth of a capture, per kind of attack.
#[derive(clap::Args)]
pub struct Verdicts {
    /// What `nnbpfc extract` wrote for the capture.
    #[arg(long, value_name = "CSV")]
    flows: PathBuf,
    /// The ground truth.
    #[arg(long, value_name = "CSV")]
    labels: PathBuf,
    /// The verdicts: what `nnbpf events --json` printed, or what `nnbpfc replay` wrote (`*.csv`).
    #[arg(long, value_name = "FILE")]
    reports: PathBuf,
    /// All verdicts, as `nnbpfc replay` wrote them: counts the flows of the class, reported or not.
    #[arg(long, value_name = "CSV", requires = "class")]
    verdicts: Option<PathBuf>,
    /// The class that stands for an attack.
    #[arg(long, value_name = "LABEL")]
    class: Option<String>,
    /// Fail unless the reports are exactly those of this file.
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Instead of the table: which of the hosts that `nnbpf status --json` shows as blocked are attackers.
    #[arg(long, value_name = "JSON")]
    blocked: Option<PathBuf>,
}

impl Verdicts {
    pub fn run(&self) -> Result<(), String> {
        let attacks = Attacks::read(&text(&self.labels)?)?;
        if let Some(path) = &self.blocked {
            return table::blocked(&text(path)?, &attacks);
        }
        let mut flows = Flows::read(&text(&self.flows)?)?;
        let reports = Report::read(&self.reports, &text(&self.reports)?)?;
        for report in &reports {
            flows.find(report)?.reported = true;
        }
        if let (Some(path), Some(class)) = (&self.verdicts, &self.class) {
            for verdict in Report::of_class(&text(path)?, class)? {
                flows.find(&verdict)?.classified = true;
            }
        }
        print!("{}", table::table(&flows, &attacks));
        if let Some(path) = &self.expect {
            let expected = Report::read(path, &text(path)?)?;
            same(&reports, &expected)?;
            println!("{} reports, the same as in {}", reports.len(), path.display());
        }
        Ok(())
    }
}

fn text(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Compares in order of time.
fn same(found: &[Report], expected: &[Report]) -> Result<(), String> {
    let sorted = |reports: &[Report]| {
        let mut reports = reports.to_vec();
        reports.sort();
        reports
    };
    let (found, expected) = (sorted(found), sorted(expected));
    if let Some((one, other)) = found.iter().zip(&expected).find(|(one, other)| one != other) {
        return Err(format!("the reports differ: found {one:?}, expected {other:?}"));
    }
    if found.len() != expected.len() {
        return Err(format!("{} reports were found, {} expected", found.len(), expected.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
