//! `nnbpfc check SPEC…`: everything that is wrong with specifications, without a model, and what is odd about them.

use nnbpf_compiler::compile::Target;
use nnbpf_compiler::diag::{Diagnostic, Outcome, render};
use nnbpf_compiler::explain;
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::spec;

use crate::Refusal;
use crate::args::{CheckArgs, Split};
use crate::inputs::{Loaded, target};
use crate::uses::Uses;

pub fn run(args: &CheckArgs) -> Result<(), Refusal> {
    let target = target(KernelVersion::DEFAULT, Split::Auto, Clock::Kernel);
    let mut refused = Refusal::from(Vec::new());
    for path in &args.specs {
        match Loaded::read(path) {
            Err(error) => refused.diagnostics.push(*error),
            Ok(source) => {
                let uses = Uses::of(&args.surroundings, path);
                let found = look(&source, &uses, &target);
                let refuses = found.is_err();
                let (Ok(diagnostics) | Err(diagnostics)) = found;
                let report =
                    uses.with_sources(Refusal::from(diagnostics).with_source(&source.name, &source.bytes));
                if refuses {
                    refused.diagnostics.extend(report.diagnostics);
                    refused.sources.extend(report.sources);
                } else {
                    warn(&report);
                }
            }
        }
    }
    if refused.diagnostics.is_empty() { Ok(()) } else { Err(refused) }
}

/// Warnings, or what is wrong.
fn look(source: &Loaded, uses: &Uses, target: &Target) -> Outcome<Vec<Diagnostic>> {
    let spec = spec::from_bytes_in(source.named(), &uses.surroundings())?;
    explain::warnings(&spec, target)
}

fn warn(report: &Refusal) {
    let sources: Vec<(&str, &str)> =
        report.sources.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    for diagnostic in &report.diagnostics {
        eprint!("{}", render::plain(diagnostic, &sources));
    }
}
