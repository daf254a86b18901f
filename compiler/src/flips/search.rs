//! The search: from calibration rows down the gradient onto the decision boundary, and along it.
//!
//! What integers are off hardly changes from one input to the next, so that the place between both boundaries is
//! where the model's lead is half of what the integers' lead differs by, with the other sign. One feature steers
//! there while others move within a step or two of their quantisers. What is found is drawn towards its row as far
//! as it still flips. Everything is deterministic for a seed.

use std::collections::BTreeSet;

use serde::Serialize;

use super::subject::{Judge, Judged};
use super::{Options, Report, SHOWN};
use crate::ir::Op;
use crate::rows::Rows;

/// Rows with the smallest margins, whose distance to the boundary is estimated, and those that the search starts from.
const NEAR: usize = 512;
const STARTS: usize = 64;
/// Steps onto the boundary.
const STEPS: usize = 24;
/// Flips of each start that are drawn towards its row.
const DRAWN: usize = 4;
/// Rounds over the features of one.
const ROUNDS: usize = 3;
/// Different flips that are remembered.
const MOST: usize = 1 << 16;

/// An input whose label changes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flip {
    /// From the nearest calibration row: the root of the sum of squares of differences, each in standard deviations
    /// of its feature over the calibration rows.
    pub distance: f64,
    /// That row, from 1.
    pub row: usize,
    /// By how much the model decides, and by how much the integers decide otherwise.
    pub margin: f64,
    pub integer_margin: f64,
    /// Labels of the outputs, by the model and by the integers.
    pub float: Vec<String>,
    pub integer: Vec<String>,
    /// Whether single precision gives another label than double precision, so that the model itself is undecided.
    pub tie: bool,
    /// Whether an activation is cut off.
    pub cut: bool,
    pub features: Vec<Value>,
}

/// One feature of an input.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Value {
    pub name: String,
    pub value: f64,
    pub raw: i64,
}

/// A small generator (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly in -1..1.
    fn signed(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.next() % count.max(1) as u64).unwrap_or(0)
    }
}

struct Search<'a> {
    judge: &'a Judge<'a>,
    random: Random,
    searched: u64,
    /// One step of each feature's quantiser, in raw units.
    steps: Vec<f64>,
    found: BTreeSet<Vec<i64>>,
}

/// Looks for flips and fills in what was found.
pub(super) fn run(judge: &Judge<'_>, rows: &Rows, options: Options, report: &mut Report) {
    let mut order: Vec<(f64, usize, Judged)> =
        rows.iter().map(|row| judge.judge(row)).enumerate_with_margin();
    report.rows_flipped = order.iter().filter(|(_, _, judged)| judged.flips()).count();
    let steps = match judge.network.ops.first() {
        Some(Op::Quantise(quantise)) => quantise
            .features
            .iter()
            .map(|one| f64::from(one.shift).exp2() / (one.multiplier.max(1)) as f64)
            .collect(),
        _ => vec![1.0; rows.width],
    };
    let mut search =
        Search { judge, random: Random(options.seed), searched: 0, steps, found: BTreeSet::new() };
    let row =
        |index: usize| rows.values.get(index * rows.width..(index + 1) * rows.width).unwrap_or_default();
    let mut candidates: Vec<Vec<i64>> = Vec::new();
    for (_, index, judged) in &order {
        if judged.flips() {
            search.found.insert(row(*index).to_vec());
            candidates.push(row(*index).to_vec());
        }
    }
    order.truncate(NEAR);
    for (distance, index, judged) in &mut order {
        let slope = judge.slope(row(*index), judged.lead);
        let steep = length(&slope, &judge.scales);
        *distance = if steep > 0.0 { judged.lead.margin / steep } else { judged.lead.margin * 1e9 };
    }
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    order.truncate(STARTS);
    let each = options.tries / order.len().max(1) as u64;
    for (_, index, _) in &order {
        if report.none_exists {
            break;
        }
        let start = row(*index);
        let mut own = search.around(start, each);
        own.sort_by(|a, b| judge.distance(a, start).total_cmp(&judge.distance(b, start)).then(a.cmp(b)));
        own.truncate(DRAWN);
        candidates.extend(own.into_iter().map(|flip| search.drawn(flip, start)));
    }
    report.searched = search.searched;
    report.found = search.found.len();
    let mut closest: Vec<(f64, usize, Vec<i64>)> = candidates
        .into_iter()
        .map(|flip| {
            let (distance, nearest) = rows
                .iter()
                .enumerate()
                .map(|(index, row)| (judge.distance(&flip, row), index))
                .fold((f64::INFINITY, 0), |best, next| if next.0 < best.0 { next } else { best });
            (distance, nearest, flip)
        })
        .collect();
    closest.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)));
    // One for each row.
    let mut seen = BTreeSet::new();
    closest.retain(|(_, row, _)| seen.insert(*row));
    closest.truncate(SHOWN);
    report.closest =
        closest.into_iter().map(|(distance, row, flip)| shown(judge, distance, row, &flip)).collect();
}

