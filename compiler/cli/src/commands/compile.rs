//! `nnbpfc MODEL SPEC -o OBJ`: the compiler proper.

use std::path::{Path, PathBuf};

use nnbpf_compiler::budget;
use nnbpf_compiler::compile::{self, Plan};
use nnbpf_compiler::diag::codes::check::KERNEL_TOO_OLD;
use nnbpf_compiler::diag::codes::files::FLAG;
use nnbpf_compiler::diag::{Diagnostic, Origin};
use nnbpf_compiler::elf::read;
use nnbpf_compiler::kernel::{KernelVersion, LOOPS};
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::metadata;
use nnbpf_compiler::planned::Planned;
use nnbpf_compiler::verify::{self, Extent};
use serde_json::json;

use super::like::Like;
use crate::args::{ClockArg, CompileArgs};
use crate::inputs::{Files, target_of, weights};
use crate::{Refusal, files};

pub fn run(args: &CompileArgs) -> Result<(), Refusal> {
    let (Some(model), Some(spec), Some(output)) = (&args.model, &args.spec, &args.output) else {
        // The parser demands all three.
        return Err(missing().into());
    };
    let clock = match args.clock {
        ClockArg::Kernel => Clock::Kernel,
        ClockArg::Replay => Clock::Replay,
    };
    if let Err(refused) = KernelVersion::parse(&args.target.kernel)
        && refused.code.id == KERNEL_TOO_OLD.id
    {
        return Err(too_old(args, *refused).into());
    }
    let target = target_of(&args.target, clock)?;
    if let Some(object) = &args.like {
        let like = Like::read(object)?;
        let surroundings = like.surroundings(&args.surroundings);
        let inputs = Files::read(model, Some(spec), &surroundings, &args.accuracy)?;
        like.write(&inputs, &args.accuracy, output)?;
        return depfile(args, &inputs, output, &[model, spec, object]);
    }
    let mut inputs = Files::read(model, Some(spec), &args.surroundings, &args.accuracy)?;
    inputs.measure = args.report.is_some();
    let plan = inputs.plan(&args.accuracy)?;
    if let Some(max_ns) = args.max_ns {
        budget::check(&plan, target.network.weights, max_ns)?;
    }
    let module = compile::module(&plan, &target).map_err(|refused| inputs.refusal(refused))?;
    let object = compile::object(&module)?;
    let verified = if args.no_verify { None } else { Some(verified(&object, output)?) };
    files::write(output, &object)?;
    if let Some(path) = &args.report {
        files::write(path, report(&plan, &object, output, verified)?.as_bytes())?;
    }
    depfile(args, &inputs, output, &[model, spec])
}

/// The refusal of a kernel with what of this very model stands in its way, where the model can be read.
fn too_old(args: &CompileArgs, refused: Diagnostic) -> Diagnostic {
    let (Some(model), Some(spec), None) = (&args.model, &args.spec, &args.like) else { return refused };
    let Some(kernel) = KernelVersion::named(&args.target.kernel).filter(|kernel| *kernel < LOOPS) else {
        return refused;
    };
    let plan = Files::read(model, Some(spec), &args.surroundings, &args.accuracy)
        .and_then(|inputs| inputs.plan(&args.accuracy));
    let Ok(plan) = plan else { return refused };
    budget::on_an_older_kernel(&plan, weights(args.target.weights), kernel)
        .into_iter()
        .fold(refused, Diagnostic::with_note)
}

/// Checks the bytes that are about to be written.
fn verified(object: &[u8], output: &Path) -> Result<verify::Report, Refusal> {
    let note = "this is a mistake of the compiler: report it together with the model and the specification";
    match verify::object(object, &files::name(output), Extent::Whole) {
        Ok(verified) => Ok(verified.report),
        Err(refused) => {
            Err(refused.into_iter().map(|one| one.with_note(note)).collect::<Vec<Diagnostic>>().into())
        }
    }
}

/// The report: what was decided and measured.
fn report(
    plan: &Plan,
    object: &[u8],
    output: &Path,
    verified: Option<verify::Report>,
) -> Result<String, Refusal> {
    let name = files::name(output);
    let inventory = read::read(object, &name)?;
    let metadata = metadata::decode(object, &name)?;
    let report = json!({
        "plan": Planned::of(&inventory, &metadata),
        "quantisation": plan.report,
        "certificate": metadata.certificate,
        "programs": super::functions(&inventory.programs),
        "functions": super::functions(&inventory.functions),
        "verifier": metadata.verifier,
        "verified": verified,
        "object_bytes": object.len(),
    });
    Ok(format!("{report:#}\n"))
}

/// A Makefile rule: the output depends on every input, those that model and specification refer to included.
fn depfile(args: &CompileArgs, loaded: &Files<'_>, output: &Path, inputs: &[&Path]) -> Result<(), Refusal> {
    let Some(path) = &args.depfile else { return Ok(()) };
    let escape = |path: &Path| path.display().to_string().replace(' ', "\\ ").replace('$', "$$");
    let mut rule = format!("{}:", escape(output));
    let beside = loaded.beside();
    let named = inputs.iter().copied().chain(args.accuracy.calibrate.as_deref());
    for input in named.chain(beside.iter().map(PathBuf::as_path)) {
        rule.push(' ');
        rule.push_str(&escape(input));
    }
    rule.push('\n');
    Ok(files::write(path, rule.as_bytes())?)
}

fn missing() -> Diagnostic {
    Diagnostic::new(
        &FLAG,
        Origin::Flag { flag: "MODEL SPEC -o OBJ".to_owned() },
        "model, specification and output are all needed",
        "write `nnbpfc model.onnx features.spec -o ids.o`",
    )
}
