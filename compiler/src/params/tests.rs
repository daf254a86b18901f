//! Slots and parameter files: there and back, and damaged.

use super::file::{ParamsFile, read, write};
use super::layout::Layout;
use super::slot;
use crate::check::check;
use crate::cost::blocking::Style;
use crate::ir::{
    Decision, FractionBits, Input, Interval, Lanes, Network, Op, OpOrigin, Output, Post, Quantise,
    QuantiseOne, Rule, RuleTest,
};
use crate::lower::testing::{Shape, network, patterns};

fn some_network(seed: u64) -> Network {
    let relu = Post::Relu { shift: 12, bits: 8 };
    let shapes = [
        Shape { rows: 17, lanes: Lanes::THREE, post: relu },
        Shape { rows: 13, lanes: Lanes::TWO, post: relu },
        Shape { rows: 400, lanes: Lanes::THREE, post: relu },
        Shape { rows: 2, lanes: Lanes::ONE, post: Post::Raw },
    ];
    network(seed, 5, &shapes, Rule::ArgMax)
}

#[test]
fn a_slot_reads_back_as_it_was_written() {
    for seed in 0..20 {
        let (network, plan) = (some_network(seed), some_network(99));
        let bytes = slot::bytes(&network);
        assert_eq!(bytes.len(), Layout::new(&network).bytes() as usize);
        let read = slot::read(&plan, &bytes).unwrap();
        assert_eq!(read.ops, network.ops);
        assert_eq!(read.decision.tests, network.decision.tests);
    }
}

#[test]
fn lanes_of_any_widths_read_back_and_are_part_of_the_plan() {
    let relu = Post::Relu { shift: 3, bits: 6 };
    let last = Shape { rows: 3, lanes: Lanes::ONE, post: Post::Raw };
    let mut hashes = Vec::new();
    for lanes in patterns() {
        let make = |seed| network(seed, 3, &[Shape { rows: 11, lanes, post: relu }, last], Rule::ArgMax);
        let (network, mut plan) = (make(1), make(2));
        plan.inputs.clone_from(&network.inputs);
        assert_ne!(network.ops, plan.ops);
        assert_eq!(slot::read(&plan, &slot::bytes(&network)).unwrap().ops, network.ops, "{lanes}");
        assert_eq!(Layout::new(&network).hash(), Layout::new(&plan).hash());
        hashes.push(Layout::new(&network).hash());
    }
    let number = hashes.len();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), number);
}

#[test]
fn thresholds_read_back_and_are_no_part_of_the_plan() {
    let relu = Post::Relu { shift: 12, bits: 8 };
    let shapes = [
        Shape { rows: 17, lanes: Lanes::THREE, post: relu },
        Shape { rows: 4, lanes: Lanes::TWO, post: Post::Raw },
    ];
    let one = network(1, 5, &shapes, Rule::ArgMax);
    let mut plan = one.clone();
    plan.decision.tests = network(2, 5, &shapes, Rule::ArgMax).decision.tests;
    assert_ne!(one.decision.tests, plan.decision.tests);
    assert_eq!(Layout::new(&one).hash(), Layout::new(&plan).hash());
    let read = slot::read(&plan, &slot::bytes(&one)).unwrap();
    assert_eq!(read.decision.tests, one.decision.tests);
    let mut other = one.clone();
    let RuleTest::Softmax { class, .. } = &mut other.decision.tests[0] else { unreachable!() };
    *class = 1;
    assert_ne!(Layout::new(&one).hash(), Layout::new(&other).hash());
}

#[test]
fn a_slot_of_another_length_is_refused() {
    let network = some_network(1);
    let bytes = slot::bytes(&network);
    assert_eq!(slot::read(&network, &bytes[8..]), None);
    assert_eq!(slot::read(&network, &[bytes.as_slice(), &[0]].concat()), None);
}

#[test]
fn the_hash_covers_how_layers_are_written() {
    let shapes = [
        Shape { rows: 8, lanes: Lanes::ONE, post: Post::Relu { shift: 12, bits: 8 } },
        Shape { rows: 2, lanes: Lanes::ONE, post: Post::Raw },
    ];
    let network = network(5, 40, &shapes, Rule::ArgMax);
    let hash = |style| Layout::styled(&network, style).hash();
    assert_eq!(Layout::new(&network).hash(), hash(Style::Planned));
    let ways = [Style::Straight, Style::Looped { body: 16 }, Style::Looped { body: 32 }].map(hash);
    assert_ne!(ways[0], ways[1]);
    assert_ne!(ways[1], ways[2]);
}

