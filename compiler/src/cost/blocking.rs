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

/// Times that all layers are looked at again; two or three settle it.
const MOST_ROUNDS: usize = 16;

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
    let mut layers: Vec<Choice> = shapes.iter().map(|shape| Choice::new(constants, shape, style)).collect();
    let mut total = layers.iter().fold(*fixed, |sum, layer| sum.plus(&layer.work()));
    let mut least = total.ns(constants);
    for _ in 0..MOST_ROUNDS {
        let before = least;
        for layer in &mut layers {
            // Counts are whole numbers, so that nothing is lost by taking one away and adding another.
            let others = total.less(&layer.work());
            for (number, work) in layer.works.iter().enumerate() {
                let sum = others.plus(work);
                let ns = sum.ns(constants);
                if ns < least {
                    (least, total, layer.chosen) = (ns, sum, number);
                }
            }
        }
        if least >= before {
            break;
        }
    }
    let way = |(shape, choice): (&LayerShape, Choice)| {
        let way = ways(shape, style).into_iter().nth(choice.chosen);
        way.unwrap_or_else(|| Blocking::straight(shape))
    };
    shapes.iter().zip(layers).map(way).collect()
}

/// The work of each way to write a layer, and the way that is taken.
struct Choice {
    works: Vec<Work>,
    chosen: usize,
}

impl Choice {
    /// The first of the ways that are cheapest for the layer alone; there is at least one way.
    fn new(constants: &Constants, shape: &LayerShape, style: Style) -> Self {
        let ways = ways(shape, style);
        let works: Vec<Work> = ways.iter().map(|way| Work::layer(shape, way, Weights::Map)).collect();
        let priced = works.iter().map(|work| work.ns(constants)).enumerate();
        let best = priced.reduce(|best, next| if next.1 < best.1 { next } else { best });
        Self { works, chosen: best.map_or(0, |(number, _)| number) }
    }

    fn work(&self) -> Work {
        self.works.get(self.chosen).copied().unwrap_or_default()
    }
}

/// The way that a layer is written when there is nothing else.
pub(crate) fn alone(shape: &LayerShape) -> Blocking {
    let choice = Choice::new(constants::committed(), shape, Style::Planned);
    ways(shape, Style::Planned).into_iter().nth(choice.chosen).unwrap_or_else(|| Blocking::straight(shape))
}

/// Nanoseconds of a layer that is written so.
pub(crate) fn alone_ns(shape: &LayerShape) -> f64 {
    let constants = constants::committed();
    Choice::new(constants, shape, Style::Planned).work().ns(constants)
}
