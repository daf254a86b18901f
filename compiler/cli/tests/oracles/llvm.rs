//! The instruction table and every shipped object, as our decoder reads them and as llvm-objdump does.

#![expect(clippy::wildcard_enum_match_arm, reason = "most instructions are written in one way everywhere")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use nnbpf_compiler::bpf::decode::{Decoded, decode};
use nnbpf_compiler::bpf::encode::{EncodeError, encode};
use nnbpf_compiler::bpf::parts::Operands;
use nnbpf_compiler::bpf::position::InstructionIndex;
use nnbpf_compiler::bpf::table::{Mark, Row, Shape, Source, rows};
use nnbpf_compiler::bpf::{AluOp, Cond, Reg};
use nnbpf_compiler::compile;
use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, Object as _, ObjectSection as _, SectionKind, SymbolFlags,
    SymbolKind, SymbolScope,
};

use super::common::Random;
use super::notation::{llvm, plain};
use super::objects::every_object;

/// A line of a listing: where, which bytes, which text.
struct Line {
    slot: u32,
    bytes: Vec<u8>,
    text: String,
}

/// The disassembler: the one that `NNBPF_LLVM_OBJDUMP` names, or the installed one.
fn disassembler() -> String {
    std::env::var("NNBPF_LLVM_OBJDUMP").unwrap_or_else(|_| "llvm-objdump".to_owned())
}

/// The disassembler's first line about its version; a skip where there is none.
fn version(test: &str) -> Option<String> {
    match Command::new(disassembler()).arg("--version").output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().find(|line| line.contains("version")).map(|line| line.trim().to_owned())
        }
        Err(_) => {
            eprintln!("SKIP {test}: llvm-objdump is not installed");
            None
        }
    }
}

/// The listing of every section with code.
fn listing(object: &Path) -> BTreeMap<String, Vec<Line>> {
    let output = Command::new(disassembler()).args(["-d", "--mattr=+alu32"]).arg(object).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut sections: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(section) = line.strip_prefix("Disassembly of section ") {
            section.trim_end_matches(':').clone_into(&mut current);
        }
        let Some((at, rest)) = line.split_once(":\t") else { continue };
        // The file's name stands before a colon too.
        let Ok(slot) = at.trim().parse() else { continue };
        let (bytes, text) = rest.split_once('\t').unwrap();
        sections.entry(current.clone()).or_default().push(Line {
            slot,
            bytes: bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect(),
            text: text.trim().to_owned(),
        });
    }
    sections
}

/// Why LLVM before version 15 or 18 prints `<unknown>` for a shape; `None` for all that every version prints.
fn unknown_to_old_llvm(shape: Shape) -> Option<&'static str> {
    match shape {
        Shape::Alu { op: AluOp::Mod, .. } => Some("has no modulus"),
        Shape::Jump { cond: Cond::Set, .. } => Some("has no bit-test jumps"),
        Shape::Store { source: Source::Imm, .. } => Some("has no stores of constants"),
        _ => None,
    }
}

/// What was compared.
#[derive(Default)]
struct Seen {
    instructions: u64,
    /// Instructions that this LLVM cannot print, by reason.
    unknown: BTreeMap<&'static str, u64>,
}

impl Seen {
    /// Compares a listing with our decoding of the same bytes.
    fn compare(&mut self, place: &str, code: &[u8], lines: &[Line]) {
        let mut at = InstructionIndex(0);
        for line in lines {
            assert_eq!(line.slot, at.0, "{place}: LLVM is at another instruction");
            let ours = decode(code, at).unwrap_or_else(|error| panic!("{place}: {error}: {}", line.text));
            let start = at.0 as usize * 8;
            let end = start + ours.slots as usize * 8;
            assert_eq!(line.bytes, code[start..end], "{place}: {}", line.text);
            self.instructions += 1;
            at.0 += ours.slots;
            if line.text == "<unknown>" {
                let reason = unknown_to_old_llvm(ours.shape);
                *self.unknown.entry(reason.unwrap_or_else(|| panic!("{place}: {ours}"))).or_default() += 1;
            } else {
                assert_eq!(plain(&line.text), llvm(&ours), "{place}, instruction {}", line.slot);
            }
        }
        assert_eq!(at.0 as usize * 8, code.len(), "{place}: LLVM stops early");
    }

    fn report(&self, test: &str, version: &str) {
        println!("{test}: {version}: {} instructions", self.instructions);
        for (reason, count) in &self.unknown {
            println!("{test}: {count} of them not printed, as this version {reason}");
        }
    }
}

/// `struct bpf_insn` by hand, so that the encoder is not asked: little endian, the lower half first.
fn bytes(row: &Row, operands: &Operands<Reg>) -> Vec<u8> {
    let register = |reg: Option<Reg>| reg.map_or(0, |reg| reg.0);
    let (mut src, mut imm) = (register(operands.src), operands.imm as u32);
    match row.mark {
        Mark::None => {}
        Mark::Src(mark) => src = mark,
        Mark::Imm(mark) => imm = mark.cast_unsigned(),
    }
    let mut bytes = vec![row.opcode, register(operands.dst) | src << 4];
    bytes.extend(operands.offset.to_le_bytes());
    bytes.extend(imm.to_le_bytes());
    if row.fields.wide {
        bytes.extend([0; 4]);
        bytes.extend(((operands.imm >> 32) as u32).to_le_bytes());
    }
    bytes
}

