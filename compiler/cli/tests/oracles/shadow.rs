//! A shadow beside the active model, on every packet of the committed capture: the three engines judge alike,
//! and count the same pairs of labels.

use nnbpf_compiler::check::{Checked, check};
use nnbpf_compiler::compile::{self, Named, Plan, Sources};
use nnbpf_compiler::diag::render;
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::ir::{Lanes, Network, Op, Rule};
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::network::shadow::{MAP, Tally};
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::lower::shipped::NoShadow;
use nnbpf_compiler::lower::{self, LowerError};
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::params::slot;
use nnbpf_compiler::quant::Options;
use nnbpf_compiler::spec::Surroundings;

use super::captures::{Seen, compare};
use super::common::{Case, SPLITS, captures, cases_with_spec, root, skip, target};
use super::engines::{Engine, Interpreted, Running, SHORTEST, Virtual};

/// Every other weight of the last layer, or of the leaves, is gone: labels are often those of the original, and often
/// not. What rounds or looks up the sums of that layer stays. Of values that are never zero, some of those weights
/// keep others within their lanes; then the ones in between are gone.
fn retrained(network: &Network) -> Network {
    let checked = [0, 1].into_iter().find_map(|first| check(without(network, first)).ok());
    checked.unwrap().into_inner()
}

fn without(network: &Network, first: usize) -> Network {
    let mut network = network.clone();
    let last = network.ops.iter_mut().rev().find_map(|op| match op {
        Op::Dense(last) => Some(&mut last.weights),
        Op::Forest(last) => Some(&mut last.leaves),
        Op::Quantise(_) | Op::Table(_) | Op::Gate(_) => None,
    });
    last.unwrap().iter_mut().skip(first).step_by(2).for_each(|value| *value = 0);
    network
}

/// Compares one form of a case, with the active model in one slot and the shadow in the other.
fn counts_agree(case: &Case, split: Split, kernel: bool) {
    let plan = &case.plan;
    let place = format!("{} {split:?} with a shadow", case.name);
    let target = target(split, Clock::Replay);
    let module = compile::module(plan, &target).unwrap();
    // By `docs/object-format.md` only a chain of tail calls can have no room for a shadow.
    if let Some(reason) = lower::shipped::no_shadow(plan, &target).unwrap() {
        assert_eq!(split, Split::Layer, "{place}: {reason:?}");
        assert!(matches!(reason, NoShadow::Room(LowerError::FrameTooLarge { .. })), "{place}: {reason:?}");
        assert!(module.maps.iter().all(|map| map.name != MAP), "{place}");
        println!("SKIP {place}: {reason:?}");
        return;
    }
    let index = u8::from(split == Split::Layer);
    for (shadow, differs) in [(plan.network.get().clone(), false), (retrained(plan.network.get()), true)] {
        let slot = slot::bytes(&shadow);
        let mut reference =
            Interpreted::new(plan.flow.as_ref().unwrap(), plan, Mode::Enforce).with_shadow(&shadow);
        let mut machine = Virtual::new(&module, plan, Mode::Enforce).with_shadow(index, &slot);
        let mut running = kernel.then(|| Running::new(&module, plan, Mode::Enforce));
        let mut others: Vec<(&str, &mut dyn Engine)> = vec![("VM", &mut machine)];
        if let Some(running) = &mut running {
            running.shadow(index, &slot);
            others.push(("kernel", running));
        }
        let mut seen = Seen::default();
        for file in captures(&place).iter().filter(|file| file.name == "capture.pcap") {
            let packets = file.packets();
            let frames = packets.iter().filter(|packet| packet.data.len() >= SHORTEST);
            let frames = frames.map(|packet| (packet.number, packet.data, packet.ts_ns));
            compare(&place, &mut reference, &mut others, frames, &mut seen);
        }
        let pairs = reference.state().pairs;
        println!("{place}: {} verdicts, {pairs:?}", seen.verdicts);
        assert_eq!(pairs.values().sum::<u64>(), seen.verdicts as u64, "{place}");
        let equal = |at: usize| match Tally::of(plan.network.get()) {
            Tally::Pairs { classes } => at / classes == at % classes,
            Tally::Labels | Tally::Outputs => at == 0,
        };
        let apart: u64 = pairs.iter().filter(|(at, _)| !equal(**at)).map(|(_, count)| count).sum();
        assert_eq!(apart > 0, differs, "{place}: {pairs:?}");
    }
}

