//! `nnbpfc check SPEC…`: everything that is wrong with specifications, without a model.

use nnbpf_compiler::ir::flow;
use nnbpf_compiler::spec;

use crate::Refusal;
use crate::args::CheckArgs;
use crate::inputs::Loaded;
use crate::uses::Uses;

pub fn run(args: &CheckArgs) -> Result<(), Refusal> {
    let mut refused = Refusal::from(Vec::new());
    for path in &args.specs {
        match Loaded::read(path) {
            Err(error) => refused.diagnostics.push(*error),
            Ok(source) => {
                let uses = Uses::of(&args.surroundings, path);
                let spec = spec::from_bytes_in(source.named(), &uses.surroundings());
                let program = spec.and_then(|spec| flow::build(&spec));
                if let Err(diagnostics) = program {
                    refused.diagnostics.extend(diagnostics);
                    refused = uses.with_sources(refused.with_source(&source.name, &source.bytes));
                }
            }
        }
    }
    if refused.diagnostics.is_empty() { Ok(()) } else { Err(refused) }
}
