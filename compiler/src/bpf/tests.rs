//! Every row of the table: round trips, agreement with LLVM's disassembler, the assembler's refusals.

use super::asm::*;
use super::assemble::{AssembleErrorKind, RelocationTarget, assemble};
use super::decode::{DecodeErrorKind, decode, disassemble};
use super::encode::{EncodeError, encode};
use super::limits::SLOT_BYTES;
use super::module::{Function, Line};
use super::parts::{Operands, Parts, Reference};
use super::position::InstructionIndex;
use super::print::Listing;
use super::table::{Row, Shape, row, rows};
use super::*;
use proptest::prelude::*;
use std::collections::HashSet;
use std::io::Write as _;
use std::process::{Command, Stdio};

const R0: Reg = Reg::R0;
const R1: Reg = Reg::R1;

/// A function around some code; one line for all of it.
fn function(code: Vec<Insn<Reg>>) -> Function {
    Function {
        name: "test".to_owned(),
        section: "xdp".to_owned(),
        line_of: vec![0; code.len()],
        code,
        lines: vec![Line::default()],
        parameters: Vec::new(),
    }
}

/// Operands for a row out of random bits.
fn operands(row: &Row, dst: u8, src: u8, offset: i16, imm: i64) -> Operands<Reg> {
    let fields = row.fields;
    Operands {
        dst: fields.dst.then_some(Reg(dst)),
        src: fields.src.then_some(Reg(src)),
        offset: if fields.offset { offset } else { 0 },
        imm: match (fields.imm, fields.wide) {
            (true, true) => imm,
            (true, false) => i64::from(imm as i32),
            (false, _) => 0,
        },
    }
}

#[test]
fn rows_are_distinct_and_found() {
    let mut shapes = HashSet::new();
    let mut encodings = HashSet::new();
    for entry in rows() {
        assert!(shapes.insert(entry.shape), "{:?} twice", entry.shape);
        assert!(encodings.insert((entry.opcode, entry.mark)), "{:#x} {:?} twice", entry.opcode, entry.mark);
        assert_eq!(row(entry.shape), Some(entry));
    }
    // 12 operations × 4, negation, three swaps, three wide loads, 4 sizes × 3, 10 atomics × 2, 11 conditions × 4,
    // and goto, call, call of a function, exit.
    assert_eq!(rows().count(), 48 + 2 + 3 + 3 + 12 + 20 + 44 + 4);
}

#[test]
fn helpers_have_numbers_and_names() {
    let all = [
        Helper::MapLookup,
        Helper::MapUpdate,
        Helper::MapDelete,
        Helper::KtimeGetNs,
        Helper::GetSmpProcessorId,
        Helper::TailCall,
        Helper::SkbLoadBytes,
        Helper::SkbPullData,
        Helper::Jiffies64,
        Helper::RingbufOutput,
        Helper::XdpGetBuffLen,
        Helper::XdpLoadBytes,
    ];
    assert_eq!(Helper::all().collect::<Vec<_>>(), all);
    for helper in all {
        assert_eq!(Helper::from_number(helper.number()), Some(helper));
        assert!(helper.name().starts_with("bpf_"));
    }
}