/// A committed model without a specification, with one that has as many features.
fn written(name: &'static str, features: &str, rest: &str) -> Case {
    let model = std::fs::read(root().join("testdata/cases").join(name).join("model.onnx")).unwrap();
    let spec = format!(
        "spec other v1;
        attach xdp;
        flow conn on tcp, udp {{
            key five_tuple bidirectional;
            capacity 65536 evict lru;
            idle 10 s;
            end tcp.fin or tcp.rst;
        }}
        features of conn {{ {features} }}
        {rest}"
    );
    let sources = Sources {
        model: Named { name: "model.onnx", bytes: &model },
        spec: Some(Named { name: "other.spec", bytes: spec.as_bytes() }),
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    let plan = compile::plan(&sources, &Options::default())
        .unwrap_or_else(|refused| panic!("{name}: {}", render::all(&refused, &[])));
    Case { name: name.to_owned(), plan }
}

#[test]
fn shadows_are_counted_alike() {
    let kernel = !skip("shadows_are_counted_alike");
    for case in cases_with_spec() {
        for split in SPLITS {
            counts_agree(case, split, kernel);
        }
    }
}

/// A table of three classes; raw outputs where there are no classes; labels where there are too many.
#[test]
fn shadows_of_other_heads_are_counted_alike() {
    let kernel = !skip("shadows_of_other_heads_are_counted_alike");
    let five = "a = count() in 0..1000; b = count() where fwd in 0..1000; c = max(l4.payload_len);
        d = sum(l4.payload_len) in 0..100000; e = sum(l4.payload_len) where fwd in 0..100000;";
    let labels = "model { labels web, mail, other; } classify conn at every 3 packets, end;
        on mail { report; }";
    let three = written("three-classes-5-12-3", five, labels);
    let mut regressor = three.plan.clone();
    regressor.network = changed(&regressor, |network| {
        network.decision.first.rule = Rule::None;
        network.decision.first.labels.clear();
        network.decision.tests.clear();
    });
    let mut wide = three.plan.clone();
    wide.network = changed(&wide, |network| widen(network, 70));
    for (name, plan) in [("no classes", regressor), ("70 classes", wide)] {
        for split in SPLITS {
            counts_agree(&Case { name: name.to_owned(), plan: plan.clone() }, split, kernel);
        }
    }
    for split in SPLITS {
        counts_agree(&three, split, kernel);
    }
}

fn changed(plan: &Plan, change: impl FnOnce(&mut Network)) -> Checked<Network> {
    let mut network = plan.network.get().clone();
    change(&mut network);
    check(network).unwrap()
}

/// So many outputs, each a little different from one of the first three.
fn widen(network: &mut Network, outputs: usize) {
    let Some(Op::Dense(last)) = network.ops.last_mut() else { panic!("the last layer is dense") };
    let (weights, bias) = (last.weights.clone(), last.bias.clone());
    let row = |row: usize| {
        let columns = last.columns;
        (0..columns).map(|column| weights[row % 3 * columns + column]).collect::<Vec<_>>()
    };
    last.weights = (0..outputs).flat_map(row).collect();
    last.bias = (0..outputs).map(|row| bias[row % 3] - row as i64).collect();
    (last.rows, last.lanes) = (outputs, Lanes::ONE);
    network.decision.first.labels = (0..outputs).map(|class| format!("class{class}")).collect();
}
