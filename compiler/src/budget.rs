//! Budgets that a plan does not meet, explained: what would have to give.
//!
//! Times are predictions of [`crate::cost`]; how accurate a candidate is comes from the log of the search.

use crate::compile::Plan;
use crate::cost;
use crate::cost::work::{LayerShape, Work};
use crate::diag::codes::quant::SLOW;
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::ir::{Network, Op};
use crate::kernel::{KernelVersion, LARGE_PROGRAMS, LOOPS};
use crate::lower::network::Weights;
use crate::planned;
use crate::quant::report::Attempt;

/// Refuses a plan that is predicted to be slower than so many nanoseconds.
///
/// # Errors
///
/// `E0340`, with the best that each relaxation would allow.
pub fn check(plan: &Plan, weights: Weights, max_ns: f64) -> Outcome<()> {
    let network = plan.network.get();
    let have = cost::network_ns_with(network, weights, 1);
    if have <= max_ns {
        return Ok(());
    }
    let message = format!(
        "the cheapest network within the flip budget is predicted to take {have:.0} ns, and `--max-ns` allows {max_ns:.0}"
    );
    let help = format!("give one of the things above, or write `--max-ns {:.0}`", have.ceil());
    let origin = Origin::Flag { flag: "--max-ns".to_owned() };
    let notes = [
        Some(flips(plan, weights, have, max_ns)),
        constants(network, weights, max_ns),
        Some(smaller(network, weights, max_ns)),
    ];
    let notes = notes.into_iter().flatten();
    Err(vec![notes.fold(Diagnostic::new(&SLOW, origin, message, help), Diagnostic::with_note)])
}

/// What more flips would allow: candidates that were cheaper and not accurate enough.
fn flips(plan: &Plan, weights: Weights, have: f64, max_ns: f64) -> String {
    if weights == Weights::Const {
        return "more flips: the search knows the costs of weights in a map only".to_owned();
    }
    let cheaper = |attempt: &&Attempt| attempt.predicted_ns < have && flipped(attempt) > plan.report.allowed;
    let cheaper: Vec<&Attempt> = plan.report.search.iter().filter(cheaper).collect();
    let within = cheaper.iter().filter(|attempt| attempt.predicted_ns <= max_ns);
    let least =
        within.min_by(|a, b| flipped(a).cmp(&flipped(b)).then(a.predicted_ns.total_cmp(&b.predicted_ns)));
    if let Some(attempt) = least {
        return format!(
            "more flips: {} would meet it, {}, for at least {} flips among {} rows, where {} are allowed",
            ns(attempt.predicted_ns),
            lanes(attempt),
            flipped(attempt),
            plan.report.rows,
            plan.report.allowed
        );
    }
    match cheaper.iter().min_by(|a, b| a.predicted_ns.total_cmp(&b.predicted_ns)) {
        Some(attempt) => format!(
            "more flips are not enough: the cheapest candidate takes {}, {}, for at least {} flips among {} rows",
            ns(attempt.predicted_ns),
            lanes(attempt),
            flipped(attempt),
            plan.report.rows
        ),
        None => "more flips allow nothing: no candidate is cheaper".to_owned(),
    }
}

/// Counting stops early where there are far too many.
fn flipped(attempt: &Attempt) -> u64 {
    attempt.flips.unwrap_or(0).max(attempt.pilot_flips)
}

/// Lanes of all layers, and so how few bits each accumulator has.
fn lanes(attempt: &Attempt) -> String {
    let lanes: Vec<String> = attempt.lanes.iter().map(ToString::to_string).collect();
    format!("with {} accumulators per register", lanes.join(", "))
}

/// What weights in the code would allow.
fn constants(network: &Network, weights: Weights, max_ns: f64) -> Option<String> {
    match weights {
        Weights::Const => None,
        Weights::Map => {
            let takes = cost::network_ns_with(network, Weights::Const, 1);
            let verdict = if takes <= max_ns { "would meet it" } else { "is not enough" };
            Some(format!("`--weights const` {verdict}: predicted to take {}", ns(takes)))
        }
    }
}