proptest! {
    #[test]
    fn every_row_round_trips(
        index in 0..rows().count(),
        dst in 0_u8..10,
        src in 0_u8..10,
        offset: i16,
        imm: i64,
    ) {
        let row = rows().nth(index).unwrap();
        let operands = operands(row, dst, src, offset, imm);
        let mut bytes = Vec::new();
        encode(row.shape, &operands, &mut bytes).unwrap();
        prop_assert_eq!(bytes.len() as u32, row.slots() * SLOT_BYTES);
        let decoded = decode(&bytes, InstructionIndex(0)).unwrap();
        prop_assert_eq!(decoded.shape, row.shape);
        prop_assert_eq!(decoded.operands, operands);
        let mut again = Vec::new();
        encode(decoded.shape, &decoded.operands, &mut again).unwrap();
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn random_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(decoded) = decode(&bytes, InstructionIndex(0)) {
            let mut again = Vec::new();
            // Decoding accepts a written frame pointer, which the encoder refuses.
            match encode(decoded.shape, &decoded.operands, &mut again) {
                Ok(()) => prop_assert_eq!(&bytes[..again.len()], &again[..]),
                Err(error) => prop_assert_eq!(error, EncodeError::WritesFramePointer),
            }
        }
        let _ = disassemble(&bytes, &[]);
    }

    #[test]
    fn functions_round_trip(
        picks in proptest::collection::vec((0..rows().count(), 0_u8..10, 0_u8..10, any::<i16>(), any::<i64>()), 1..60),
        targets in proptest::collection::vec(any::<prop::sample::Index>(), 60),
    ) {
        let mut code = Vec::new();
        let count = picks.len();
        for (position, (index, dst, src, offset, imm)) in picks.into_iter().enumerate() {
            code.push(label(Label(position as u32)));
            let row = rows().nth(index).unwrap();
            let target = Label(targets[position].index(count) as u32);
            let mut operands = operands(row, dst, src, offset, imm);
            let reference = if row.shape == Shape::LoadMap {
                Reference::Map("flows")
            } else if row.shape == Shape::LoadMapValue {
                Reference::MapValue { map: ".data.x", offset: imm as u32 >> 1 }
            } else if matches!(row.shape, Shape::Goto | Shape::Jump { .. }) {
                Reference::Label(target)
            } else if row.shape == Shape::CallFunction {
                Reference::Function("callee")
            } else {
                if row.shape == Shape::Call {
                    operands.imm = i64::from(Helper::KtimeGetNs.number());
                }
                Reference::None
            };
            code.push(Parts { shape: row.shape, operands, reference }.join().unwrap());
        }
        code.push(exit());
        let first = assemble(&function(code)).unwrap();
        prop_assert_eq!(first.bytes.len(), first.slots() * SLOT_BYTES as usize);
        let symbolic = disassemble(&first.bytes, &first.relocations).unwrap();
        prop_assert_eq!(assemble(&function(symbolic)).unwrap(), first);
    }
}

#[test]
fn reads_like_assembly() {
    let (hit, out) = (Label(0), Label(1));
    let code = vec![
        ld_map(R1, "nn_flows"),
        call(Helper::MapLookup),
        jne(R0, 0, hit),
        mov32(R0, 2),
        goto(out),
        label(hit),
        ldx(Size::W, R1, R0, 4),
        stx(Size::DW, Reg::FP, -8, R1),
        atomic(Size::DW, AtomicOp::Add, R0, 8, R1),
        arsh(R1, 3),
        ld_map_value(R1, ".data.nn_params", 16),
        label(out),
        exit(),
    ];
    let text = "    r1 = map[nn_flows]
    call bpf_map_lookup_elem#1
    if r0 != 0 goto L0
    w0 = 2
    goto L1
L0:
    r1 = *(u32 *)(r0 + 4)
    *(u64 *)(r10 - 8) = r1
    lock *(u64 *)(r0 + 8) += r1
    r1 s>>= 3
    r1 = map[.data.nn_params + 16]
L1:
    exit
";
    assert_eq!(Listing(&code).to_string(), text);
    let assembled = assemble(&function(code)).unwrap();
    let targets: Vec<_> =
        assembled.relocations.iter().map(|entry| (entry.at.0, entry.target.clone())).collect();
    assert_eq!(
        targets,
        [
            (0, RelocationTarget::Map { map: "nn_flows".to_owned() }),
            (10, RelocationTarget::MapValue { map: ".data.nn_params".to_owned(), offset: 16 }),
        ]
    );
    // The unrelocated load carries the offset, as clang leaves it.
    assert_eq!(assembled.bytes[80..88], [0x18, 1, 0, 0, 16, 0, 0, 0]);
}

