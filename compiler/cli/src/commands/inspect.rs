//! `nnbpfc inspect OBJ`: what an object holds.

use std::fmt::Write as _;

use nnbpf_compiler::elf::read::{self, Inventory};
use nnbpf_compiler::ir::Decision;
use nnbpf_compiler::lower::network::Weights;
use nnbpf_compiler::metadata::{self, Metadata};
use nnbpf_compiler::planned::{Planned, PlannedPart};
use serde_json::json;

use crate::Refusal;
use crate::args::InspectArgs;
use crate::inputs::Loaded;

pub fn run(args: &InspectArgs) -> Result<(), Refusal> {
    let object = Loaded::read(&args.object)?;
    let inventory = read::read(&object.bytes, &object.name)?;
    let metadata = metadata::decode(&object.bytes, &object.name)?;
    if args.json {
        println!("{:#}", as_json(&inventory, &metadata));
    } else {
        print!("{}", as_text(&inventory, &metadata));
    }
    Ok(())
}

fn as_json(inventory: &Inventory, metadata: &Metadata) -> serde_json::Value {
    let maps: Vec<_> = inventory
        .maps
        .iter()
        .map(|map| {
            json!({
                "name": map.name,
                "type": map.kernel_type,
                "key_bytes": map.key_size,
                "value_bytes": map.value_size,
                "max_entries": map.max_entries,
            })
        })
        .collect();
    let data: Vec<_> =
        inventory.data.iter().map(|data| json!({ "section": data.section, "bytes": data.size })).collect();
    json!({
        "license": inventory.license,
        "programs": super::functions(&inventory.programs),
        "functions": super::functions(&inventory.functions),
        "maps": maps,
        "data": data,
        "planned": Planned::of(inventory, metadata),
        "metadata": metadata,
    })
}

fn as_text(inventory: &Inventory, metadata: &Metadata) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ =
        writeln!(out, "compiled by  nnbpfc {} for Linux {} and later", metadata.compiler, metadata.kernel);
    let _ = writeln!(out, "model        sha256 {}", metadata.model_hash);
    if let Some(spec) = &metadata.spec {
        let _ = writeln!(out, "spec         {} v{}, sha256 {}", spec.name, spec.version, spec.sha256);
    }
    if let Some(hook) = metadata.hook {
        let _ = writeln!(out, "hook         {}", hook.name());
    }
    let _ = match &metadata.plan.decision {
        Decision { further, .. } if further.is_empty() => {
            writeln!(out, "labels       {}", metadata.labels.join(", "))
        }
        decision => decision.outputs().try_for_each(|output| {
            writeln!(out, "output       {}: {}", output.name, output.labels.join(", "))
        }),
    };
    let parameters = match metadata.weights {
        Weights::Map => format!("2 slots of {} bytes", metadata.slot_bytes),
        Weights::Const => "constants in the code".to_owned(),
    };
    let _ = writeln!(out, "parameters   {parameters}, plan {}", metadata.layout_hash);
    let quant = &metadata.quantisation;
    let basis = if quant.calibrated { "calibration rows" } else { "rows drawn from the scaler" };
    let _ = writeln!(out, "accuracy     {} of {} {basis} change their label", quant.flips, quant.rows);
    if let Some(error) = &metadata.certificate.error {
        let _ = writeln!(out, "outputs      {}", error.words());
    }
    for rule in &quant.thresholds {
        let probability = f64::from(rule.millionths) / 1e6;
        let _ = writeln!(
            out,
            "rule {:<8} on {} when p >= {probability}: fires on {} rows, {} unlike the float model, {} within the \
             error of its sum",
            rule.rule + 1,
            rule.label,
            rule.fired,
            rule.changed,
            rule.within_error
        );
    }
    let _ = writeln!(out, "\nfeatures");
    for (feature, input) in metadata.features.iter().zip(&quant.inputs) {
        let unit = feature.unit.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  {:24} {:8} clamped to {} .. {}", feature.name, unit, input.low, input.high);
    }
    if let Some(forest) = &quant.forest {
        let _ = writeln!(out, "\ntrees");
        let _ = writeln!(
            out,
            "  {:24} {} of depth {} -> {}, {} of {} nodes, {} of {} rows of leaves, sums of {} bits, scores within {:e}",
            forest.node,
            forest.trees,
            forest.depth,
            forest.outputs,
            forest.nodes,
            forest.node_capacity,
            forest.leaf_rows,
            forest.leaf_row_capacity,
            forest.sum_bits,
            forest.score_error
        );
    } else {
        let _ = writeln!(out, "\nlayers");
    }
    for layer in &quant.layers {
        let bits =
            layer.bits.map_or_else(|| "raw outputs".to_owned(), |bits| format!("{bits}-bit activations"));
        let _ = writeln!(
            out,
            "  {:24} {} x {}, {} per register, {bits}, accumulators {} of {} bits",
            layer.node, layer.outputs, layer.inputs, layer.lanes, layer.accumulator_bits, layer.lane_bits
        );
    }
    let _ = writeln!(out, "\nprograms and functions");
    for function in inventory.programs.iter().chain(&inventory.functions) {
        let _ =
            writeln!(out, "  {:24} {:8} {} instructions", function.name, function.section, function.slots);
    }
    write_plan(&mut out, &Planned::of(inventory, metadata));
    let _ = writeln!(out, "\nverifier");
    for (program, count) in &metadata.verifier {
        let _ = writeln!(out, "  {program:24} about {count} instructions processed");
    }
    let _ = writeln!(out, "\nmaps");
    for map in &inventory.maps {
        let _ = writeln!(
            out,
            "  {:24} {} entries, key {} bytes, value {} bytes",
            map.name, map.max_entries, map.key_size, map.value_size
        );
    }
    for data in &inventory.data {
        let _ = writeln!(out, "  {:24} {} bytes", data.section, data.size);
    }
    out
}

/// What each part is predicted to take, and what programs need.
fn write_plan(out: &mut String, planned: &Planned) {
    let _ = writeln!(out, "\nplan: about {:.0} ns for an inference", planned.predicted_ns);
    for PlannedPart { name, predicted_ns, layer } in &planned.parts {
        let words = layer.as_ref().map(|layer| format!(", {}", layer.words())).unwrap_or_default();
        let _ = writeln!(out, "  {name:24} {predicted_ns:>8.1} ns{words}");
    }
    let _ = writeln!(
        out,
        "  {} bytes of scratch, {} bytes in a slot of parameters",
        planned.scratch_bytes, planned.slot_bytes
    );
    for program in &planned.programs {
        let processed =
            program.processed.map(|count| format!(", about {count} processed")).unwrap_or_default();
        let stack = program.stack_bytes.map(|bytes| format!(", {bytes} bytes of stack")).unwrap_or_default();
        let _ =
            writeln!(out, "  {:24} {:>8} instructions{processed}{stack}", program.name, program.instructions);
    }
}
