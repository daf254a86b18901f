//! What follows sums or levels up to the next quantisation: lines where straight pieces suffice, and any function of
//! a single level.

use super::exact::Dyadic;
use super::levels::Line;
use crate::model::{self, Activation, Function, Levels, Model};

/// What follows sums or levels up to the next quantisation.
pub(super) struct Chain {
    /// The layers that it takes.
    pub(super) count: usize,
    pub(super) steps: Vec<Step>,
    pub(super) levels: Levels,
    /// Whether a ReLU follows at once.
    pub(super) rectified: bool,
}

/// `activation(factor * x + offset)` for each value.
pub(super) struct Step {
    pub(super) factors: Vec<(f64, f64)>,
    pub(super) activation: Activation,
}

impl Chain {
    /// The activations from a layer on, up to levels.
    pub(super) fn of(model: &Model, index: usize) -> Option<Self> {
        let mut steps = Vec::new();
        for (count, layer) in (1..).zip(model.layers().iter().skip(index)) {
            let factors = if count == 1 && elementwise(layer).is_none() {
                Vec::new()
            } else {
                let taps = elementwise(layer)?;
                let in_place = taps.iter().map(|(column, _)| *column).eq(0..taps.len());
                in_place.then(|| {
                    taps.iter().zip(&layer.bias).map(|((_, weight), bias)| (*weight, *bias)).collect()
                })?
            };
            steps.push(Step { factors, activation: layer.activation });
            if let Activation::Function(Function::Levels(levels)) = layer.activation {
                let rectified = model.layers().get(index + count).is_some_and(leaves_positive);
                return Some(Self { count: count + usize::from(rectified), steps, levels, rectified });
            }
        }
        None
    }

    /// The chain as one line to its levels for each value, each of which starts as a line; `None` when other
    /// functions than one ReLU lie between.
    pub(super) fn lines(&self, start: &[(Dyadic, Dyadic)]) -> Option<Vec<Line>> {
        let mut lines: Vec<Line> = start
            .iter()
            .map(|&(slope, offset)| Line { slope, offset, levels: self.levels, floor: None })
            .collect();
        // What each value is where the ReLU cuts it off.
        let mut least: Option<Vec<f64>> = None;
        let last = self.steps.len().checked_sub(1)?;
        for (place, step) in self.steps.iter().enumerate() {
            for (line, &(factor, offset)) in lines.iter_mut().zip(&step.factors) {
                line.slope = line.slope.times(Dyadic::of(factor))?;
                line.offset = line.offset.times(Dyadic::of(factor))?.plus(Dyadic::of(offset))?;
            }
            if let Some(least) = &mut least {
                for (least, &(factor, offset)) in least.iter_mut().zip(&step.factors) {
                    *least = (factor > 0.0).then_some(factor * *least + offset)?;
                }
            }
            match step.activation {
                Activation::Identity => {}
                Activation::Relu if least.is_none() => least = Some(vec![0.0; lines.len()]),
                Activation::Function(Function::Levels(_)) if place == last => {}
                Activation::Relu | Activation::Function(_) => return None,
            }
        }
        for (line, least) in lines.iter_mut().zip(least.into_iter().flatten()) {
            line.floor = Some(self.levels.index(least));
        }
        if self.rectified {
            lines.iter_mut().for_each(|line| line.floor = Some(line.floor.map_or(0, |floor| floor.max(0))));
        }
        Some(lines)
    }

    /// Whether every value takes the same way.
    pub(super) fn uniform(&self) -> bool {
        self.steps.iter().all(|step| step.factors.windows(2).all(|pair| pair.first() == pair.last()))
    }

    /// The level of a real value that enters.
    pub(super) fn level(&self, value: f64) -> Option<i64> {
        let (last, before) = self.steps.split_last()?;
        let apply = |step: &Step, value: f64| {
            let (factor, offset) = step.factors.first().copied().unwrap_or((1.0, 0.0));
            factor * value + offset
        };
        let value = before.iter().fold(value, |value, step| step.activation.apply(apply(step, value)));
        let level = self.levels.index(apply(last, value));
        Some(if self.rectified { level.max(0) } else { level })
    }
}

/// Whether a layer is nothing but a ReLU.
fn leaves_positive(layer: &model::Dense) -> bool {
    let same = |taps: Vec<(usize, f64)>| {
        taps.len() == layer.weights.columns
            && taps.into_iter().eq((0..).map(|place| (place, 1.0)).take(layer.weights.rows))
    };
    layer.activation == Activation::Relu
        && layer.bias.iter().all(|bias| *bias == 0.0)
        && elementwise(layer).is_some_and(same)
}

/// The only column that each row reads, with its weight; `None` when a row reads several, or two rows the same.
pub(super) fn elementwise(layer: &model::Dense) -> Option<Vec<(usize, f64)>> {
    let mut seen = vec![false; layer.weights.columns];
    (0..layer.weights.rows)
        .map(|row| {
            let mut read = layer.weights.row(row).iter().enumerate().filter(|(_, weight)| **weight != 0.0);
            let (column, &weight) = read.next()?;
            let once = read.next().is_none() && !std::mem::replace(seen.get_mut(column)?, true);
            once.then_some((column, weight))
        })
        .collect()
}
