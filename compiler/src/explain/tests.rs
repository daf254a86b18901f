//! Explanations of small specifications, with what must hold whatever the packet path looks like.

use super::memory::{BUCKET, ELEMENT_OVERHEAD};
use super::*;
use crate::bpf::{Helper, Insn, Reg};
use crate::compile::Named;
use crate::kernel::KernelVersion;
use crate::lower::network;
use crate::lower::packet::Clock;
use crate::spec;

fn target() -> Target {
    Target {
        kernel: KernelVersion::DEFAULT,
        network: network::Options::default(),
        clock: Clock::Kernel,
        fragments: false,
    }
}

fn spec_with(features: &str, labels: &str, rest: &str) -> FeatureSpec {
    let text = format!(
        "spec test v1;\nattach xdp;\nflow conn on tcp, udp {{\n key five_tuple bidirectional;\n capacity 1000 evict lru;\n \
         idle 60 s;\n end tcp.fin or tcp.rst;\n}}\nfeatures of conn {{\n{features}\n}}\nmodel {{ labels {labels}; }}\n{rest}\n"
    );
    spec::from_bytes(Named { name: "test.spec", bytes: text.as_bytes() }).unwrap()
}

fn explained(features: &str) -> Explanation {
    explain(&spec_with(features, "no, yes", "classify conn at end;"), &target()).unwrap()
}

fn kind<'a>(explanation: &'a Explanation, kind: &str) -> &'a PacketCost {
    explanation.packets.iter().find(|packet| packet.kind == kind).unwrap()
}

fn calls(packet: &PacketCost, helper: &str, map: &str) -> f64 {
    let found = packet.helper_calls.iter().find(|call| (call.helper, call.map.as_str()) == (helper, map));
    found.map_or(0.0, |call| call.per_packet)
}

#[test]
fn every_packet_looks_its_flow_up_and_the_first_one_creates_it() {
    let explanation = explained("a = sum(l4.len);");
    let (ordinary, first) = (kind(&explanation, "ordinary"), kind(&explanation, "first"));
    assert_eq!(calls(ordinary, "bpf_map_lookup_elem", "nn_flows"), 1.0);
    assert_eq!(calls(ordinary, "bpf_map_update_elem", "nn_flows"), 0.0);
    assert_eq!(calls(first, "bpf_map_update_elem", "nn_flows"), 1.0);
    // Four connections of 48 packets.
    assert_eq!((ordinary.samples, first.samples), (188, 4));
    assert!(first.instructions > ordinary.instructions && first.ns > ordinary.ns);
    // Every instruction has a price, and no kind of packet is free.
    assert!(explanation.packets.iter().all(|packet| packet.instructions > 20.0 && packet.ns > 20.0));
}

#[test]
fn what_two_features_share_is_saved_by_neither() {
    let explanation = explained("a = sum(l4.len) where fwd;\nb = mean(l4.len) where fwd;\nc = max(l4.len);");
    let [a, b, c] = explanation.features.as_slice() else { panic!("three features") };
    // The sum and its updates stay for the mean.
    assert_eq!((a.packet_instructions, a.record_bytes), (0.0, 0));
    assert_eq!(a.slots.len(), 1);
    assert_eq!((a.slots[0].name.as_str(), a.slots[0].bytes), ("a", 8));
    assert_eq!(a.slots[0].shared_with, ["b"]);
    // The count goes with the mean; the sum stays.
    let shared: Vec<(&str, u32, usize)> =
        b.slots.iter().map(|slot| (slot.name.as_str(), slot.bytes, slot.shared_with.len())).collect();
    assert_eq!(shared, [("a", 8, 1), ("b_count", 4, 0)]);
    assert!(b.packet_instructions > 0.0 && b.verdict_instructions > a.verdict_instructions);
    assert!(c.packet_instructions > 1.0 && c.packet_ns > 0.0);
    assert_eq!(c.slots[0].shared_with, Vec::<String>::new());
}