/// Judged rows with their margins and numbers, the smallest margins first.
trait Numbered {
    fn enumerate_with_margin(self) -> Vec<(f64, usize, Judged)>;
}

impl<I: Iterator<Item = Judged>> Numbered for I {
    fn enumerate_with_margin(self) -> Vec<(f64, usize, Judged)> {
        let mut list: Vec<(f64, usize, Judged)> =
            self.enumerate().map(|(index, judged)| (judged.lead.margin, index, judged)).collect();
        list.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        list
    }
}

fn shown(judge: &Judge<'_>, distance: f64, row: usize, flip: &[i64]) -> Flip {
    let judged = judge.judge(flip);
    let features = judge.named(flip).into_iter().zip(flip);
    Flip {
        distance,
        row: row + 1,
        margin: judged.lead.margin,
        integer_margin: judged.integer_lead.abs(),
        float: judge.label_names(&judged.float),
        integer: judge.label_names(&judged.integer),
        tie: judge.tie(flip),
        cut: judge.cuts(flip),
        features: features.map(|((name, value), &raw)| Value { name, value, raw }).collect(),
    }
}

/// The length of a slope per standard deviation.
fn length(slope: &[f64], scales: &[f64]) -> f64 {
    slope.iter().zip(scales).map(|(slope, scale)| slope * scale * slope * scale).sum::<f64>().sqrt()
}

