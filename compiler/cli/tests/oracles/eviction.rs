//! A table that is too small. The kernel's LRU hash evicts approximately, so only interpreter and virtual
//! machine, which both evict exactly the least recently used record, are compared.

use nnbpf_compiler::compile;
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::Clock;

use super::captures::{Seen, compare};
use super::common::{captures, case, target};
use super::engines::{Engine, Interpreted, Virtual};

const CAPACITY: u32 = 40;

#[test]
fn small_tables_evict_the_same_flows() {
    let test = "small_tables_evict_the_same_flows";
    for name in ["gaps-11-24-2", "oneway-9-12-1"] {
        let mut plan = case(name).plan.clone();
        plan.flow.as_mut().unwrap().capacity = CAPACITY;
        let module = compile::module(&plan, &target(Split::Auto, Clock::Replay)).unwrap();
        let mut seen = Seen::default();
        for file in captures(test).iter().filter(|file| file.name == "capture.pcap") {
            let mut reference = Interpreted::new(plan.flow.as_ref().unwrap(), &plan, Mode::Enforce);
            let mut machine = Virtual::new(&module, &plan, Mode::Enforce);
            let packets = file.packets();
            let frames = packets.iter().map(|packet| (packet.number, packet.data, packet.ts_ns));
            compare(name, &mut reference, &mut [("VM", &mut machine)], frames, &mut seen);
            let state = reference.state();
            assert_eq!(state.flows.len(), CAPACITY as usize);
            assert!(state.counters["created"] > 20 * u64::from(CAPACITY));
        }
        assert!(seen.packets > 10_000, "{}", seen.packets);
    }
}
