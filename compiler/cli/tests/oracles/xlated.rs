//! What the kernel has of our objects, shown by bpftool: text against our decoding of the same bytes, and bytes against
//! what we wrote.
//!
//! Every instruction of a dump is compared with our decoding of the bytes that bpftool prints beside it. Then the dump
//! is laid beside the assembled function. Instructions must be equal to the byte, but for
//!
//! - the numbers of maps and helpers, which must stand for the same names everywhere;
//! - distances of jumps and calls, which must lead to the same places;
//! - what the kernel writes in the place of single instructions ([`Patch`]): the run of such a place ends where the
//!   next instructions are those that follow ours.
//!
//! Nothing else may be missing or too much. A branch that is missing counts as one that the verifier found decided.

#![expect(clippy::wildcard_enum_match_arm, reason = "most instructions are written in one way everywhere")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::process::Command;

use nnbpf_compiler::bpf::assemble::{RelocationTarget, assemble};
use nnbpf_compiler::bpf::decode::{Decoded, decode};
use nnbpf_compiler::bpf::module::{Function, Module};
use nnbpf_compiler::bpf::position::InstructionIndex;
use nnbpf_compiler::bpf::table::{Shape, Source};
use nnbpf_compiler::bpf::{AluOp, AtomicOp, Helper, Reg, Size, Width};
use nnbpf_compiler::compile;

use super::common::{Random, skip};
use super::notation::kernel;
use super::objects::every_object;

/// Most instructions that the kernel puts in the place of one.
const LONGEST_PATCH: usize = 16;

/// An instruction of a dump.
struct Shown {
    slot: usize,
    bytes: Vec<u8>,
    text: String,
    /// `None` for instructions that only the kernel writes.
    decoded: Option<Decoded>,
}

/// One of our instructions.
struct Written {
    slot: usize,
    bytes: Vec<u8>,
    decoded: Decoded,
    name: Option<RelocationTarget>,
    /// Whether it reads or writes the program's context.
    on_context: bool,
}

/// Instructions that the kernel replaces or completes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Patch {
    /// Fields of the context lie elsewhere than programs see them.
    Context,
    /// Look-ups and clocks are written out, or completed.
    Helper,
    /// Divisors are tested for zero.
    Division,
    /// The upper half of `r0` is cleared after a compare-exchange of 32 bits.
    Exchange,
    /// Branches that the verifier found decided are unconditional jumps, or gone.
    Decided,
    /// Jumps that lead to the next instruction are left out.
    Nothing,
    /// What cannot be reached without decided branches is left out.
    Unreachable,
}

/// What became of an instruction of ours: how many stand in its place, why it is not the same, and whether what follows
/// and where it jumps to can still be reached from it.
#[derive(Debug, Clone, Copy)]
struct Fate {
    count: usize,
    patch: Option<Patch>,
    falls: bool,
    jumps: bool,
}

/// A folder in bpffs, removed at the end, also of a failed test.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        let _removed = std::fs::remove_dir_all(&self.0);
    }
}

fn bpftool(arguments: &[&str]) -> String {
    let output = Command::new("bpftool").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "bpftool {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Says why there is no dump here, unless there must be.
pub(crate) fn missing(test: &str) -> bool {
    if skip(test) {
        return true;
    }
    if Command::new("bpftool").arg("version").output().is_err() {
        assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: no bpftool");
        eprintln!("SKIP {test}: bpftool is not installed");
        return true;
    }
    false
}

/// The functions of a dump, by their names, in order.
fn functions(dump: &str) -> Vec<(String, Vec<Shown>)> {
    let mut functions: Vec<(String, Vec<Shown>)> = Vec::new();
    for line in dump.lines().filter(|line| !line.starts_with(';')) {
        if let Some((slot, text)) = line.split_once(": (") {
            let (_, text) = text.split_once(") ").unwrap();
            let shown = Shown {
                slot: slot.trim().parse().unwrap(),
                bytes: Vec::new(),
                text: text.to_owned(),
                decoded: None,
            };
            functions.last_mut().unwrap().1.push(shown);
        } else if line.ends_with("):") {
            let (prototype, _) = line.split_once('(').unwrap();
            let name = prototype.rsplit([' ', '*']).next().unwrap();
            functions.push((name.to_owned(), Vec::new()));
        } else if let Some(shown) = functions.last_mut().and_then(|(_, code)| code.last_mut()) {
            let bytes = line.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap());
            shown.bytes = bytes.collect();
            shown.decoded = decode(&shown.bytes, InstructionIndex(0)).ok();
        }
    }
    functions
}