#[test]
fn packets_are_counted_anyway() {
    let explanation = explained("a = count();\nb = max(l4.len);");
    let a = &explanation.features[0];
    assert_eq!((a.packet_instructions, a.packet_ns, a.record_bytes), (0.0, 0.0, 0));
    assert!(a.verdict_instructions > 0.0);
}

#[test]
fn the_record_is_as_the_object_declares_it() {
    let explanation = explained("a = std(l4.len) where fwd;\nb = max(gap) as us;\nc = first(l4.dst_port);");
    let [table] = explanation.tables.as_slice() else { panic!("one table") };
    let mut end = 0;
    for member in &table.record {
        assert_eq!(member.offset, end, "{}", member.name);
        assert!(!member.update.is_empty(), "{}: nothing is said of what a packet does", member.name);
        end += member.bytes;
    }
    assert!(end <= table.record_bytes && table.record_bytes - end < 8);
    let member = |name: &str| table.record.iter().find(|member| member.name == name).unwrap();
    assert_eq!(member("a_squares").update, "add of the square");
    assert_eq!((member("a_sum").update.as_str(), member("a_sum").features.len()), ("add", 1));
    assert_eq!(member("last_ns").update, "exchange");
    assert_eq!(member("b").update, "compare-and-exchange where greater");
    assert_eq!(member("c").update, "compare-and-exchange where empty");
    assert_eq!(table.key.iter().map(|member| member.bytes).sum::<u32>(), table.key_bytes);
}

#[test]
fn tables_beside_the_flows_own_and_windows_are_explained() {
    let features = "a = sum(l4.len);\nb = std(l4.len) per ip.src;\nc = max(l4.len) per ip.src over 500 ms;\n\
                    d = count() where fwd over 1 s;\ne = count() where fwd;";
    let explanation = explained(features);
    let maps: Vec<&str> = explanation.tables.iter().map(|table| table.map.as_str()).collect();
    assert_eq!(maps, ["nn_flows", "nn_flows_per_ip_src"]);
    for table in &explanation.tables {
        let mut end = 0;
        for member in &table.record {
            assert_eq!(member.offset, end, "{}", member.name);
            assert!(!member.update.is_empty(), "{}: nothing is said of what a packet does", member.name);
            end += member.bytes;
            let pane: u32 = member.pane.iter().map(|inner| inner.bytes).sum();
            assert!(member.pane.iter().all(|inner| !inner.update.is_empty()), "{member:?}");
            assert!(
                member.pane.is_empty() || (pane <= member.bytes / 2 && member.bytes / 2 - pane < 8),
                "{member:?}"
            );
        }
        assert!(end <= table.record_bytes && table.record_bytes - end < 8);
    }
    let side = &explanation.tables[1];
    assert_eq!((side.key_bytes, side.capacity), (16, 1_000));
    let member =
        |table: &Table, name: &str| table.record.iter().find(|member| member.name == name).unwrap().clone();
    assert_eq!(member(side, "b_squares").features, ["b"]);
    assert_eq!(member(side, "last_ns").update, "exchange");
    let pane = member(side, "over_500ms").pane;
    let inner: Vec<(&str, &str)> =
        pane.iter().map(|inner| (inner.name.as_str(), inner.update.as_str())).collect();
    assert_eq!(inner, [("packets", "fetch-and-add"), ("c", "compare-and-exchange where greater")]);
    assert_eq!(pane[1].features, ["c"]);

    let parts: Vec<(&str, usize)> =
        explanation.parts.iter().map(|part| (part.name.as_str(), part.features.len())).collect();
    let (table, window) = ("nn_flows_per_ip_src", "nn_flows_per_ip_src.over_500ms");
    assert_eq!(parts, [("nn_flows.over_1s", 1), (table, 2), (window, 1)]);
    let part = |name: &str| explanation.parts.iter().find(|part| part.name == name).unwrap();
    let memory = |name: &str| explanation.maps.iter().find(|map| map.map == name).unwrap().bytes;
    assert_eq!((part(table).bytes, part(table).memory_bytes), (side.record_bytes, memory(table)));
    // A number of 8 bytes, and two panes of 8 bytes of packets and 8 of a value.
    assert_eq!((part(window).bytes, part(window).memory_bytes), (8 + 2 * 16, 1_000 * 40));
    // The table has the window's work, and a lookup of its own.
    assert!(part(table).packet_instructions > part(window).packet_instructions + 10.0);
    assert!(part(window).packet_instructions > 5.0 && part(table).packet_ns > part(window).packet_ns);
    assert!(explanation.parts.iter().all(|part| part.verdict_instructions > 0.0));
    assert!(explained("a = sum(l4.len);").parts.is_empty());
}

