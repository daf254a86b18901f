//! Many rows through the integer network at once, for calibration and for `eval` over large files.
//!
//! The numbers are those of [`super::interpret`] (a test compares them). Rows are taken in blocks and
//! transposed, so that the inner loop runs over rows with one weight and has no dependency chain. A layer
//! whose accumulators provably fit 32 bits is computed modulo 2^32, which is exact and twice as fast.

use super::{Dense, Forest, Network, Op, Post, Quantise};
use crate::check::Certificate;

/// Rows that are computed together: one column of a block is a few cache lines.
const BLOCK: usize = 64;

/// Reusable evaluator of one network.
#[derive(Debug)]
pub struct Batch<'n> {
    network: &'n Network,
    /// Parallel to the operations: whether 32-bit arithmetic is exact.
    narrow: Vec<bool>,
    current: Vec<[i64; BLOCK]>,
    next: Vec<[i64; BLOCK]>,
    narrow_columns: Vec<[i32; BLOCK]>,
}

impl<'n> Batch<'n> {
    /// Prepares the buffers. With a certificate of this very network, layers that fit use 32-bit arithmetic.
    #[must_use]
    pub fn new(network: &'n Network, certificate: Option<&Certificate>) -> Self {
        let narrow = (0..network.ops.len())
            .map(|position| {
                certificate.and_then(|proof| proof.ops.get(position)).is_some_and(|op| {
                    op.accumulators.iter().all(|interval| {
                        interval.low >= i64::from(i32::MIN) && interval.high <= i64::from(i32::MAX)
                    })
                })
            })
            .collect();
        let widest =
            network.ops.iter().map(Op::width).chain([network.inputs.len()]).max().unwrap_or_default();
        let buffer = vec![[0; BLOCK]; widest];
        Self {
            network,
            narrow,
            current: buffer.clone(),
            next: buffer,
            narrow_columns: vec![[0; BLOCK]; widest],
        }
    }

    /// The raw outputs of `rows` (row-major, one raw value per input), appended to `outputs` row by row.
    pub fn outputs(&mut self, rows: &[i64], outputs: &mut Vec<i64>) {
        let width = self.network.inputs.len().max(1);
        for block in rows.chunks(width * BLOCK) {
            for (lane, row) in block.chunks_exact(width).enumerate() {
                for (column, &value) in self.current.iter_mut().zip(row) {
                    if let Some(cell) = column.get_mut(lane) {
                        *cell = value;
                    }
                }
            }
            for (op, &narrow) in self.network.ops.iter().zip(&self.narrow) {
                match op {
                    Op::Quantise(quantise) => quantise_block(quantise, &mut self.current),
                    Op::Table(table) => {
                        for value in self.current.iter_mut().take(table.mapped).flatten() {
                            *value = table.entry(*value);
                        }
                    }
                    Op::Dense(dense) => {
                        if narrow {
                            dense_narrow(dense, &self.current, &mut self.narrow_columns, &mut self.next);
                        } else {
                            dense_wide(dense, &self.current, &mut self.next);
                        }
                        std::mem::swap(&mut self.current, &mut self.next);
                    }
                    Op::Forest(forest) => {
                        forest_block(forest, &self.current, &mut self.next);
                        std::mem::swap(&mut self.current, &mut self.next);
                    }
                }
            }
            let count = self.network.output_count();
            for lane in 0..block.len() / width {
                outputs.extend(
                    self.current
                        .iter()
                        .take(count)
                        .map(|column| column.get(lane).copied().unwrap_or_default()),
                );
            }
        }
    }
}

fn quantise_block(quantise: &Quantise, columns: &mut [[i64; BLOCK]]) {
    for (column, one) in columns.iter_mut().zip(&quantise.features) {
        for value in column.iter_mut() {
            *value = quantise.round(one, one.accumulate(*value));
        }
    }
}

/// Trees follow other paths in every row.
fn forest_block(forest: &Forest, input: &[[i64; BLOCK]], output: &mut [[i64; BLOCK]]) {
    let mut row = vec![0; input.len()];
    for lane in 0..BLOCK {
        for (value, column) in row.iter_mut().zip(input) {
            *value = column.get(lane).copied().unwrap_or_default();
        }
        for (column, sum) in output.iter_mut().zip(forest.sums(&row)) {
            if let Some(cell) = column.get_mut(lane) {
                *cell = sum;
            }
        }
    }
}

fn dense_wide(dense: &Dense, input: &[[i64; BLOCK]], output: &mut [[i64; BLOCK]]) {
    let rows = dense.weights.chunks_exact(dense.columns.max(1)).zip(&dense.bias).zip(output);
    for ((weights, &bias), sums) in rows {
        let mut acc = [bias; BLOCK];
        for (&weight, column) in weights.iter().zip(input) {
            for (sum, &value) in acc.iter_mut().zip(column) {
                *sum = sum.wrapping_add(weight.wrapping_mul(value));
            }
        }
        finish(dense.post, &mut acc);
        *sums = acc;
    }
}

fn dense_narrow(
    dense: &Dense,
    input: &[[i64; BLOCK]],
    narrow: &mut [[i32; BLOCK]],
    output: &mut [[i64; BLOCK]],
) {
    for (from, to) in input.iter().zip(narrow.iter_mut()).take(dense.columns) {
        for (wide, low) in from.iter().zip(to.iter_mut()) {
            *low = *wide as i32;
        }
    }
    let rows = dense.weights.chunks_exact(dense.columns.max(1)).zip(&dense.bias).zip(output);
    for ((weights, &bias), sums) in rows {
        let mut acc = [bias as i32; BLOCK];
        for (&weight, column) in weights.iter().zip(narrow.iter()) {
            let weight = weight as i32;
            for (sum, &value) in acc.iter_mut().zip(column) {
                *sum = sum.wrapping_add(weight.wrapping_mul(value));
            }
        }
        for (sum, &low) in sums.iter_mut().zip(&acc) {
            *sum = i64::from(low);
        }
        finish(dense.post, sums);
    }
}

fn finish(post: Post, sums: &mut [i64; BLOCK]) {
    match post {
        Post::Raw => {}
        Post::Relu { shift, bits } => {
            let top = (1i64 << bits) - 1;
            for sum in sums {
                *sum = ((*sum).max(0) >> shift).min(top);
            }
        }
        Post::Signed { .. } => {
            for sum in sums {
                *sum = post.apply(*sum);
            }
        }
    }
}