fn written(function: &Function) -> Vec<Written> {
    let assembled = assemble(function).unwrap();
    let names: HashMap<_, _> =
        assembled.relocations.iter().map(|entry| (entry.at, entry.target.clone())).collect();
    let mut all = Vec::new();
    let mut at = InstructionIndex(0);
    while (at.0 as usize) < assembled.slots() {
        let decoded = decode(&assembled.bytes, at).unwrap();
        let slot = at.0 as usize;
        let bytes = assembled.bytes[slot * 8..(slot + decoded.slots as usize) * 8].to_vec();
        all.push(Written { slot, bytes, decoded, name: names.get(&at).cloned(), on_context: false });
        at.0 += decoded.slots;
    }
    for index in 0..all.len() {
        let operands = all[index].decoded.operands;
        let base = match all[index].decoded.shape {
            Shape::Load { .. } => operands.src,
            Shape::Store { .. } => operands.dst,
            _ => None,
        };
        all[index].on_context = base.is_some_and(|base| holds_context(&all[..index], base));
    }
    all
}

/// Whether a register holds the context after some code, which a function finds in `r1` and keeps in registers and in its
/// frame: follows the last writer in the order of the code.
fn holds_context(before: &[Written], reg: Reg) -> bool {
    let writes = |one: &Written| match one.decoded.shape {
        Shape::Alu { .. } | Shape::Neg { .. } | Shape::ToBigEndian { .. } | Shape::Load { .. } => {
            one.decoded.operands.dst == Some(reg)
        }
        Shape::LoadImm64 | Shape::LoadMap | Shape::LoadMapValue => one.decoded.operands.dst == Some(reg),
        Shape::Call | Shape::CallFunction => reg.0 <= 5,
        _ => false,
    };
    let Some(last) = before.iter().rposition(writes) else { return reg == Reg::R1 };
    let operands = before[last].decoded.operands;
    match before[last].decoded.shape {
        Shape::Alu { width: Width::W64, op: AluOp::Mov, source: Source::Reg } => {
            holds_context(&before[..last], operands.src.unwrap())
        }
        Shape::Load { size: Size::DW } if operands.src == Some(Reg::FP) => {
            let stored = before[..last].iter().rposition(|one| {
                let place = one.decoded.operands;
                matches!(one.decoded.shape, Shape::Store { size: Size::DW, .. })
                    && place.dst == Some(Reg::FP)
                    && place.offset == operands.offset
            });
            let stored = stored.map(|stored| (stored, before[stored].decoded.operands.src));
            matches!(stored, Some((stored, Some(value))) if holds_context(&before[..stored], value))
        }
        _ => false,
    }
}

/// The distance of a call of a function: the kernel keeps it in the offset field.
fn call_distance(bytes: &[u8]) -> Option<i16> {
    let is_call = bytes[0] == 0x85 && bytes[1] == 0x10;
    is_call.then(|| i16::from_le_bytes([bytes[2], bytes[3]]))
}

