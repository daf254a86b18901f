//! SVMClassifier and SVMRegressor with a linear kernel: all support vectors fold into one weight vector.
//!
//! The sum over support vectors `s` of `a_s * (s · x)` is `(sum of a_s * s) · x`, so the model costs the same
//! whatever their number. Other kernels need each support vector at run time and are refused.

use super::activation::activated;
use super::linear::{
    attribute, class_labels, dense, finite, matrix, plain_transform, predictions, tail, widened,
};
use super::{Entry, ML};
use crate::diag::codes::onnx as codes;
use crate::model::{Function, Matrix};
use crate::onnx::limits::MAX_TENSOR_ELEMENTS;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::value::{Form, Row, Stages, Value};

pub(super) const TABLE: &[Entry] =
    &[(ML, "SVMClassifier", svm_classifier), (ML, "SVMRegressor", svm_regressor)];

fn svm_classifier(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let counts = node.ints("vectors_per_class").unwrap_or_default().to_vec();
    let total = counts.iter().fold(0_i64, |sum, count| sum.saturating_add(*count));
    linear_kernel(node, total)?;
    plain_transform(node)?;
    let row = node.row(0)?;
    let coefficients = attribute(node, "coefficients")?;
    let rho = attribute(node, "rho")?;
    let classes = class_labels(node);
    if counts.is_empty() {
        return one_vector_per_class(node, row, coefficients, &rho, classes);
    }
    if counts.len() > 2 {
        return vote(stages, node, row, &counts, &coefficients, classes);
    }
    if counts.len() != 2 {
        return Err(node.form(
            "SVMClassifier with one class always gives the same label",
            "export the model again with all its classes",
        ));
    }
    let vectors = vectors(node, row)?;
    if vectors.rows != coefficients.len() || i64::try_from(vectors.rows) != Ok(total) {
        return Err(node.shapes(format!(
            "SVMClassifier has {} support vectors, {} coefficients and says that its classes have {counts:?} vectors",
            vectors.rows,
            coefficients.len()
        )));
    }
    // The decision value is positive for class 0; the logit is that of class 1.
    let weights = folded(&vectors, &coefficients, -1.0);
    let bias = -rho.first().copied().unwrap_or(0.0);
    let logit = dense(node, row, weights.clone(), &[bias])?;
    let label = tail(row, &logit, Form::Label { logistic: true }, classes);
    let calibration = |name: &str| -> Result<Option<f64>, Refusal> {
        Ok(finite(node, name, node.floats(name).unwrap_or_default())?.first().copied())
    };
    let Some(slope) = calibration("prob_a")? else {
        return Ok(vec![label, tail(row, &logit, Form::BothScores { flipped: true }, None)]);
    };
    // Platt's scaling: class 0 has the probability 1 / (1 + exp(slope * d + constant)), with d = -z.
    let constant = calibration("prob_b")?.unwrap_or(0.0);
    let scaled = Matrix { values: weights.values.iter().map(|weight| weight * -slope).collect(), ..weights };
    let probability = dense(node, row, scaled, &[bias * -slope + constant])?;
    Ok(vec![label, tail(row, &probability, Form::BothProbabilities, None)])
}

/// More than two classes: each pair of them has a decision value and gives a vote, and the class of most votes wins,
/// the lowest of several. The second output, the decision values, is data like any other.
fn vote(
    stages: &mut Stages,
    node: &Node<'_>,
    row: &Row,
    counts: &[i64],
    coefficients: &[f64],
    classes: Option<Vec<String>>,
) -> Evaluated {
    if node.has("prob_a") {
        return Err(node.refuse(
            &codes::MODEL_FAMILY,
            format!(
                "SVMClassifier with probabilities of {} classes couples those of all pairs by an iteration",
                counts.len()
            ),
            "train without `probability=True`; the label is a vote among pairs of classes, which is supported",
        ));
    }
    let vectors = vectors(node, row)?;
    let pairs = counts.len() * (counts.len() - 1) / 2;
    let rho = attribute(node, "rho")?;
    let sizes: Option<Vec<usize>> = counts.iter().map(|&count| usize::try_from(count).ok()).collect();
    let sizes = sizes.filter(|sizes| {
        sizes.iter().try_fold(0, |sum: usize, size| sum.checked_add(*size)) == Some(vectors.rows)
    });
    let (Some(sizes), true) = (
        sizes,
        coefficients.len() == vectors.rows * (counts.len() - 1)
            && rho.len() == pairs
            && pairs * vectors.columns <= MAX_TENSOR_ELEMENTS,
    ) else {
        return Err(node.shapes(format!(
            "SVMClassifier has {} support vectors, {} coefficients, {} constants and says that its classes have \
             {counts:?} vectors",
            vectors.rows,
            coefficients.len(),
            rho.len()
        )));
    };
    let ranges: Vec<std::ops::Range<usize>> = sizes
        .iter()
        .scan(0, |start, size| {
            let from = *start;
            *start += size;
            Some(from..*start)
        })
        .collect();
    // The list of classes' coefficients against the others leaves out the class itself.
    let against = |class: &std::ops::Range<usize>, list: usize, sums: &mut [f64]| {
        for vector in class.clone() {
            let factor = coefficients.get(list * vectors.rows + vector).copied().unwrap_or_default();
            for (sum, value) in sums.iter_mut().zip(vectors.row(vector)) {
                *sum += factor * value;
            }
        }
    };
    let mut decisions = Matrix { rows: pairs, columns: vectors.columns, values: Vec::new() };
    let share = 1.0 / pairs as f64;
    let mut votes = Matrix { rows: counts.len(), columns: pairs, values: vec![0.0; counts.len() * pairs] };
    let mut base = vec![0.0; counts.len()];
    let mut pair = 0;
    for (first, class) in ranges.iter().enumerate() {
        for (second, other) in ranges.iter().enumerate().skip(first + 1) {
            let mut sums = vec![0.0; vectors.columns];
            against(class, second - 1, &mut sums);
            against(other, first, &mut sums);
            decisions.values.extend(sums);
            // Above zero the vote is the first one's.
            let mut add = |class: usize, value: f64| {
                if let Some(slot) = votes.values.get_mut(class * pairs + pair) {
                    *slot += value;
                }
            };
            add(first, share);
            add(second, -share);
            if let Some(slot) = base.get_mut(second) {
                *slot += share;
            }
            pair += 1;
        }
    }
    let decisions = widened(row, &dense(node, row, decisions, &rho)?);
    let steps = activated(stages, node, &decisions, Function::Step);
    let shares = dense(node, &steps, votes, &base)?;
    let label = tail(row, &shares, Form::Label { logistic: false }, classes);
    Ok(vec![label, Value::Row(decisions)])
}

