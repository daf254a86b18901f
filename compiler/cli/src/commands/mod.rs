//! One module per subcommand, and what several of them print.

pub mod compile;
pub mod like;
pub mod eval;
pub mod replay;
pub mod extract;
pub mod bench;
pub mod explore;
pub mod flips;
mod calibrate;
pub mod inspect;
pub mod verify;
pub mod explain;
pub mod rank;
pub mod check;
pub mod fmt;
pub mod explain_code;

use nnbpf_compiler::capture::Capture;
use nnbpf_compiler::diag::render;
use nnbpf_compiler::elf::read::FunctionEntry;
use nnbpf_compiler::ir::Network;
use nnbpf_compiler::ir::interpret;
use serde_json::json;

/// Tells what a capture holds that cannot be used.
pub fn warn_about(capture: &Capture<'_>) {
    if capture.not_ethernet > 0 {
        eprintln!("warning: {} packets are not Ethernet frames and were left out", capture.not_ethernet);
    }
    if let Some(damage) = &capture.damage {
        eprint!("warning: the capture is damaged; what stands before the damage was used\n{}", {
            render::plain(damage, &[])
        });
    }
}

/// Label and score of each output as CSV cells, from raw values: `label,score`, both empty for a regressor.
pub fn labels_and_scores<'a>(network: &'a Network, values: &'a [i64]) -> impl Iterator<Item = String> + 'a {
    let decision = &network.decision;
    decision.parts(values).map(|(output, values)| {
        let label = interpret::label(output.rule, values);
        let score = interpret::score(output.rule, decision.unit_of(output), values);
        cells(&output.labels, label.map(|label| label as usize), score)
    })
}

/// `label,score` by the names of an output's classes, both empty for a regressor.
#[must_use]
pub fn cells(labels: &[String], label: Option<usize>, score: Option<f64>) -> String {
    match (label, score) {
        (Some(label), Some(score)) => {
            let name = labels.get(label).cloned().unwrap_or_else(|| label.to_string());
            format!("{},{score:.6}", quoted(&name))
        }
        (Some(_) | None, _) => ",".to_owned(),
    }
}

/// Names of the columns for the outputs behind the first one, each with a comma before it.
#[must_use]
pub fn further_columns<'a>(further: impl Iterator<Item = &'a String>) -> String {
    let columns = further.map(|name| {
        let column = |what: &str| quoted(&format!("{what}_{name}"));
        format!(",{},{}", column("label"), column("score"))
    });
    columns.collect()
}

/// Programs or functions of an object for JSON, with their length as the verifier counts it.
#[must_use]
pub fn functions(list: &[FunctionEntry]) -> Vec<serde_json::Value> {
    list.iter().map(|f| json!({ "name": f.name, "section": f.section, "instructions": f.slots })).collect()
}

/// A CSV cell, in quotes where it needs them.
#[must_use]
pub fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