/// Whether bpftool's text is what we read in the bytes; `false` for instructions that only the kernel writes.
fn reads_alike(place: &str, shown: &Shown) -> bool {
    if let Some(distance) = call_distance(&shown.bytes) {
        let start = format!("call pc{distance:+}#");
        assert!(shown.text.starts_with(&start), "{place}: {}: {}", shown.slot, shown.text);
        return true;
    }
    let Some(decoded) = &shown.decoded else { return false };
    let imm = decoded.operands.imm;
    let expected = kernel(decoded).unwrap_or_else(|| {
        let dst = decoded.operands.dst.map_or(0, |reg| reg.0);
        match decoded.shape {
            Shape::LoadMap => format!("r{dst} = map[id:{}]", imm as u32),
            Shape::LoadMapValue => format!("r{dst} = map[id:{}][0]+{}", imm as u32, imm >> 32),
            Shape::Call => {
                let (name, _) = shown.text.split_once('#').unwrap();
                format!("{name}#{imm}")
            }
            other => panic!("{place}: {other:?}"),
        }
    });
    assert_eq!(shown.text, expected, "{place}, instruction {}: {:02x?}", shown.slot, shown.bytes);
    true
}

/// Names of one object: which map has which number.
#[derive(Default)]
struct Maps {
    numbers: HashMap<String, u32>,
}

impl Maps {
    fn is(&mut self, name: &str, number: u32) -> bool {
        match self.numbers.get(name) {
            Some(known) => *known == number,
            None if self.numbers.values().any(|known| *known == number) => false,
            None => {
                self.numbers.insert(name.to_owned(), number);
                true
            }
        }
    }
}

/// Whether the kernel has our instruction unchanged, but for numbers and distances.
fn same(ours: &Written, theirs: &Shown) -> bool {
    match (&ours.name, ours.decoded.shape) {
        (Some(RelocationTarget::Function { function }), _) => {
            let callee = theirs.text.rsplit('#').next().unwrap_or_default();
            // `bpf_prog_`, a tag, and the name as far as it goes.
            let named = callee.strip_prefix("bpf_prog_").and_then(|rest| rest.split_once('_'));
            call_distance(&theirs.bytes).is_some()
                && named.is_some_and(|(_, name)| !name.is_empty() && function.starts_with(name))
        }
        (Some(RelocationTarget::Map { .. } | RelocationTarget::MapValue { .. }), _) => {
            let value = matches!(ours.name, Some(RelocationTarget::MapValue { .. }));
            let shape = if value { Shape::LoadMapValue } else { Shape::LoadMap };
            theirs.decoded.is_some_and(|theirs| {
                let offset = theirs.operands.imm >> 32;
                theirs.shape == shape
                    && theirs.operands.dst == ours.decoded.operands.dst
                    && offset == (if value { ours.decoded.operands.imm } else { 0 })
            })
        }
        (None, Shape::Call) => {
            let helper = u32::try_from(ours.decoded.operands.imm).ok().and_then(Helper::from_number).unwrap();
            // Maps have functions of their own, such as `trie_lookup_elem`.
            let name = helper.name().trim_start_matches("bpf_").trim_start_matches("map_");
            theirs.bytes[..4] == ours.bytes[..4] && theirs.text.contains(name)
        }
        (None, Shape::Goto | Shape::Jump { .. }) => {
            theirs.bytes[..2] == ours.bytes[..2] && theirs.bytes[4..] == ours.bytes[4..]
        }
        (None, _) => theirs.bytes == ours.bytes,
    }
}

/// What the kernel may do in the place of an instruction.
fn patch(ours: &Written) -> Option<Patch> {
    match ours.decoded.shape {
        // `struct xdp_md` and `struct __sk_buff` have fields of 32 bits.
        Shape::Load { size: Size::W } | Shape::Store { size: Size::W, .. } if ours.on_context => {
            Some(Patch::Context)
        }
        Shape::Call => Some(Patch::Helper),
        Shape::Alu { op: AluOp::Div | AluOp::Mod, source: Source::Reg, .. } => Some(Patch::Division),
        Shape::Atomic { size: Size::W, op: AtomicOp::CmpXchg } => Some(Patch::Exchange),
        _ => None,
    }
}

