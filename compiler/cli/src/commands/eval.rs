//! `nnbpfc eval`: judges feature rows by the engine that was asked for.

use std::fmt::Write as _;

use nnbpf_compiler::check::Checked;
use nnbpf_compiler::compile;
use nnbpf_compiler::compile::Plan;
use nnbpf_compiler::ir::{Input, Network, interpret};
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::lower::{self, evaluation, internal, refusal};
use nnbpf_compiler::reference::Reference;
use nnbpf_compiler::rows::{self, Columns, Rows};
use nnbpf_compiler::vm::{UpdateMode, Vm};
use nnbpf_runtime_loader::{Kernel, RunInput, Update};

use super::{cells, further_columns, labels_and_scores};
use crate::args::{EvalArgs, EvalEngine};
use crate::inputs::{Files, Loaded, target_of};
use crate::{Refusal, files};

/// Rows that the evaluation object holds at once.
const CHUNK: usize = 4_096;
/// A frame for test runs: the evaluation object does not look at it.
const FRAME: [u8; 64] = [0; 64];

pub fn run(args: &EvalArgs) -> Result<(), Refusal> {
    let inputs = Files::read(&args.model, args.spec.as_deref(), &args.surroundings, &args.accuracy)?;
    let text = match args.engine {
        EvalEngine::Float => float(&inputs, args)?,
        EvalEngine::Ir => fixed(&inputs, args, interpreted)?,
        EvalEngine::Vm => fixed(&inputs, args, in_vm)?,
        EvalEngine::Kernel => fixed(&inputs, args, in_kernel)?,
    };
    Ok(files::write(&args.output, text.as_bytes())?)
}

/// The rows to judge.
fn rows_of(files: &Files<'_>, args: &EvalArgs, inputs: &[Input]) -> Result<Rows, Refusal> {
    let features = Loaded::read(&args.features)?;
    let columns = if files.spec.is_some() { Columns::ByName } else { Columns::ByPosition };
    Ok(rows::parse(&features.name, &features.bytes, inputs, columns)?)
}

/// Raw outputs of the integer network for each row.
type Engine = fn(&Plan, &Rows, &EvalArgs) -> Result<Vec<Vec<i64>>, Refusal>;

/// The integer network, by one of the engines.
fn fixed(files: &Files<'_>, args: &EvalArgs, engine: Engine) -> Result<String, Refusal> {
    let plan = files.plan(&args.accuracy)?;
    let network = plan.network.get();
    let mut rows = rows_of(files, args, &network.inputs)?;
    clamp(&mut rows, network);
    let further = network.decision.further.iter().map(|output| &output.name);
    let mut text = header(network.output_count(), further);
    for values in engine(&plan, &rows, args)? {
        row(&mut text, labels_and_scores(network, &values), &values);
    }
    Ok(text)
}

/// Values beyond what can arrive count as the nearest that can: lowering leaves no room for others, and the
/// quantiser, whose own limits lie within, gives the same for both.
fn clamp(rows: &mut Rows, network: &Network) {
    for row in rows.values.chunks_exact_mut(rows.width.max(1)) {
        for (value, input) in row.iter_mut().zip(&network.inputs) {
            *value = (*value).max(input.range.low).min(input.range.high);
        }
    }
}

/// The first line: names of the columns, for so many values and the outputs behind the first one.
fn header<'a>(values: usize, further: impl Iterator<Item = &'a String>) -> String {
    let mut text = String::from("label,score");
    for index in 0..values {
        // Writing to a string cannot fail.
        let _ = write!(text, ",out{index}");
    }
    text.push_str(&further_columns(further));
    text.push('\n');
    text
}

/// Label and score of the first output, raw values, then label and score of the other outputs.
fn row(text: &mut String, judged: impl Iterator<Item = String>, values: &[impl std::fmt::Display]) {
    let mut judged = judged;
    text.push_str(&judged.next().unwrap_or_default());
    for value in values {
        let _ = write!(text, ",{value}");
    }
    for further in judged {
        let _ = write!(text, ",{further}");
    }
    text.push('\n');
}

/// The float model in double precision, on the same fixed-point inputs. No integers are made of it.
fn float(files: &Files<'_>, args: &EvalArgs) -> Result<String, Refusal> {
    let Reference { model, inputs, outputs: names, .. } = files.reference(&args.accuracy)?;
    let rows = rows_of(files, args, &inputs)?;
    let mut text = header(model.output_count(), names.iter().skip(1).map(|output| &output.name));
    for raw in rows.iter() {
        let real: Vec<f64> = raw
            .iter()
            .zip(&inputs)
            .map(|(raw, input)| *raw as f64 / (1u64 << input.fraction_bits.0) as f64)
            .collect();
        let outputs = model.outputs_f64(&real);
        let judged = model.parts(&outputs).zip(&names).map(|((output, values), named)| {
            cells(&named.labels, output.head.label(values), output.head.score(values))
        });
        row(&mut text, judged, &outputs);
    }
    Ok(text)
}

