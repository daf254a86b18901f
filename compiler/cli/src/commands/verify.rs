//! `nnbpfc verify OBJ`: an object checked again from its bytes alone, and against its model and specification.

use std::fmt::Write as _;
use std::path::Path;

use nnbpf_compiler::compile::{self, Sources};
use nnbpf_compiler::diag::codes::object::OTHER_SOURCE;
use nnbpf_compiler::diag::{Diagnostic, Origin};
use nnbpf_compiler::quant::{Options, plan_of};
use nnbpf_compiler::spec::Surroundings;
use nnbpf_compiler::verify::{self, Extent, Verified};
use serde_json::json;

use crate::args::VerifyArgs;
use crate::inputs::{Beside, Loaded};
use crate::uses::Uses;
use crate::{Refusal, files};

pub fn run(args: &VerifyArgs) -> Result<(), Refusal> {
    let object = Loaded::read(&args.object)?;
    let extent = if args.network_only { Extent::Network } else { Extent::Whole };
    let verified = verify::object(&object.bytes, &object.name, extent)?;
    if let Some(path) = &args.model {
        model(&verified, path, args.calibrate.as_deref(), &object.name)?;
    }
    if let Some(path) = &args.spec {
        let spec = Loaded::read(path)?;
        let uses = Uses::of(&args.surroundings, path);
        verify::same_spec(&verified, spec.named(), &uses.surroundings()).map_err(|refused| {
            uses.with_sources(Refusal::from(refused).with_source(&spec.name, &spec.bytes))
        })?;
    }
    if args.json {
        println!("{:#}", as_json(&verified, args));
    } else {
        print!("{}", as_text(&verified, args));
    }
    Ok(())
}

/// Compiles the model and compares every number.
fn model(verified: &Verified, path: &Path, rows: Option<&Path>, object: &str) -> Result<(), Refusal> {
    let (model, rows) = (Loaded::read(path)?, rows.map(Loaded::read).transpose()?);
    let metadata = &verified.metadata;
    if metadata.quantisation.calibrated && rows.is_none() {
        return Err(Diagnostic::new(
            &OTHER_SOURCE,
            Origin::File { file: object.to_owned() },
            "the object's model was calibrated on rows, and without them it compiles to other parameters",
            "give the rows of `nnbpfc MODEL SPEC --calibrate CSV` with `--calibrate CSV`",
        )
        .into());
    }
    let stored = metadata.spec.as_ref().map(|spec| (spec.file(), spec.given(), spec));
    let (resolver, none) = (Beside::of(path), Surroundings::default());
    let sources = Sources {
        model: model.named(),
        spec: stored.as_ref().map(|(name, _, spec)| compile::Named { name, bytes: spec.source.as_bytes() }),
        calibration: rows.as_ref().map(Loaded::named),
        surroundings: stored
            .as_ref()
            .map_or(none, |(_, given, spec)| Surroundings { parameters: given, fragments: *spec }),
        resolver: &resolver,
    };
    // Into the object's own plan, and as the search finds the plan by itself.
    let same = |like| -> Result<(), Refusal> {
        let plan = compile::plan(&sources, &Options { like, ..Options::default() })?;
        Ok(verify::same_model(verified, &plan, &model.name)?)
    };
    same(Some(plan_of(&metadata.plan))).or_else(|refused| same(None).map_err(|_| refused))
}

fn as_json(verified: &Verified, args: &VerifyArgs) -> serde_json::Value {
    let metadata = &verified.metadata;
    json!({
        "compiler": metadata.compiler,
        "kernel": metadata.kernel,
        "model_hash": metadata.model_hash,
        "parameters_hash": metadata.parameters_hash,
        "report": verified.report,
        "model": args.model.is_some(),
        "spec": args.spec.is_some(),
    })
}

fn as_text(verified: &Verified, args: &VerifyArgs) -> String {
    let (metadata, report) = (&verified.metadata, &verified.report);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "object       {} functions, {} instructions, every byte accounted for",
        report.functions, report.instructions
    );
    let _ = write!(out, "intervals    {} derived again from the parameters", report.intervals);
    let _ = match report.widest {
        Some(lane) => {
            let verify::WidestLane { op, row, bits, lane_bits } = lane;
            writeln!(out, "; the fullest lane needs {bits} of {lane_bits} bits (part {op}, row {row})")
        }
        None => writeln!(out),
    };
    let verify::Proved { functions, instructions, stores, diagrams } = report.network;
    let _ = writeln!(
        out,
        "network      proved: {functions} functions, {instructions} instructions executed on terms, {stores} results \
         compared, {diagrams} as diagrams"
    );
    let path = &report.path;
    let fields: usize = path.touched.values().map(Vec::len).sum();
    let _ = if path.derived {
        let spec = metadata.spec.as_ref();
        let name = spec.map(|spec| format!("{} v{}", spec.name, spec.version)).unwrap_or_default();
        writeln!(
            out,
            "packet path  {} functions, {} instructions, as release {} compiles {name}",
            path.functions, path.instructions, metadata.compiler
        )
    } else {
        writeln!(
            out,
            "packet path  {} functions, {} instructions, not compared with the specification",
            path.functions, path.instructions
        )
    };
    let _ = writeln!(
        out,
        "memory       {} accesses to packets, {fields} fields of {} maps and sections, all within bounds",
        path.packet_accesses,
        path.touched.len()
    );
    if path.replay {
        let _ = writeln!(out, "clock        a replay's: the object reads no time from a kernel");
    }
    if let Some(model) = &args.model {
        let name = files::name(model);
        let _ =
            writeln!(out, "model        {name} has the stated hash and compiles to these very parameters");
        if metadata.certificate.error.as_ref().is_some_and(|error| error.reason.is_none()) {
            let _ = writeln!(out, "error        the stated bound follows from the model again");
        }
    }
    if let Some(spec) = &args.spec {
        let _ = writeln!(
            out,
            "spec         {} says what the specification in the object says",
            files::name(spec)
        );
    }
    out
}
