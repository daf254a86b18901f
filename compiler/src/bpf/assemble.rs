//! Assembles a function: labels become offsets, names become relocations, instructions become bytes.
//!
//! The bytes are what loaders expect in an unrelocated object: a reference to a map is a 64-bit immediate
//! load of the offset into its value with the source register zero, a call of a function has the source
//! register 1 and the immediate −1.

use super::encode::{EncodeError, encode};
use super::islands;
use super::limits::{JUMP_BACKWARD, JUMP_FORWARD, PROGRAM_SLOTS, SLOT_BYTES};
use super::module::Function;
use super::parts::{Operands, Parts, Reference};
use super::position::InstructionIndex;
use super::table::{Shape, row};
use super::{Insn, Label, Reg};
use std::collections::HashMap;
use std::fmt;

/// An encoded function.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assembled {
    /// Slots of eight bytes, little endian.
    pub bytes: Vec<u8>,
    /// By ascending position.
    pub relocations: Vec<Relocation>,
    /// For every slot, the index into [`Function::lines`].
    pub line_of: Vec<u32>,
}

/// A name to be resolved by the loader.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Relocation {
    pub at: InstructionIndex,
    pub target: RelocationTarget,
}

/// What a relocation refers to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RelocationTarget {
    /// The map itself.
    Map { map: String },
    /// A byte of the only value of an array or data section; the offset is in the immediate too.
    MapValue { map: String, offset: u32 },
    /// A function in `.text`.
    Function { function: String },
}

/// Why a function cannot be assembled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssembleError {
    pub function: String,
    /// Index into [`Function::code`], or into the code with islands when that had to be extended.
    pub position: usize,
    pub kind: AssembleErrorKind,
}

/// The ways in which assembly fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AssembleErrorKind {
    Encode(EncodeError),
    /// A jump to a label that the function does not define.
    UnknownLabel(Label),
    DuplicateLabel(Label),
    /// A jump beyond the reach of its 16-bit offset that no island could shorten.
    JumpTooFar(Label),
    /// `line_of` is not parallel to `code`.
    LinesNotParallel,
    /// The last instruction is neither an exit nor an unconditional jump.
    RunsOffTheEnd,
    /// More slots than the kernel takes.
    TooLong,
}

/// Assembles a function. Jumps out of reach are led over islands.
///
/// # Errors
///
/// When a label is unknown or defined twice, when an instruction has no encoding, or when the function is too
/// long or does not end.
pub fn assemble(function: &Function) -> Result<Assembled, AssembleError> {
    let error = |position, kind| AssembleError { function: function.name.clone(), position, kind };
    if function.line_of.len() != function.code.len() {
        return Err(error(
            function.line_of.len().min(function.code.len()),
            AssembleErrorKind::LinesNotParallel,
        ));
    }
    let layout = Layout::of(&function.code).map_err(|(at, kind)| error(at, kind))?;
    if layout.too_far(&function.code).is_none() {
        return emit(&function.code, &function.line_of, &layout).map_err(|(at, kind)| error(at, kind));
    }
    let (code, line_of) =
        islands::extend(&function.code, &function.line_of).map_err(|(at, kind)| error(at, kind))?;
    let layout = Layout::of(&code).map_err(|(at, kind)| error(at, kind))?;
    emit(&code, &line_of, &layout).map_err(|(at, kind)| error(at, kind))
}

impl Assembled {
    /// Slots of the function.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.line_of.len()
    }
}

/// An error before the function's name is known.
pub(super) type At = (usize, AssembleErrorKind);

/// Where everything stands.
pub(super) struct Layout {
    /// The slot of every element of the code, labels included.
    pub(super) slot_of: Vec<u32>,
    pub(super) labels: HashMap<Label, u32>,
}

impl Layout {
    pub(super) fn of(code: &[Insn<Reg>]) -> Result<Self, At> {
        let mut slot_of = Vec::with_capacity(code.len());
        let mut labels = HashMap::new();
        let mut slot = 0_u32;
        let mut ends = false;
        for (position, insn) in code.iter().enumerate() {
            slot_of.push(slot);
            match (insn, insn.parts()) {
                (Insn::Label(label), _) => {
                    if labels.insert(*label, slot).is_some() {
                        return Err((position, AssembleErrorKind::DuplicateLabel(*label)));
                    }
                    // Code after a trailing label would have to follow it.
                    ends = false;
                }
                (insn, Some(parts)) => {
                    slot += row(parts.shape).map_or(1, |row| row.slots());
                    ends = matches!(insn, Insn::Exit | Insn::Goto { .. });
                }
                (_, None) => {}
            }
            if slot > PROGRAM_SLOTS {
                return Err((position, AssembleErrorKind::TooLong));
            }
        }
        if !ends {
            return Err((code.len().saturating_sub(1), AssembleErrorKind::RunsOffTheEnd));
        }
        Ok(Self { slot_of, labels })
    }

