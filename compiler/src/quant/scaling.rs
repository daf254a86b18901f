//! Whether a network looks trained on scaled inputs although its graph holds no scaler.
//!
//! Weights alone do not tell, rows do: such a network sees nothing but its largest features, and its outputs are far
//! beyond what any training leads to. Both must hold. A network that was trained on raw values sees its largest
//! features too, but its outputs stay where training left them.

use super::float::{Column, Watch, margins, real_rows, walk};
use super::sample::scalers;
use super::{Calibration, Contract, anomalies};
use crate::diag::codes::quant::NO_SCALER;
use crate::diag::{Diagnostic, Origin};
use crate::model::{Dense, Head, Model};
use crate::spec::typed::FeatureSpec;

/// Rows that are looked at, and the fewest that say something.
const ROWS: usize = 512;
const LEAST_ROWS: usize = 16;
/// A feature has no influence when it makes less than this share of the variance of the first layer's sums.
const NO_INFLUENCE: f64 = 1e-3;
/// Margin of the median row beyond which training has nothing to gain: a softmax in single precision is 1 from 17 on.
const SATURATED: f64 = 50.0;

/// What there is to warn about a model, by the rows to calibrate on.
pub(crate) fn warnings(
    model: &Model,
    contract: &Contract,
    rows: Option<Calibration<'_>>,
    spec: Option<&FeatureSpec>,
) -> Vec<Diagnostic> {
    // The error of a reconstruction is as large as the features are, scaled or not.
    let found = rows.and_then(|rows| match spec.filter(|spec| spec.reconstruction.is_some()) {
        Some(spec) => anomalies::warning(model, contract, rows, spec),
        None => warning(model, contract, rows.rows),
    });
    found.into_iter().collect()
}