/// Everything that may have become of an instruction which is reached, at this place of the dump; the likeliest first.
fn fates(ours: &Written, theirs: &[Shown]) -> Vec<Fate> {
    let mut all = Vec::new();
    let is_jump = matches!(ours.decoded.shape, Shape::Jump { .. });
    let goes_on = !matches!(ours.decoded.shape, Shape::Goto | Shape::Exit);
    let jumps = ours.decoded.target(InstructionIndex(0)).is_some();
    let first = theirs.first();
    match patch(ours) {
        None => {
            if first.is_some_and(|shown| same(ours, shown)) {
                all.push(Fate { count: 1, patch: None, falls: goes_on, jumps });
            }
        }
        Some(patch) => {
            for count in 1..=LONGEST_PATCH.min(theirs.len()) {
                if plausible(patch, ours, &theirs[..count]) {
                    let unchanged = count == 1 && same(ours, &theirs[0]);
                    let patch = if unchanged { None } else { Some(patch) };
                    all.push(Fate { count, patch, falls: true, jumps: false });
                }
            }
        }
    }
    if is_jump {
        let decided = Fate { count: 0, patch: Some(Patch::Decided), falls: false, jumps: false };
        if first.is_some_and(|shown| shown.decoded.is_some_and(|insn| insn.shape == Shape::Goto)) {
            all.push(Fate { count: 1, jumps: true, ..decided });
        }
        all.push(Fate { falls: true, ..decided });
        all.push(Fate { jumps: true, ..decided });
    } else if jumps {
        all.push(Fate { count: 0, patch: Some(Patch::Nothing), falls: false, jumps: true });
    }
    all
}

/// Whether a run can be what the kernel makes of our instruction.
fn plausible(patch: Patch, ours: &Written, run: &[Shown]) -> bool {
    let operands = ours.decoded.operands;
    match patch {
        Patch::Context => {
            // Alone it stays as it is, or it reads and writes what ours does.
            if let [alone] = run
                && same(ours, alone)
            {
                return true;
            }
            let decoded: Option<Vec<Decoded>> = run.iter().map(|shown| shown.decoded).collect();
            let Some(decoded) = decoded else { return false };
            let is_load = matches!(ours.decoded.shape, Shape::Load { .. });
            let touches = |insn: &Decoded| match insn.shape {
                Shape::Load { .. } => is_load && insn.operands.dst == operands.dst,
                Shape::Store { .. } => !is_load,
                Shape::Alu { .. } | Shape::ToBigEndian { .. } => insn.operands.dst == operands.dst,
                Shape::Jump { .. } => insn.operands.dst == operands.dst,
                _ => false,
            };
            let first = decoded[0];
            let base =
                if is_load { first.operands.src == operands.src } else { first.operands.dst == operands.dst };
            base && decoded.iter().all(touches)
        }
        Patch::Helper => called(ours, run),
        Patch::Division => tested_for_zero(ours, run),
        Patch::Decided | Patch::Nothing | Patch::Unreachable => false,
        Patch::Exchange => match run {
            [alone] => same(ours, alone),
            [first, second] => same(ours, first) && second.text == "w0 = w0",
            _ => false,
        },
    }
}

/// Where a jump at a place of a run leads, as a place of the run.
fn leads_within(run: &[Shown], at: usize) -> Option<usize> {
    let decoded = run[at].decoded?;
    let target = run[at].slot.wrapping_add(1).wrapping_add_signed(decoded.operands.offset.into());
    let end = run.last()?.slot + run.last()?.bytes.len() / 8;
    let place = run.iter().position(|shown| shown.slot == target);
    place.or_else(|| (target == end).then_some(run.len()))
}

/// Whether an instruction computes with `r0` and leaves the result there.
fn works_on_r0(shown: &Shown) -> bool {
    // Classes 0 (wide constants), 1 (loads), 4 and 7 (arithmetic).
    matches!(shown.bytes[0] & 7, 0 | 1 | 4 | 7) && shown.bytes[1] & 0xf == 0
}

