//! A model that gives its inputs again, made a classifier of the error that it makes (`reconstruction` of the
//! specification).
//!
//! The scaled inputs are carried past each layer to the difference: as positive and negative part past ReLU, else as
//! values without an activation. The mean of the absolute differences is a layer of ReLUs, that of the squares one of
//! squares; the output is the mean less the threshold.

use crate::diag::codes::quant::RECONSTRUCTION;
use crate::diag::{Diagnostic, NodeRef, Origin, Outcome, Span};
use crate::model::{Activation, Body, Dense, Function, Head, Matrix, Model, Output};
use crate::spec::typed::{FeatureSpec, Reconstruction, ReconstructionError};

/// Thresholds are stored in billionths.
const BILLION: f64 = 1e9;

/// Replaces a model by one of an output, which is above zero where the error exceeds the threshold.
///
/// # Errors
///
/// `E0320`, for every reason.
pub(super) fn rewrite(model: &mut Model, spec: &FeatureSpec, wish: &Reconstruction) -> Outcome<()> {
    let layers = checked(model, spec, wish)?;
    let threshold = wish.threshold as f64 / BILLION;
    model.body = Body::Mlp(with_error(layers, model.input_count(), wish.error, threshold));
    (model.first, model.further) = (Output::only(Head::Logistic), Vec::new());
    Ok(())
}

