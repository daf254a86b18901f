//! Subprograms, tail calls, the clock and other helpers without maps.

use super::*;
use crate::bpf::asm::*;
use crate::bpf::{AluOp, Helper, Insn, Label, Reg, Size, Width};
use crate::vm::{Fault, Skb, Tag, Vm, VmError};

#[test]
fn subprograms_have_their_own_stack_and_registers() {
    let module = Module {
        functions: vec![function(
            "double",
            ".text",
            vec![
                stx(Size::DW, Reg::FP, -8, R1),
                ldx(Size::DW, R6, Reg::FP, -8),
                mov(R7, 1000),
                mov(R0, R6),
                add(R0, R6),
                exit(),
            ],
        )],
        ..main(vec![
            mov(R6, 5),
            mov(R7, 7),
            stx(Size::DW, Reg::FP, -8, 11),
            mov(R1, 21),
            call_function("double"),
            add(R0, R6),
            add(R0, R7),
            ldx(Size::DW, R1, Reg::FP, -8),
            add(R0, R1),
            exit(),
        ])
    };
    let run = Vm::new(&module).unwrap().run("main", &mut Vec::new(), 0).unwrap();
    assert_eq!((run.ret, run.executed), (42 + 5 + 7 + 11, 16));
}

#[test]
fn arguments_do_not_survive_calls() {
    let module = Module {
        functions: vec![function("callee", ".text", vec![mov(R0, 0), exit()])],
        ..main(vec![mov(R1, 1), call_function("callee"), ldx(Size::B, R0, R1, 0), exit()])
    };
    let error = Vm::new(&module).unwrap().run("main", &mut Vec::new(), 0).unwrap_err();
    assert!(matches!(error, VmError::Fault { fault: Fault::BadRead { .. }, .. }));
}

#[test]
fn eight_frames_and_no_more() {
    // f0 calls f1 calls … ; the main program is the first frame.
    let chain = |depth: usize| {
        let functions = (0..depth)
            .map(|level| {
                let code = if level + 1 == depth {
                    vec![mov(R0, 3), exit()]
                } else {
                    vec![call_function(format!("f{}", level + 1)), exit()]
                };
                function(&format!("f{level}"), ".text", code)
            })
            .collect();
        let module = Module { functions, ..main(vec![call_function("f0"), exit()]) };
        Vm::new(&module).unwrap().run("main", &mut Vec::new(), 0)
    };
    assert_eq!(chain(7).unwrap().ret, 3);
    assert!(matches!(chain(8), Err(VmError::Fault { fault: Fault::CallDepth, .. })));
}

/// `r1` holds the context; falls through when the tail call does not happen.
fn tail_call(slot: i32) -> Vec<Insn<Reg>> {
    vec![ld_map(R2, "progs"), mov(R3, slot), call(Helper::TailCall)]
}

#[test]
fn a_tail_call_from_a_subprogram_returns_to_its_caller() {
    let mut infer = tail_call(1);
    infer.extend([mov(R0, 99), exit()]);
    let mut layer0 = vec![mov(R6, 1), mov(R7, 2), ldx(Size::W, R0, R1, 4)];
    layer0.extend(tail_call(2));
    layer0.extend([mov(R0, 98), exit()]);
    let layer1 = vec![ldx(Size::W, R2, R1, 4), ldx(Size::W, R1, R1, 0), mov(R0, R2), sub(R0, R1), exit()];
    let mut module = main(vec![mov(R6, 1000), call_function("infer"), add(R0, R6), exit()]);
    module.functions.push(function("infer", ".text", infer));
    module.programs.push(function("layer0", "xdp", layer0));
    module.programs.push(function("layer1", "xdp", layer1));
    let mut progs = map("progs", MapKind::ProgArray, 4, 0, 4);
    progs.programs = vec![(1, "layer0".to_owned()), (2, "layer1".to_owned())];
    module.maps.push(progs);
    let mut vm = Vm::new(&module).unwrap();
    let run = |vm: &mut Vm| vm.run("main", &mut vec![0; 60], 0).unwrap().ret;
    assert_eq!(run(&mut vm), 1060);
    vm.set_program("progs", 2, None).unwrap();
    assert_eq!(run(&mut vm), 1098);
    vm.set_program("progs", 1, None).unwrap();
    assert_eq!(run(&mut vm), 1099);
    vm.set_program("progs", 1, Some("layer1")).unwrap();
    assert_eq!(run(&mut vm), 1060);
    assert!(vm.set_program("progs", 4, None).is_err());
    assert!(vm.set_program("progs", 0, Some("infer")).is_err());
}