#[test]
fn memory_is_elements_and_buckets() {
    let explanation = explained("a = sum(l4.len);");
    let table = &explanation.tables[0];
    let flows = explanation.maps.iter().find(|map| map.map == table.map).unwrap();
    let each = u64::from(table.record_bytes + table.key_bytes) + ELEMENT_OVERHEAD;
    assert_eq!(flows.bytes_per_entry, each);
    // 1,000 records hash to 1,024 buckets.
    assert_eq!(flows.bytes, 1_000 * each + 1_024 * BUCKET);
    assert!(explanation.maps.iter().any(|map| map.map == "nn_counters" && map.per_processor));
}

#[test]
fn the_models_work_is_left_out() {
    let features = "a = sum(l4.len);\nb = max(l4.len);";
    let of = |labels: &str| {
        let spec = spec_with(features, labels, "classify conn at end;");
        kind(&explain(&spec, &target()).unwrap(), "judged").instructions
    };
    assert_eq!(of("no, yes"), of("no, perhaps, probably, yes"));
}

#[test]
fn triggers_and_rules_decide_which_kinds_there_are() {
    let rules = "classify conn at every packet;\non yes { report; }";
    let explanation = explain(&spec_with("a = sum(l4.len);", "no, yes", rules), &target()).unwrap();
    let kinds: Vec<_> = explanation.packets.iter().map(|packet| packet.kind).collect();
    assert_eq!(kinds, ["ordinary", "first", "judged", "acted on"]);
    // Every packet is judged, so there is no first one without a verdict.
    assert_eq!(kind(&explanation, "first").samples, 0);
    assert_eq!(calls(kind(&explanation, "acted on"), "bpf_ringbuf_output", "nn_events"), 1.0);
    assert_eq!(calls(kind(&explanation, "judged"), "bpf_ringbuf_output", "nn_events"), 0.0);
}

#[test]
fn a_specification_of_one_feature_has_a_cost_without_it() {
    let explanation = explained("a = max(l4.len);");
    let one = &explanation.features[0];
    // It fills the place behind the flags.
    assert_eq!(one.record_bytes, 0);
    assert!(one.packet_instructions > 1.0, "{one:?}");
    let spec = spec_with("a = max(l4.len);\nb = sum(l4.len);", "no, yes", "classify conn at end;");
    let (with, bytes) = cost_of_some(&spec, &target(), |_| true).unwrap();
    let (without, fewer) = cost_of_some(&spec, &target(), |index| index == 0).unwrap();
    assert!(with > without && bytes > fewer);
}

#[test]
fn udp_alone_and_tc_are_explained() {
    let text = spec_with("a = max(l4.len);", "no, yes", "classify conn at every 16 packets;").source;
    let text = text.replace("on tcp, udp", "on udp").replace(" end tcp.fin or tcp.rst;\n", "");
    let text = text.replace("attach xdp", "attach tc ingress");
    let spec = spec::from_bytes(Named { name: "test.spec", bytes: text.as_bytes() }).unwrap();
    let explanation = explain(&spec, &target()).unwrap();
    // Every sixteenth packet of each of four flows is judged, and the first one creates the flow.
    assert_eq!((kind(&explanation, "ordinary").samples, kind(&explanation, "first").samples), (176, 4));
    assert_eq!(explanation.hook, "tc ingress");
}

