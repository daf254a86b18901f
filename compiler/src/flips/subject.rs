//! One input in both forms: labels, margins, and the direction in which the margin falls.

use crate::ir::{Input, Interval, Network, Op, Post, interpret};
use crate::model::{Activation, Head, Model};
use crate::rows::Rows;

/// Judges inputs by the model and by its integers.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) model: &'a Model,
    pub(super) network: &'a Network,
    /// Real value of one raw unit of each feature.
    units: Vec<f64>,
    /// Standard deviation of each feature over the calibration rows, in raw units; of a constant feature, what one
    /// part in a thousand of its clamping range is, and one raw unit at least.
    pub(super) scales: Vec<f64>,
    /// What features are not clamped in.
    pub(super) region: Vec<Interval>,
}

/// One input.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    /// Labels of each output.
    pub(super) float: Vec<usize>,
    pub(super) integer: Vec<usize>,
    /// The output that is nearest to another label, and its leads there: the difference of two of the model's values
    /// that decides it, positive, and the same in integers.
    pub(super) lead: Lead,
    pub(super) integer_lead: f64,
}

/// The decision that is nearest to another one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lead {
    pub(super) margin: f64,
    /// The raw value that leads and the one behind it; only one of a single value, whose sign counts.
    pub(super) first: usize,
    pub(super) second: Option<usize>,
    /// -1 where a single value below zero leads.
    pub(super) sign: f64,
}

impl Judged {
    pub(super) fn flips(&self) -> bool {
        self.float != self.integer
    }
}

impl<'a> Judge<'a> {
    pub(super) fn new(model: &'a Model, network: &'a Network, rows: &Rows) -> Self {
        let unit = |input: &Input| (-f64::from(input.fraction_bits.0)).exp2();
        let region: Vec<Interval> = network
            .inputs
            .iter()
            .enumerate()
            .map(|(index, input)| match network.ops.first() {
                Some(Op::Quantise(quantise)) => {
                    quantise.features.get(index).map_or(input.range, |one| Interval {
                        low: one.low.clamp(input.range.low, input.range.high),
                        high: one.high.clamp(input.range.low, input.range.high),
                    })
                }
                _ => input.range,
            })
            .collect();
        let count = rows.len().max(1) as f64;
        let scales = (0..rows.width).zip(&region).map(|(feature, region)| {
            let values = || rows.iter().filter_map(|row| row.get(feature)).map(|&raw| raw as f64);
            let mean = values().sum::<f64>() / count;
            let deviation = (values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count).sqrt();
            let least = ((region.high as f64 - region.low as f64) / 1000.0).clamp(1.0, 1e15);
            if deviation > 0.0 { deviation } else { least }
        });
        Self {
            model,
            network,
            units: network.inputs.iter().map(unit).collect(),
            scales: scales.collect(),
            region,
        }
    }

    pub(super) fn real(&self, row: &[i64]) -> Vec<f64> {
        row.iter().zip(&self.units).map(|(&raw, unit)| raw as f64 * unit).collect()
    }

    /// The model's labels, by its outputs.
    fn labels(&self, outputs: &[f64]) -> Vec<usize> {
        self.model.parts(outputs).map(|(output, values)| output.head.label(values).unwrap_or(0)).collect()
    }

    /// Whether single precision gives other labels than double precision.
    pub(super) fn tie(&self, row: &[i64]) -> bool {
        let real = self.real(row);
        let single: Vec<f64> = self.model.outputs_f32(&real).into_iter().map(f64::from).collect();
        self.labels(&single) != self.labels(&self.model.outputs_f64(&real))
    }

    pub(super) fn judge(&self, row: &[i64]) -> Judged {
        let outputs = self.model.outputs_f64(&self.real(row));
        let raw = interpret::outputs(self.network, row);
        let lead = self.lead(&outputs);
        let decision = &self.network.decision;
        let units: Vec<f64> = decision
            .parts(&raw)
            .flat_map(|(output, part)| vec![decision.unit_of(output); part.len()])
            .collect();
        let value =
            |index: usize| raw.get(index).zip(units.get(index)).map_or(0.0, |(&raw, unit)| raw as f64 * unit);
        let integer_lead = lead.sign * (value(lead.first) - lead.second.map_or(0.0, value));
        Judged {
            float: self.labels(&outputs),
            integer: interpret::labels(decision, &raw)
                .map(|label| label.map_or(0, |label| label as usize))
                .collect(),
            lead,
            integer_lead,
        }
    }

    /// The lead that is least.
    fn lead(&self, outputs: &[f64]) -> Lead {
        let mut least = Lead { margin: f64::INFINITY, first: 0, second: None, sign: 1.0 };
        for (output, values) in self.model.parts(outputs) {
            let lead = match (output.head, values) {
                (Head::Logistic | Head::Probability, [value, ..]) => Lead {
                    margin: value.abs(),
                    first: output.start,
                    second: None,
                    sign: if *value > 0.0 { 1.0 } else { -1.0 },
                },
                (_, values) => {
                    let mut order: Vec<(usize, f64)> = values.iter().copied().enumerate().collect();
                    order.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                    match order.as_slice() {
                        [(first, high), (second, low), ..] => Lead {
                            margin: high - low,
                            first: output.start + first,
                            second: Some(output.start + second),
                            sign: 1.0,
                        },
                        _ => continue,
                    }
                }
            };
            if lead.margin < least.margin {
                least = lead;
            }
        }
        least
    }