fn module(plan: &Plan, args: &EvalArgs) -> Result<nnbpf_compiler::bpf::module::Module, Refusal> {
    let target = target_of(&args.target, Clock::Kernel)?;
    let options = target.network;
    let network: &Checked<Network> = &plan.network;
    evaluation::module(network, options, CHUNK as u32)
        .and_then(|module| lower::loads_on(&module, target.kernel).map(|()| module))
        .map_err(|error| refusal(plan.spec.as_ref(), &error).into())
}

fn row_bytes(row: &[i64]) -> Vec<u8> {
    row.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn outputs(entry: &[u8], count: usize) -> Vec<i64> {
    entry
        .chunks_exact(8)
        .take(count)
        .map(|word| i64::from_le_bytes(word.try_into().unwrap_or_default()))
        .collect()
}

fn interpreted(plan: &Plan, rows: &Rows, _: &EvalArgs) -> Result<Vec<Vec<i64>>, Refusal> {
    let network = plan.network.get();
    Ok(rows.iter().map(|row| interpret::outputs(network, row)).collect())
}

fn in_vm(plan: &Plan, rows: &Rows, args: &EvalArgs) -> Result<Vec<Vec<i64>>, Refusal> {
    let failed = |error: &dyn std::error::Error| Refusal::from(internal(error));
    let mut vm = Vm::new(&module(plan, args)?).map_err(|error| failed(&error))?;
    let count = plan.network.get().output_count();
    let mut results = Vec::with_capacity(rows.len());
    let mut frame = FRAME.to_vec();
    for chunk in rows.values.chunks(rows.width.max(1) * CHUNK) {
        if let Some(row) = vm.data_mut(evaluation::ROW_SECTION) {
            row.fill(0);
        }
        let rows_here = chunk.chunks_exact(rows.width.max(1));
        let judged = rows_here.len();
        for (index, row) in (0u32..).zip(rows_here) {
            if let Some(mut inputs) = vm.map(evaluation::INPUTS) {
                inputs
                    .update(&index.to_le_bytes(), &row_bytes(row), UpdateMode::Any)
                    .map_err(|error| failed(&error))?;
            }
        }
        for _ in 0..judged {
            vm.run(evaluation::ENTRY, &mut frame, 0).map_err(|error| failed(&error))?;
        }
        for index in (0u32..).take(judged) {
            let mut map = vm.map(evaluation::OUTPUTS);
            let entry = map.as_mut().and_then(|map| map.at(index)).unwrap_or_default();
            results.push(outputs(entry, count));
        }
    }
    Ok(results)
}

fn in_kernel(plan: &Plan, rows: &Rows, args: &EvalArgs) -> Result<Vec<Vec<i64>>, Refusal> {
    let object = compile::object(&module(plan, args)?)?;
    let loaded = Kernel::load(&object).map_err(|error| error.diagnostics("the evaluation object"))?;
    let count = plan.network.get().output_count();
    let map = |name: &str| loaded.map(name).map_err(|error| Refusal::from(error.diagnostic()));
    let refused = |error: nnbpf_runtime_loader::MapError| Refusal::from(error.diagnostic());
    let (inputs, results, row_counter) =
        (map(evaluation::INPUTS)?, map(evaluation::OUTPUTS)?, map(evaluation::ROW_SECTION)?);
    let mut judged = Vec::with_capacity(rows.len());
    for chunk in rows.values.chunks(rows.width.max(1) * CHUNK) {
        row_counter.write_value(&[0; 8]).map_err(refused)?;
        let rows_here = chunk.chunks_exact(rows.width.max(1));
        let number = u32::try_from(rows_here.len()).unwrap_or(u32::MAX);
        for (index, row) in (0u32..).zip(rows_here) {
            inputs.update(&index.to_le_bytes(), &row_bytes(row), Update::Any).map_err(refused)?;
        }
        let input = RunInput { data: &FRAME, repeat: number, output: false };
        loaded.run(evaluation::ENTRY, input).map_err(|error| Refusal::from(error.diagnostic()))?;
        for index in 0..number {
            let entry = results.lookup(&index.to_le_bytes()).map_err(refused)?.unwrap_or_default();
            judged.push(outputs(&entry, count));
        }
    }
    Ok(judged)
}
