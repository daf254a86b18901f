//! A program that judges the features in scratch and compares the outputs with those of the generation that
//! the inference names, so that a test run repeated N times checks N inferences.

use nnbpf_compiler::bpf::module::{Function, Map, MapKind, Member, Module, Parameter, Struct, Type};
use nnbpf_compiler::bpf::{Cond, Helper, Size};
use nnbpf_compiler::lower::LowerError;
use nnbpf_compiler::lower::builder::Builder;
use nnbpf_compiler::lower::network::NetworkCode;
use nnbpf_compiler::lower::scratch;

/// The program.
pub(super) const CHECK: &str = "nn_check";
/// What the program answers after an inference.
pub(super) const CHECKED: u32 = 2;
/// Array of two: the outputs of even and of odd generations, i64 each.
pub(super) const EXPECTED: &str = "nn_expected";
/// Per-CPU array of one: [`TALLY_WORDS`].
pub(super) const TALLY: &str = "nn_tally";
/// Words of a tally, u64 each: inferences, and those whose outputs are not their generation's.
pub(super) const TALLY_WORDS: [&str; 2] = ["inferences", "mixed"];

/// The module around the code of a network with `outputs` outputs.
pub(super) fn module(code: NetworkCode, outputs: usize) -> Result<Module, LowerError> {
    let check = check(&code, outputs)?;
    let array = |name: &str, kind, value, max_entries| Map {
        name: name.to_owned(),
        kind,
        key: Some(Type::Unsigned(4)),
        value: Some(value),
        max_entries,
        flags: 0,
        programs: Vec::new(),
    };
    let words = |count: usize| u32::try_from(count * 8).unwrap_or(u32::MAX);
    let expected = Type::Array(Box::new(Type::Signed(8)), words(outputs) / 8);
    let members = TALLY_WORDS.iter().enumerate().map(|(index, name)| Member {
        name: (*name).to_owned(),
        offset: words(index),
        ty: Type::Unsigned(8),
    });
    let tally = Type::Struct(Struct {
        name: TALLY.to_owned(),
        size: words(TALLY_WORDS.len()),
        members: members.collect(),
    });
    let own = [
        code.scratch.map(),
        array(EXPECTED, MapKind::Array, expected, 2),
        array(TALLY, MapKind::PerCpuArray, tally, 1),
    ];
    Ok(Module {
        programs: [check].into_iter().chain(code.stages).collect(),
        functions: vec![code.infer],
        maps: own.into_iter().chain(code.maps).collect(),
        data: code.data,
        metadata: Vec::new(),
    })
}

fn check(code: &NetworkCode, outputs: usize) -> Result<Function, LowerError> {
    let mut b = Builder::new(CHECK, "xdp", &[Parameter::Context]);
    let context = b.parameter(0);
    let failed = b.label();
    let error = code.call(&mut b, context);
    b.jump(Cond::Ne, error, 0, failed);

    let zero = b.stack_slot(4);
    b.stack_store(Size::W, zero, 0, 0);
    let map = b.map(scratch::MAP);
    let key = b.stack_address(zero);
    let scratch = b.call(Helper::MapLookup, &[map, key]);
    b.jump(Cond::Eq, scratch, 0, failed);

    let generation = b.load(Size::DW, scratch, scratch::GENERATION);
    b.and(generation, 1);
    let parity = b.stack_slot(4);
    b.stack_store(Size::W, parity, 0, generation);
    let map = b.map(EXPECTED);
    let key = b.stack_address(parity);
    let expected = b.call(Helper::MapLookup, &[map, key]);
    b.jump(Cond::Eq, expected, 0, failed);
    let differences = b.constant(0);
    for index in 0..outputs {
        let difference = b.load(Size::DW, scratch, code.scratch.output(index));
        let right = b.load(Size::DW, expected, i16::try_from(index * 8).unwrap_or(i16::MAX));
        b.xor(difference, right);
        b.or(differences, difference);
    }

    let map = b.map(TALLY);
    let key = b.stack_address(zero);
    let tally = b.call(Helper::MapLookup, &[map, key]);
    b.jump(Cond::Eq, tally, 0, failed);
    let inferences = b.load(Size::DW, tally, 0);
    b.add(inferences, 1);
    b.store(Size::DW, tally, 0, inferences);
    let right = b.label();
    b.jump(Cond::Eq, differences, 0, right);
    let mixed = b.load(Size::DW, tally, 8);
    b.add(mixed, 1);
    b.store(Size::DW, tally, 8, mixed);
    b.bind(right);
    b.ret(2);
    b.bind(failed);
    b.ret(1);
    b.finish(code.caller_limit())
}