/// What the kernel makes of a call of a helper (`do_misc_fixups` in `kernel/bpf/verifier.c`):
///
/// - the call;
/// - the call, then, unless it gave null, code that ends in `r0 += N`: from an element of a hash map to its value;
/// - the look-up in an array: `r1 += N`, the index, its test that leads to `r0 = 0` at the end, and code on `r0`;
/// - up to four instructions on `r0` that read the time or the processor.
fn called(ours: &Written, run: &[Shown]) -> bool {
    let helper = u32::try_from(ours.decoded.operands.imm).ok().and_then(Helper::from_number);
    let last = run.len() - 1;
    match run {
        [call] if same(ours, call) => true,
        [call, null, rest @ ..] if same(ours, call) => {
            helper == Some(Helper::MapLookup)
                && null.text.starts_with("if r0 == 0x0 goto")
                && leads_within(run, 1) == Some(run.len())
                && rest.last().is_some_and(|shown| shown.bytes[..2] == [0x07, 0])
                && rest.iter().all(|shown| shown.bytes[0] != 0x85 && shown.bytes[0] != 0x95)
        }
        [map, index, test, rest @ ..] if helper == Some(Helper::MapLookup) && rest.len() > 2 => {
            map.bytes[..2] == [0x07, 1]
                && index.text == "r0 = *(u32 *)(r2 +0)"
                && test.text.starts_with("if r0 >= ")
                && leads_within(run, 2) == Some(last)
                && run[last].text == "r0 = 0"
                && run[last - 1].text == "goto pc+1"
                && rest[..rest.len() - 2].iter().all(works_on_r0)
        }
        _ => {
            matches!(helper, Some(Helper::Jiffies64 | Helper::GetSmpProcessorId))
                && run.len() <= 4
                && run.iter().all(works_on_r0)
        }
    }
}

/// What the kernel makes of a division by a register: ours, and jumps around it with what is left where the divisor is 0.
fn tested_for_zero(ours: &Written, run: &[Shown]) -> bool {
    let operands = ours.decoded.operands;
    let known = run.iter().enumerate().all(|(at, shown)| {
        same(ours, shown)
            || shown.decoded.is_some_and(|insn| match insn.shape {
                Shape::Goto => leads_within(run, at).is_some_and(|place| place > at),
                Shape::Jump { source: Source::Imm, .. } => {
                    insn.operands.dst == operands.src
                        && insn.operands.imm == 0
                        && leads_within(run, at).is_some_and(|place| place > at)
                }
                Shape::Alu { op: AluOp::Xor | AluOp::Mov, source: Source::Reg, .. } => {
                    insn.operands.dst == operands.dst && insn.operands.src == operands.dst
                }
                _ => false,
            })
    });
    known && run.iter().filter(|shown| same(ours, shown)).count() == 1
}

/// How many instructions were equal and how many were patched, by how.
#[derive(Default)]
pub(crate) struct Tally {
    shown: u64,
    pub(crate) equal: u64,
    patched: BTreeMap<Patch, u64>,
    /// Instructions of the kernel's own that our table does not have.
    foreign: BTreeMap<String, u64>,
    pub(crate) shapes: BTreeSet<String>,
}

impl Tally {
    pub(crate) fn report(&self, test: &str) {
        println!(
            "{test}: {} instructions read alike, {} of ours unchanged, in the place of others: {:?}",
            self.shown, self.equal, self.patched
        );
        if !self.foreign.is_empty() {
            println!(
                "{test}: instructions of the kernel's own that our table does not have: {:?}",
                self.foreign
            );
        }
    }
}

/// Steps of the walk for each instruction before it counts as lost.
const MOST_STEPS: usize = 20;