    /// The derivative of a lead by each raw feature; of trees, nothing.
    pub(super) fn slope(&self, row: &[i64], lead: Lead) -> Vec<f64> {
        let mut values: Vec<f64> = self
            .real(row)
            .iter()
            .zip(&self.model.normalise)
            .map(|(x, by)| (x - by.centre) * by.scale + by.offset)
            .collect();
        let layers = self.model.layers();
        if layers.is_empty() {
            return vec![0.0; row.len()];
        }
        let mut sums: Vec<Vec<f64>> = Vec::with_capacity(layers.len());
        for layer in layers {
            let own: Vec<f64> = (0..layer.weights.rows)
                .zip(&layer.bias)
                .map(|(row, bias)| {
                    layer.weights.row(row).iter().zip(&values).fold(*bias, |sum, (w, x)| sum + w * x)
                })
                .collect();
            values = own.iter().enumerate().map(|(row, &sum)| layer.activation_of(row).apply(sum)).collect();
            sums.push(own);
        }
        let mut back = vec![0.0; values.len()];
        for (index, sign) in [(Some(lead.first), lead.sign), (lead.second, -1.0)] {
            if let Some(slot) = index.and_then(|index| back.get_mut(index)) {
                *slot += sign;
            }
        }
        for (layer, sums) in layers.iter().zip(&sums).rev() {
            let mut before = vec![0.0; layer.weights.columns];
            for (row, (back, &sum)) in back.iter().zip(sums).enumerate() {
                let through = back * derivative(layer.activation_of(row), sum);
                if through != 0.0 {
                    for (slot, weight) in before.iter_mut().zip(layer.weights.row(row)) {
                        *slot += through * weight;
                    }
                }
            }
            back = before;
        }
        back.iter()
            .zip(&self.model.normalise)
            .zip(&self.units)
            .map(|((back, by), unit)| back * by.scale * unit)
            .collect()
    }

    /// Whether no feature is clamped.
    pub(super) fn inside(&self, row: &[i64]) -> bool {
        row.iter().zip(&self.region).all(|(raw, region)| (region.low..=region.high).contains(raw))
    }

    /// Whether every lead is larger than what these errors of the outputs can take away.
    pub(super) fn far(&self, row: &[i64], errors: &[f64]) -> bool {
        let outputs = self.model.outputs_f64(&self.real(row));
        let own: Vec<(f64, f64)> = outputs.into_iter().zip(errors.iter().copied()).collect();
        own.len() == self.network.output_count()
            && self.model.parts(&own).all(|(output, values)| match (output.head, values) {
                (Head::Logistic | Head::Probability, [(value, error), ..]) => value.abs() > *error,
                (head, values) => {
                    let plain: Vec<f64> = values.iter().map(|(value, _)| *value).collect();
                    let Some(label) = head.label(&plain) else { return false };
                    let Some((lead, error)) = values.get(label) else { return false };
                    let others = values.iter().enumerate().filter(|(class, _)| *class != label);
                    // A hair more, for the subtraction.
                    let mut behind =
                        others.map(|(_, (value, off))| (lead - value) > (error + off) * (1.0 + 1e-12));
                    behind.all(|behind| behind)
                }
            })
    }

    /// Whether the limits of activations cut any off.
    pub(super) fn cuts(&self, row: &[i64]) -> bool {
        let steps = interpret::trace(self.network, row);
        let inputs = std::iter::once(row).chain(steps.iter().map(|step| step.values.as_slice()));
        self.network.ops.iter().zip(&steps).zip(inputs).enumerate().any(
            |(at, ((op, step), input))| match op {
                Op::Dense(dense) => {
                    step.accumulators.iter().zip(&step.values).any(|(&acc, &value)| match dense.post {
                        Post::Raw => false,
                        Post::Relu { shift, .. } => acc.max(0) >> shift != value,
                        Post::Signed { shift, .. } => acc >> shift != value,
                    })
                }
                Op::Quantise(quantise) => {
                    let mut pairs = quantise.features.iter().zip(input);
                    at > 0 && pairs.any(|(one, x)| *x < one.low || *x > one.high)
                }
                Op::Table(_) | Op::Gate(_) | Op::Forest(_) => false,
            },
        )
    }

    /// The features of an input in their own units.
    pub(super) fn named(&self, row: &[i64]) -> Vec<(String, f64)> {
        let names = self.network.inputs.iter().map(|input| input.name.clone());
        names.zip(self.real(row)).collect()
    }

    /// Label of each output by name.
    pub(super) fn label_names(&self, labels: &[usize]) -> Vec<String> {
        let outputs = self.network.decision.outputs().zip(labels);
        outputs
            .map(|(output, label)| output.labels.get(*label).cloned().unwrap_or_else(|| label.to_string()))
            .collect()
    }

    /// Distance of two inputs in standard deviations: the root of the sum of the squares.
    pub(super) fn distance(&self, one: &[i64], other: &[i64]) -> f64 {
        let parts = one.iter().zip(other).zip(&self.scales);
        let square: f64 = parts
            .map(|((a, b), scale)| {
                let part = (*a as f64 - *b as f64) / scale;
                part * part
            })
            .sum();
        square.sqrt()
    }

    /// The nearest raw value that a feature can have.
    pub(super) fn valid(&self, feature: usize, raw: f64) -> i64 {
        let range =
            self.network.inputs.get(feature).map_or(Interval { low: 0, high: 0 }, |input| input.range);
        // The conversion saturates.
        (raw.round() as i64).clamp(range.low, range.high)
    }
}

fn derivative(activation: Activation, sum: f64) -> f64 {
    match activation {
        Activation::Identity => 1.0,
        Activation::Relu => f64::from(u8::from(sum > 0.0)),
        Activation::Function(function) => {
            let width = 1e-4 * (1.0 + sum.abs());
            (function.apply(sum + width) - function.apply(sum - width)) / (2.0 * width)
        }
    }
}
