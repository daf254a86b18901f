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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix;
    use std::cmp::Ordering;

    /// A hard swish between two quantisations.
    fn hard_swish(levels: Levels) -> Chain {
        let step = |activation| Step { factors: vec![(1.0, 0.0)], activation };
        let steps = vec![
            step(Activation::Function(Function::HardSwish)),
            step(Activation::Function(Function::Levels(levels))),
        ];
        Chain { count: 2, steps, levels, rectified: false }
    }

    /// How six times the hard swish of `x` compares with six times `twice / 2` scales, exactly.
    fn compare(x: Dyadic, twice: i64, scale: Dyadic) -> Option<Ordering> {
        let three = Dyadic::integer(3);
        let [above, below] = [x.plus(three.negated())?, x.plus(three)?].map(Dyadic::sign);
        let six_times = match (below, above) {
            (Ordering::Less, _) => Dyadic::integer(0),
            (_, Ordering::Greater) => x.times(Dyadic::integer(6))?,
            _ => x.times(x.plus(three)?)?,
        };
        Some(six_times.plus(Dyadic::integer(3 * twice).times(scale)?.negated())?.sign())
    }

    #[test]
    fn a_hard_swish_between_levels_is_the_nearest_level_of_the_exact_value() {
        let mut random = SplitMix(21);
        let (mut inside, mut ties) = (0, 0);
        for round in 0..400 {
            let mut scale = |least: i32| {
                let share = random.next() as f64 / u64::MAX as f64;
                let power = f64::from(least + (random.next() % 5) as i32).exp2();
                if round % 4 == 0 { power } else { f64::from((power * (1.0 + share)) as f32) }
            };
            // A few of the tables have an entry for each of 16 bits.
            let wide = round % 50 == 1 || round % 50 == 4;
            let (scale, behind) = (scale(if wide { -13 } else { -7 }), scale(if wide { -14 } else { -8 }));
            let most = if wide { i64::from(i16::MAX) } else { 127 };
            let levels = Levels { scale: behind, zero: 5, low: -most - 1, high: most };
            let chain = hard_swish(levels);
            let (low, high) = (levels.low - levels.zero, levels.high - levels.zero);
            for n in -most - 1..=most {
                let level = chain.level(scale * n as f64).unwrap();
                let x = Dyadic::of(scale).times(Dyadic::integer(n)).unwrap();
                let beside = |twice: i64| compare(x, twice, Dyadic::of(behind)).unwrap();
                let (down, up) = (beside(2 * level - 1), beside(2 * level + 1));
                let even = level & 1 == 0;
                let at_least = down == Ordering::Greater || (down == Ordering::Equal && even);
                let at_most = up == Ordering::Less || (up == Ordering::Equal && even);
                assert!(at_least || level == low, "{n} * {scale} in {behind}: {level} is too high");
                assert!(at_most || level == high, "{n} * {scale} in {behind}: {level} is too low");
                ties += usize::from(down == Ordering::Equal || up == Ordering::Equal);
                inside += usize::from(level > low && level < high && level != 0);
            }
        }
        assert!(inside > 100_000 && ties > 100, "{inside} levels inside, {ties} ties");
    }
}