#[test]
fn refusals() {
    let refuse = |code| assemble(&function(code)).unwrap_err().kind;
    assert_eq!(refuse(vec![goto(Label(7)), exit()]), AssembleErrorKind::UnknownLabel(Label(7)));
    assert_eq!(
        refuse(vec![label(Label(1)), label(Label(1)), exit()]),
        AssembleErrorKind::DuplicateLabel(Label(1))
    );
    assert_eq!(refuse(vec![mov(R0, 0)]), AssembleErrorKind::RunsOffTheEnd);
    assert_eq!(refuse(vec![exit(), label(Label(0))]), AssembleErrorKind::RunsOffTheEnd);
    assert_eq!(refuse(vec![]), AssembleErrorKind::RunsOffTheEnd);
    let encoding = |insn| {
        let AssembleErrorKind::Encode(error) = refuse(vec![insn, exit()]) else { panic!("assembled") };
        error
    };
    assert_eq!(encoding(mov(Reg(11), 0)), EncodeError::NoSuchRegister(Reg(11)));
    assert_eq!(encoding(mov(Reg::FP, 0)), EncodeError::WritesFramePointer);
    assert!(matches!(
        encoding(Insn::ToBigEndian { bits: 24, dst: R0 }),
        EncodeError::NoSuchInstruction(Shape::ToBigEndian { bits: 24 })
    ));
    assert!(matches!(
        encoding(atomic(Size::B, AtomicOp::Add, R1, 0, R0)),
        EncodeError::NoSuchInstruction(Shape::Atomic { .. })
    ));
    let mut lines = function(vec![exit()]);
    lines.line_of.clear();
    assert_eq!(assemble(&lines).unwrap_err().kind, AssembleErrorKind::LinesNotParallel);
    let long = vec![ld_imm64(R0, 1); 500_001];
    assert_eq!(refuse(long), AssembleErrorKind::TooLong);
}

#[test]
fn reserved_fields_are_refused() {
    let kind = |bytes: &[u8]| decode(bytes, InstructionIndex(0)).unwrap_err().kind;
    assert_eq!(kind(&[0x95, 0, 0, 0, 0, 0, 0]), DecodeErrorKind::Truncated);
    assert_eq!(kind(&[0x95, 0, 0, 0, 1, 0, 0, 0]), DecodeErrorKind::ReservedField);
    assert_eq!(kind(&[0xb7, 0x10, 0, 0, 1, 0, 0, 0]), DecodeErrorKind::ReservedField);
    assert_eq!(kind(&[0xb7, 0x0b, 0, 0, 1, 0, 0, 0]), DecodeErrorKind::NoSuchRegister { register: 11 });
    assert_eq!(kind(&[0x00; 8]), DecodeErrorKind::NoSuchInstruction { opcode: 0 });
    assert_eq!(kind(&[0x18, 0, 0, 0, 0, 0, 0, 0]), DecodeErrorKind::Truncated);
    // Signed division belongs to ISA v4: the offset field is 1.
    assert_eq!(kind(&[0x3f, 0x10, 1, 0, 0, 0, 0, 0]), DecodeErrorKind::ReservedField);
}

#[test]
fn islands_carry_far_jumps() {
    // A forward jump over 100,000 slots, a second one to the same place, and a loop back over all of them.
    let (end, start) = (Label(5), Label(9));
    let mut code = vec![label(start), jeq(R1, 0, end), jgt(R1, 5, end)];
    code.extend((0..100_000).map(|_| add(R0, 1)));
    code.extend([sub(R1, 1), jne(R1, 0, start), label(end), exit()]);
    let assembled = assemble(&function(code)).unwrap();
    let text = disassemble(&assembled.bytes, &[]).unwrap();
    // Three islands of two slots each way.
    assert_eq!(assembled.slots(), 100_005 + 2 * 3 * 2);
    assert!(text.iter().filter(|insn| matches!(insn, Insn::Goto { .. })).count() == 12);
    // Follow both jumps: each lands on the same instruction as the label.
    let follow = |mut at: InstructionIndex| {
        loop {
            let insn = decode(&assembled.bytes, at).unwrap();
            match insn.target(at) {
                Some(target) => at = target.unwrap(),
                None => return (at, insn.shape),
            }
        }
    };
    let last = assembled.slots() as u32 - 1;
    assert_eq!(follow(InstructionIndex(0)), (InstructionIndex(last), Shape::Exit));
    assert_eq!(follow(InstructionIndex(1)), (InstructionIndex(last), Shape::Exit));
}

