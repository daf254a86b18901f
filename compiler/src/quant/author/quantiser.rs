//! The quantisers between the author's levels: which rounding they have, and what helps where integers are coarse.

use super::build::{Author, hull};
use super::exact::Dyadic;
use super::levels::{Demand, Line, Moved, Rescale, moved, rescale};
use crate::ir::{Interval, Op, OpOrigin, Quantise, QuantiseOne};

/// How far from a half, in levels, a feature and a sum may be given the neighbouring level where nothing exact
/// fits: levels of 16 bits, mostly.
const INPUT_SLACK: f64 = 1.0 / 1024.0;
const SUM_SLACK: f64 = 1.0 / 65536.0;
/// Integers that step over levels are multiplied until a step is less than so many bits of a level, by at most so many.
const STEP_BITS: f64 = 3.0;
const MOST_STEP_BITS: f64 = 24.0;

/// What code has for a quantiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Form {
    /// Halves are rounded to even levels.
    even: bool,
    /// A clamp follows that cuts what goes on beyond the last levels.
    beyond: bool,
}

const UP: Form = Form { even: false, beyond: false };
const EVEN: Form = Form { even: true, beyond: false };
const CLAMPED_UP: Form = Form { even: false, beyond: true };
const CLAMPED_EVEN: Form = Form { even: true, beyond: true };

/// What is wrong with a model whose levels need another form than an object's code has.
fn other_form(needed: Form, planned: &[Form]) -> &'static str {
    match (needed.beyond, needed.even) {
        (true, _) if planned.iter().all(|form| !form.beyond) => {
            "features of this model step over several levels, and the object's code has no clamp behind them"
        }
        (_, true) => {
            "sums or features of this model lie halfway between levels and go to even ones, and the object's code \
             rounds them up"
        }
        (_, false) => {
            "sums or features of this model lie very near to halfway between levels, and the object's code takes \
             them for halves"
        }
    }
}

