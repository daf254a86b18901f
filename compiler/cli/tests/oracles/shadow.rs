//! A shadow beside the active model, on every packet of the committed capture: the three engines judge alike,
//! and count the same pairs of labels.

use nnbpf_compiler::check::check;
use nnbpf_compiler::compile;
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::ir::{Network, Op};
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::params::slot;

use super::captures::{Seen, compare};
use super::common::{Case, SPLITS, captures, cases_with_spec, skip, target};
use super::engines::{Engine, Interpreted, Running, SHORTEST, Virtual};

/// Every other weight of the last layer is gone: labels are often those of the original, and often not.
fn retrained(network: &Network) -> Network {
    let mut network = network.clone();
    if let Some(Op::Dense(last)) = network.ops.last_mut() {
        last.weights.iter_mut().step_by(2).for_each(|weight| *weight = 0);
    }
    check(network).unwrap().into_inner()
}

/// Compares one form of a case, with the active model in one slot and the shadow in the other.
fn counts_agree(case: &Case, split: Split, kernel: bool) {
    let plan = &case.plan;
    let place = format!("{} {split:?} with a shadow", case.name);
    let module = compile::module(plan, &target(split, Clock::Replay)).unwrap();
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
        let outputs = plan.network.get().output_count().max(2);
        let apart: u64 =
            pairs.iter().filter(|(at, _)| *at / outputs != *at % outputs).map(|(_, count)| count).sum();
        assert_eq!(apart > 0, differs, "{place}: {pairs:?}");
    }
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
