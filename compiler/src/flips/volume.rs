//! How many inputs of a box can change their label at most: branch and bound.
//!
//! Where the model's lead is larger than what it and the integers' differ by, the label is the same. Over a box, both
//! are known by interval and affine analysis: a box is safe when every lead keeps its sign in both. In a box that is
//! not, the lead is `c + Σ s_j X_j` within some `rest`. With what the integers' lead is off in `e..=E`, a flip needs a lead
//! between `-max(E, 0)` and `max(-e, 0)`, so `c + Σ s_j X_j` in an interval of that length and twice `rest`: whatever the
//! other features are, feature `j` then lies in an interval of that over `|s_j|`, and the part of the box is no larger
//! than that for the feature for which it is least. Boxes with the largest such part are divided first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use serde::Serialize;

use super::subject::Judge;
use crate::bounds::{Mode, Outputs, Subject};
use crate::ir::Interval;
use crate::model::Head;
use crate::rows::Rows;

/// With forms, and with activations that may be cut off.
const MODE: Mode = Mode { forms: true, uncut: false };
/// Rows around which boxes are looked at, and the largest steps to either side, in parts of a feature's clamping range.
const ROWS: usize = 512;
const RADII: [f64; 3] = [0.0001, 0.001, 0.01];
/// Multiply-accumulates, times symbols, that the boxes may cost together.
const WORK: usize = 1 << 34;
/// Leads of more classes than this are not looked at one by one.
const MOST_CLASSES: usize = 32;
/// Features that are tried when a box is divided.
const CANDIDATES: usize = 3;
/// Beyond this a box says nothing.
const MOST_RATIO: f64 = 1e9;
/// Room for the roundings of shares.
const ROUNDING: f64 = 1.0 + 1e-9;

/// What is proved about the box that features are not clamped in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Volume {
    /// Upper bound of the share of its raw feature vectors whose label can change.
    pub unsafe_share: f64,
    /// The share that lies in boxes all of whose labels are the same in both.
    pub constant_share: f64,
    /// Boxes that it was divided into.
    pub boxes: usize,
    /// Least and greatest raw value of each feature.
    pub region: Vec<Interval>,
}

/// Boxes around calibration rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Surroundings {
    /// How far features go to either side, in parts of their clamping ranges.
    pub radius: f64,
    /// Rows that were looked at, spread evenly, and those around which no label can change.
    pub rows: usize,
    pub safe: usize,
}

/// A box that may be divided.
struct Part {
    /// Share of the whole that can flip.
    open: f64,
    share: f64,
    id: u64,
    region: Vec<Interval>,
    verdict: Verdict,
}