impl Author<'_> {
    /// Writes a quantiser of multiples of `grid` to levels; gives the intervals of the results.
    pub(super) fn rescaled(
        &mut self,
        lines: &[Line],
        domains: &[Interval],
        grid: i64,
        origin: OpOrigin,
    ) -> Option<Vec<Interval>> {
        let (even, found) = self.forms(lines, domains, grid, (&[UP, EVEN], &[UP, EVEN]), SUM_SLACK)?;
        Some(self.quantiser(&found, even, lines, origin))
    }

    /// Features to levels. Where an integer steps over several levels, none may be the one that gives the last level:
    /// the quantiser then gives what lies beyond, and a clamp follows. Where features have so many bits, or lie so far
    /// from zero, that 64 bits hold no product with them that is good enough, they are moved and shortened first.
    pub(super) fn features(&mut self, lines: &[Line], domains: &[Interval]) -> Option<Vec<Interval>> {
        let all = [UP, EVEN, CLAMPED_UP, CLAMPED_EVEN];
        let planned: &[Form] = match self.clamp {
            None => &all,
            Some(false) => &[UP, EVEN],
            Some(true) => &[CLAMPED_UP, CLAMPED_EVEN],
        };
        if self.ahead != Some(true) {
            let free = self.ahead.is_none();
            let slack = if free { 0.0 } else { INPUT_SLACK };
            if let Some(found) = self.forms(lines, domains, 1, (planned, &all), slack) {
                return Some(self.clamped(found, lines));
            }
            if self.ahead == Some(false) {
                return None;
            }
        }
        if let Some(values) = self.behind_moved(lines, domains, (planned, &all), 0.0) {
            return Some(values);
        }
        if self.ahead.is_none()
            && let Some(found) = self.forms(lines, domains, 1, (planned, &all), INPUT_SLACK)
        {
            return Some(self.clamped(found, lines));
        }
        self.behind_moved(lines, domains, (planned, &all), INPUT_SLACK)
    }

    /// [`Author::features`] behind an operation that moves each feature by a constant and, where something may be
    /// lost, drops its last bits.
    fn behind_moved(
        &mut self,
        lines: &[Line],
        domains: &[Interval],
        forms: (&[Form], &[Form]),
        slack: f64,
    ) -> Option<Vec<Interval>> {
        let drops = slack > 0.0;
        let moved: Vec<Moved> = lines
            .iter()
            .zip(domains)
            .map(|(line, domain)| moved(line, *domain, drops))
            .collect::<Option<_>>()?;
        let lost = moved.iter().map(|one| one.lost).fold(0.0, f64::max);
        if drops && lost >= slack {
            return None;
        }
        let features = moved.iter().map(|one| one.one).collect();
        let domains: Vec<Interval> = moved.iter().map(|one| one.domain).collect();
        let lines: Vec<Line> = moved.into_iter().map(|one| one.line).collect();
        let output = hull(&domains);
        let quantise = Quantise { features, output, even: false, replaced: Vec::new() };
        self.push(Op::Quantise(quantise), OpOrigin::Inputs, None);
        let slack = if drops { slack - lost } else { 0.0 };
        let Some(found) = self.forms(&lines, &domains, 1, forms, slack) else {
            self.pop();
            return None;
        };
        // What was dropped is not exact, however exact the rest.
        self.nearly += usize::from(lost > 0.0 && self.nearly == 0);
        self.moved = true;
        Some(self.clamped(found, &lines))
    }

    /// Writes the quantiser of the features, and the clamp behind it where that is needed.
    fn clamped(&mut self, (even, found): (bool, Vec<Rescale>), lines: &[Line]) -> Vec<Interval> {
        let clamps: Vec<Interval> = found.iter().map(|found| found.clamps).collect();
        let values = self.quantiser(&found, even, lines, OpOrigin::Inputs);
        if values == clamps && self.clamp != Some(true) {
            return values;
        }
        let one = |clamps: &Interval| QuantiseOne {
            low: clamps.low,
            high: clamps.high,
            multiplier: 1,
            offset: 0,
            shift: 0,
        };
        let features = clamps.iter().map(one).collect();
        self.push(
            Op::Quantise(Quantise { features, output: hull(&clamps), even: false, replaced: Vec::new() }),
            OpOrigin::Inputs,
            lines.first().map(|line| line.levels.scale),
        );
        clamps
    }

    /// All lines in one of the planned forms, exactly if any allows it. Nothing is rounded nearly right where another
    /// of the possible forms is exact.
    fn forms(
        &mut self,
        lines: &[Line],
        domains: &[Interval],
        grid: i64,
        (planned, possible): (&[Form], &[Form]),
        slack: f64,
    ) -> Option<(bool, Vec<Rescale>)> {
        let like = match self.like {
            None => None,
            Some(plan) => Some(*plan.evens.get(self.quantisers())?),
        };
        let planned: Vec<Form> =
            planned.iter().copied().filter(|form| like.is_none_or(|even| even == form.even)).collect();
        let all = |form: Form, slack: f64| -> Option<(bool, Vec<Rescale>)> {
            let demand = Demand { even: form.even, slack, grid, beyond: form.beyond };
            let found: Option<Vec<Rescale>> =
                lines.iter().zip(domains).map(|(line, &domain)| rescale(line, domain, demand)).collect();
            Some((form.even, found?))
        };
        if let Some(exact) = planned.iter().find_map(|&form| all(form, 0.0)) {
            return Some(exact);
        }
        let others = possible.iter().filter(|form| !planned.contains(form));
        if let Some(&needed) = others.into_iter().find(|&&form| all(form, 0.0).is_some()) {
            self.refused = Some(other_form(needed, &planned));
            return None;
        }
        if slack <= 0.0 {
            return None;
        }
        let near = planned.iter().find_map(|&form| all(form, slack))?;
        self.nearly += 1;
        Some(near)
    }

    /// Writes a quantiser; gives the intervals of the results.
    fn quantiser(
        &mut self,
        found: &[Rescale],
        even: bool,
        lines: &[Line],
        origin: OpOrigin,
    ) -> Vec<Interval> {
        let features = found.iter().map(|found| found.one).collect();
        let values: Vec<Interval> = found.iter().map(|found| found.levels).collect();
        self.push(
            Op::Quantise(Quantise { features, output: hull(&values), even, replaced: Vec::new() }),
            origin,
            lines.first().map(|line| line.levels.scale),
        );
        values
    }

    /// The same where an integer steps over several levels, so that none may be the one that gives the last level: the
    /// integers are multiplied first.
    pub(super) fn multiplied(
        &mut self,
        lines: &[Line],
        domains: &[Interval],
        origin: &OpOrigin,
    ) -> Option<Vec<Interval>> {
        let vary = lines.iter().zip(domains).filter(|(_, domain)| domain.low < domain.high);
        let slopes = vary.map(|(line, _)| (line.slope.value() / line.levels.scale).abs());
        let steepest = slopes.fold(0.0, f64::max);
        let bits = (steepest.log2().ceil() + STEP_BITS).clamp(1.0, MOST_STEP_BITS);
        let grid = 1i64 << bits as u8;
        let finer: Vec<Line> = lines
            .iter()
            .map(|line| Some(Line { slope: line.slope.times(Dyadic::of((-bits).exp2()))?, ..line.clone() }))
            .collect::<Option<_>>()?;
        let times = |value: &Interval| {
            Some(Interval { low: value.low.checked_mul(grid)?, high: value.high.checked_mul(grid)? })
        };
        let results: Vec<Interval> = domains.iter().map(times).collect::<Option<_>>()?;
        let one = |domain: &Interval| QuantiseOne {
            low: domain.low,
            high: domain.high,
            multiplier: grid,
            offset: 0,
            shift: 0,
        };
        let features = domains.iter().map(one).collect();
        self.push(
            Op::Quantise(Quantise { features, output: hull(&results), even: false, replaced: Vec::new() }),
            origin.clone(),
            None,
        );
        let found = self.rescaled(&finer, &results, grid, origin.clone());
        if found.is_none() {
            self.pop();
        }
        found
    }

    pub(super) fn quantisers(&self) -> usize {
        self.ops.iter().filter(|op| matches!(op, Op::Quantise(_))).count()
    }
}
