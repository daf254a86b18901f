//! Many rows through the integer network at once, for calibration and for `eval` over large files.
//!
//! The numbers are those of [`super::interpret`] (a test compares them). Rows are taken in blocks and
//! transposed, so that the inner loop runs over rows with one weight and has no dependency chain. A layer
//! none of whose partial sums can leave the integers that a float holds is computed in floats, which is exact and
//! several times as fast: processors have no multiplication of several wide integers at once.

use std::ops::{Add, Mul};

use super::{Dense, Forest, Interval, Network, Op, Post, Quantise};
use crate::check::Certificate;

/// Rows that are computed together: one column of a block is a few cache lines.
const BLOCK: usize = 64;
/// Rows whose sums stay in registers.
const PART: usize = 16;

/// In what a layer is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arithmetic {
    Single,
    Double,
    /// 64-bit integers.
    Whole,
}

/// Floats as integers up to a limit.
trait Exact: Copy + Add<Output = Self> + Mul<Output = Self> {
    const ZERO: Self;
    /// Magnitude up to which both conversions are right.
    const MOST: i128;

    fn of(value: i64) -> Self;

    fn whole(self) -> i64;
}

/// Between `2^(p-1)` and `2^p`, where `p` is the precision, floats are the integers in order, and so are their bits.
impl Exact for f32 {
    const ZERO: Self = 0.0;
    const MOST: i128 = 1 << 22;

    fn of(value: i64) -> Self {
        Self::from_bits((value as i32).wrapping_add(SINGLE.to_bits() as i32) as u32) - SINGLE
    }

    fn whole(self) -> i64 {
        i64::from(((self + SINGLE).to_bits() as i32).wrapping_sub(SINGLE.to_bits() as i32))
    }
}

impl Exact for f64 {
    const ZERO: Self = 0.0;
    const MOST: i128 = 1 << 51;

    fn of(value: i64) -> Self {
        Self::from_bits(value.wrapping_add(DOUBLE.to_bits() as i64) as u64) - DOUBLE
    }

    fn whole(self) -> i64 {
        ((self + DOUBLE).to_bits() as i64).wrapping_sub(DOUBLE.to_bits() as i64)
    }
}

/// The middle between these powers of two.
const SINGLE: f32 = 12_582_912.0;
const DOUBLE: f64 = 6_755_399_441_055_744.0;

/// What a layer reads and multiplies with, in floats.
#[derive(Debug, Default)]
struct Floats<R> {
    /// Column by column, for one part of a block after the other.
    columns: Vec<[R; PART]>,
    weights: Vec<R>,
}

/// Reusable evaluator of one network.
#[derive(Debug)]
pub struct Batch<'n> {
    network: &'n Network,
    /// Parallel to the operations.
    arithmetic: Vec<Arithmetic>,
    current: Vec<[i64; BLOCK]>,
    next: Vec<[i64; BLOCK]>,
    single: Floats<f32>,
    double: Floats<f64>,
}

