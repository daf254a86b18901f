//! The shadow: a second model of the same plan, in the idle slot, that runs on the same features and decides
//! nothing.
//!
//! While `.data.nn_active` says so, verdicts come from `nn_compare`, which calls `nn_infer` for the idle slot,
//! keeps what it said, calls `nn_infer` for the active slot, and counts the pair. A verdict without a shadow
//! pays one test. Which pair it is comes from one load, so no update splits it.

use super::{FUNCTION, MAX_STAGES};
use crate::bpf::module::{Function, Map, MapKind, Member, Parameter, Struct, Type};
use crate::bpf::{AluOp, Cond, Helper, Label, Size};
use crate::ir::{Network, Rule};
use crate::lower::LowerError;
use crate::lower::builder::{Builder, StackSlot};
use crate::lower::code::{FrameLimit, VReg};
use crate::lower::scratch::{self, LABEL, RULES, Scratch};

/// `nn_compare(ctx, active)`: a verdict of the active slot, compared with the other slot's.
pub const COMPARE: &str = "nn_compare";
/// Name of the map of the counts.
pub const MAP: &str = "nn_shadow";
/// Most classes that are counted pair by pair: a per-CPU value holds 32 KiB.
pub const TABLE_CLASSES: usize = 64;
/// Bytes of stack that the function takes.
pub const FRAME: u32 = 32;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tally {
    /// For each class of the active model (rows) and of the shadow (columns) the number of verdicts.
    Pairs { classes: usize },
    /// Verdicts whose labels are all equal, and those of which some differ: too many classes for a table, or
    /// several outputs.
    Labels,
    /// Verdicts with equal raw outputs, and with different ones: a model without labels.
    Outputs,
}

impl Tally {
    /// What is counted for a network.
    #[must_use]
    pub fn of(network: &Network) -> Self {
        if !network.decision.further.is_empty() {
            return Self::Labels;
        }
        let classes = match network.decision.first.rule {
            Rule::None => return Self::Outputs,
            Rule::Positive | Rule::Probability => 2,
            Rule::ArgMax | Rule::OneVersusRest { .. } | Rule::Probabilities => network.output_count(),
        };
        if classes <= TABLE_CLASSES { Self::Pairs { classes } } else { Self::Labels }
    }

    /// Counts in the value of `nn_shadow`: a table by rows, or equal and different.
    #[must_use]
    pub const fn counts(self) -> usize {
        match self {
            Self::Pairs { classes } => classes * classes,
            Self::Labels | Self::Outputs => 2,
        }
    }

    /// The map of the counts.
    #[must_use]
    pub fn map(self) -> Map {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX / 64);
        let member = |name: &str, offset, ty| Member { name: name.to_owned(), offset, ty };
        let members = match self {
            Self::Pairs { classes } => {
                let row = Type::Array(Box::new(Type::Unsigned(8)), count(classes));
                vec![member("pairs", 0, Type::Array(Box::new(row), count(classes)))]
            }
            Self::Labels | Self::Outputs => {
                vec![member("equal", 0, Type::Unsigned(8)), member("different", 8, Type::Unsigned(8))]
            }
        };
        Map {
            name: MAP.to_owned(),
            kind: MapKind::PerCpuArray,
            key: Some(Type::Unsigned(4)),
            value: Some(Type::Struct(Struct {
                name: MAP.to_owned(),
                size: count(self.counts()) * 8,
                members,
            })),
            max_entries: 1,
            flags: 0,
            programs: Vec::new(),
        }
    }
}

/// Whether a packet with so many verdicts may run a chain of so many tail calls twice for each.
#[must_use]
pub const fn fits(tail_calls: usize, verdicts: usize) -> bool {
    2 * tail_calls * verdicts <= MAX_STAGES
}