#[test]
fn thirty_three_tail_calls() {
    // Counts its entries in a map value, then calls itself.
    let mut code =
        vec![ld_map_value(R2, "count", 0), ldx(Size::DW, R3, R2, 0), add(R3, 1), stx(Size::DW, R2, 0, R3)];
    code.extend(tail_call(0));
    code.extend([mov(R0, 7), exit()]);
    let mut module = main(code);
    let mut progs = map("progs", MapKind::ProgArray, 4, 0, 1);
    progs.programs = vec![(0, "main".to_owned())];
    module.maps = vec![progs, map("count", MapKind::Array, 4, 8, 1)];
    let mut vm = Vm::new(&module).unwrap();
    assert_eq!(vm.run("main", &mut Vec::new(), 0).unwrap().ret, 7);
    assert_eq!(vm.map("count").unwrap().at(0).unwrap(), 34_u64.to_le_bytes());
}

#[test]
fn clock_cpu_and_length() {
    let module = main(vec![
        mov(R6, R1),
        call(Helper::KtimeGetNs),
        mov(R7, R0),
        mov(R1, R6),
        call(Helper::XdpGetBuffLen),
        add(R7, R0),
        call(Helper::GetSmpProcessorId),
        add(R0, R7),
        exit(),
    ]);
    assert_eq!(Vm::new(&module).unwrap().run("main", &mut vec![0; 77], 1 << 40).unwrap().ret, (1 << 40) + 77);
}

#[test]
fn ticks_are_those_of_250_a_second() {
    let module = main(vec![call(Helper::Jiffies64), exit()]);
    let mut vm = Vm::new(&module).unwrap();
    let mut tick = |now| vm.run("main", &mut Vec::new(), now).unwrap().ret;
    let first = (1 << 32) - 75_000;
    assert_eq!(
        [0, 3_999_999, 4_000_000, 1_000_000_000].map(&mut tick),
        [first, first, first + 1, first + 250]
    );
}

#[test]
fn loops_run() {
    let (again, out) = (Label(0), Label(1));
    let module = main(vec![
        mov(R0, 0),
        mov(R4, 100),
        label(again),
        jeq(R4, 0, out),
        add(R0, R4),
        sub(R4, 1),
        goto(again),
        label(out),
        exit(),
    ]);
    let run = Vm::new(&module).unwrap().run("main", &mut Vec::new(), 0).unwrap();
    assert_eq!((run.ret, run.executed), (5050, 2 + 400 + 2));
}

#[test]
fn classifier_context() {
    let mut module = main(vec![
        ldx(Size::W, R0, R1, 0),
        ldx(Size::W, R2, R1, 76),
        ldx(Size::B, R2, R2, 3),
        add(R0, R2),
        exit(),
    ]);
    module.programs[0].section = "classifier".to_owned();
    let mut packet = vec![0, 0, 0, 5];
    assert_eq!(Vm::new(&module).unwrap().run("main", &mut packet, 0).unwrap().ret, 9);
}