impl<'n> Batch<'n> {
    /// Prepares the buffers. With a certificate of this very network, layers that fit are computed in floats.
    #[must_use]
    pub fn new(network: &'n Network, certificate: Option<&Certificate>) -> Self {
        let proofs = certificate.map_or(&[][..], |certificate| &certificate.ops);
        // The certificate of an operation has what the next one reads.
        let before = std::iter::once(None).chain(proofs.iter().map(Some)).chain(std::iter::repeat(None));
        let arithmetic = network
            .ops
            .iter()
            .zip(before)
            .map(|(op, before)| match (op, before) {
                (Op::Dense(dense), Some(before)) => arithmetic(dense, &before.values),
                (Op::Dense(_), None) | (Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_), _) => {
                    Arithmetic::Whole
                }
            })
            .collect();
        let widest =
            network.ops.iter().map(Op::width).chain([network.inputs.len()]).max().unwrap_or_default();
        let buffer = vec![[0; BLOCK]; widest];
        Self {
            network,
            arithmetic,
            current: buffer.clone(),
            next: buffer,
            single: Floats::default(),
            double: Floats::default(),
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
            for (op, arithmetic) in self.network.ops.iter().zip(&self.arithmetic) {
                match op {
                    Op::Quantise(quantise) => quantise_block(quantise, &mut self.current),
                    Op::Table(table) => {
                        for value in self.current.iter_mut().take(table.mapped).flatten() {
                            *value = table.entry(*value);
                        }
                    }
                    Op::Gate(gate) => {
                        for value in self.current.iter_mut().take(gate.mapped).flatten() {
                            *value = gate.result(*value);
                        }
                    }
                    Op::Dense(dense) => {
                        let (from, to) = (&self.current, &mut self.next);
                        match arithmetic {
                            Arithmetic::Single => dense_exact(dense, from, &mut self.single, to),
                            Arithmetic::Double => dense_exact(dense, from, &mut self.double, to),
                            Arithmetic::Whole => dense_wide(dense, from, to),
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
    for (feature, (column, one)) in columns.iter_mut().zip(&quantise.features).enumerate() {
        let replaced = quantise.replaced.iter().find(|replaced| replaced.feature == feature);
        for value in column.iter_mut() {
            let quantised = quantise.round(one, one.accumulate(*value));
            *value = replaced.map_or(quantised, |replaced| replaced.result(*value, quantised));
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

/// The least arithmetic that holds every weight, value and partial sum of a layer over these values.
fn arithmetic(dense: &Dense, values: &[Interval]) -> Arithmetic {
    let magnitude = |value: i64| i128::from(value).abs().max(1);
    let tops: Vec<i128> =
        values.iter().map(|value| magnitude(value.low).max(magnitude(value.high))).collect();
    if tops.len() < dense.columns {
        return Arithmetic::Whole;
    }
    let rows = dense.weights.chunks(dense.columns.max(1)).zip(&dense.bias);
    let reach = rows.map(|(weights, &bias)| {
        let products = weights.iter().zip(&tops).map(|(&weight, top)| magnitude(weight).saturating_mul(*top));
        products.fold(magnitude(bias), i128::saturating_add)
    });
    match reach.max().unwrap_or_default() {
        reach if reach <= f32::MOST => Arithmetic::Single,
        reach if reach <= f64::MOST => Arithmetic::Double,
        _ => Arithmetic::Whole,
    }
}

fn dense_exact<R: Exact>(
    dense: &Dense,
    input: &[[i64; BLOCK]],
    floats: &mut Floats<R>,
    output: &mut [[i64; BLOCK]],
) {
    let width = dense.columns.max(1);
    floats.columns.resize(width * (BLOCK / PART), [R::ZERO; PART]);
    for (at, part) in floats.columns.chunks_exact_mut(width).enumerate() {
        for (column, to) in input.iter().zip(part).take(dense.columns) {
            for (from, to) in column.iter().skip(at * PART).zip(to) {
                *to = R::of(*from);
            }
        }
    }
    let rows = dense.weights.chunks_exact(width).zip(&dense.bias).zip(output);
    for ((weights, &bias), sums) in rows {
        floats.weights.clear();
        floats.weights.extend(weights.iter().map(|&weight| R::of(weight)));
        for (columns, sums) in floats.columns.chunks_exact(width).zip(sums.chunks_exact_mut(PART)) {
            let mut acc = [R::of(bias); PART];
            for (&weight, column) in floats.weights.iter().zip(columns) {
                for (sum, &value) in acc.iter_mut().zip(column) {
                    *sum = *sum + weight * value;
                }
            }
            for (sum, exact) in sums.iter_mut().zip(acc) {
                *sum = exact.whole();
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Lanes;

    fn there_and_back<R: Exact>() {
        let most = R::MOST as i64;
        for value in [0, 1, 2, 3, 1000, most / 2, most - 1, most] {
            for value in [value, -value] {
                assert_eq!(R::of(value).whole(), value);
            }
        }
        assert_eq!((R::of(-3) * R::of(7) + R::of(most)).whole(), most - 21);
    }

    #[test]
    fn integers_are_floats_up_to_a_limit() {
        there_and_back::<f32>();
        there_and_back::<f64>();
    }

    #[test]
    fn arithmetic_holds_partial_sums() {
        let layer = |weights: Vec<i64>, bias: i64| Dense {
            rows: 1,
            columns: weights.len(),
            weights,
            bias: vec![bias],
            lanes: Lanes::ONE,
            post: Post::Raw,
        };
        let values = vec![Interval { low: -4, high: 1 << 11 }; 2];
        let of = |weights: [i64; 2], bias| arithmetic(&layer(weights.to_vec(), bias), &values);
        assert_eq!(of([1 << 10, -(1 << 10)], 0), Arithmetic::Double, "the bias counts as one");
        assert_eq!(of([1 << 10, -(1 << 10) + 1], 1 << 11), Arithmetic::Single);
        // The whole sum is small, a part of it is not.
        assert_eq!(of([1 << 30, -(1 << 30)], 0), Arithmetic::Double);
        assert_eq!(of([1 << 40, -(1 << 40)], 0), Arithmetic::Whole);
        // What nothing multiplies must fit all the same.
        let zero = vec![Interval { low: 0, high: 0 }; 2];
        assert_eq!(arithmetic(&layer(vec![1 << 52, 0], 0), &zero), Arithmetic::Whole);
        assert_eq!(arithmetic(&layer(vec![1, 1], 0), &[]), Arithmetic::Whole);
    }
}
