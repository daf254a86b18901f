//! `nnbpfc extract SPEC CAPTURE -o CSV`: the features of a capture, for training.

use nnbpf_compiler::capture;
use nnbpf_compiler::ir::flow;
use nnbpf_compiler::spec;

use crate::args::ExtractArgs;
use crate::inputs::Loaded;
use crate::uses::Uses;
use crate::{Refusal, files};

pub fn run(args: &ExtractArgs) -> Result<(), Refusal> {
    let source = Loaded::read(&args.spec)?;
    let uses = Uses::of(&args.surroundings, &args.spec);
    let refused =
        |diagnostics| uses.with_sources(Refusal::from(diagnostics).with_source(&source.name, &source.bytes));
    let spec = spec::from_bytes_in(source.named(), &uses.surroundings()).map_err(refused)?;
    let program = flow::build(&spec).map_err(refused)?;
    let file = Loaded::read(&args.capture)?;
    let capture = capture::read(&file.name, &file.bytes)?;
    super::warn_about(&capture);
    files::write(&args.output, flow::extract::extract(&program, &capture.packets).as_bytes())?;
    Ok(())
}