/// The warning about a model that lacks its scaler, by rows (raw values) that are like those to come.
pub(crate) fn warning(model: &Model, contract: &Contract, rows: &[i64]) -> Option<Diagnostic> {
    let first = model.layers().first()?;
    let width = model.input_count();
    if width < 2 || scalers(model).iter().any(super::sample::Scaler::known) || width != contract.inputs.len()
    {
        return None;
    }
    let stride = (rows.len() / width / ROWS).max(1);
    let some: Vec<i64> = rows.chunks_exact(width).step_by(stride).flatten().copied().collect();
    if some.len() / width < LEAST_ROWS {
        return None;
    }
    let real = real_rows(&contract.inputs, &some);
    let shares = shares(first, &real, width);
    let heard: Vec<usize> =
        (0..width).filter(|&j| shares.get(j).is_some_and(|&s| s >= NO_INFLUENCE)).collect();
    let margin = median_margin(model, &real)?;
    if heard.is_empty() || 2 * heard.len() > width || margin < SATURATED {
        return None;
    }
    let fixed = constant(model, contract, &some);
    let name = |j: usize| contract.inputs.get(j).map_or("", |input| &input.name);
    let names: Vec<String> = heard.iter().take(3).map(|&j| format!("`{}`", name(j))).collect();
    let more = heard.len().saturating_sub(names.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let diagnostic = Diagnostic::warning(
        &NO_SCALER,
        Origin::Node { file: contract.model.clone(), node: first.origin.clone() },
        "this network looks trained on scaled inputs, and the graph holds no scaler",
        "export the scaler with the model (a pipeline with `StandardScaler`, or `(x - mean) / std` as the module's \
         first step); if the model was trained on values like these, compare `nnbpfc eval --engine float` with their \
         labels",
    );
    let rows = some.len() / width;
    let features = format!(
        "over {rows} calibration rows its first layer sees {}{more} only: the other {} of {width} features make less \
         than 0.1 % of its variance each",
        names.join(", "),
        width - heard.len()
    );
    let outputs = format!("half of the rows are decided by a margin of {margin:.0} and more");
    let neurons = format!("{fixed} of {} neurons of the first layer never change sign", first.weights.rows);
    let diagnostic = diagnostic.with_note(features).with_note(outputs);
    Some(if fixed > 0 { diagnostic.with_note(neurons) } else { diagnostic })
}

/// How much of the variance of the first layer's sums comes from each feature, were features independent.
fn shares(layer: &Dense, rows: &[f64], width: usize) -> Vec<f64> {
    let count = (rows.len() / width.max(1)).max(1) as f64;
    let variances: Vec<f64> = (0..width)
        .map(|j| {
            let values = || rows.iter().skip(j).step_by(width);
            let mean = values().sum::<f64>() / count;
            let square: f64 = (0..layer.weights.rows)
                .filter_map(|row| layer.weights.row(row).get(j))
                .map(|weight| weight * weight)
                .sum();
            square * values().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count
        })
        .collect();
    let total: f64 = variances.iter().sum();
    variances.iter().map(|variance| if total > 0.0 { variance / total } else { 0.0 }).collect()
}

/// Half of the rows are decided by more than this; `None` for a model without labels, or with probabilities.
fn median_margin(model: &Model, rows: &[f64]) -> Option<f64> {
    let judged = model.outputs().all(|output| match output.head {
        Head::Logits | Head::Logistic => true,
        Head::Scores | Head::OneVersusRest { .. } | Head::Probability | Head::Probabilities => false,
    });
    let outputs = model.batch_outputs_f64(rows);
    let rows = outputs.chunks_exact(model.output_count().max(1));
    let mut least: Vec<f64> =
        rows.map(|values| margins(model, values).fold(f64::INFINITY, f64::min)).collect();
    least.sort_by(f64::total_cmp);
    least.get(least.len() / 2).copied().filter(|_| judged)
}

/// Neurons of the first layer whose sums have one sign over all rows.
fn constant(model: &Model, contract: &Contract, rows: &[i64]) -> usize {
    let mut signs = Signs::default();
    walk(model, &contract.inputs, rows, &mut signs);
    signs.0.iter().filter(|(negative, positive)| negative != positive).count()
}

/// Whether each sum of the first layer was ever negative, and ever positive.
#[derive(Default)]
struct Signs(Vec<(bool, bool)>);

impl Watch for Signs {
    fn layer(&mut self, layer: usize, sums: &[Column], count: usize) {
        if layer > 0 {
            return;
        }
        self.0.resize(sums.len(), (false, false));
        for ((negative, positive), column) in self.0.iter_mut().zip(sums) {
            *negative |= column.iter().take(count).any(|&sum| sum < 0.0);
            *positive |= column.iter().take(count).any(|&sum| sum > 0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Activation, Body, Matrix, Normalise, Output};
    use crate::quant::contract::without_spec;
    use crate::random::SplitMix;

    /// A network over three features whose weights are of one size, as training on standardised features leaves them.
    fn model(normalise: Normalise) -> Model {
        let layer = |rows: usize, columns: usize, activation| Dense {
            origin: crate::diag::NodeRef {
                index: 0,
                name: format!("layer{rows}"),
                operator: "Gemm".to_owned(),
            },
            weights: Matrix {
                rows,
                columns,
                values: (0..rows * columns).map(|at| if at % 2 == 0 { 0.5 } else { -0.3 }).collect(),
            },
            bias: vec![0.1; rows],
            activation,
            plain: 0,
        };
        Model {
            replaced: Vec::new(),
            inputs: vec![None; 3],
            normalise: vec![normalise; 3],
            body: Body::Mlp(vec![layer(4, 3, Activation::Relu), layer(1, 4, Activation::Identity)]),
            first: Output::only(Head::Logistic),
            further: Vec::new(),
            hash: [0; 32],
        }
    }

    /// Rows of features of these magnitudes.
    fn found(model: &Model, magnitudes: [i64; 3], count: usize) -> Option<Diagnostic> {
        let contract = without_spec(model);
        let mut random = SplitMix(1);
        let rows: Vec<i64> = (0..count)
            .flat_map(|_| magnitudes)
            .map(|most| {
                random
                    .within(crate::ir::Interval { low: 0, high: most << contract.inputs[0].fraction_bits.0 })
            })
            .collect();
        warning(model, &contract, &rows)
    }

    #[test]
    fn one_large_feature_and_saturated_outputs_are_a_lost_scaler_e0330() {
        let model = model(Normalise::IDENTITY);
        let warning = found(&model, [40, 10, 100_000], 64).expect("only `x2` is heard");
        assert_eq!(warning.code.id, "E0330");
        assert_eq!(warning.severity, crate::diag::Severity::Warning);
        assert!(
            warning.notes[0].contains("sees `x2` only: the other 2 of 3 features"),
            "{:?}",
            warning.notes
        );
        // Features of one size, small outputs, few rows and a scaler are no sign of it.
        assert_eq!(found(&model, [100_000; 3], 64), None);
        assert_eq!(found(&model, [0, 0, 20], 64), None);
        assert_eq!(found(&model, [40, 10, 100_000], 8), None);
        let scaled = self::model(Normalise { centre: 5.0, scale: 0.5, offset: 0.0 });
        assert_eq!(found(&scaled, [40, 10, 100_000], 64), None);
    }
}
