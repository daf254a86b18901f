//! A hand-written object that drops blocked hosts in enforce mode, as the generated ones do, and judges by
//! its parameters: counter 0 counts datagrams that pass, counter 1 those that are dropped, counter 2 sums the
//! active parameter.

use nnbpf_compiler::bpf::asm::*;
use nnbpf_compiler::bpf::module::{Data, Map, MapKind, Module, Type};
use nnbpf_compiler::bpf::{AtomicOp, Helper, Insn, Label, Reg, Size};

use crate::common::{function, map, structure, u32_type};

const XDP_DROP: i32 = 1;
const XDP_PASS: i32 = 2;

/// Stack slot of the source address.
const ADDRESS: i16 = -16;
/// Stack slot of a counter's number.
const COUNTER: i16 = -20;
/// Stack slot of the key of the prefix trie: length, then address.
const PREFIX: i16 = -48;

const V6: Label = Label(0);
const LISTS: Label = Label(1);
const PASS: Label = Label(2);
const OTHER: Label = Label(3);
const COUNT: Label = Label(4);
const END: Label = Label(5);

/// The object's module.
pub(crate) fn filter() -> Module {
    let code = [parse(), lists(), verdict()].concat();
    Module {
        programs: vec![function("nn_entry", "xdp", code)],
        functions: Vec::new(),
        maps: maps(),
        data: data(),
        metadata: br#"{"layout_hash":"0707070707070707070707070707070707070707070707070707070707070707"}"#
            .to_vec(),
    }
}

/// Leaves the source address of a UDP datagram in the stack, IPv4 mapped; everything else passes uncounted.
fn parse() -> Vec<Insn<Reg>> {
    vec![
        ldx(Size::W, Reg::R6, Reg::R1, 0),
        ldx(Size::W, Reg::R7, Reg::R1, 4),
        mov(Reg::R2, Reg::R6),
        add(Reg::R2, 42),
        jgt(Reg::R2, Reg::R7, OTHER),
        ldx(Size::H, Reg::R3, Reg::R6, 12),
        be16(Reg::R3),
        jeq(Reg::R3, 0x86dd, V6),
        jne(Reg::R3, 0x0800, OTHER),
        ldx(Size::B, Reg::R3, Reg::R6, 23),
        jne(Reg::R3, 17, OTHER),
        stx(Size::DW, Reg::FP, ADDRESS, 0),
        stx(Size::W, Reg::FP, ADDRESS + 8, i32::from_be(0xffff)),
        ldx(Size::W, Reg::R3, Reg::R6, 26),
        stx(Size::W, Reg::FP, ADDRESS + 12, Reg::R3),
        goto(LISTS),
        label(V6),
        mov(Reg::R2, Reg::R6),
        add(Reg::R2, 54),
        jgt(Reg::R2, Reg::R7, OTHER),
        ldx(Size::B, Reg::R3, Reg::R6, 20),
        jne(Reg::R3, 17, OTHER),
        ldx(Size::DW, Reg::R3, Reg::R6, 22),
        stx(Size::DW, Reg::FP, ADDRESS, Reg::R3),
        ldx(Size::DW, Reg::R3, Reg::R6, 30),
        stx(Size::DW, Reg::FP, ADDRESS + 8, Reg::R3),
    ]
}