/// The form of liblinear: no support vectors, and a weight vector for each class.
fn one_vector_per_class(
    node: &Node<'_>,
    row: &Row,
    coefficients: Vec<f64>,
    rho: &[f64],
    classes: Option<Vec<String>>,
) -> Evaluated {
    let weights = matrix(node, coefficients, row.affine.width())?;
    if weights.rows < 2 {
        return Err(node.form(
            "SVMClassifier with one weight vector always gives the same label",
            "export the model again with a weight vector for each class",
        ));
    }
    let bias = vec![rho.first().copied().unwrap_or(0.0); weights.rows];
    let affine = dense(node, row, weights, &bias)?;
    let label = tail(row, &affine, Form::Label { logistic: false }, classes);
    Ok(vec![label, Value::Row(widened(row, &affine))])
}

fn svm_regressor(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let count = node.int("n_supports", 0);
    linear_kernel(node, count)?;
    plain_transform(node)?;
    let row = node.row(0)?;
    let coefficients = attribute(node, "coefficients")?;
    let rho = attribute(node, "rho")?;
    let weights = if count > 0 {
        let vectors = vectors(node, row)?;
        if vectors.rows != coefficients.len() {
            return Err(node.shapes(format!(
                "SVMRegressor has {} support vectors and {} coefficients",
                vectors.rows,
                coefficients.len()
            )));
        }
        folded(&vectors, &coefficients, 1.0)
    } else {
        matrix(node, coefficients, row.affine.width())?
    };
    if weights.rows != 1 {
        return Err(node.shapes(format!("SVMRegressor has {} weight vectors, not one", weights.rows)));
    }
    let affine = dense(node, row, weights, &[rho.first().copied().unwrap_or(0.0)])?;
    if node.int("one_class", 0) == 0 {
        return Ok(vec![predictions(row, &affine)]);
    }
    let signs = vec!["-1".to_owned(), "1".to_owned()];
    Ok(vec![tail(row, &affine, Form::Label { logistic: true }, Some(signs))])
}

/// Refuses every kernel but the linear one.
fn linear_kernel(node: &Node<'_>, vectors: i64) -> Result<(), Refusal> {
    let kernel = node.text("kernel_type").unwrap_or_else(|| "LINEAR".to_owned());
    let cost = match kernel.as_str() {
        "LINEAR" => return Ok(()),
        "RBF" => "an exponential",
        "POLY" => "a power",
        "SIGMOID" => "a hyperbolic tangent",
        _ => "a kernel",
    };
    Err(node.refuse(
        &codes::MODEL_FAMILY,
        format!(
            "{} with the kernel {kernel} computes {cost} for each of {vectors} support vectors, for every verdict",
            node.operator()
        ),
        "train with `kernel='linear'`, which folds into one weight vector, or a multi-layer perceptron on the same \
         features",
    ))
}

fn vectors(node: &Node<'_>, row: &Row) -> Result<Matrix, Refusal> {
    matrix(node, attribute(node, "support_vectors")?, row.affine.width())
}

/// `factor` times the sum of the vectors, each times its coefficient.
fn folded(vectors: &Matrix, coefficients: &[f64], factor: f64) -> Matrix {
    let mut values = vec![0.0; vectors.columns];
    for (vector, coefficient) in vectors.values.chunks_exact(vectors.columns.max(1)).zip(coefficients) {
        for (sum, value) in values.iter_mut().zip(vector) {
            *sum += factor * coefficient * value;
        }
    }
    Matrix { rows: 1, columns: vectors.columns, values }
}