#[test]
fn the_hash_covers_the_plan_and_no_parameter() {
    let network = some_network(1);
    let hash = |network: &Network| Layout::new(network).hash();
    let mut retrained = network.clone();
    for op in &mut retrained.ops {
        match op {
            Op::Quantise(quantise) => quantise.features.iter_mut().for_each(|one| one.multiplier += 1),
            Op::Dense(dense) => dense.weights.iter_mut().for_each(|weight| *weight /= 2),
            Op::Table(_) | Op::Gate(_) | Op::Forest(_) => unreachable!(),
        }
    }
    retrained.decision.tests[0] = RuleTest::Margin { output: 0, class: 0, margin: 12345 };
    assert_eq!(hash(&retrained), hash(&network));

    let several = |edit: fn(&mut Output)| {
        let mut network = network.clone();
        let mut further = Output { start: 1, ..Output::only(Rule::Positive, Vec::new()) };
        edit(&mut further);
        network.decision.further = vec![further];
        hash(&network)
    };
    let edits: [fn(&mut Output); 5] = [
        |_| {},
        |output| output.name.push('x'),
        |output| output.start += 1,
        |output| output.finer += 1,
        |output| output.labels.push("no".to_owned()),
    ];
    let mut hashes: Vec<[u8; 32]> = edits.into_iter().map(several).chain([hash(&network)]).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), edits.len() + 1);

    let changed: [fn(&mut Network); 6] = [
        |n| n.inputs[0].name.push('x'),
        |n| n.inputs[0].fraction_bits.0 += 1,
        |n| n.decision.first.rule = Rule::None,
        |n| n.decision.tests[0] = RuleTest::Label { output: 0, class: 0 },
        |n| n.decision.first.labels.push("benign".to_owned()),
        |n| {
            if let Some(Op::Dense(dense)) = n.ops.get_mut(1) {
                dense.post = Post::Relu { shift: 11, bits: 8 };
            }
        },
    ];
    for (number, change) in changed.iter().enumerate() {
        let mut other = network.clone();
        change(&mut other);
        assert_ne!(hash(&other), hash(&network), "change {number}");
    }
}

#[test]
fn both_slots_hold_the_compiled_parameters() {
    let network = some_network(1);
    let layout = Layout::new(&network);
    let slot = slot::bytes(&network);
    let data = layout.params_data(&slot);
    assert_eq!(data.ty.size() as usize, data.bytes.len());
    assert_eq!(data.bytes[..slot.len()], slot);
    assert_eq!(data.bytes[slot.len()..], slot);
}

fn file() -> ParamsFile {
    let network = some_network(1);
    ParamsFile {
        layout_hash: Layout::new(&network).hash(),
        model_hash: [7; 32],
        unit: network.decision.unit,
        slot: slot::bytes(&network),
    }
}

#[test]
fn a_parameter_file_reads_back_as_it_was_written() {
    assert_eq!(read("new.params", &write(&file())).unwrap(), file());
}

/// Cut and flipped files in every reader that may get them.
#[test]
fn damaged_parameter_files_never_panic() {
    let good = write(&file());
    crate::withstand::object(&good);
    for position in (0..good.len()).step_by(13) {
        crate::withstand::object(&good[..position]);
        let mut damaged = good.clone();
        damaged[position] ^= 0x81;
        crate::withstand::object(&damaged);
    }
}

fn refusal(bytes: &[u8]) -> &'static str {
    read("new.params", bytes).unwrap_err().code.id
}

#[test]
fn damaged_parameter_files_are_refused() {
    let good = write(&file());
    for length in (0..good.len()).step_by(97) {
        assert_eq!(refusal(&good[..length]), "E0721", "cut to {length}");
    }
    assert_eq!(refusal(&[good.as_slice(), b"x"].concat()), "E0721");
    assert_eq!(refusal(b"\x7fELF but no parameters"), "E0721");

    let mut newer = good.clone();
    newer[8] = 2;
    assert_eq!(refusal(&newer), "E0722");

    for position in (16..good.len()).step_by(61).filter(|p| !(88..96).contains(p)) {
        let mut damaged = good.clone();
        damaged[position] ^= 0x10;
        assert_eq!(refusal(&damaged), "E0723", "byte {position}");
    }
}

#[test]
fn a_unit_that_is_no_number_is_refused() {
    assert_eq!(refusal(&write(&ParamsFile { unit: f64::NAN, ..file() })), "E0721");
}

/// Another model's scaler reaches other integers than the planned ones, which no code depends on.
#[test]
fn a_slot_may_reach_beyond_the_planned_integers() {
    let one = QuantiseOne { low: -100, high: 100, multiplier: 1, offset: 0, shift: 0 };
    let network = |one: QuantiseOne, reach: i64| Network {
        inputs: vec![Input {
            name: "x".to_owned(),
            fraction_bits: FractionBits(0),
            range: Interval { low: -5000, high: 5000 },
        }],
        ops: vec![Op::Quantise(Quantise {
            features: vec![one],
            output: Interval { low: -reach, high: reach },
            even: false,
            replaced: Vec::new(),
        })],
        origins: vec![OpOrigin::Inputs],
        decision: Decision::single(Rule::Positive, 1.0, Vec::new(), Vec::new()),
    };
    let plan = network(one, 100);
    let wider = network(QuantiseOne { low: -300, high: 300, ..one }, 300);
    assert_eq!(slot::read(&plan, &slot::bytes(&wider)), Some(wider));
    let narrower = network(QuantiseOne { low: -3, high: 3, ..one }, 100);
    assert_eq!(slot::read(&plan, &slot::bytes(&narrower)), Some(narrower));
    // Numbers that leave 64 bits are for the proof to refuse.
    let beyond = network(QuantiseOne { multiplier: i64::MAX, ..one }, 100);
    assert_eq!(slot::read(&plan, &slot::bytes(&beyond)).unwrap().ops.len(), 1);
    assert!(check(slot::read(&plan, &slot::bytes(&beyond)).unwrap()).is_err());
}
