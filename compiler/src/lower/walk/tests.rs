//! Small programs whose count follows from the verifier's rules.

use super::*;
use crate::bpf::module::{Map, MapKind, Type};
use crate::bpf::{Cond, Helper, Size};
use crate::ir::{Lanes, Post, Rule};
use crate::lower::builder::Builder;
use crate::lower::code::FrameLimit;
use crate::lower::evaluation::{BENCH, unchecked_module};
use crate::lower::network::{Options, Split, lower_unchecked};
use crate::lower::testing::{Shape, network};

/// What a function is predicted to take, beside its length.
fn counts(b: Builder) -> (u64, u64) {
    let program = b.finish(FrameLimit::Leaf).unwrap();
    let map = Map {
        name: "table".to_owned(),
        kind: MapKind::Hash,
        key: Some(Type::Unsigned(8)),
        value: Some(Type::Unsigned(8)),
        max_entries: 4,
        flags: 0,
        programs: Vec::new(),
    };
    let length = program.code.iter().filter(|insn| !matches!(insn, Insn::Label(_))).count() as u64;
    let module = Module { programs: vec![program], maps: vec![map], ..Module::default() };
    (processed(&module)[0].1, length)
}

fn builder() -> Builder {
    Builder::new("f", "xdp", &[Parameter::Context])
}

#[test]
fn straight_code_counts_once() {
    let mut b = builder();
    let x = b.call(Helper::KtimeGetNs, &[]);
    b.mul(x, 3);
    b.ret(x);
    let (predicted, length) = counts(b);
    assert_eq!(predicted, length);
}

#[test]
fn loops_count_as_often_as_they_turn() {
    let mut b = builder();
    let x = b.call(Helper::KtimeGetNs, &[]);
    let counter = b.constant(0);
    let top = b.here();
    b.mul(x, 3);
    b.add(counter, 1);
    b.jump(Cond::Lt, counter, 100, top);
    b.ret(x);
    let (predicted, length) = counts(b);
    assert_eq!(predicted, length + 99 * 3);
}

/// What two paths know of a number does not keep them apart, unless it decides something.
fn diamond(decides: bool) -> (u64, u64) {
    let mut b = builder();
    let x = b.call(Helper::KtimeGetNs, &[]);
    let y = b.fresh();
    let (other, joined, zero) = (b.label(), b.label(), b.label());
    b.jump(Cond::Eq, x, 7, other);
    b.set(y, 0);
    b.goto(joined);
    b.bind(other);
    b.set(y, 1);
    b.bind(joined);
    for _ in 0..20 {
        let time = b.call(Helper::KtimeGetNs, &[]);
        b.add(x, time);
    }
    if decides {
        b.jump(Cond::Eq, y, 0, zero);
    } else {
        b.add(x, y);
    }
    b.bind(zero);
    b.ret(x);
    counts(b)
}

#[test]
fn paths_meet_where_nothing_depends_on_their_difference() {
    let (predicted, length) = diamond(false);
    assert!(predicted <= length + 8, "{predicted} of {length}");
    let (predicted, length) = diamond(true);
    assert!(predicted >= length + 40, "{predicted} of {length}");
}

/// Which bits a number may have decides what is walked behind a test of another one.
#[test]
fn a_bit_times_a_constant_has_the_bits_of_the_constant() {
    let mut b = builder();
    let (never, end) = (b.label(), b.label());
    let x = b.call(Helper::KtimeGetNs, &[]);
    b.and(x, 1);
    b.mul(x, 5);
    b.and(x, 2);
    b.jump(Cond::Ne, x, 0, never);
    b.goto(end);
    b.bind(never);
    for _ in 0..30 {
        b.call(Helper::KtimeGetNs, &[]);
    }
    b.bind(end);
    b.ret(0);
    let (predicted, length) = counts(b);
    assert!(predicted <= length - 30, "{predicted} of {length}");
}

#[test]
fn a_pointer_that_was_compared_with_null_is_not_null_again() {
    let mut b = builder();
    let missing = b.label();
    let key = b.stack_slot(8);
    b.stack_store(Size::DW, key, 0, 5);
    let map = b.map("table");
    let place = b.stack_address(key);
    let value = b.call(Helper::MapLookup, &[map, place]);
    b.jump(Cond::Eq, value, 0, missing);
    b.jump(Cond::Eq, value, 0, missing);
    let loaded = b.load(Size::DW, value, 0);
    b.ret(loaded);
    b.bind(missing);
    b.ret(1);
    let (predicted, length) = counts(b);
    assert_eq!(predicted, length);
}

/// The exact count of layer code, which `cost` derives from the plan, comes out of the walk, too: of 100,000
/// weights, in one program and in several.
#[test]
fn layers_come_out_as_their_plan_says() {
    let relu = Post::Relu { shift: 5, bits: 8 };
    let layer = |rows, post| Shape { rows, lanes: Lanes::TWO, post };
    for (inputs, widths) in [(5, vec![8]), (40, vec![300]), (64, vec![256, 256])] {
        let mut shapes: Vec<Shape> = widths.iter().map(|rows| layer(*rows, relu)).collect();
        shapes.push(layer(10, Post::Raw));
        let network = network(9, inputs, &shapes, Rule::ArgMax);
        for split in [Split::Auto, Split::Layer] {
            let options = Options { split, ..Options::default() };
            let code = lower_unchecked(&network, options).unwrap();
            let module = unchecked_module(&network, options, 1).unwrap();
            let walked: BTreeMap<String, u64> = processed(&module).into_iter().collect();
            let bench = module.programs.iter().find(|program| program.name == BENCH).unwrap();
            // What answers for a scratch value that is missing is not walked: it never is.
            assert_eq!(walked[BENCH] + 2, code.predicted[0] + bench.code.len() as u64, "{widths:?}");
            for (stage, predicted) in code.stages.iter().zip(&code.predicted[1..]) {
                assert_eq!(walked[&stage.name] + 2, *predicted, "{widths:?} {}", stage.name);
            }
        }
    }
}