/// Where each of our instructions is in the dump, and what became of it.
///
/// Walks both codes at once. An instruction that nothing reaches has to be missing; every other one has to be there, or
/// be one of those that the kernel replaces. Where several runs may stand in the place of one, the walk tries the next
/// when what follows does not fit.
fn lay(ours: &[Written], theirs: &[Shown]) -> Result<Vec<(usize, Fate)>, String> {
    let index_of: HashMap<usize, usize> =
        ours.iter().enumerate().map(|(index, one)| (one.slot, index)).collect();
    let target = |one: &Written| {
        let target = one.decoded.target(InstructionIndex(one.slot as u32))?;
        index_of.get(&(target.unwrap().0 as usize)).copied()
    };
    let from_behind: BTreeSet<usize> = ours
        .iter()
        .enumerate()
        .filter_map(|(index, one)| target(one).filter(|target| *target <= index))
        .collect();
    let shown_at: HashMap<usize, usize> =
        theirs.iter().enumerate().map(|(index, one)| (one.slot, index)).collect();
    // Where in the dump a fate leads by its jump: a jump that is left out leads to what comes next.
    let leads_to = |at: usize, fate: &Fate| match theirs.get(at) {
        Some(shown) if fate.count == 1 => {
            let distance = shown.decoded?.operands.offset;
            shown_at.get(&shown.slot.wrapping_add(1).wrapping_add_signed(distance.into())).copied()
        }
        _ => Some(at),
    };
    let mut places: Vec<(usize, Fate)> = Vec::new();
    // For each place the fates that were not tried yet, the likeliest last.
    let mut open: Vec<Vec<Fate>> = Vec::new();
    // For each instruction, where in the dump those that reach it lead.
    let mut ways: Vec<Vec<usize>> = vec![Vec::new(); ours.len() + 1];
    ways[0].push(0);
    let mut furthest = 0;
    let gone = Fate { count: 0, patch: Some(Patch::Unreachable), falls: false, jumps: false };
    for _ in 0..MOST_STEPS * (ours.len() + 100) {
        let index = places.len();
        let at = places.last().map_or(0, |(start, fate)| start + fate.count);
        furthest = furthest.max(index);
        if index == ours.len() && at == theirs.len() {
            // A jump back may reach what was passed before, or not.
            let consistent = ways
                .iter()
                .zip(&places)
                .all(|(ways, (_, fate))| ways.is_empty() == (fate.patch == Some(Patch::Unreachable)));
            if consistent {
                return Ok(places);
            }
        }
        if let Some(one) = ours.get(index) {
            let mut fates = match (ways[index].is_empty(), from_behind.contains(&index)) {
                (true, false) => vec![gone],
                // Reached by a jump back, if it is kept.
                (true, true) => fates(one, &theirs[at..]).into_iter().chain([gone]).collect(),
                (false, _) if ways[index].iter().all(|way| *way == at) => fates(one, &theirs[at..]),
                (false, _) => Vec::new(),
            };
            fates.reverse();
            open.push(fates);
            places.push((at, gone));
        }
        // The next fate of the last instruction that has one left.
        loop {
            let Some(fates) = open.last_mut() else { return Err(lost(ours, theirs, furthest)) };
            let index = places.len() - 1;
            let (at, before) = places.pop().unwrap();
            if before.falls {
                ways[index + 1].pop();
            }
            if before.jumps {
                ways[target(&ours[index]).unwrap()].pop();
            }
            let Some(fate) = fates.pop() else {
                open.pop();
                continue;
            };
            let jump = if fate.jumps {
                let Some(place) = leads_to(at, &fate) else {
                    places.push((at, gone));
                    continue;
                };
                let target = target(&ours[index]).unwrap();
                let passed = if target == index { Some(at) } else { places.get(target).map(|(at, _)| *at) };
                if passed.is_some_and(|passed| passed != place) {
                    places.push((at, gone));
                    continue;
                }
                Some((target, place))
            } else {
                None
            };
            if fate.falls {
                ways[index + 1].push(at + fate.count);
            }
            if let Some((target, place)) = jump {
                ways[target].push(place);
            }
            places.push((at, fate));
            break;
        }
    }
    Err(lost(ours, theirs, furthest))
}

