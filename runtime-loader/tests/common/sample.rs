//! A module with every part that objects have, written by hand.

use nnbpf_compiler::bpf::asm::*;
use nnbpf_compiler::bpf::module::{Data, Map, MapKind, Module, Type};
use nnbpf_compiler::bpf::{Helper, Insn, Label, Reg, Size};

use crate::modules::{function, map, structure, u32_type};

/// Looks up element 0 of an array and leaves the pointer in `r0`; jumps to `miss` when there is none.
fn lookup_first(map: &str, miss: Label) -> Vec<Insn<Reg>> {
    vec![
        stx(Size::W, Reg::FP, -4, 0),
        mov(Reg::R2, Reg::FP),
        add(Reg::R2, -4),
        ld_map(Reg::R1, map),
        call(Helper::MapLookup),
        jeq(Reg::R0, 0, miss),
    ]
}

/// Every kind of map, two data sections, a subprogram and a chain of two tail calls.
///
/// `nn_entry` calls `nn_infer`, which stores the parameter into scratch and starts the chain; each layer
/// doubles what is in scratch; `nn_entry` returns it, XDP_DROP plus more. The parameter is 7, so 28 comes out.
pub(crate) fn sample() -> Module {
    let miss = Label(0);
    let mut infer = vec![mov(Reg::R6, Reg::R1)];
    infer.extend(lookup_first("nn_scratch", miss));
    infer.extend([
        ld_map_value(Reg::R1, ".data.nn_params", 8),
        ldx(Size::DW, Reg::R2, Reg::R1, 0),
        stx(Size::DW, Reg::R0, 8, Reg::R2),
        mov(Reg::R1, Reg::R6),
        ld_map(Reg::R2, "nn_progs"),
        mov(Reg::R3, 0),
        call(Helper::TailCall),
        label(miss),
        mov(Reg::R0, 0),
        exit(),
    ]);
    let layer = |name: &str, next: Option<i32>| {
        let mut code = vec![mov(Reg::R6, Reg::R1)];
        code.extend(lookup_first("nn_scratch", miss));
        code.extend([
            ldx(Size::DW, Reg::R1, Reg::R0, 8),
            add(Reg::R1, Reg::R1),
            stx(Size::DW, Reg::R0, 8, Reg::R1),
        ]);
        if let Some(slot) = next {
            code.extend([
                mov(Reg::R1, Reg::R6),
                ld_map(Reg::R2, "nn_progs"),
                mov(Reg::R3, slot),
                call(Helper::TailCall),
            ]);
        }
        code.extend([label(miss), mov(Reg::R0, 0), exit()]);
        function(name, "xdp", code)
    };
    let mut entry = vec![mov(Reg::R6, Reg::R1), call_function("nn_infer")];
    entry.extend(lookup_first("nn_scratch", miss));
    entry.extend([
        ldx(Size::DW, Reg::R7, Reg::R0, 8),
        ld_map_value(Reg::R1, ".data.nn_active", 8),
        ldx(Size::DW, Reg::R2, Reg::R1, 0),
        add(Reg::R7, Reg::R2),
        mov(Reg::R0, Reg::R7),
        exit(),
        label(miss),
        mov(Reg::R0, 0),
        exit(),
    ]);
    let mut infer = function("nn_infer", ".text", infer);
    infer.section = ".text".to_owned();
    let mut progs = map("nn_progs", MapKind::ProgArray, None, None, 4);
    progs.programs = vec![(0, "nn_layer0".to_owned()), (1, "nn_layer1".to_owned())];
    Module {
        programs: vec![
            function("nn_entry", "xdp", entry),
            layer("nn_layer0", Some(1)),
            layer("nn_layer1", None),
        ],
        functions: vec![infer],
        maps: sample_maps(progs),
        data: sample_data(),
        metadata: b"opaque".to_vec(),
    }
}

fn sample_maps(progs: Map) -> Vec<Map> {
    let address = || Type::Array(Box::new(Type::Unsigned(1)), 16);
    let flow_key = structure(
        "flow_key",
        &[("src", 0, address()), ("dst", 16, address()), ("sport", 32, Type::Unsigned(2))],
    );
    let flow = structure("flow", &[("packets", 0, Type::Unsigned(8)), ("score", 8, Type::Signed(4))]);
    let prefix = structure("prefix", &[("length", 0, u32_type()), ("address", 4, address())]);
    let scratch = structure(
        "scratch",
        &[
            ("slot", 0, Type::Unsigned(8)),
            ("output", 8, Type::Signed(8)),
            ("activations", 16, Type::Array(Box::new(Type::Signed(4)), 8)),
        ],
    );
    let array = structure("row", &[("value", 0, Type::Unsigned(8))]);
    let key = || Some(u32_type());
    vec![
        map("nn_flows", MapKind::LruHash, Some(flow_key), Some(flow), 128),
        map("nn_blocked", MapKind::Hash, Some(address()), Some(Type::Unsigned(8)), 64),
        map("nn_allowed", MapKind::LpmTrie, Some(prefix), Some(Type::Unsigned(4)), 64),
        map("nn_counters", MapKind::PerCpuArray, key(), Some(Type::Unsigned(8)), 4),
        map("nn_events", MapKind::RingBuf, None, None, 4096),
        map("nn_scratch", MapKind::PerCpuArray, key(), Some(scratch), 1),
        map("nn_rows", MapKind::Array, key(), Some(array), 8),
        progs,
    ]
}

fn sample_data() -> Vec<Data> {
    let params = structure("params", &[("bias", 0, Type::Signed(8)), ("weight", 8, Type::Signed(8))]);
    let active = structure(
        "active",
        &[("index", 0, u32_type()), ("reserved", 4, u32_type()), ("generation", 8, Type::Unsigned(8))],
    );
    let config = structure(
        "config",
        &[("mode", 0, u32_type()), ("reserved", 4, u32_type()), ("epoch", 8, Type::Unsigned(8))],
    );
    let data = |section: &str, variable: &str, ty: Type, words: &[u64]| Data {
        section: section.to_owned(),
        variable: variable.to_owned(),
        ty,
        bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        writable: true,
    };
    vec![
        data(".data.nn_params", "nn_params", params, &[3, 7]),
        data(".data.nn_active", "nn_active", active, &[0, 0]),
        data(".data.nn_config", "nn_config", config, &[0, 0]),
    ]
}
