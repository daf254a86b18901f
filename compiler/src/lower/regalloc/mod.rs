//! Register allocation: graph colouring with conservative coalescing, constants computed again and spilling
//! as the last resort (Chaitin, Briggs, George).
//!
//! In order: `flow` cuts the code into blocks and finds what is live, `graph` says which registers exclude
//! each other and colours them, `spill` rewrites the code when colours run out, `checker` re-executes the
//! result symbolically. What code means is not known here; how an instruction touches registers is stated in
//! `super::code`.

mod flow;
mod graph;
mod spill;
mod checker;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::LowerError;
use super::code::{FrameLimit, Step, VReg, VirtualCode, rename};
use crate::bpf::module::Function;
use crate::bpf::{Insn, Reg};
use flow::Flow;

/// Registers that can be handed out: `r0` to `r9`.
const COLOURS: usize = 10;

/// Rounds of spilling before giving up. Each round shortens what it spills to single instructions, so more
/// than a few mean that one instruction needs more registers than there are.
const ROUNDS: usize = 24;

/// A step of the result: where it came from, and its instruction.
#[derive(Debug, Clone)]
struct Placed {
    step: Step,
    insn: Insn<Reg>,
    /// A copy onto itself, which is not emitted.
    vanished: bool,
}

/// Gives every virtual register a place.
pub(super) fn allocate(code: VirtualCode, limit: FrameLimit) -> Result<Function, LowerError> {
    let original = flow::prepare(&code)?;
    let mut current = original.clone();
    let mut frame = spill::Frame::new(code.stack);
    let mut registers = code.registers;
    let mut unspillable = BTreeSet::new();
    for _ in 0..ROUNDS {
        let flow = Flow::new(&code.name, &current)?;
        if let Some(register) = flow.undefined_at_entry() {
            return Err(LowerError::UseBeforeDefinition { function: code.name, register: register.0 });
        }
        match graph::colour(&current, &flow, registers, &unspillable) {
            Ok(colours) => {
                let placed = place(current, &colours);
                if cfg!(debug_assertions) {
                    checker::check(&code.name, &original, &placed)?;
                }
                return finish(code, placed, frame.bytes(), limit);
            }
            Err(victims) => {
                if victims.is_empty() {
                    break;
                }
                let rewritten = spill::rewrite(&current, &flow, &victims, &mut frame, &mut registers);
                unspillable.extend(rewritten.temporaries);
                current = rewritten.steps;
            }
        }
    }
    Err(LowerError::OutOfRegisters { function: code.name })
}

/// Replaces registers by their colours and drops copies onto themselves.
fn place(steps: Vec<Step>, colours: &[u8]) -> Vec<Placed> {
    let colour = |register: VReg| {
        register.machine().unwrap_or_else(|| Reg(colours.get(register.index()).copied().unwrap_or(0)))
    };
    steps
        .into_iter()
        .map(|step| {
            let vanished = step.copy().is_some_and(|(dst, src)| colour(dst) == colour(src));
            let insn = rename(&step.insn, |r, _| colour(r));
            Placed { step, insn, vanished }
        })
        .collect()
}

fn finish(
    code: VirtualCode,
    placed: Vec<Placed>,
    frame: u32,
    limit: FrameLimit,
) -> Result<Function, LowerError> {
    if frame > limit.bytes() {
        return Err(LowerError::FrameTooLarge { function: code.name, bytes: frame, limit: limit.bytes() });
    }
    let (code_out, line_of) =
        placed.into_iter().filter(|p| !p.vanished).map(|p| (p.insn, p.step.line)).unzip();
    Ok(Function {
        name: code.name,
        section: code.section,
        code: code_out,
        line_of,
        lines: code.lines,
        parameters: code.parameters,
    })
}