/// Every combination of registers with the edges of the other fields, and some random ones.
fn operands(row: &Row, random: &mut Random) -> Vec<Operands<Reg>> {
    let fields = row.fields;
    let registers = |used: bool| -> Vec<Option<Reg>> {
        if used { (0..=10).map(|number| Some(Reg(number))).collect() } else { vec![None] }
    };
    let offsets: Vec<i16> = if fields.offset {
        vec![i16::MIN, -1, 0, 1, i16::MAX, random.next() as i16, random.next() as i16]
    } else {
        vec![0]
    };
    let edges = [i64::from(i32::MIN), -1, 0, 1, i64::from(i32::MAX)];
    let imms: Vec<i64> = match (fields.imm, fields.wide) {
        (false, _) => vec![0],
        (true, false) => edges.into_iter().chain([i64::from(random.next() as i32)]).collect(),
        (true, true) => {
            let wide = [i64::MIN, i64::MAX, 1 << 32, 0xffff_ffff, random.next().cast_signed()];
            edges.into_iter().chain(wide).collect()
        }
    };
    let mut all = Vec::new();
    for dst in registers(fields.dst) {
        for src in registers(fields.src) {
            for &offset in &offsets {
                all.extend(imms.iter().map(|&imm| Operands { dst, src, offset, imm }));
            }
        }
    }
    all
}

/// Encodings that LLVM takes for a tentative instruction of its own, `lea` (`FI_ri` of `BPFInstrInfo.td`): a reference
/// to a map's value in `r0` whose lower half is 0.
fn taken_for_lea(row: &Row, operands: &Operands<Reg>) -> bool {
    row.shape == Shape::LoadMapValue && operands.dst == Some(Reg::R0) && operands.imm as u32 == 0
}

#[test]
fn llvm_reads_every_row_as_we_do() {
    let test = "llvm_reads_every_row_as_we_do";
    let Some(version) = version(test) else { return };
    let mut random = Random(14);
    let mut code = Vec::new();
    let mut unknown = Vec::new();
    let mut left_out = 0;
    for row in rows() {
        unknown.extend(unknown_to_old_llvm(row.shape).map(|reason| format!("{:?} {reason}", row.shape)));
        for operands in operands(row, &mut random) {
            if taken_for_lea(row, &operands) {
                left_out += 1;
                continue;
            }
            let start = code.len();
            code.extend(bytes(row, &operands));
            // The encoder writes the same, but for what writes the frame pointer.
            let mut encoded = Vec::new();
            match encode(row.shape, &operands, &mut encoded) {
                Ok(()) => assert_eq!(encoded, code[start..]),
                Err(error) => assert_eq!(error, EncodeError::WritesFramePointer),
            }
            let decoded = decode(&code[start..], InstructionIndex(0)).unwrap();
            assert_eq!(decoded, Decoded { shape: row.shape, operands, slots: row.slots() });
        }
    }
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let section = object.add_section(Vec::new(), b"rows".to_vec(), SectionKind::Text);
    object.append_section_data(section, &code, 8);
    object.add_symbol(Symbol {
        name: b"rows".to_vec(),
        value: 0,
        size: code.len() as u64,
        kind: SymbolKind::Text,
        scope: SymbolScope::Linkage,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.o");
    std::fs::write(&path, object.write().unwrap()).unwrap();
    let mut seen = Seen::default();
    seen.compare("rows", &code, &listing(&path)["rows"]);
    assert!(seen.instructions > 50_000, "{}", seen.instructions);
    seen.report(test, &version);
    println!("{test}: {left_out} encodings left out that LLVM takes for its own `lea`");
    // Rows are printed for all of their operands or for none, and each that is not is one of these.
    if !seen.unknown.is_empty() {
        println!("{test}: {} of {} rows not printed: {}", unknown.len(), rows().count(), unknown.join(", "));
    }
}

#[test]
fn llvm_reads_every_object_as_we_do() {
    let test = "llvm_reads_every_object_as_we_do";
    let Some(version) = version(test) else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("object.o");
    let mut seen = Seen::default();
    let mut objects = 0;
    every_object(|name, module| {
        let bytes = compile::object(module).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        let lines = listing(&path);
        let file = object::File::parse(&*bytes).unwrap();
        let code =
            file.sections().filter(|section| section.kind() == SectionKind::Text && section.size() > 0);
        let mut sections = 0;
        for section in code {
            let place = format!("{name}, {}", section.name().unwrap());
            seen.compare(&place, section.data().unwrap(), &lines[section.name().unwrap()]);
            sections += 1;
        }
        // Programs and functions; nothing in the listing is left over.
        assert!(sections >= 2 && sections == lines.len(), "{name}: {sections}");
        objects += 1;
    });
    println!("{test}: {objects} objects");
    seen.report(test, &version);
}