/// Function and map of the shadow. What is compared and does not fit registers gets room in scratch: the outputs
/// of a model without labels, the labels of further outputs.
///
/// # Errors
///
/// [`LowerError::TooLarge`] when scratch passes the limit of a per-CPU value.
pub fn lower(network: &Network, scratch: &mut Scratch) -> Result<(Function, Map), LowerError> {
    let tally = Tally::of(network);
    let outputs = network.output_count();
    let kept = match tally {
        Tally::Pairs { .. } | Tally::Labels => None,
        Tally::Outputs => {
            let count = u32::try_from(outputs).unwrap_or(u32::MAX / 64);
            Some(scratch.append("shadow_outputs", Type::Array(Box::new(Type::Signed(8)), count))?)
        }
    };
    let further = network.decision.further.len();
    let mut kept_labels = Vec::new();
    if further > 0 {
        let count = u32::try_from(further).unwrap_or(u32::MAX / 64);
        let base = scratch.append("shadow_labels", Type::Array(Box::new(Type::Unsigned(4)), count))?;
        let place = |index: usize| base.saturating_add(i16::try_from(index * 4).unwrap_or(i16::MAX));
        kept_labels = (0..further).map(|index| (scratch.label(index + 1), place(index))).collect();
    }
    let words = |base: i16| {
        (0..outputs).map(move |index| base.saturating_add(i16::try_from(index * 8).unwrap_or(i16::MAX)))
    };

    let mut b = Builder::new(COMPARE, ".text", &[Parameter::Context, Parameter::Scalar]);
    let context = b.parameter(0);
    let active = b.parameter(1);
    let key = b.stack_slot(8);
    let missing = b.label();
    let value = single_value(&mut b, scratch::MAP, key, missing);
    let shadow = b.compute(AluOp::Xor, active, 1);
    let failed = b.call_function(FUNCTION, &[context, shadow]);
    let label = b.load(Size::W, value, LABEL);
    for (from, to) in kept.into_iter().flat_map(|kept| words(scratch.output(0)).zip(words(kept))) {
        let output = b.load(Size::DW, value, from);
        b.store(Size::DW, value, to, output);
    }
    for &(from, to) in &kept_labels {
        let label = b.load(Size::W, value, from);
        b.store(Size::W, value, to, label);
    }
    // Without an answer of the active model nothing acts.
    b.store(Size::W, value, RULES, 0);
    let result = b.call_function(FUNCTION, &[context, active]);
    b.or(failed, result);
    b.jump(Cond::Ne, failed, 0, missing);

    let counts = single_value(&mut b, MAP, key, missing);
    match tally {
        Tally::Pairs { classes } => {
            let classes = i32::try_from(classes).unwrap_or(i32::MAX);
            let row = b.load(Size::W, value, LABEL);
            // The network gives no other labels; the verifier wants to see it.
            b.jump(Cond::Ge, row, classes, missing);
            b.jump(Cond::Ge, label, classes, missing);
            b.mul(row, classes);
            b.add(row, label);
            b.lsh(row, 3);
            b.add(counts, row);
        }
        Tally::Labels => {
            let difference = b.load(Size::W, value, LABEL);
            b.xor(difference, label);
            for (own, other) in kept_labels {
                let own = b.load(Size::W, value, own);
                let other = b.load(Size::W, value, other);
                b.xor(own, other);
                b.or(difference, own);
            }
            step(&mut b, counts, difference);
        }
        Tally::Outputs => {
            let difference = b.constant(0);
            for (own, other) in words(scratch.output(0)).zip(words(kept.unwrap_or(0))) {
                let own = b.load(Size::DW, value, own);
                let other = b.load(Size::DW, value, other);
                b.xor(own, other);
                b.or(difference, own);
            }
            step(&mut b, counts, difference);
        }
    }
    let count = b.load(Size::DW, counts, 0);
    b.add(count, 1);
    b.store(Size::DW, counts, 0, count);
    b.ret(0);
    b.bind(missing);
    b.ret(1);
    Ok((b.finish(FrameLimit::Share(FRAME))?, tally.map()))
}

/// Moves on from `equal` to `different` when any bit is set.
fn step(b: &mut Builder, counts: VReg, difference: VReg) {
    let low = b.copy(difference);
    b.neg(low);
    b.or(low, difference);
    b.rsh(low, 63);
    b.lsh(low, 3);
    b.add(counts, low);
}

/// Pointer to the only value of a map; jumps to `missing` where there is none.
fn single_value(b: &mut Builder, map: &str, key: StackSlot, missing: Label) -> VReg {
    b.stack_store(Size::W, key, 0, 0);
    let map = b.map(map);
    let key = b.stack_address(key);
    let value = b.call(Helper::MapLookup, &[map, key]);
    b.jump(Cond::Eq, value, 0, missing);
    value
}