impl PartialEq for Part {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Part {}

impl PartialOrd for Part {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The largest open share first, then the oldest.
impl Ord for Part {
    fn cmp(&self, other: &Self) -> Ordering {
        self.open.total_cmp(&other.open).then(other.id.cmp(&self.id))
    }
}

/// What the analysis of a box says.
pub(super) struct Verdict {
    /// Part of the box that can flip, at most.
    pub(super) open: f64,
    /// The same before it is known to be no more than all: what is left to gain.
    ratio: f64,
    /// Whether every label is the same everywhere.
    constant: bool,
    /// The features that move leads most, in that order.
    next: Vec<usize>,
}

/// Bounds the share of the region that can flip, with so many boxes at most.
pub(super) fn bound(judge: &Judge<'_>, subject: &Subject, most: usize) -> Volume {
    let region = judge.region.clone();
    let work: usize = judge.model.layers().iter().map(|layer| layer.weights.values.len()).sum();
    let neurons: usize = judge.model.layers().iter().map(|layer| layer.weights.rows).sum();
    let cost = work.saturating_mul(neurons + region.len()).max(1);
    let most = most.min(WORK / cost).max(1);
    let mut open = BinaryHeap::new();
    let mut settled = Vec::new();
    let mut id = 0;
    let mut place = |share: f64,
                     region: Vec<Interval>,
                     verdict: Verdict,
                     open: &mut BinaryHeap<Part>,
                     settled: &mut Vec<Part>| {
        id += 1;
        let part = Part { open: share * verdict.open, share, id, region, verdict };
        if part.open > 0.0 { open.push(part) } else { settled.push(part) }
    };
    let whole = judged(judge, subject, &region);
    place(1.0, region.clone(), whole, &mut open, &mut settled);
    while open.len() + settled.len() < most {
        let Some(part) = open.pop() else { break };
        // Whichever of a few features leaves least.
        let divided = part.verdict.next.iter().filter_map(|&feature| {
            let (low, high, share) = halves(&part.region, feature)?;
            let verdicts = (judged(judge, subject, &low), judged(judge, subject, &high));
            let left = share * verdicts.0.ratio + (1.0 - share) * verdicts.1.ratio;
            Some((left, share, (low, verdicts.0), (high, verdicts.1)))
        });
        match divided.reduce(|best, next| if next.0 < best.0 { next } else { best }) {
            None => settled.push(part),
            Some((_, share, low, high)) => {
                place(part.share * share, low.0, low.1, &mut open, &mut settled);
                place(part.share * (1.0 - share), high.0, high.1, &mut open, &mut settled);
            }
        }
    }
    let all = || open.iter().chain(&settled);
    let constant: f64 = all().filter(|part| part.verdict.constant).map(|part| part.share).sum();
    Volume {
        unsafe_share: (all().map(|part| part.open).sum::<f64>() * ROUNDING).min(1.0),
        constant_share: (constant / ROUNDING).max(0.0),
        boxes: open.len() + settled.len(),
        region,
    }
}

/// Both halves of a box, and the share of the first.
fn halves(region: &[Interval], feature: usize) -> Option<(Vec<Interval>, Vec<Interval>, f64)> {
    let own = *region.get(feature)?;
    let middle = own.low.midpoint(own.high);
    let (mut low, mut high) = (region.to_vec(), region.to_vec());
    *low.get_mut(feature)? = Interval { low: own.low, high: middle };
    *high.get_mut(feature)? = Interval { low: middle.checked_add(1)?, high: own.high };
    let count = |range: Interval| range.high.abs_diff(range.low) as f64 + 1.0;
    let share = count(*low.get(feature)?) / count(own);
    (own.high > own.low).then_some((low, high, share))
}

pub(super) fn judged(judge: &Judge<'_>, subject: &Subject, region: &[Interval]) -> Verdict {
    let outputs = subject.walk(region, MODE);
    let mut open = 0.0f64;
    let mut constant = true;
    let mut influence = subject.influence(region);
    for (first, second) in leads(judge, &outputs) {
        let Some(lead) = outputs.lead(first, second) else {
            return Verdict { open: 1.0, ratio: MOST_RATIO, constant: false, next: widest(region) };
        };
        let kept = (lead.model.low > 0.0 && lead.integers.low > 0.0)
            || (lead.model.high < 0.0 && lead.integers.high < 0.0);
        if kept {
            continue;
        }
        constant = false;
        let (_, slopes, rest) = lead.linear(region.len());
        // A flip needs a lead of the model between these.
        let (least, most) = (-lead.error.high.max(0.0), (-lead.error.low).max(0.0));
        // Roundings of the centre and the slopes are part of the rest.
        let limit = ((most - least) / 2.0 + rest) * ROUNDING;
        let mut ratio = f64::INFINITY;
        for ((slope, range), influence) in slopes.iter().zip(region).zip(&mut influence) {
            let width = range.high.abs_diff(range.low) as f64;
            *influence += 8.0 * slope.abs();
            // Raw values in an interval of this length, of all that there are.
            let length = limit * width / slope.abs();
            let share = (length.floor() + 1.0) * ROUNDING / (width + 1.0);
            // A feature of a single value says nothing.
            if share.is_finite() && width > 0.0 {
                ratio = ratio.min(share);
            }
        }
        if lead.model.low <= most && lead.model.high >= least {
            open += ratio;
        }
    }
    let mut next: Vec<(usize, f64)> = influence.into_iter().enumerate().collect();
    next.retain(|(feature, _)| region.get(*feature).is_some_and(|range| range.high > range.low));
    next.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let next = next.into_iter().take(CANDIDATES).map(|(feature, _)| feature).collect();
    Verdict { open: open.min(1.0), ratio: open.min(MOST_RATIO), constant, next }
}

fn widest(region: &[Interval]) -> Vec<usize> {
    let widths = region.iter().map(|range| range.high.abs_diff(range.low)).enumerate();
    let widest = widths.filter(|(_, width)| *width > 0).max_by_key(|(_, width)| *width);
    widest.map(|(feature, _)| feature).into_iter().collect()
}

/// The leads that decide labels: single values, and differences of two of which either can be the largest.
fn leads(judge: &Judge<'_>, outputs: &Outputs) -> Vec<(usize, Option<usize>)> {
    let mut pairs = Vec::new();
    let all: Vec<usize> = (0..judge.network.output_count()).collect();
    for (output, places) in judge.model.parts(&all) {
        match output.head {
            Head::Scores => {}
            Head::Logistic | Head::Probability => pairs.push((output.start, None)),
            Head::Logits | Head::OneVersusRest { .. } | Head::Probabilities => {
                // Values that are below another one everywhere, in both, are the largest nowhere.
                let spans: Vec<(usize, f64, f64)> = places
                    .iter()
                    .filter_map(|&place| {
                        let (low, high) = outputs.reach(place)?;
                        Some((place, low, high))
                    })
                    .collect();
                let floor = spans.iter().map(|span| span.1).fold(f64::NEG_INFINITY, f64::max);
                let able: Vec<usize> =
                    spans.iter().filter(|span| span.2 >= floor).map(|span| span.0).collect();
                if able.len() > MOST_CLASSES {
                    // An index that does not exist: nothing is said about the box.
                    pairs.push((usize::MAX, None));
                    continue;
                }
                for (at, &first) in able.iter().enumerate() {
                    pairs.extend(able.iter().skip(at + 1).map(|&second| (first, Some(second))));
                }
            }
        }
    }
    pairs
}

/// Boxes around rows, of several sizes.
pub(super) fn surroundings(judge: &Judge<'_>, subject: &Subject, rows: &Rows) -> Vec<Surroundings> {
    let step = rows.len().div_ceil(ROWS).max(1);
    let list = RADII.iter().map(|&radius| {
        let looked = || rows.iter().step_by(step);
        let safe = looked().filter(|row| {
            let region: Vec<Interval> = row
                .iter()
                .zip(&judge.region)
                .map(|(&raw, range)| {
                    let by = ((range.high as f64 - range.low as f64) * radius) as i64;
                    Interval {
                        low: raw.saturating_sub(by).clamp(range.low, range.high),
                        high: raw.saturating_add(by).clamp(range.low, range.high),
                    }
                })
                .collect();
            judge.inside(row) && judged(judge, subject, &region).open == 0.0
        });
        Surroundings { radius, rows: looked().count(), safe: safe.count() }
    });
    list.collect()
}