impl Search<'_> {
    /// Judges an input; remembers it when it flips.
    fn look(&mut self, row: &[i64]) -> Judged {
        self.searched += 1;
        let judged = self.judge.judge(row);
        if judged.flips() && self.found.len() < MOST {
            self.found.insert(row.to_vec());
        }
        judged
    }

    /// Flips near a row.
    fn around(&mut self, start: &[i64], tries: u64) -> Vec<Vec<i64>> {
        let end = self.searched + tries;
        let mut flips = Vec::new();
        let (mut base, mut judged) = self.boundary(start, &mut flips);
        while self.searched < end {
            let mut next = base.clone();
            // A few features move, a step or so each; one more steers.
            for _ in 0..=self.random.below(3) {
                let feature = self.random.below(next.len());
                let width = self.steps.get(feature).copied().unwrap_or(1.0).max(1.0);
                let far = if self.random.below(4) == 0 { 8.0 } else { 1.5 };
                let by = self.random.signed() * width * far;
                if let Some(slot) = next.get_mut(feature) {
                    *slot = self.judge.valid(feature, *slot as f64 + by);
                }
            }
            let moved = self.look(&next);
            let (next, moved) = self.steered(next, moved);
            if moved.flips() {
                flips.push(next.clone());
            }
            let nearer = self.judge.distance(&next, start) <= self.judge.distance(&base, start);
            if moved.lead.margin <= judged.lead.margin * 1.5 && (nearer || self.random.below(3) == 0) {
                (base, judged) = (next, moved);
            }
        }
        flips.sort_unstable();
        flips.dedup();
        flips
    }

    /// Down the gradient onto the boundary; the last step is halved until it is as near as raw values allow.
    fn boundary(&mut self, start: &[i64], flips: &mut Vec<Vec<i64>>) -> (Vec<i64>, Judged) {
        let mut here = start.to_vec();
        let mut judged = self.look(&here);
        for _ in 0..STEPS {
            let slope = self.judge.slope(&here, judged.lead);
            let steep = length(&slope, &self.judge.scales);
            if steep == 0.0 {
                break;
            }
            let wanted = -target(&judged) / (steep * steep);
            let step: Vec<f64> =
                slope.iter().zip(&self.judge.scales).map(|(s, scale)| s * scale * scale * wanted).collect();
            let mut part = 1.0;
            let mut best: Option<(Vec<i64>, Judged)> = None;
            for _ in 0..6 {
                let next: Vec<i64> = here
                    .iter()
                    .zip(&step)
                    .enumerate()
                    .map(|(feature, (raw, by))| self.judge.valid(feature, *raw as f64 + by * part))
                    .collect();
                let moved = self.look(&next);
                if moved.flips() {
                    flips.push(next.clone());
                }
                let better = best.as_ref().is_none_or(|(_, best)| moved.lead.margin < best.lead.margin);
                if better {
                    best = Some((next, moved));
                }
                if best.as_ref().is_some_and(|(_, best)| best.lead.margin < judged.lead.margin / 2.0) {
                    break;
                }
                part /= 2.0;
            }
            match best {
                Some((next, moved)) if moved.lead.margin < judged.lead.margin => {
                    (here, judged) = (next, moved)
                }
                _ => break,
            }
        }
        (here, judged)
    }

    /// Moves one feature so that the input comes to lie between both boundaries.
    fn steered(&mut self, row: Vec<i64>, judged: Judged) -> (Vec<i64>, Judged) {
        if judged.flips() {
            return (row, judged);
        }
        let slope = self.judge.slope(&row, judged.lead);
        let wanted = -target(&judged);
        // Whichever feature it takes least of, by its deviation, or any.
        let any = self.random.below(row.len());
        let reach = |feature: usize| {
            let slope = slope.get(feature).copied().unwrap_or(0.0);
            slope.abs() * self.judge.scales.get(feature).copied().unwrap_or(1.0)
        };
        let steepest = (0..row.len()).max_by(|a, b| reach(*a).total_cmp(&reach(*b))).unwrap_or(0);
        let feature = if self.random.below(2) == 0 { any } else { steepest };
        let own = slope.get(feature).copied().unwrap_or(0.0);
        let by = wanted / own;
        if !by.is_finite() || by.abs() > 4.0 * self.judge.scales.get(feature).copied().unwrap_or(1.0) {
            return (row, judged);
        }
        let mut next = row.clone();
        if let Some(slot) = next.get_mut(feature) {
            *slot = self.judge.valid(feature, *slot as f64 + by);
        }
        if next == row {
            return (row, judged);
        }
        let moved = self.look(&next);
        (next, moved)
    }

    /// The same flip nearer to a row: all features at once, then each by itself.
    fn drawn(&mut self, flip: Vec<i64>, row: &[i64]) -> Vec<i64> {
        let mut flip = flip;
        for part in [1.0, 0.5, 0.25, 0.125, 0.0625] {
            let next: Vec<i64> = flip
                .iter()
                .zip(row)
                .enumerate()
                .map(|(feature, (own, to))| {
                    self.judge.valid(feature, *own as f64 + (*to as f64 - *own as f64) * part)
                })
                .collect();
            if next != flip && self.look(&next).flips() {
                flip = next;
            }
        }
        for _ in 0..ROUNDS {
            let before = flip.clone();
            for (feature, &to) in row.iter().enumerate() {
                self.draw_feature(&mut flip, feature, to);
            }
            if flip == before {
                break;
            }
        }
        flip
    }

    fn draw_feature(&mut self, flip: &mut Vec<i64>, feature: usize, to: i64) {
        let Some(&own) = flip.get(feature) else { return };
        // `own` flips; numbers from `to` on are tried.
        let (mut own, mut to) = (own, to);
        let mut next = flip.clone();
        for round in 0..16 {
            let middle = if round == 0 { to } else { own.midpoint(to) };
            if middle == own {
                break;
            }
            if let Some(slot) = next.get_mut(feature) {
                *slot = middle;
            }
            if self.look(&next).flips() {
                own = middle;
                flip.clone_from(&next);
                if round == 0 {
                    break;
                }
            } else {
                to = middle;
            }
        }
        if let Some(slot) = flip.get_mut(feature) {
            *slot = own;
        }
    }
}

/// By how much the lead must fall to lie in the middle between both boundaries.
fn target(judged: &Judged) -> f64 {
    let off = judged.integer_lead - judged.lead.margin;
    judged.lead.margin + off / 2.0
}
