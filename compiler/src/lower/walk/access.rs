//! Every access to memory on every path that the verifier would walk: what is touched, and that it is there.

use std::collections::{BTreeMap, BTreeSet};

use super::state::State;
use super::value::Value;
use crate::bpf::module::Module;
use crate::bpf::{Insn, Reg, Size};

/// Bytes of a stack frame: `MAX_BPF_STACK` in `include/linux/filter.h`.
const STACK: i64 = 512;

/// Part of a value that an instruction reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Field {
    /// Bytes from the start of the value; of the first element where the offset varies.
    pub offset: u32,
    pub bytes: u8,
    /// Whether a number that is not constant is added, which the verifier bounds.
    pub varies: bool,
    pub written: bool,
}

/// What a function touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Fields by the name of the map or data section.
    pub values: BTreeMap<String, BTreeSet<Field>>,
    /// Instructions that touch packets.
    pub packet: BTreeSet<usize>,
}

/// An access that may not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beyond {
    /// Counted without labels.
    pub instruction: usize,
    pub reason: String,
}

const fn bytes(size: Size) -> u8 {
    match size {
        Size::B => 1,
        Size::H => 2,
        Size::W => 4,
        Size::DW => 8,
    }
}

impl Touched {
    /// Looks at one instruction in the state before it.
    pub(super) fn look(
        &mut self,
        module: &Module,
        insn: &Insn<Reg>,
        at: usize,
        state: &State,
    ) -> Result<(), Beyond> {
        let (size, base, offset, written) = match *insn {
            Insn::Load { size, base, offset, .. } => (size, base, offset, false),
            Insn::Store { size, base, offset, .. } | Insn::Atomic { size, base, offset, .. } => {
                (size, base, offset, true)
            }
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::ToBigEndian { .. }
            | Insn::LoadImm64 { .. }
            | Insn::Label(_)
            | Insn::Goto { .. }
            | Insn::Jump { .. }
            | Insn::Call { .. }
            | Insn::CallFunction { .. }
            | Insn::Exit => return Ok(()),
        };
        let beyond = |reason: String| Err(Beyond { instruction: at, reason });
        let (width, by) = (i64::from(bytes(size)), i64::from(offset));
        match state.get(base) {
            Value::Stack(start) if (-STACK..=-width).contains(&(start + by)) => Ok(()),
            Value::Stack(start) => beyond(format!("byte {} of the stack frame", start + by)),
            Value::Context => Ok(()),
            Value::Packet { offset: start, range, .. } => {
                let end = start + by + width;
                if start + by < 0 || end > range {
                    return beyond(format!("byte {} of a packet of which {range} are known", end - 1));
                }
                self.packet.insert(at);
                Ok(())
            }
            Value::Entry { map, offset: start, varies } => {
                let Some((name, all)) = value_of(module, map) else {
                    return beyond("the value of an unknown map".to_owned());
                };
                let from = start + by;
                if from < 0 || from + width > i64::from(all) {
                    let end = from + width;
                    return beyond(format!("bytes {from} to {end} of a value of `{name}`, which has {all}"));
                }
                let offset = u32::try_from(from).unwrap_or(u32::MAX);
                let field = Field { offset, bytes: bytes(size), varies, written };
                self.values.entry(name.to_owned()).or_default().insert(field);
                Ok(())
            }
            Value::Lookup { map, .. } => {
                let name = value_of(module, map).map_or("an unknown map", |(name, _)| name);
                beyond(format!("what a lookup in `{name}` gave, which nothing has compared with zero"))
            }
            Value::Nothing | Value::Number(_) | Value::Map(_) | Value::PacketEnd => {
                beyond("memory through what is no pointer".to_owned())
            }
        }
    }
}

/// Name and bytes of a map's value or of a data section, by the numbering of [`Value::Entry`].
fn value_of(module: &Module, index: usize) -> Option<(&str, u32)> {
    if let Some(map) = module.maps.get(index) {
        return Some((&map.name, map.value.as_ref()?.size()));
    }
    let data = module.data.get(index.checked_sub(module.maps.len())?)?;
    Some((&data.section, data.ty.size()))
}
