//! The shapes that prices are fitted to: networks with random parameters from a fixed seed, which need no model.

use super::blocking::Style;
use super::random;
use super::work::Work;
use crate::check::{Checked, check};
use crate::diag::Outcome;
use crate::ir::{Lanes, Network};
use crate::lower::LowerError;
use crate::lower::network::{Options, Split, Weights, lower};
use crate::params::layout::Layout;
use random::{Curve, Layers, Trees};

/// No shape leaves to the planner how it is written: what is measured must not depend on the constants before.
const STRAIGHT: Options =
    Options { split: Split::Auto, weights: Weights::Map, budget: Options::BUDGET, style: Style::Straight };
/// The numbers of lanes that wide layers bear, too.
const LANES: [Lanes; 3] = [Lanes::ONE, Lanes::TWO, Lanes::THREE];
/// Loops of about so many products.
const SHORTEST: Style = Style::Looped { body: 16 };
const SHORT: Style = Style::Looped { body: 32 };
const MIDDLE: Style = Style::Looped { body: 64 };
const LONG: Style = Style::Looped { body: 128 };

/// A network that is measured.
#[derive(Debug, Clone)]
pub struct Case {
    /// Widths, lanes, and what is special about it.
    pub name: String,
    pub network: Checked<Network>,
    pub options: Options,
}

impl Case {
    /// What it executes.
    ///
    /// # Errors
    ///
    /// Those of lowering, which says how many programs there are.
    pub fn work(&self) -> Result<Work, LowerError> {
        let network = self.network.get();
        let programs = match self.options.split {
            Split::Auto => 1,
            Split::Layer => lower(&self.network, self.options)?.stages.len() + 1,
        };
        let layout = Layout::styled(network, self.options.style);
        Ok(Work::of(network, &layout, self.options.weights, programs))
    }
}

/// Widths of layers, lanes for all of them, and what is special.
struct Row {
    widths: &'static [usize],
    lanes: &'static [Lanes],
    clamped: bool,
    options: Options,
}

const fn row(widths: &'static [usize], lanes: &'static [Lanes]) -> Row {
    Row { widths, lanes, clamped: false, options: STRAIGHT }
}

impl Row {
    const fn clamped(mut self) -> Self {
        self.clamped = true;
        self
    }

    const fn style(mut self, style: Style) -> Self {
        self.options.style = style;
        self
    }

    const fn constants(mut self) -> Self {
        self.options.weights = Weights::Const;
        self
    }

    const fn split(mut self) -> Self {
        self.options.split = Split::Layer;
        self
    }
}

/// Networks of dense layers. Where `lanes` has several, there is a network for each.
const ROWS: &[Row] = &[
    row(&[6, 8, 2], &LANES),
    row(&[6, 16, 2], &LANES).clamped(),
    row(&[6, 32, 32, 2], &LANES),
    row(&[6, 32, 32, 2], &LANES).style(MIDDLE),
    row(&[6, 32, 32, 2], &LANES).clamped(),
    row(&[6, 32, 32, 2], &LANES).constants(),
    row(&[6, 32, 32, 2], &LANES).split(),
    row(&[10, 24, 12, 3], &LANES),
    row(&[20, 10], &LANES),
    row(&[16, 32, 16, 4], &LANES),
    row(&[16, 32, 16, 4], &LANES).style(SHORTEST),
    row(&[16, 48, 4], &LANES).constants(),
    row(&[41, 64, 32, 5], &LANES),
    row(&[41, 64, 32, 5], &LANES).style(MIDDLE),
    row(&[64, 64, 10], &LANES).clamped(),
    row(&[64, 64, 10], &LANES).style(SHORT),
    row(&[64, 64, 10], &LANES).style(LONG),
    row(&[64, 64, 10], &LANES).style(SHORT).split(),
    row(&[32, 32, 32, 32, 32, 5], &LANES).style(MIDDLE),
    row(&[100, 40, 2], &LANES).style(SHORTEST).clamped(),
    row(&[64, 130, 100, 10], &LANES).style(SHORTEST),
    row(&[64, 130, 100, 10], &LANES).style(MIDDLE),
    row(&[64, 130, 100, 10], &LANES),
    row(&[784, 10], &LANES).style(MIDDLE),
    row(&[784, 32, 10], &LANES).style(LONG),
    row(&[784, 128, 64, 10], &LANES).style(MIDDLE),
    row(&[784, 128, 64, 10], &LANES).style(LONG),
];

