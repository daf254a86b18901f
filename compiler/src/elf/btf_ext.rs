//! `.BTF.ext`: where each function starts and which line of the specification or which layer an
//! instruction came from.

use super::btf::{Btf, Types, common_header};
use super::error::{ElfError, narrow};
use super::layout::{CodeSection, Placed, function_at};
use crate::bpf::assemble::Assembled;
use crate::bpf::module::{Line, Module};

/// Header with an empty part for CO-RE relocations, as clang writes it.
const HEADER_BYTES: u32 = 32;
const FUNCTION_RECORD_BYTES: u32 = 8;
const LINE_RECORD_BYTES: u32 = 16;

/// Line and column share one word: 22 and 10 bits.
const MAX_LINE: u32 = (1 << 22) - 1;
const MAX_COLUMN: u32 = (1 << 10) - 1;

/// The content of `.BTF.ext`. File names and texts go to the strings of `.BTF`.
pub(super) fn describe(
    module: &Module,
    code: &[Assembled],
    layout: &[CodeSection],
    types: &mut Types,
) -> Result<Vec<u8>, ElfError> {
    let mut functions = FUNCTION_RECORD_BYTES.to_le_bytes().to_vec();
    let mut lines = LINE_RECORD_BYTES.to_le_bytes().to_vec();
    for section in layout {
        let name = types.btf.string(&section.name)?;
        let mut function_records = Vec::new();
        let mut line_records = Vec::new();
        for placed in &section.functions {
            let ty = types.functions.get(placed.index).copied();
            let ty = ty.ok_or(ElfError::TooLarge { what: "the number of functions" })?;
            push(&mut function_records, &[start_of(placed)?, ty.0]);
            line_info(&mut types.btf, module, code, placed, &mut line_records)?;
        }
        for (part, records, size) in [
            (&mut functions, function_records, FUNCTION_RECORD_BYTES),
            (&mut lines, line_records, LINE_RECORD_BYTES),
        ] {
            let count = narrow(records.len(), "the line table")? / size;
            push(part, &[name, count]);
            part.extend(records);
        }
    }
    let function_bytes = narrow(functions.len(), "the function table")?;
    let line_bytes = narrow(lines.len(), "the line table")?;
    let mut bytes = common_header().to_vec();
    let end = function_bytes.checked_add(line_bytes).ok_or(ElfError::TooLarge { what: "the line table" })?;
    push(&mut bytes, &[HEADER_BYTES, 0, function_bytes, function_bytes, line_bytes, end, 0]);
    bytes.extend(functions);
    bytes.extend(lines);
    Ok(bytes)
}

/// A record at the function's first instruction and wherever the line changes. The kernel wants the first
/// and refuses a record at the second half of a wide instruction, which never changes the line.
fn line_info(
    btf: &mut Btf,
    module: &Module,
    code: &[Assembled],
    placed: &Placed,
    records: &mut Vec<u8>,
) -> Result<(), ElfError> {
    let (Some(function), Some(code)) = (function_at(module, placed.index), code.get(placed.index)) else {
        return Ok(());
    };
    let mismatch = || ElfError::Lines { function: function.name.clone() };
    if code.line_of.len() * 8 != code.bytes.len() {
        return Err(mismatch());
    }
    let none = Line::default();
    let start = start_of(placed)?;
    let mut previous = None;
    for (slot, index) in code.line_of.iter().enumerate() {
        if previous == Some(*index) {
            continue;
        }
        previous = Some(*index);
        // A function without lines still needs its first record.
        let line = match function.lines.get(*index as usize) {
            Some(line) => line,
            None if function.lines.is_empty() => &none,
            None => return Err(mismatch()),
        };
        let offset = narrow(slot * 8, "a code section")?
            .checked_add(start)
            .ok_or(ElfError::TooLarge { what: "a code section" })?;
        let file = btf.string(&line.file)?;
        let text = btf.string(&line.text)?;
        let position = (line.line.min(MAX_LINE) << 10) | line.column.min(MAX_COLUMN);
        push(records, &[offset, file, text, position]);
    }
    Ok(())
}

fn start_of(placed: &Placed) -> Result<u32, ElfError> {
    u32::try_from(placed.offset).map_err(|_| ElfError::TooLarge { what: "a code section" })
}

fn push(bytes: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        bytes.extend(word.to_le_bytes());
    }
}