fn lost(ours: &[Written], theirs: &[Shown], furthest: usize) -> String {
    let first = furthest.saturating_sub(8);
    let near = ours.iter().skip(first).take(16).map(|one| format!("{}: {}", one.slot, one.decoded));
    let theirs = theirs.iter().skip(first.saturating_sub(30)).take(60);
    let theirs = theirs.map(|one| format!("{}: {}", one.slot, one.text));
    format!(
        "no place for the instruction at {:?} among\n{}\nof which the kernel has\n{}",
        ours.get(furthest).map(|one| one.slot),
        near.collect::<Vec<_>>().join("\n"),
        theirs.collect::<Vec<_>>().join("\n"),
    )
}

/// Compares a dumped program with the module's functions.
fn compare(place: &str, module: &Module, dump: &str, maps: &mut Maps, tally: &mut Tally) {
    let shown = functions(dump);
    let starts: HashMap<usize, &str> =
        shown.iter().map(|(name, code)| (code[0].slot, name.as_str())).collect();
    assert!(!shown.is_empty(), "{place}: {dump}");
    for (name, theirs) in &shown {
        let place = format!("{place}, {name}");
        let all = module.programs.iter().chain(&module.functions);
        let function = all.into_iter().find(|function| function.name == *name).unwrap();
        let ours = written(function);
        let places = lay(&ours, theirs).unwrap_or_else(|error| panic!("{place}: {error}"));
        let mut patched = BTreeSet::new();
        for (written, &(start, fate)) in ours.iter().zip(&places) {
            match fate.patch {
                Some(patch) => {
                    *tally.patched.entry(patch).or_default() += 1;
                    patched.extend(start..start + fate.count);
                }
                None => tally.equal += 1,
            }
            if fate.count == 0 {
                continue;
            }
            let here = &theirs[start];
            if let Some(RelocationTarget::Map { map } | RelocationTarget::MapValue { map, .. }) =
                &written.name
            {
                let number = here.decoded.unwrap().operands.imm as u32;
                assert!(maps.is(map, number), "{place}: {map} is {number}: {:?}", maps.numbers);
            }
            if let Some(RelocationTarget::Function { function }) = &written.name {
                let distance = call_distance(&here.bytes).unwrap();
                let target = here.slot.wrapping_add(1).wrapping_add_signed(distance.into());
                assert_eq!(starts.get(&target), Some(&function.as_str()), "{place}: {}", here.text);
            }
            if let Some(target) = written.decoded.target(InstructionIndex(written.slot as u32)) {
                let target = target.unwrap().0 as usize;
                let index = ours.iter().position(|one| one.slot == target).unwrap();
                let distance = here.decoded.unwrap().operands.offset;
                let leads_to = here.slot.wrapping_add(1).wrapping_add_signed(distance.into());
                assert_eq!(leads_to, theirs[places[index].0].slot, "{place}: {} {}", here.slot, here.text);
            }
        }
        for (index, one) in theirs.iter().enumerate() {
            tally.shown += 1;
            match &one.decoded {
                Some(decoded) => drop(tally.shapes.insert(format!("{:?}", decoded.shape))),
                None if call_distance(&one.bytes).is_some() => {
                    tally.shapes.insert(format!("{:?}", Shape::CallFunction));
                }
                None => {}
            }
            if !reads_alike(&place, one) {
                assert!(patched.contains(&index), "{place}: {} {:02x?}", one.text, one.bytes);
                *tally.foreign.entry(one.text.clone()).or_default() += 1;
            }
        }
    }
}

/// Loads a module with bpftool and compares what the kernel has of every program.
pub(crate) fn in_kernel(place: &str, module: &Module, tally: &mut Tally) {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("object.o");
    std::fs::write(&path, compile::object(module).unwrap()).unwrap();
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let pins = Pins(PathBuf::from(format!("/sys/fs/bpf/nnbpfc-xlated-{}-{number}", std::process::id())));
    let programs = pins.0.display().to_string();
    bpftool(&["prog", "loadall", &path.display().to_string(), &programs]);
    let mut maps = Maps::default();
    for program in &module.programs {
        let pinned = format!("{programs}/{}", program.name);
        let dump = bpftool(&["prog", "dump", "xlated", "pinned", &pinned, "opcodes"]);
        compare(&format!("{place}, program {}", program.name), module, &dump, &mut maps, tally);
    }
}

