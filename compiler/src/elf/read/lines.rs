//! Line info of `.BTF.ext`, by section.

use std::collections::BTreeMap;

use super::types::{Types, word};
use crate::bpf::module::Line;

const MAGIC: u16 = 0xeb9f;
const LINE_RECORD_BYTES: u32 = 16;

/// Bits of the word of line and column that are the column.
const COLUMN_BITS: u32 = 10;

/// Most bytes of names and texts together: hostile records share one long string.
const MOST_TEXT: usize = 64 << 20;

/// The line of the instruction at a byte offset and of those behind it.
pub(super) struct Placed {
    pub(super) offset: u32,
    pub(super) line: Line,
}

/// The records of every section, in the order of the file.
pub(super) fn lines(ext: &[u8], types: &Types<'_>) -> Result<BTreeMap<String, Vec<Placed>>, String> {
    let cut = || "`.BTF.ext` is cut".to_owned();
    if ext.first_chunk().copied().map(u16::from_le_bytes) != Some(MAGIC) {
        return Err("`.BTF.ext` does not start with its magic number".to_owned());
    }
    let header = |index: usize| word(ext, 4 + index * 4).map(to_usize).ok_or_else(cut);
    let (start, at, len) = (header(0)?, header(3)?, header(4)?);
    let from = start.checked_add(at).ok_or_else(cut)?;
    let part = from.checked_add(len).and_then(|end| ext.get(from..end)).ok_or_else(cut)?;
    if word(part, 0) != Some(LINE_RECORD_BYTES) {
        return Err("line info has records of another size".to_owned());
    }
    let mut rest = part.get(4..).ok_or_else(cut)?;
    let mut text = 0usize;
    let mut sections: BTreeMap<String, Vec<Placed>> = BTreeMap::new();
    while !rest.is_empty() {
        let (name, count) = (word(rest, 0).ok_or_else(cut)?, word(rest, 4).ok_or_else(cut)?);
        let bytes = to_usize(count).checked_mul(to_usize(LINE_RECORD_BYTES)).ok_or_else(cut)?;
        let end = bytes.checked_add(8).ok_or_else(cut)?;
        let records = rest.get(8..end).ok_or_else(cut)?;
        let name = types.string(name).ok_or("line info of a section without a name")?;
        let placed = sections.entry(name.to_owned()).or_default();
        for record in records.chunks_exact(to_usize(LINE_RECORD_BYTES)) {
            let at = |index: usize| word(record, index * 4).ok_or_else(cut);
            let (offset, file, source, position) = (at(0)?, at(1)?, at(2)?, at(3)?);
            let string = |offset| types.string(offset).ok_or("a line without text");
            let (file, source) = (string(file)?.to_owned(), string(source)?.to_owned());
            text = text.saturating_add(file.len()).saturating_add(source.len());
            if text > MOST_TEXT {
                return Err("line info has more text than any specification".to_owned());
            }
            let line = Line {
                file,
                line: position >> COLUMN_BITS,
                column: position & ((1 << COLUMN_BITS) - 1),
                text: source,
            };
            placed.push(Placed { offset, line });
        }
        rest = rest.get(end..).ok_or_else(cut)?;
    }
    Ok(sections)
}

fn to_usize(word: u32) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}