/// What a smaller layer would allow.
fn smaller(network: &Network, weights: Weights, max_ns: f64) -> String {
    let fixed = Work::fixed(network).ns(cost::constants::committed());
    if fixed > max_ns {
        return format!(
            "a smaller layer is not enough: inputs, decision and all that is no layer take {}",
            ns(fixed)
        );
    }
    let shape = |op: &Op| match op {
        Op::Dense(dense) => Some(LayerShape::of(dense)),
        Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => None,
    };
    let shapes: Vec<LayerShape> = network.ops.iter().filter_map(shape).collect();
    // The narrowest change: a hidden layer that keeps most of its neurons.
    let mut best: Option<(f64, usize, usize, f64)> = None;
    for layer in 0..shapes.len().saturating_sub(1) {
        let full = shapes.get(layer).map_or(0, |shape| shape.rows);
        let fits = |rows: usize| {
            let takes = cost::shrunk_ns(network, &shapes, weights, &[layer], rows);
            (takes <= max_ns).then_some(takes)
        };
        // Fewer neurons never cost more, but for rounding to whole registers.
        let (mut low, mut high) = (0, full);
        while low + 1 < high {
            let middle = usize::midpoint(low, high);
            if fits(middle).is_some() {
                low = middle;
            } else {
                high = middle;
            }
        }
        if let Some(takes) = fits(low).filter(|_| low > 0) {
            let kept = low as f64 / full.max(1) as f64;
            if best.is_none_or(|(most, ..)| kept > most) {
                best = Some((kept, layer, low, takes));
            }
        }
    }
    if let Some((_, layer, rows, takes)) = best {
        let full = shapes.get(layer).map_or(0, |shape| shape.rows);
        return format!(
            "a smaller layer: {rows} neurons in place of {full} in layer {layer} take {}",
            ns(takes)
        );
    }
    let hidden: Vec<usize> = (0..shapes.len().saturating_sub(1)).collect();
    if hidden.is_empty() {
        return "a smaller layer: there is no hidden layer".to_owned();
    }
    let takes = cost::shrunk_ns(network, &shapes, weights, &hidden, 1);
    if takes > max_ns {
        return format!("smaller layers are not enough: one neuron in each hidden layer takes {}", ns(takes));
    }
    let widest =
        hidden.iter().filter_map(|&layer| shapes.get(layer)).map(|shape| shape.rows).max().unwrap_or(1);
    let rows = (1..=widest)
        .rev()
        .find(|&rows| cost::shrunk_ns(network, &shapes, weights, &hidden, rows) <= max_ns)
        .unwrap_or(1);
    let takes = cost::shrunk_ns(network, &shapes, weights, &hidden, rows);
    format!("no single layer is enough: at most {rows} neurons in every hidden layer take {}", ns(takes))
}

fn ns(value: f64) -> String {
    format!("{value:.0} ns")
}

/// What of a plan stands in the way of a kernel whose programs have few instructions or no loops.
#[must_use]
pub fn on_an_older_kernel(plan: &Plan, weights: Weights, kernel: KernelVersion) -> Vec<String> {
    let network = plan.network.get();
    let products: usize = network
        .ops
        .iter()
        .map(|op| match op {
            Op::Dense(dense) => LayerShape::of(dense).registers() * dense.columns,
            Op::Forest(forest) => forest.trees.saturating_mul(forest.depth as usize),
            Op::Quantise(_) | Op::Table(_) | Op::Gate(_) => 0,
        })
        .sum();
    let looped = planned::parts(network, weights)
        .iter()
        .filter(|part| part.layer.as_ref().is_some_and(|layer| layer.unroll.is_some()))
        .count();
    let straight = products.saturating_mul(3);
    let mut notes = Vec::new();
    if kernel < LARGE_PROGRAMS {
        notes.push(format!(
            "this model takes about {straight} instructions for its {products} products or steps alone"
        ));
    }
    if kernel < LOOPS && looped > 0 {
        notes.push(format!("{looped} of its layers are loops"));
    }
    notes
}