/// How often the code of a module reads the clock.
fn clock_reads(module: &Module) -> usize {
    let functions = module.programs.iter().chain(&module.functions);
    let reads = |insn: &&Insn<Reg>| matches!(insn, Insn::Call { helper: Helper::KtimeGetNs });
    functions.flat_map(|function| &function.code).filter(reads).count()
}

#[test]
fn what_needs_no_time_reads_no_clock_and_keeps_no_times() {
    let features = "a = sum(l4.len);\nb = max(ip.ttl) where fwd;";
    let timed = spec_with(features, "no, yes", "classify conn at end, every 4 packets;\non yes { drop; }");
    let text = timed.source.replace("idle 60 s", "idle never");
    let timeless = spec::from_bytes(Named { name: "test.spec", bytes: text.as_bytes() }).unwrap();
    let of = |spec: &FeatureSpec| {
        let explanation = explain(spec, &target()).unwrap();
        let clock = |kind_of: &str| calls(kind(&explanation, kind_of), "bpf_ktime_get_ns", "");
        let kinds = ["ordinary", "first", "judged", "acted on"].map(clock);
        let record = &explanation.tables[0];
        let times = record.record.iter().filter(|member| member.name.ends_with("_ns")).count();
        (kinds, times, record.record_bytes, clock_reads(&module(spec, &target(), false).unwrap()))
    };
    // With an idle time every packet needs its time: one call. The record keeps two times, as a rule acts.
    assert_eq!(of(&timed), ([1.0; 4], 2, 56, 1));
    // The calls that are left: for senders on the block list, before and behind the lookup of the flow; for a fuse;
    // and for what a rule is told.
    let (kinds, times, bytes, calls) = of(&timeless);
    assert_eq!((kinds, times, bytes), ([0.0, 0.0, 0.0, 1.0], 0, 40));
    assert_eq!(calls, 4);
}

#[test]
fn single_packets_pay_for_no_table_and_no_clock() {
    let text = "spec test v1;\nattach xdp;\npackets on tcp, udp;\nfeatures { a = ip.ttl; b = l4.len / ip.len; }\n\
                model { labels no, yes; }\nclassify packet at every 4 packets;\non yes { drop; }\n";
    let spec = spec::from_bytes(Named { name: "test.spec", bytes: text.as_bytes() }).unwrap();
    let explanation = explain(&spec, &target()).unwrap();
    assert!(explanation.tables.is_empty());
    assert!(explanation.maps.iter().all(|map| map.map != "nn_flows"));
    let kinds: Vec<_> = explanation.packets.iter().map(|packet| packet.kind).collect();
    assert_eq!(kinds, ["ordinary", "judged", "acted on"]);
    assert_eq!(kind(&explanation, "ordinary").samples, 144);
    // Its own counters, in an array; one that is judged looks at the place where the model's inputs are as well.
    let helpers = |kind: &PacketCost| -> Vec<(&str, String)> {
        kind.helper_calls.iter().map(|call| (call.helper, call.map.clone())).collect()
    };
    let lookup = |map: &str| ("bpf_map_lookup_elem", map.to_owned());
    assert_eq!(helpers(kind(&explanation, "ordinary")), [lookup("nn_counters")]);
    assert_eq!(helpers(kind(&explanation, "judged")), [lookup("nn_counters"), lookup("nn_scratch")]);
    assert_eq!(calls(kind(&explanation, "acted on"), "bpf_ktime_get_ns", ""), 1.0);
    assert!(explanation.features.iter().all(|feature| feature.slots.is_empty() && feature.record_bytes == 0));
    assert!(explanation.features[1].verdict_instructions > explanation.features[0].verdict_instructions);
}
