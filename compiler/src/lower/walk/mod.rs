//! Predicts how many instructions the kernel's verifier processes for a whole program.
//!
//! The verifier walks every path until it meets a state that an explored one covers. Here the same walk is
//! done over what generated code consists of: numbers as ranges, and pointers to the packet, the stack, map
//! values and the context. The rules are those of `kernel/bpf/verifier.c` in Linux 6.18: where states are kept
//! and compared (`is_state_visited`, `visit_insn`), what makes two alike (`states_equal`: only registers and
//! slots that are read again, numbers only where a decided branch or the offset of a pointer depends on them),
//! and which branches are decided.
//! It is a prediction: what generated code does not do is left out, and other kernels count a little
//! differently.
//!
//! | file | what |
//! |---|---|
//! | `value` | numbers and pointers, arithmetic on them, when one covers the other |
//! | `live` | which registers and stack slots are read again |
//! | `state` | a machine state, the kept ones, which numbers matter |
//! | `step` | what an instruction does to a state |
//! | `access` | what an instruction touches, for `verify` |

mod value;
mod live;
mod state;
mod step;
mod access;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

pub use access::{Beyond, Field, Touched};

use crate::bpf::limits::PROCESSED_INSTRUCTIONS as LIMIT;
use crate::bpf::module::{Function, Module, Parameter};
use crate::bpf::{Insn, Label, Reg};
use live::Live;
use state::{Kept, State, Store, visit};
use step::{Next, Stepper};
use value::Value;

/// For each program of a module the instructions that the verifier processes when it loads: its own, and those
/// of the functions that it reaches, each of which is walked once.
#[must_use]
pub fn processed(module: &Module) -> Vec<(String, u64)> {
    let functions: BTreeMap<&str, &Function> =
        module.functions.iter().map(|function| (function.name.as_str(), function)).collect();
    let counts: BTreeMap<&str, u64> =
        functions.iter().map(|(name, function)| (*name, walk(module, function))).collect();
    let of_program = |program: &Function| {
        let mut reached = BTreeSet::new();
        let mut work = vec![program];
        while let Some(function) = work.pop() {
            for insn in &function.code {
                if let Insn::CallFunction { function } = insn
                    && let Some((name, callee)) = functions.get_key_value(function.as_str())
                    && reached.insert(*name)
                {
                    work.push(callee);
                }
            }
        }
        let called: u64 = reached.iter().filter_map(|name| counts.get(name)).sum();
        walk(module, program) + called
    };
    module.programs.iter().map(|program| (program.name.clone(), of_program(program))).collect()
}

/// Code without labels, with jumps by position.
struct Code<'a> {
    insns: Vec<&'a Insn<Reg>>,
    targets: BTreeMap<Label, usize>,
    /// Where the verifier compares states: at branches, behind calls and at whatever is jumped to.
    compared: Vec<bool>,
}

impl<'a> Code<'a> {
    fn new(function: &'a Function) -> Self {
        let mut insns = Vec::new();
        let mut targets = BTreeMap::new();
        for insn in &function.code {
            if let Insn::Label(label) = insn {
                targets.insert(*label, insns.len());
            } else {
                insns.push(insn);
            }
        }
        let mut compared = vec![false; insns.len() + 1];
        let mut mark = |at: usize| {
            if let Some(place) = compared.get_mut(at) {
                *place = true;
            }
        };
        for (at, insn) in insns.iter().enumerate() {
            match insn {
                Insn::Goto { target } => mark(targets.get(target).copied().unwrap_or(at)),
                Insn::Jump { target, .. } => {
                    mark(at);
                    mark(targets.get(target).copied().unwrap_or(at));
                }
                Insn::Call { .. } => mark(at + 1),
                Insn::CallFunction { .. } => {
                    mark(at);
                    mark(at + 1);
                }
                Insn::Alu { .. }
                | Insn::Neg { .. }
                | Insn::ToBigEndian { .. }
                | Insn::LoadImm64 { .. }
                | Insn::Load { .. }
                | Insn::Store { .. }
                | Insn::Atomic { .. }
                | Insn::Label(_)
                | Insn::Exit => {}
            }
        }
        Self { insns, targets, compared }
    }

    fn target(&self, label: Label) -> usize {
        self.targets.get(&label).copied().unwrap_or(self.insns.len())
    }
}

/// What has been counted, for the rules about keeping states.
#[derive(Default)]
struct Counts {
    insns: u64,
    jumps: u64,
    kept_insns: u64,
    kept_jumps: u64,
}

/// Walks one function and looks at every access to memory.
///
/// # Errors
///
/// The first access that is not known to stay where it may, or a function that the verifier gives up on.
pub fn touched(module: &Module, function: &Function) -> Result<Touched, Beyond> {
    let mut touched = Touched::default();
    let count = walk_with(module, function, |insn, at, state| touched.look(module, insn, at, state))?;
    if count >= LIMIT {
        return Err(Beyond { instruction: 0, reason: "more than the verifier would walk".to_owned() });
    }
    Ok(touched)
}

/// Walks one function.
fn walk(module: &Module, function: &Function) -> u64 {
    walk_with(module, function, |_, _, _| Ok::<(), Infallible>(())).unwrap_or_else(|never| match never {})
}

fn walk_with<E>(
    module: &Module,
    function: &Function,
    mut look: impl FnMut(&Insn<Reg>, usize, &State) -> Result<(), E>,
) -> Result<u64, E> {
    let code = Code::new(function);
    let live = Live::new(&code, module);
    let stepper = Stepper::new(module, &code);
    let mut store = Store::default();
    let mut counts = Counts::default();
    let mut first = State::default();
    for (number, parameter) in (1..).zip(&function.parameters) {
        let value = match parameter {
            Parameter::Context => Value::Context,
            Parameter::Scalar => Value::unknown(),
        };
        first.set(Reg(number), value);
    }
    first.set(Reg::FP, Value::Stack(0));
    let mut waiting = vec![(0, first)];
    while let Some((mut at, mut state)) = waiting.pop() {
        while let Some(insn) = code.insns.get(at) {
            counts.insns += 1;
            if counts.insns >= LIMIT {
                return Ok(LIMIT);
            }
            if code.compared.get(at).copied().unwrap_or(false)
                && visit(&mut store, &mut state, at, &live, &mut counts) == Kept::Covered
            {
                break;
            }
            if matches!(
                insn,
                Insn::Goto { .. }
                    | Insn::Jump { .. }
                    | Insn::Call { .. }
                    | Insn::CallFunction { .. }
                    | Insn::Exit
            ) {
                counts.jumps += 1;
            }
            look(insn, at, &state)?;
            match stepper.step(insn, at, &mut state, &mut store) {
                Next::At(next) => at = next,
                Next::Both { next, other, there } => {
                    store.branched(&other);
                    waiting.push((there, *other));
                    at = next;
                }
                Next::End => break,
            }
        }
        store.ended(&state);
    }
    Ok(counts.insns)
}