/// The layers up to what the outputs show.
fn checked(model: &Model, spec: &FeatureSpec, wish: &Reconstruction) -> Outcome<Vec<Dense>> {
    let mut errors = Vec::new();
    let mut error = |span: &Span, message: String, help: &str| {
        let origin = Origin::Source { file: spec.file.clone(), span: span.clone() };
        errors.push(Diagnostic::new(&RECONSTRUCTION, origin, message, help));
    };
    let (inputs, outputs) = (model.input_count(), model.output_count());
    let train = "export an autoencoder: a network with one output for each input, without classes";
    if matches!(model.body, Body::Forest(_)) {
        error(&wish.span, "the model is no network: trees reconstruct nothing".to_owned(), train);
    } else if inputs != outputs {
        error(&wish.span, format!("the model has {outputs} outputs for {inputs} inputs"), train);
    }
    let plain = model.further.is_empty()
        && (model.first.head == Head::Scores || model.first.head == Head::Logits && model.first.raw);
    let sigmoids = model.outputs().all(|output| output.head == Head::Logistic);
    if inputs == outputs && !plain && !sigmoids {
        error(&wish.span, "the model's outputs are classes".to_owned(), train);
    }
    if let Some(input) = model.normalise.iter().position(|by| by.scale == 0.0) {
        let feature = spec.features.get(input).map_or("", |feature| feature.name.as_str());
        error(
            &wish.span,
            format!("the model's scaler makes a constant of the feature `{feature}`"),
            "remove features that were constant in training",
        );
    }
    for rule in spec.rules.iter().filter(|rule| rule.threshold.is_some()) {
        error(
            &rule.span,
            "the error of a reconstruction is no probability".to_owned(),
            "remove `when p >= P`; the threshold is in the model block",
        );
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut layers = model.layers().to_vec();
    if let (Some(last), true) = (layers.last_mut(), sigmoids) {
        last.activation = Activation::Function(Function::Sigmoid);
    }
    Ok(layers)
}

/// Where the scaled inputs are among the values that a layer reads.
#[derive(Clone, Copy)]
enum Carried {
    /// Beginning at this one.
    Whole(usize),
    /// The positive parts beginning at this one, the negative parts behind them.
    Parts(usize),
}

impl Carried {
    /// Columns of input `index` with their factors.
    fn columns(self, index: usize, count: usize) -> Vec<(usize, f64)> {
        match self {
            Self::Whole(start) => vec![(start + index, 1.0)],
            Self::Parts(start) => vec![(start + index, 1.0), (start + count + index, -1.0)],
        }
    }

    /// How many values stand behind the layer's own.
    const fn extra(self, own: usize, count: usize) -> usize {
        match self {
            Self::Whole(start) if start < own => 0,
            Self::Whole(_) => count,
            Self::Parts(_) => 2 * count,
        }
    }
}

/// The layers, the difference and the mean.
fn with_error(layers: Vec<Dense>, count: usize, error: ReconstructionError, threshold: f64) -> Vec<Dense> {
    let mut result = Vec::new();
    let mut carried = Carried::Whole(0);
    let mut layers = layers.into_iter().peekable();
    let mut values = count;
    let mut difference = None;
    let mut index = 0;
    while let Some(layer) = layers.next() {
        index = layer.origin.index;
        let own = layer.weights.columns;
        let width = own + carried.extra(own, count);
        if layers.peek().is_none() && layer.activation == Activation::Identity {
            difference = Some(Wider::of(&layer, width));
            break;
        }
        values = layer.weights.rows;
        let mut wider = Wider::of(&layer, width);
        carried = wider.carry(&layer, carried, count);
        result.push(wider.dense(
            layer.origin,
            layer.activation,
            if carried.is_whole() { layer.plain + count } else { 0 },
        ));
    }
    let mut wider =
        difference.unwrap_or_else(|| Wider::picking(count, values + carried.extra(values, count)));
    wider.subtract(carried, count);
    let node =
        |operator: &str| NodeRef { index, name: "reconstruction".to_owned(), operator: operator.to_owned() };
    let activation = match error {
        ReconstructionError::Absolute => {
            wider.negated();
            Activation::Relu
        }
        ReconstructionError::Squared => Activation::Function(Function::Square),
    };
    let terms = wider.bias.len();
    result.push(wider.dense(node("Sub"), activation, 0));
    let weights = Matrix { rows: 1, columns: terms, values: vec![1.0 / count as f64; terms] };
    let mean = Activation::Identity;
    result.push(Dense {
        origin: node("ReduceMean"),
        weights,
        bias: vec![-threshold],
        activation: mean,
        plain: 0,
    });
    result
}

/// A layer that becomes wider.
struct Wider {
    columns: usize,
    values: Vec<f64>,
    bias: Vec<f64>,
}

impl Wider {
    /// The rows of a layer over more columns.
    fn of(layer: &Dense, columns: usize) -> Self {
        let mut values = Vec::with_capacity(layer.weights.rows * columns);
        for row in 0..layer.weights.rows {
            values.extend_from_slice(layer.weights.row(row));
            values.resize((row + 1) * columns, 0.0);
        }
        Self { columns, values, bias: layer.bias.clone() }
    }

    /// The first values as they are.
    fn picking(count: usize, columns: usize) -> Self {
        let mut result = Self { columns, values: Vec::new(), bias: Vec::new() };
        for value in 0..count {
            result.row(&[(value, 1.0)]);
        }
        result
    }

    /// Adds a row of a few columns.
    fn row(&mut self, entries: &[(usize, f64)]) {
        let start = self.values.len();
        self.values.resize(start + self.columns, 0.0);
        for (column, factor) in entries {
            if let Some(slot) = self.values.get_mut(start + column) {
                *slot += factor;
            }
        }
        self.bias.push(0.0);
    }

    /// Adds rows that carry the inputs past the layer's activation; where they are then.
    fn carry(&mut self, layer: &Dense, carried: Carried, count: usize) -> Carried {
        let rows = layer.weights.rows;
        match (layer.activation, carried) {
            (Activation::Relu, Carried::Whole(_)) => {
                for sign in [1.0, -1.0] {
                    for input in 0..count {
                        let entries = carried.columns(input, count);
                        self.row(
                            &entries
                                .iter()
                                .map(|(column, factor)| (*column, sign * factor))
                                .collect::<Vec<_>>(),
                        );
                    }
                }
                Carried::Parts(rows)
            }
            // Neither part is negative.
            (Activation::Relu, Carried::Parts(start)) => {
                for part in 0..2 * count {
                    self.row(&[(start + part, 1.0)]);
                }
                Carried::Parts(rows)
            }
            (Activation::Identity | Activation::Function(_), _) => {
                for input in 0..count {
                    self.row(&carried.columns(input, count));
                }
                Carried::Whole(rows)
            }
        }
    }

    /// Subtracts the inputs, row by row.
    fn subtract(&mut self, carried: Carried, count: usize) {
        for (input, row) in self.values.chunks_mut(self.columns.max(1)).enumerate() {
            for (column, factor) in carried.columns(input, count) {
                if let Some(slot) = row.get_mut(column) {
                    *slot -= factor;
                }
            }
        }
    }

    /// Adds all rows with the opposite sign.
    fn negated(&mut self) {
        self.values.extend_from_within(..);
        self.bias.extend_from_within(..);
        let (values, bias) = (self.values.len() / 2, self.bias.len() / 2);
        self.values
            .iter_mut()
            .skip(values)
            .chain(self.bias.iter_mut().skip(bias))
            .for_each(|value| *value = -*value);
    }

    fn dense(self, origin: NodeRef, activation: Activation, plain: usize) -> Dense {
        let weights = Matrix { rows: self.bias.len(), columns: self.columns, values: self.values };
        Dense { origin, weights, bias: self.bias, activation, plain }
    }
}

impl Carried {
    const fn is_whole(self) -> bool {
        matches!(self, Self::Whole(_))
    }
}
