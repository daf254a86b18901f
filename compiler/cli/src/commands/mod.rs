//! One module per subcommand, and what several of them print.

pub mod compile;
pub mod like;
pub mod eval;
pub mod replay;
pub mod extract;
pub mod bench;
pub mod inspect;
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

/// Label and score of raw outputs as CSV cells: `label,score`, both empty for a regressor.
#[must_use]
pub fn label_and_score(network: &Network, outputs: &[i64]) -> String {
    let decision = &network.decision;
    let label = interpret::label(decision.rule, outputs);
    let score = interpret::score(decision, outputs);
    match (label, score) {
        (Some(label), Some(score)) => {
            let name = decision.labels.get(label as usize).cloned().unwrap_or_else(|| label.to_string());
            format!("{},{score:.6}", quoted(&name))
        }
        (Some(_) | None, _) => ",".to_owned(),
    }
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
