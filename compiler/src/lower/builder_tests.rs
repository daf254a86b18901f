//! Atomic operations by additions alone compute what those that fetch compute, as long as nobody else writes.

use proptest::prelude::*;

use super::builder::{Atomics, Builder};
use super::code::FrameLimit;
use crate::bpf::module::{Data, Function, Module, Parameter, Type};
use crate::bpf::{AtomicOp, Insn, Reg, Size};
use crate::vm::Vm;

const WORDS: &str = ".data.words";

fn function(atomics: Atomics, build: impl FnOnce(&mut Builder)) -> Function {
    let mut b = Builder::new("main", "xdp", &[Parameter::Context]).with_atomics(atomics);
    build(&mut b);
    b.ret(0);
    b.finish(FrameLimit::Callee).unwrap()
}

/// The two words after a run, of which the first one was `before`.
fn run(function: Function, before: u64) -> Vec<u8> {
    let mut bytes = before.to_le_bytes().to_vec();
    bytes.extend([0; 8]);
    let ty = Type::Array(Box::new(Type::Unsigned(8)), 2);
    let data = Data { section: WORDS.to_owned(), variable: "words".to_owned(), ty, bytes, writable: true };
    let module = Module { programs: vec![function], data: vec![data], ..Module::default() };
    let mut vm = Vm::new(&module).unwrap();
    vm.run("main", &mut vec![0; 14], 0).unwrap();
    vm.data_mut(WORDS).unwrap().to_vec()
}

fn additions_only(function: &Function) -> bool {
    let other = |insn: &Insn<Reg>| matches!(insn, Insn::Atomic { op, .. } if *op != AtomicOp::Add);
    !function.code.iter().any(other)
}

const OPERATIONS: [AtomicOp; 9] = [
    AtomicOp::Add,
    AtomicOp::Or,
    AtomicOp::And,
    AtomicOp::Xor,
    AtomicOp::FetchAdd,
    AtomicOp::FetchOr,
    AtomicOp::FetchAnd,
    AtomicOp::FetchXor,
    AtomicOp::Xchg,
];

proptest! {
    #[test]
    fn additions_give_what_fetching_gives(before: u64, operand: u64, narrow: bool) {
        let size = if narrow { Size::W } else { Size::DW };
        let operand = if narrow { operand & u64::from(u32::MAX) } else { operand };
        for op in OPERATIONS {
            let [fetching, additions] = [Atomics::Fetching, Atomics::Additions].map(|atomics| {
                function(atomics, |b| {
                    let words = b.map_value(WORDS, 0);
                    let src = b.constant(operand.cast_signed());
                    b.atomic(size, op, words, 0, src);
                    b.store(Size::DW, words, 8, src);
                })
            });
            prop_assert!(additions_only(&additions), "{op:?}");
            prop_assert_eq!(run(fetching, before), run(additions, before), "{:?}", op);
        }
    }

    #[test]
    fn exchanges_compare_alike(before in 0_u64..3, expected in 0_u64..3, new: u64) {
        let [fetching, additions] = [Atomics::Fetching, Atomics::Additions].map(|atomics| {
            function(atomics, |b| {
                let words = b.map_value(WORDS, 0);
                let (expected, new) = (b.constant(expected.cast_signed()), b.constant(new.cast_signed()));
                let old = b.compare_exchange(Size::DW, words, 0, expected, new);
                b.store(Size::DW, words, 8, old);
            })
        });
        prop_assert!(additions_only(&additions));
        prop_assert_eq!(run(fetching, before), run(additions, before));
    }
}