#[test]
fn neighbouring_islands_are_reached() {
    // Forty jumps out of reach, each to a place of its own: their islands stand side by side.
    let places = 40;
    let mut code: Vec<_> = (0..places).map(|at| jeq(R1, at as i32, Label(at))).collect();
    code.extend((0..70_000).map(|_| add(R0, 1)));
    code.push(exit());
    for at in 0..places {
        code.extend([label(Label(at)), mov(R0, at as i32), exit()]);
    }
    let assembled = assemble(&function(code)).unwrap();
    let insn = |at: InstructionIndex| decode(&assembled.bytes, at).unwrap();
    for at in 0..places {
        let mut end = insn(InstructionIndex(at)).target(InstructionIndex(at)).unwrap().unwrap();
        while let Some(target) = insn(end).target(end) {
            end = target.unwrap();
        }
        assert_eq!(insn(end).operands.imm, i64::from(at), "jump {at}");
    }
    let mut reached = vec![false; assembled.slots()];
    let mut open = vec![InstructionIndex(0)];
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut reached[at.0 as usize], true) {
            continue;
        }
        let insn = insn(at);
        open.extend(insn.target(at).map(Option::unwrap));
        if !matches!(insn.shape, Shape::Exit | Shape::Goto) {
            open.push(InstructionIndex(at.0 + 1));
        }
    }
    assert_eq!(reached.iter().position(|reached| !reached), None);
}

/// Rows that LLVM 14 cannot print: it lacks the modulus, bit-test jumps and stores of constants, and has a
/// text of its own for the pseudo instructions.
fn unknown_to_old_llvm(row: &Row) -> bool {
    matches!(
        row.shape,
        Shape::Alu { op: AluOp::Mod, .. }
            | Shape::Jump { cond: Cond::Set, .. }
            | Shape::Store { source: table::Source::Imm, .. }
            | Shape::LoadMap
            | Shape::LoadMapValue
    )
}

/// What LLVM prints for encoded instructions; `None` when it is not installed.
fn llvm(features: &[&str], code: &[u8]) -> Option<Vec<String>> {
    let mut child = Command::new("llvm-mc")
        .args(["-triple", "bpfel", "-mcpu=v3", "-disassemble"])
        .args(features)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = String::new();
    for slot in code.chunks(SLOT_BYTES as usize) {
        let text: Vec<_> = slot.iter().map(|byte| format!("{byte:#04x}")).collect();
        input.push_str(&text.join(","));
        input.push('\n');
    }
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "LLVM does not know every instruction");
    let text = String::from_utf8(output.stdout).unwrap();
    Some(
        text.lines()
            .map(str::trim)
            .filter(|line| !matches!(*line, "" | ".text"))
            .map(str::to_owned)
            .collect(),
    )
}

#[test]
fn agrees_with_llvm() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    // With 32-bit registers LLVM also names them in narrow loads and stores, which the kernel does not.
    let memory = |row: &Row| matches!(row.shape, Shape::Load { .. } | Shape::Store { .. });
    for (features, group) in [(&["-mattr=+alu32"][..], false), (&[][..], true)] {
        let mut code = Vec::new();
        let mut ours = Vec::new();
        for row in rows().filter(|row| !unknown_to_old_llvm(row) && memory(row) == group) {
            for _ in 0..20 {
                let (dst, src) = ((random() % 10) as u8, (random() % 10) as u8);
                let operands = operands(row, dst, src, random() as i16, random() as i64);
                let start = code.len();
                encode(row.shape, &operands, &mut code).unwrap();
                ours.push(decode(&code[start..], InstructionIndex(0)).unwrap().to_string());
            }
        }
        let Some(theirs) = llvm(features, &code) else {
            eprintln!("SKIP agrees_with_llvm: llvm-mc is not installed");
            return;
        };
        for (theirs, ours) in theirs.iter().zip(&ours) {
            assert_eq!(theirs, ours);
        }
        assert_eq!(theirs.len(), ours.len());
    }
}
