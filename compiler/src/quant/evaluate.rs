//! Counts the rows whose label a candidate changes.

use super::sample::{Expected, Sample};
use crate::check::Checked;
use crate::ir::batch::Batch;
use crate::ir::{Network, interpret};

/// Rows between two looks at the budget.
const STRIDE: usize = 256;

/// Flips among the first `rows` rows of the sample, counting no further once there are more than `allowed`.
pub(super) fn flips(candidate: &Checked<Network>, sample: &Sample, rows: usize, allowed: u64) -> u64 {
    let network = candidate.get();
    let mut batch = Batch::new(network, Some(candidate.certificate()));
    let mut outputs = Vec::new();
    let mut flips = 0;
    let mut done = 0;
    for chunk in sample.nearest(rows).chunks(STRIDE * sample.width.max(1)) {
        outputs.clear();
        batch.outputs(chunk, &mut outputs);
        flips += flipped(network, &sample.expected, done, &outputs);
        if flips > allowed {
            break;
        }
        done += chunk.len() / sample.width.max(1);
    }
    flips
}

/// Flips among outputs of consecutive rows from row `from` on.
pub(super) fn flipped(network: &Network, expected: &Expected, from: usize, outputs: &[i64]) -> u64 {
    let width = network.output_count().max(1);
    let rows = outputs.chunks_exact(width);
    let count = match expected {
        Expected::Labels(labels) => rows
            .zip(labels.iter().skip(from))
            .filter(|(row, label)| interpret::label(network.decision.rule, row) != Some(**label))
            .count(),
        Expected::Values { outputs: wanted, tolerance } => rows
            .zip(wanted.chunks_exact(width).skip(from))
            .filter(|(row, wanted)| {
                row.iter()
                    .zip(wanted.iter())
                    .any(|(&raw, real)| (raw as f64 * network.decision.unit - real).abs() > *tolerance)
            })
            .count(),
    };
    count as u64
}