    /// Slots from after the jump at `position` to the label.
    pub(super) fn distance(&self, position: usize, label: Label) -> Option<i64> {
        let from = i64::from(*self.slot_of.get(position)?) + 1;
        Some(i64::from(*self.labels.get(&label)?) - from)
    }

    /// The first jump that its offset field cannot hold.
    pub(super) fn too_far(&self, code: &[Insn<Reg>]) -> Option<(usize, Label)> {
        code.iter().enumerate().find_map(|(position, insn)| match insn {
            Insn::Goto { target } | Insn::Jump { target, .. } => {
                self.distance(position, *target).filter(|&distance| !reachable(distance))?;
                Some((position, *target))
            }
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::ToBigEndian { .. }
            | Insn::LoadImm64 { .. }
            | Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::Label(_)
            | Insn::Call { .. }
            | Insn::CallFunction { .. }
            | Insn::Exit => None,
        })
    }
}

fn reachable(distance: i64) -> bool {
    (JUMP_BACKWARD..=JUMP_FORWARD).contains(&distance)
}

fn emit(code: &[Insn<Reg>], line_of: &[u32], layout: &Layout) -> Result<Assembled, At> {
    let mut assembled = Assembled::default();
    for (position, (insn, line)) in code.iter().zip(line_of).enumerate() {
        let Some(parts) = insn.parts() else { continue };
        let at = InstructionIndex(layout.slot_of.get(position).copied().unwrap_or_default());
        let (shape, operands, target) = resolve(position, parts, layout)?;
        encode(shape, &operands, &mut assembled.bytes)
            .map_err(|error| (position, AssembleErrorKind::Encode(error)))?;
        assembled.relocations.extend(target.map(|target| Relocation { at, target }));
        let slots = assembled.bytes.len() / SLOT_BYTES as usize;
        assembled.line_of.resize(slots, *line);
    }
    Ok(assembled)
}

/// Replaces references by what stands in an unrelocated object.
fn resolve(
    position: usize,
    parts: Parts<'_, Reg>,
    layout: &Layout,
) -> Result<(Shape, Operands<Reg>, Option<RelocationTarget>), At> {
    let Parts { shape, operands, reference } = parts;
    Ok(match reference {
        Reference::None => (shape, operands, None),
        Reference::Label(label) => {
            let distance =
                layout.distance(position, label).ok_or((position, AssembleErrorKind::UnknownLabel(label)))?;
            let offset = i16::try_from(distance)
                .ok()
                .filter(|_| reachable(distance))
                .ok_or((position, AssembleErrorKind::JumpTooFar(label)))?;
            (shape, Operands { offset, ..operands }, None)
        }
        Reference::Map(map) => {
            (Shape::LoadImm64, operands, Some(RelocationTarget::Map { map: map.to_owned() }))
        }
        Reference::MapValue { map, offset } => (
            Shape::LoadImm64,
            Operands { imm: i64::from(offset), ..operands },
            Some(RelocationTarget::MapValue { map: map.to_owned(), offset }),
        ),
        Reference::Function(function) => (
            shape,
            Operands { imm: -1, ..operands },
            Some(RelocationTarget::Function { function: function.to_owned() }),
        ),
    })
}

impl fmt::Display for AssembleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "function {}, instruction {}: ", self.function, self.position)?;
        match self.kind {
            AssembleErrorKind::Encode(error) => write!(f, "{error}"),
            AssembleErrorKind::UnknownLabel(label) => write!(f, "unknown label {label}"),
            AssembleErrorKind::DuplicateLabel(label) => write!(f, "label {label} is defined twice"),
            AssembleErrorKind::JumpTooFar(label) => write!(f, "label {label} is too far away"),
            AssembleErrorKind::LinesNotParallel => write!(f, "code and line numbers differ in length"),
            AssembleErrorKind::RunsOffTheEnd => write!(f, "the function does not end with exit or goto"),
            AssembleErrorKind::TooLong => write!(f, "more than {PROGRAM_SLOTS} instructions"),
        }
    }
}

impl std::error::Error for AssembleError {}
