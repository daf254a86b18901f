//! How dense layers are written: how many registers accumulate at once, and whether inputs are walked by straight
//! code or by a loop. Whatever is predicted to be fastest for the network as a whole.
//!
//! A choice is a function of the plan and of the committed constants, so that the loader makes the same one.

use super::constants::{self, Constants};
use super::work::{LayerShape, Work};
use crate::lower::network::Weights;

/// Registers that accumulate at once: all ten, less two pointers, an input and a weight.
const STRAIGHT_BLOCK: usize = 6;
/// A loop needs one register more, for its counter.
const LOOP_BLOCK: usize = 5;
/// Products in the body of a loop, about.
const BODIES: [usize; 4] = [16, 32, 64, 128];
/// Straight-line products from which a layer is always a loop: a program and the verifier have limits.
const MOST_STRAIGHT: usize = 20_000;

/// How a layer is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocking {
    /// Registers in each block, in order.
    pub blocks: Vec<usize>,
    /// Inputs per round of the loop; `None` for straight-line code.
    pub unroll: Option<usize>,
}

/// The rounds of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    pub count: usize,
    /// Inputs of each; what is left over follows in straight-line code.
    pub inputs: usize,
}

/// Who decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// The model of costs. What is shipped is always written so.
    #[default]
    Planned,
    /// Straight-line code throughout, for measurements.
    Straight,
    /// Loops of about so many products throughout, for measurements.
    Looped { body: usize },
}

impl Blocking {
    /// The rounds of the loop; `None` where there is no loop, or one of a single round.
    #[must_use]
    pub fn rounds(&self, columns: usize) -> Option<Rounds> {
        let inputs = self.unroll?;
        let count = columns.checked_div(inputs)?;
        (count >= 2).then_some(Rounds { count, inputs })
    }

    fn straight(shape: &LayerShape) -> Self {
        Self { blocks: blocks(shape.registers(), STRAIGHT_BLOCK), unroll: None }
    }

    fn looped(shape: &LayerShape, body: usize) -> Self {
        let blocks = blocks(shape.registers(), LOOP_BLOCK);
        let widest = blocks.iter().copied().max().unwrap_or(1).max(1);
        let unroll = (body / widest).min(shape.columns).max(1);
        Self { blocks, unroll: Some(unroll) }
    }
}

/// Blocks of nearly equal size: a small last block would load every input again for little work.
fn blocks(registers: usize, most: usize) -> Vec<usize> {
    let count = registers.div_ceil(most).max(1);
    (0..count).map(|b| registers * (b + 1) / count - registers * b / count).collect()
}

/// The ways to write a layer, straight-line code first where it is one.
fn ways(shape: &LayerShape, style: Style) -> Vec<Blocking> {
    let looped = |body: &usize| Blocking::looped(shape, *body);
    match style {
        Style::Straight => vec![Blocking::straight(shape)],
        Style::Looped { body } => vec![Blocking::looped(shape, body)],
        Style::Planned => {
            let straight =
                (shape.registers() * shape.columns <= MOST_STRAIGHT).then(|| Blocking::straight(shape));
            let loops = BODIES.iter().map(looped).filter(|way| way.rounds(shape.columns).is_some());
            let mut ways: Vec<Blocking> = straight.into_iter().chain(loops).collect();
            if ways.is_empty() {
                ways.push(Blocking::straight(shape));
            }
            ways
        }
    }
}

/// How the layers of a network are written whose other work is `fixed`: each as it is cheapest alone, then one after
/// the other changed while that makes the whole cheaper, because all code shares the caches.
pub(crate) fn choose(fixed: &Work, shapes: &[LayerShape], style: Style) -> Vec<Blocking> {
    choose_by(constants::committed(), fixed, shapes, style)
}

fn choose_by(constants: &Constants, fixed: &Work, shapes: &[LayerShape], style: Style) -> Vec<Blocking> {
    let work = |shape: &LayerShape, way: &Blocking| Work::layer(shape, way, Weights::Map);
    let mut chosen: Vec<(Blocking, Work)> = Vec::with_capacity(shapes.len());
    let mut total = *fixed;
    for shape in shapes {
        let ways = ways(shape, style).into_iter().map(|way| {
            let work = work(shape, &way);
            (way, work)
        });
        let best =
            ways.reduce(|best, next| if next.1.ns(constants) < best.1.ns(constants) { next } else { best });
        // There is at least one way.
        let best = best.unwrap_or_else(|| (Blocking::straight(shape), Work::default()));
        total = total.plus(&best.1);
        chosen.push(best);
    }
    let mut least = total.ns(constants);
    // Every round makes the whole cheaper, and there are few ways; the bound is for rounding.
    for _ in 0..shapes.len() * BODIES.len() {
        let mut changed = false;
        for (place, shape) in shapes.iter().enumerate() {
            for way in ways(shape, style) {
                let work = work(shape, &way);
                let others = chosen.iter().enumerate().filter(|(other, _)| *other != place);
                let sum = others.fold(*fixed, |sum, (_, (_, other))| sum.plus(other)).plus(&work);
                let ns = sum.ns(constants);
                if ns < least {
                    least = ns;
                    changed = true;
                    if let Some(place) = chosen.get_mut(place) {
                        *place = (way, work);
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    chosen.into_iter().map(|(way, _)| way).collect()
}

/// The way that a layer is written when there is nothing else.
pub(crate) fn alone(shape: &LayerShape) -> Blocking {
    let chosen = choose(&Work::default(), std::slice::from_ref(shape), Style::Planned);
    chosen.into_iter().next().unwrap_or_else(|| Blocking::straight(shape))
}