/// Networks whose hidden layers end in signed values, in a table, and in a table with numbers between its entries.
const CURVES: &[(&[usize], Lanes, Curve)] = &[
    (&[8, 32, 32, 2], Lanes::ONE, Curve::Signed),
    (&[8, 32, 32, 2], Lanes::TWO, Curve::Signed),
    (&[8, 32, 32, 2], Lanes::THREE, Curve::Signed),
    (&[6, 16, 2], Lanes::TWO, Curve::Table { fraction: 0 }),
    (&[6, 32, 32, 2], Lanes::TWO, Curve::Table { fraction: 0 }),
    (&[6, 32, 2], Lanes::ONE, Curve::Table { fraction: 4 }),
    (&[10, 48, 24, 3], Lanes::TWO, Curve::Table { fraction: 4 }),
    (&[6, 24, 5], Lanes::TWO, Curve::Probabilities),
    (&[6, 24, 10], Lanes::THREE, Curve::Probabilities),
];

const TREES: &[Trees] = &[
    Trees { inputs: 6, trees: 1, depth: 6, outputs: 2, single: false },
    Trees { inputs: 6, trees: 10, depth: 4, outputs: 1, single: false },
    Trees { inputs: 10, trees: 20, depth: 8, outputs: 2, single: false },
    Trees { inputs: 20, trees: 50, depth: 5, outputs: 1, single: false },
    Trees { inputs: 20, trees: 60, depth: 4, outputs: 5, single: true },
    Trees { inputs: 30, trees: 100, depth: 6, outputs: 1, single: false },
    Trees { inputs: 30, trees: 100, depth: 9, outputs: 3, single: false },
];

/// All shapes, the same ones in the same order whenever they are made.
///
/// # Errors
///
/// None that a test has not ruled out: every network passes the check.
pub fn all() -> Outcome<Vec<Case>> {
    let mut cases = Vec::new();
    for (seed, row) in (0u64..).zip(ROWS) {
        for &lanes in row.lanes {
            let layers = Layers { widths: row.widths, lanes, clamped: row.clamped, curve: Curve::Relu };
            let network = check(random::network(seed, &layers))?;
            cases.push(Case { name: name(&layers, row.options), network, options: row.options });
        }
    }
    for (seed, &(widths, lanes, curve)) in (100u64..).zip(CURVES) {
        let layers = Layers { widths, lanes, clamped: false, curve };
        let network = check(random::network(seed, &layers))?;
        cases.push(Case { name: name(&layers, STRAIGHT), network, options: STRAIGHT });
    }
    for (seed, trees) in (200u64..).zip(TREES) {
        let network = check(random::forest(seed, trees))?;
        let name = format!("{} trees of depth {}, outputs {}", trees.trees, trees.depth, trees.outputs);
        cases.push(Case { name, network, options: STRAIGHT });
    }
    Ok(cases)
}

fn name(layers: &Layers<'_>, options: Options) -> String {
    let widths: Vec<String> = layers.widths.iter().map(ToString::to_string).collect();
    let mut name = format!("{}, lanes {}", widths.join("-"), layers.lanes.count());
    match layers.curve {
        Curve::Relu => {}
        Curve::Signed => name.push_str(", signed"),
        Curve::Table { fraction: 0 } => name.push_str(", tables"),
        Curve::Table { .. } => name.push_str(", tables between entries"),
        Curve::Probabilities => name.push_str(", probabilities"),
    }
    if layers.clamped {
        name.push_str(", clamped");
    }
    match options.weights {
        Weights::Map => {}
        Weights::Const => name.push_str(", constants"),
    }
    match options.split {
        Split::Auto => {}
        Split::Layer => name.push_str(", split"),
    }
    match options.style {
        Style::Planned => name.push_str(", planned"),
        Style::Straight => name.push_str(", straight"),
        Style::Looped { body } => name.push_str(&format!(", loops of {body}")),
    }
    name
}
