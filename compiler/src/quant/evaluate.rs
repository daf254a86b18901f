//! Counts the rows of which a candidate changes a label.

use super::sample::{Expected, Sample};
use crate::check::Checked;
use crate::ir::batch::Batch;
use crate::ir::{Network, interpret};

/// Rows between two looks at the budget.
const STRIDE: usize = 256;

/// Positions of flipped rows among the first `rows` of the sample; the count stops soon after it exceeds
/// `allowed`.
pub(super) fn flipped_rows(
    candidate: &Checked<Network>,
    sample: &Sample,
    rows: usize,
    allowed: u64,
) -> Vec<usize> {
    let network = candidate.get();
    let mut batch = Batch::new(network, Some(candidate.certificate()));
    let mut outputs = Vec::new();
    let mut flipped = Vec::new();
    let mut done = 0;
    for chunk in sample.nearest(rows).chunks(STRIDE * sample.width.max(1)) {
        outputs.clear();
        batch.outputs(chunk, &mut outputs);
        let rows = outputs.chunks_exact(network.output_count().max(1));
        flipped.extend(
            rows.enumerate()
                .filter(|(row, outputs)| differs(network, &sample.expected, done + row, outputs))
                .map(|(row, _)| done + row),
        );
        if flipped.len() as u64 > allowed {
            break;
        }
        done += chunk.len() / sample.width.max(1);
    }
    flipped
}

fn differs(network: &Network, expected: &Expected, row: usize, outputs: &[i64]) -> bool {
    match expected {
        Expected::Labels { labels, outputs: count } => {
            let wanted = labels.get(row * count..(row + 1) * count).unwrap_or_default();
            !interpret::labels(&network.decision, outputs).eq(wanted.iter().copied().map(Some))
        }
        Expected::Values { outputs: wanted, tolerances } => {
            let tolerance = tolerances.get(row).copied().unwrap_or_default();
            let wanted = wanted.get(row * outputs.len()..(row + 1) * outputs.len()).unwrap_or_default();
            outputs
                .iter()
                .zip(wanted)
                .any(|(&raw, real)| (raw as f64 * network.decision.unit - real).abs() > tolerance)
        }
    }
}
