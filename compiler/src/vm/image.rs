//! From a module to decoded code: assembles every function, decodes its bytes once, and resolves references as a
//! loader would.

use super::context::Context;
use super::error::VmError;
use super::maps::Maps;
use crate::bpf::assemble::{Assembled, RelocationTarget, assemble};
use crate::bpf::decode::{DecodeErrorKind, decode};
use crate::bpf::module::{Function, Module};
use crate::bpf::position::InstructionIndex;
use crate::bpf::table::Shape;
use std::collections::HashMap;

/// One decoded slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) shape: Shape,
    pub(super) dst: u8,
    pub(super) src: u8,
    pub(super) offset: i16,
    /// Absolute position of a jump's target or of a called function.
    pub(super) target: u32,
    /// Sign-extended immediate, or the pointer that a reference resolved to.
    pub(super) imm: u64,
}

/// A function's place in the code.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) name: String,
    pub(super) start: usize,
    /// `None` for subprograms, which have their caller's.
    pub(super) context: Option<Context>,
}

/// All functions one after the other; programs first, in the module's order.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) code: Vec<Step>,
    pub(super) functions: Vec<Placed>,
}

impl Image {
    pub(super) fn new(module: &Module, maps: &Maps) -> Result<Self, VmError> {
        let mut functions: Vec<Placed> = Vec::new();
        let mut assembled = Vec::new();
        let mut start = 0;
        let programs = module.programs.iter().map(|function| (function, true));
        let subprograms = module.functions.iter().map(|function| (function, false));
        for (function, is_program) in programs.chain(subprograms) {
            if functions.iter().any(|placed| placed.name == function.name) {
                return Err(VmError::DuplicateName { name: function.name.clone() });
            }
            let context = Context::of_section(&function.section);
            if is_program && context.is_none() {
                return Err(VmError::UnknownSection {
                    program: function.name.clone(),
                    section: function.section.clone(),
                });
            }
            let context = context.filter(|_| is_program);
            let code = assemble(function).map_err(VmError::Assemble)?;
            functions.push(Placed { name: function.name.clone(), start, context });
            start += code.slots();
            assembled.push((function, code));
        }
        let mut image = Self { code: Vec::with_capacity(start), functions };
        for (function, code) in &assembled {
            image.append(function, code, maps)?;
        }
        Ok(image)
    }

    /// The function that an absolute position lies in, and the position within it.
    pub(super) fn locate(&self, at: usize) -> (String, InstructionIndex) {
        let index = self.functions.partition_point(|placed| placed.start <= at).saturating_sub(1);
        match self.functions.get(index) {
            Some(placed) => {
                let inner = u32::try_from(at - placed.start).unwrap_or(u32::MAX);
                (placed.name.clone(), InstructionIndex(inner))
            }
            None => (String::new(), InstructionIndex(0)),
        }
    }

    fn append(&mut self, function: &Function, code: &Assembled, maps: &Maps) -> Result<(), VmError> {
        let start = self.code.len();
        let slots = code.slots();
        let references: HashMap<_, _> =
            code.relocations.iter().map(|entry| (entry.at, &entry.target)).collect();
        let mut boundaries = vec![false; slots];
        let mut at = InstructionIndex(0);
        while (at.0 as usize) < slots {
            let refuse = |kind| VmError::Decode { function: function.name.clone(), at, kind };
            let insn = decode(&code.bytes, at).map_err(|error| refuse(error.kind))?;
            if let Some(boundary) = boundaries.get_mut(at.0 as usize) {
                *boundary = true;
            }
            let mut step = Step {
                shape: insn.shape,
                dst: insn.operands.dst.map_or(0, |reg| reg.0),
                src: insn.operands.src.map_or(0, |reg| reg.0),
                offset: insn.operands.offset,
                target: 0,
                imm: insn.operands.imm.cast_unsigned(),
            };
            if let Some(target) = insn.target(at) {
                let target = target.filter(|target| (target.0 as usize) < slots);
                let target = target.ok_or_else(|| refuse(DecodeErrorKind::BadTarget))?;
                step.target = absolute(start + target.0 as usize);
            }
            if let Some(target) = references.get(&at) {
                self.resolve(function, at, target, maps, &mut step)?;
            } else if step.shape == Shape::CallFunction {
                return Err(refuse(DecodeErrorKind::BadRelocation));
            }
            for _ in 0..insn.slots {
                self.code.push(step);
            }
            at.0 += insn.slots;
        }
        // The second half of a wide instruction is no place to jump to.
        let steps = self.code.get(start..).unwrap_or_default();
        for (slot, step) in steps.iter().enumerate() {
            let jumps = matches!(step.shape, Shape::Goto | Shape::Jump { .. });
            if jumps && boundaries.get(step.target as usize - start) != Some(&true) {
                return Err(VmError::Decode {
                    function: function.name.clone(),
                    at: InstructionIndex(absolute(slot)),
                    kind: DecodeErrorKind::BadTarget,
                });
            }
        }
        Ok(())
    }

    fn resolve(
        &self,
        function: &Function,
        at: InstructionIndex,
        target: &RelocationTarget,
        maps: &Maps,
        step: &mut Step,
    ) -> Result<(), VmError> {
        let unknown = |name: &str| VmError::UnknownName { name: name.to_owned() };
        match target {
            RelocationTarget::Map { map } => {
                step.imm = maps.handle(map).ok_or_else(|| unknown(map))?;
            }
            RelocationTarget::MapValue { map, .. } => {
                // The offset is read back from the encoded immediate, where loaders read it too.
                let offset = u32::try_from(step.imm).unwrap_or(u32::MAX);
                if !maps.exists(map) {
                    return Err(unknown(map));
                }
                step.imm = maps
                    .value_address(map, offset)
                    .ok_or_else(|| VmError::BadReference { function: function.name.clone(), at })?;
            }
            RelocationTarget::Function { function: callee } => {
                let placed = self.functions.iter().find(|placed| placed.name == *callee);
                step.target = absolute(placed.ok_or_else(|| unknown(callee))?.start);
            }
        }
        Ok(())
    }
}

/// Code has at most 1,000,000 slots per function; positions beyond 32 bits would need 4,000 such functions.
fn absolute(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