#[test]
fn bpftool_shows_what_objects_hold() {
    let test = "bpftool_shows_what_objects_hold";
    if missing(test) {
        return;
    }
    let mut tally = Tally::default();
    let mut objects = 0;
    every_object(|name, module| {
        in_kernel(name, module, &mut tally);
        objects += 1;
    });
    println!("{test}: {objects} objects");
    tally.report(test);
    assert!(tally.equal > 100_000);
}

/// A dump as the kernel would show it, had it changed nothing.
fn unchanged(function: &Function) -> Vec<Shown> {
    let shown = |one: &Written| {
        let mut bytes = one.bytes.clone();
        let mut text = kernel(&one.decoded).unwrap_or_default();
        match &one.name {
            Some(RelocationTarget::Map { .. }) => bytes[1] |= 1 << 4,
            Some(RelocationTarget::MapValue { .. }) => {
                bytes[1] |= 2 << 4;
                bytes.copy_within(4..8, 12);
            }
            Some(RelocationTarget::Function { function }) => {
                text = format!("call pc+0#bpf_prog_0_{function}")
            }
            None if one.decoded.shape == Shape::Call => {
                let helper = u32::try_from(one.decoded.operands.imm).ok().and_then(Helper::from_number);
                text = format!("call {}#0", helper.unwrap().name());
            }
            None => {}
        }
        let decoded = decode(&bytes, InstructionIndex(0)).ok();
        Shown { slot: one.slot, bytes, text, decoded }
    };
    written(function).iter().map(shown).collect()
}

/// Changes of each function.
const CHANGES: usize = 40;

#[test]
fn dumps_of_other_code_are_noticed() {
    let plan = &super::common::case("sources-10-14-2").plan;
    let (_, target) = super::objects::builds()[0];
    let module = compile::module(plan, &target).unwrap();
    let mut random = Random(3);
    let (mut tried, mut missed) = (0, Vec::new());
    for function in module.programs.iter().chain(&module.functions) {
        let ours = written(function);
        lay(&ours, &unchanged(function)).unwrap();
        for _ in 0..CHANGES {
            let index = random.below(ours.len());
            let one = &ours[index];
            let mut theirs = unchanged(function);
            let change = match random.below(8) {
                // A branch that is missing may be one that the verifier found decided.
                0 if matches!(one.decoded.shape, Shape::Jump { .. } | Shape::Goto) => continue,
                0 => {
                    theirs.remove(index);
                    "missing".to_owned()
                }
                1 => {
                    theirs.insert(index, unchanged(function).remove(index));
                    "twice".to_owned()
                }
                _ => {
                    let bit = random.below(64);
                    // The kernel has numbers of its own for references and helpers; `compare` looks at them by name.
                    let is_number = match one.name {
                        Some(RelocationTarget::Function { .. }) => bit >= 16,
                        Some(RelocationTarget::Map { .. } | RelocationTarget::MapValue { .. }) => bit >= 32,
                        None => one.decoded.shape == Shape::Call && bit >= 32,
                    };
                    if is_number {
                        continue;
                    }
                    let theirs = &mut theirs[index];
                    theirs.bytes[bit / 8] ^= 1 << (bit % 8);
                    theirs.decoded = decode(&theirs.bytes, InstructionIndex(0)).ok();
                    format!("bit {bit}")
                }
            };
            tried += 1;
            // A field of the context may lie anywhere.
            if lay(&ours, &theirs).is_ok() && !one.on_context {
                missed.push(format!("{} {}: {change}", function.name, one.decoded));
            }
        }
    }
    println!("dumps_of_other_code_are_noticed: {tried} changes, {} missed", missed.len());
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