/// A frame whose ether type says IPv4, whose linear part is cut and whose tag lies beside it.
#[test]
fn socket_buffers_are_pulled_and_tagged() {
    let at = |offset| ldx(Size::W, R0, R1, offset);
    let one = |code: Vec<Insn<Reg>>| {
        let mut module = main(code);
        module.programs[0].section = "classifier".to_owned();
        let mut frame = vec![0; 60];
        frame[12] = 8;
        let tag = Some(Tag { protocol: 0x88a8, control: 0x2007 });
        Vm::new(&module)
            .unwrap()
            .run_skb("main", &mut frame, Skb { linear: 14, tag, ..Skb::default() }, 0)
            .unwrap()
            .ret
    };
    for (offset, value) in [(0, 60), (16, 0x0008), (20, 1), (24, 0x2007), (28, 0xa888)] {
        assert_eq!(one(vec![at(offset), exit()]), value, "offset {offset}");
    }
    // How much is linear after pulling so much: more than there is fails and changes nothing.
    for (bytes, answer, linear) in [(0, 0, 14), (10, 0, 14), (40, 0, 40), (60, 0, 60), (61, -12, 14)] {
        let pulled = |last: Vec<Insn<Reg>>| {
            let start = vec![mov(R6, R1), mov(R2, bytes), call(Helper::SkbPullData)];
            one(start.into_iter().chain(last).collect())
        };
        assert_eq!(pulled(vec![exit()]).cast_signed(), answer, "{bytes}");
        let end = vec![
            ldx(Size::W, R0, R6, 80),
            ldx(Size::W, R2, R6, 76),
            alu(Width::W64, AluOp::Sub, R0, R2),
            exit(),
        ];
        assert_eq!(pulled(end), linear, "{bytes}");
    }
}

/// Bytes of a packet, linear or not, at the end of a word of eights on the stack.
#[test]
fn bytes_are_loaded_from_wherever_they_lie() {
    let one = |section: &str, helper: Helper, offset: i32, bytes: i32| {
        let mut module = main(vec![
            mov(R6, -1),
            stx(Size::DW, Reg::FP, -8, R6),
            mov(R2, offset),
            mov(R3, Reg::FP),
            add(R3, -8),
            mov(R4, bytes),
            call(helper),
            ldx(Size::DW, R7, Reg::FP, -8),
            alu(Width::W64, AluOp::Add, R0, R7),
            exit(),
        ]);
        module.programs[0].section = section.to_owned();
        let skb = Skb { linear: 2, ..Skb::default() };
        let mut frame: Vec<u8> = (1..=20).collect();
        Vm::new(&module).unwrap().run_skb("main", &mut frame, skb, 0).map(|run| run.ret)
    };
    let (skb, xdp) = (("classifier", Helper::SkbLoadBytes), ("xdp", Helper::XdpLoadBytes));
    for (section, helper) in [skb, xdp] {
        let loaded = |offset, bytes| one(section, helper, offset, bytes).unwrap();
        assert_eq!(loaded(0, 8), 0x0807_0605_0403_0201, "{section}");
        assert_eq!(loaded(18, 2), 0xffff_ffff_ffff_1413, "{section}");
    }
    // Not all there: the one helper clears, the other changes nothing; both answer -EFAULT.
    assert_eq!(one(skb.0, skb.1, 18, 3).unwrap().cast_signed(), (-1_i64 << 24) - 14);
    assert_eq!(one(xdp.0, xdp.1, 18, 3).unwrap().cast_signed(), -1 - 14);
    assert_eq!(one(xdp.0, xdp.1, 0x1_0000, 1).unwrap().cast_signed(), -1 - 14);
    for (section, helper) in [(skb.0, xdp.1), (xdp.0, skb.1)] {
        let error = one(section, helper, 0, 4).unwrap_err();
        assert!(matches!(error, VmError::Fault { fault: Fault::BadArgument { .. }, .. }), "{error}");
    }
}

#[test]
fn only_socket_buffers_are_pulled() {
    let module = main(vec![mov(R2, 0), call(Helper::SkbPullData), exit()]);
    let error = Vm::new(&module).unwrap().run("main", &mut vec![0; 60], 0).unwrap_err();
    assert!(matches!(error, VmError::Fault { fault: Fault::BadArgument { .. }, .. }), "{error}");
}