/// Allowed hosts pass; blocked ones are dropped when the mode says so and their time is not over.
fn lists() -> Vec<Insn<Reg>> {
    vec![
        label(LISTS),
        ld_map_value(Reg::R1, ".data.nn_config", 0),
        ldx(Size::W, Reg::R1, Reg::R1, 0),
        jeq(Reg::R1, 0, PASS),
        stx(Size::W, Reg::FP, PREFIX, 128),
        ldx(Size::DW, Reg::R3, Reg::FP, ADDRESS),
        stx(Size::W, Reg::FP, PREFIX + 4, Reg::R3),
        rsh(Reg::R3, 32),
        stx(Size::W, Reg::FP, PREFIX + 8, Reg::R3),
        ldx(Size::DW, Reg::R3, Reg::FP, ADDRESS + 8),
        stx(Size::W, Reg::FP, PREFIX + 12, Reg::R3),
        rsh(Reg::R3, 32),
        stx(Size::W, Reg::FP, PREFIX + 16, Reg::R3),
        mov(Reg::R2, Reg::FP),
        add(Reg::R2, i32::from(PREFIX)),
        ld_map(Reg::R1, "nn_allowed"),
        call(Helper::MapLookup),
        jne(Reg::R0, 0, PASS),
        mov(Reg::R2, Reg::FP),
        add(Reg::R2, i32::from(ADDRESS)),
        ld_map(Reg::R1, "nn_blocked"),
        call(Helper::MapLookup),
        jeq(Reg::R0, 0, PASS),
        ldx(Size::DW, Reg::R8, Reg::R0, 0),
        call(Helper::KtimeGetNs),
        jge(Reg::R0, Reg::R8, PASS),
        mov(Reg::R9, XDP_DROP),
        stx(Size::W, Reg::FP, COUNTER, 1),
        goto(COUNT),
    ]
}

fn verdict() -> Vec<Insn<Reg>> {
    let bump = |by: Reg| {
        vec![
            mov(Reg::R2, Reg::FP),
            add(Reg::R2, i32::from(COUNTER)),
            ld_map(Reg::R1, "nn_counters"),
            call(Helper::MapLookup),
            jeq(Reg::R0, 0, END),
            atomic(Size::DW, AtomicOp::Add, Reg::R0, 0, by),
        ]
    };
    let mut code = vec![
        label(PASS),
        mov(Reg::R9, XDP_PASS),
        stx(Size::W, Reg::FP, COUNTER, 0),
        label(COUNT),
        mov(Reg::R8, 1),
    ];
    code.extend(bump(Reg::R8));
    // The slot is picked by one load of the index.
    code.extend([
        ld_map_value(Reg::R1, ".data.nn_active", 0),
        ldx(Size::W, Reg::R1, Reg::R1, 0),
        and(Reg::R1, 1),
        lsh(Reg::R1, 3),
        ld_map_value(Reg::R2, ".data.nn_params", 0),
        add(Reg::R2, Reg::R1),
        ldx(Size::DW, Reg::R8, Reg::R2, 0),
        stx(Size::W, Reg::FP, COUNTER, 2),
    ]);
    code.extend(bump(Reg::R8));
    code.extend([label(END), mov(Reg::R0, Reg::R9), exit(), label(OTHER), mov(Reg::R0, XDP_PASS), exit()]);
    code
}

fn maps() -> Vec<Map> {
    let address = || Type::Array(Box::new(Type::Unsigned(1)), 16);
    let prefix = structure("prefix", &[("length", 0, u32_type()), ("address", 4, address())]);
    let word = || Some(Type::Unsigned(8));
    vec![
        map("nn_blocked", MapKind::Hash, Some(address()), word(), 64),
        map("nn_allowed", MapKind::LpmTrie, Some(prefix), Some(u32_type()), 64),
        map("nn_counters", MapKind::PerCpuArray, Some(u32_type()), word(), 3),
    ]
}

fn data() -> Vec<Data> {
    let record = |name: &str, first: &str, last: &str| {
        structure(name, &[(first, 0, u32_type()), ("reserved", 4, u32_type()), (last, 8, Type::Unsigned(8))])
    };
    let data = |section: &str, variable: &str, ty: Type, words: [u64; 2]| Data {
        section: section.to_owned(),
        variable: variable.to_owned(),
        ty,
        bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        writable: true,
    };
    let slots = Type::Array(Box::new(Type::Unsigned(8)), 2);
    vec![
        data(".data.nn_params", "nn_params", slots, [1, 0]),
        data(".data.nn_active", "nn_active", record("active", "index", "generation"), [0, 0]),
        data(".data.nn_config", "nn_config", record("config", "mode", "epoch"), [0, 0]),
    ]
}
