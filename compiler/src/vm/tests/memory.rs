//! Regions, the packet, the context, data sections, and what faults.

use super::*;
use crate::bpf::asm::*;
use crate::bpf::position::InstructionIndex;
use crate::bpf::{AtomicOp, Helper, Label, Size};
use crate::vm::{Fault, Vm, VmError};

fn fault(module: &Module, packet: usize) -> (u32, Fault) {
    match Vm::new(module).unwrap().run("main", &mut vec![0; packet], 0) {
        Err(VmError::Fault { at: InstructionIndex(at), fault, .. }) => (at, fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn packet_access() {
    let out = Label(0);
    let module = main(vec![
        mov(R0, 0),
        ldx(Size::W, R2, R1, 4),
        ldx(Size::W, R1, R1, 0),
        mov(R3, R1),
        add(R3, 14),
        jgt(R3, R2, out),
        ldx(Size::H, R0, R1, 12),
        be16(R0),
        stx(Size::B, R1, 0, 0x7f),
        label(out),
        exit(),
    ]);
    let mut vm = Vm::new(&module).unwrap();
    let mut packet = vec![0; 14];
    packet[12..].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(vm.run("main", &mut packet, 0).unwrap().ret, 0x0806);
    assert_eq!(packet[0], 0x7f);
    let mut short = vec![0; 13];
    let run = vm.run("main", &mut short, 0).unwrap();
    assert_eq!((run.ret, run.executed), (0, 7));
    assert_eq!(short, vec![0; 13]);
}

#[test]
fn the_packet_ends_where_it_ends() {
    let module =
        main(vec![ldx(Size::W, R2, R1, 4), ldx(Size::B, R0, R2, -1), ldx(Size::B, R0, R2, 0), exit()]);
    let (at, fault) = fault(&module, 60);
    assert_eq!(at, 2);
    assert!(matches!(fault, Fault::BadRead { bytes: 1, .. }));
}

#[test]
fn faults_are_values() {
    let at = |code| fault(&main(code), 0);
    // Above, below and across the end of the frame; a frame's neighbour is out of reach.
    assert!(matches!(at(vec![stx(Size::B, Reg::FP, 0, 1), exit()]), (0, Fault::BadWrite { .. })));
    assert!(matches!(at(vec![stx(Size::DW, Reg::FP, -513, 1), exit()]), (0, Fault::BadWrite { .. })));
    assert!(matches!(at(vec![stx(Size::DW, Reg::FP, -4, 1), exit()]), (0, Fault::BadWrite { .. })));
    assert!(matches!(at(vec![stx(Size::B, Reg::FP, 512, 1), exit()]), (0, Fault::BadWrite { .. })));
    assert!(matches!(at(vec![mov(R2, 0), ldx(Size::W, R0, R2, 0), exit()]), (1, Fault::BadRead { .. })));
    assert!(matches!(at(vec![ldx(Size::W, R0, R6, 0), exit()]), (0, Fault::BadRead { .. })));
    assert_eq!(
        at(vec![ldx(Size::DW, R0, R1, 0), exit()]),
        (0, Fault::BadContextLoad { offset: 0, bytes: 8 })
    );
    assert!(matches!(at(vec![stx(Size::W, R1, 0, 1), exit()]), (0, Fault::BadWrite { .. })));
    assert!(matches!(
        at(vec![mov(R0, 0), atomic(Size::DW, AtomicOp::Add, Reg::FP, -12, R0), exit()]),
        (1, Fault::BadAtomic { .. })
    ));
    assert_eq!(
        at(vec![mov(R2, Reg::FP), call(Helper::MapLookup), exit()]),
        (1, Fault::BadArgument { helper: Helper::MapLookup })
    );
    assert_eq!(at(vec![label(Label(0)), goto(Label(0))]), (0, Fault::StepLimit));
}

#[test]
fn data_sections() {
    let bytes: Vec<u8> = (0..16).collect();
    let module = Module {
        data: vec![data(".data.w", bytes.clone(), true), data(".rodata.r", bytes.clone(), false)],
        ..main(vec![
            ld_map_value(R1, ".data.w", 8),
            ldx(Size::DW, R0, R1, 0),
            stx(Size::DW, R1, -8, R0),
            ld_map_value(R1, ".rodata.r", 15),
            ldx(Size::B, R0, R1, 0),
            stx(Size::B, R1, 0, R0),
            exit(),
        ])
    };
    let mut vm = Vm::new(&module).unwrap();
    let error = vm.run("main", &mut Vec::new(), 0).unwrap_err();
    assert!(matches!(error, VmError::Fault { at: InstructionIndex(7), fault: Fault::BadWrite { .. }, .. }));
    assert_eq!(vm.data(".data.w").unwrap()[..8], bytes[8..]);
    assert_eq!(vm.data(".rodata.r").unwrap(), bytes);
    vm.data_mut(".rodata.r").unwrap()[0] = 9;
    assert_eq!(vm.data(".rodata.r").unwrap()[0], 9);
    assert!(vm.data(".data.none").is_none());
}

#[test]
fn map_values_do_not_touch() {
    // The second value lies right behind the first in memory, and still out of its reach.
    let module = Module {
        maps: vec![map("values", MapKind::Array, 4, 8, 2)],
        ..main(vec![
            stx(Size::W, Reg::FP, -4, 0),
            ld_map(R1, "values"),
            mov(R2, Reg::FP),
            add(R2, -4),
            call(Helper::MapLookup),
            stx(Size::DW, R0, 0, 1),
            stx(Size::DW, R0, 8, 1),
            exit(),
        ])
    };
    let (at, fault) = fault(&module, 0);
    assert_eq!(at, 7);
    assert!(matches!(fault, Fault::BadWrite { bytes: 8, .. }));
}

#[test]
fn modules_that_do_not_load() {
    let refuse = |module: &Module| Vm::new(module).unwrap_err();
    let unknown = |name: &str| VmError::UnknownName { name: name.to_owned() };
    assert_eq!(refuse(&main(vec![ld_map(R1, "flows"), exit()])), unknown("flows"));
    assert_eq!(refuse(&main(vec![ld_map_value(R1, ".data.x", 0), exit()])), unknown(".data.x"));
    assert_eq!(refuse(&main(vec![call_function("callee"), exit()])), unknown("callee"));
    let array = |max_entries| Module {
        maps: vec![map("values", MapKind::Array, 4, 8, max_entries)],
        ..main(vec![ld_map_value(R1, "values", 7), ld_map_value(R1, "values", 8), exit()])
    };
    assert!(matches!(refuse(&array(1)), VmError::BadReference { at: InstructionIndex(2), .. }));
    assert!(matches!(refuse(&array(2)), VmError::BadReference { at: InstructionIndex(0), .. }));
    assert!(matches!(refuse(&array(0)), VmError::BadMap { .. }));
    assert!(matches!(refuse(&main(vec![mov(R0, 0)])), VmError::Assemble(_)));
    let twice = Module { maps: vec![map("m", MapKind::Array, 4, 8, 1); 2], ..main(vec![exit()]) };
    assert_eq!(refuse(&twice), VmError::DuplicateName { name: "m".to_owned() });
    let section = Module { programs: vec![function("main", "kprobe", vec![exit()])], ..Module::default() };
    assert!(matches!(refuse(&section), VmError::UnknownSection { .. }));
    let mut vm = Vm::new(&main(vec![exit()])).unwrap();
    assert_eq!(vm.run("other", &mut Vec::new(), 0), Err(unknown("other")));
}
