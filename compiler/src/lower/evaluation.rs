//! The module that judges feature rows in the kernel: for `eval` and `bench`, never shipped.
//!
//! It holds the same `nn_infer` as the shipped object. Around it, `nn_entry` moves rows between array maps and
//! scratch, and `nn_bench` calls it on whatever features scratch holds. Which rows, and what is done with the
//! results, is the command's business.
//!
//! | part | content |
//! |---|---|
//! | `nn_inputs` | array, one entry per row: raw features, i64 each |
//! | `nn_outputs` | array, one entry per row: outputs i64 each, label u32, rules u32 ([`output_bytes`]) |
//! | `.data.nn_row` | u64: the next row; every run of `nn_entry` judges it and moves on, so that a test run repeated N times judges N rows |
//!
//! `nn_entry` returns 2 when it judged a row, 0 when no row is left, 1 when `nn_infer` gave no verdict.

use super::LowerError;
use super::builder::Builder;
use super::network::{NetworkCode, Options, lower};
use super::scratch::{self, MAP};
use crate::bpf::module::{Data, Function, Map, MapKind, Member, Module, Parameter, Struct, Type};
use crate::bpf::{Cond, Helper, Size};
use crate::check::Checked;
use crate::ir::Network;

/// Map of the rows to judge.
pub const INPUTS: &str = "nn_inputs";
/// Map of the results.
pub const OUTPUTS: &str = "nn_outputs";
/// Section of the row counter.
pub const ROW_SECTION: &str = ".data.nn_row";
/// Program that judges the next row.
pub const ENTRY: &str = "nn_entry";
/// Program that judges the features in scratch.
pub const BENCH: &str = "nn_bench";
/// Return value of `nn_entry` for a judged row.
pub const JUDGED: u32 = 2;
/// Return value of `nn_entry` when no row is left.
pub const NO_ROW: u32 = 0;

/// Bytes of one entry of `nn_outputs`.
#[must_use]
pub fn output_bytes(network: &Network) -> usize {
    network.output_count() * 8 + 8
}

/// The module for up to `rows` rows.
///
/// # Errors
///
/// Those of [`lower`].
pub fn module(network: &Checked<Network>, options: Options, rows: u32) -> Result<Module, LowerError> {
    around(lower(network, options)?, network.get(), rows)
}

fn around(code: NetworkCode, network: &Network, rows: u32) -> Result<Module, LowerError> {
    let programs = [entry(&code, network, rows)?, bench(&code)?].into_iter().chain(code.stages).collect();
    let array = |name: &str, value| Map {
        name: name.to_owned(),
        kind: MapKind::Array,
        key: Some(Type::Unsigned(4)),
        value: Some(value),
        max_entries: rows,
        flags: 0,
        programs: Vec::new(),
    };
    let maps = [
        code.scratch.map(),
        array(INPUTS, signed_words(network.inputs.len())),
        array(OUTPUTS, output_type(network)),
    ];
    let row = Data {
        section: ROW_SECTION.to_owned(),
        variable: "nn_row".to_owned(),
        ty: Type::Unsigned(8),
        bytes: vec![0; 8],
        writable: true,
    };
    Ok(Module {
        programs,
        functions: vec![code.infer],
        maps: maps.into_iter().chain(code.maps).collect(),
        data: code.data.into_iter().chain([row]).collect(),
        metadata: Vec::new(),
    })
}

fn signed_words(count: usize) -> Type {
    Type::Array(Box::new(Type::Signed(8)), u32::try_from(count).unwrap_or(u32::MAX / 8))
}

fn output_type(network: &Network) -> Type {
    let outputs = signed_words(network.output_count());
    let label = outputs.size();
    let member = |name: &str, offset, ty| Member { name: name.to_owned(), offset, ty };
    Type::Struct(Struct {
        name: "nn_output".to_owned(),
        size: label + 8,
        members: vec![
            member("outputs", 0, outputs),
            member("label", label, Type::Unsigned(4)),
            member("rules", label + 4, Type::Unsigned(4)),
        ],
    })
}

fn entry(code: &NetworkCode, network: &Network, rows: u32) -> Result<Function, LowerError> {
    let mut b = Builder::new(ENTRY, "xdp", &[Parameter::Context]);
    let context = b.parameter(0);
    let (no_row, failed) = (b.label(), b.label());

    let counter = b.map_value(ROW_SECTION, 0);
    let row = b.load(Size::DW, counter, 0);
    let limit = b.constant(i64::from(rows));
    b.jump(Cond::Ge, row, limit, no_row);
    let key = b.stack_slot(4);
    b.stack_store(Size::W, key, 0, row);
    b.add(row, 1);
    b.store(Size::DW, counter, 0, row);

    let zero = b.stack_slot(4);
    b.stack_store(Size::W, zero, 0, 0);
    let map = b.map(MAP);
    let address = b.stack_address(zero);
    let scratch = b.call(Helper::MapLookup, &[map, address]);
    b.jump(Cond::Eq, scratch, 0, failed);

    let map = b.map(INPUTS);
    let address = b.stack_address(key);
    let inputs = b.call(Helper::MapLookup, &[map, address]);
    b.jump(Cond::Eq, inputs, 0, failed);
    for index in 0..network.inputs.len() {
        let value = b.load(Size::DW, inputs, word(index));
        b.store(Size::DW, scratch, code.scratch.feature(index), value);
    }
    let error = code.call(&mut b, context);
    b.jump(Cond::Ne, error, 0, failed);

    let map = b.map(OUTPUTS);
    let address = b.stack_address(key);
    let outputs = b.call(Helper::MapLookup, &[map, address]);
    b.jump(Cond::Eq, outputs, 0, failed);
    let count = network.output_count();
    for index in 0..count {
        let value = b.load(Size::DW, scratch, code.scratch.output(index));
        b.store(Size::DW, outputs, word(index), value);
    }
    // Label and rules are neighbours in scratch as in the entry.
    let verdict = b.load(Size::DW, scratch, scratch::LABEL);
    b.store(Size::DW, outputs, word(count), verdict);
    b.ret(2);
    b.bind(no_row);
    b.ret(0);
    b.bind(failed);
    b.ret(1);
    b.finish(code.caller_limit())
}

fn bench(code: &NetworkCode) -> Result<Function, LowerError> {
    let mut b = Builder::new(BENCH, "xdp", &[Parameter::Context]);
    let context = b.parameter(0);
    let error = code.call(&mut b, context);
    b.ret(error);
    b.finish(code.caller_limit())
}

fn word(index: usize) -> i16 {
    // Scratch holds as many words and is limited to what an i16 addresses.
    i16::try_from(index * 8).unwrap_or(i16::MAX)
}

/// For tests that make networks which the check would have to prove first.
#[cfg(test)]
pub(crate) fn unchecked_module(network: &Network, options: Options, rows: u32) -> Result<Module, LowerError> {
    around(super::network::lower_unchecked(network, options)?, network, rows)
}
