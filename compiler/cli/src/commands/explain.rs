//! `nnbpfc explain SPEC`: what a specification costs, feature by feature, without a model.

use std::fmt::Write as _;

use nnbpf_compiler::explain::layout::{Member, Table};
use nnbpf_compiler::explain::memory::{ELEMENT_OVERHEAD, MapMemory, SOURCE};
use nnbpf_compiler::explain::{self, Explanation, FeatureCost, HelperCalls, PacketCost, PartCost};
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::spec;

use crate::Refusal;
use crate::args::{ExplainArgs, Split};
use crate::inputs::{Loaded, target};
use crate::uses::Uses;

pub fn run(args: &ExplainArgs) -> Result<(), Refusal> {
    let kernel = KernelVersion::parse(&args.kernel)?;
    let source = Loaded::read(&args.spec)?;
    let uses = Uses::of(&args.surroundings, &args.spec);
    let refused =
        |diagnostics| uses.with_sources(Refusal::from(diagnostics).with_source(&source.name, &source.bytes));
    let spec = spec::from_bytes_in(source.named(), &uses.surroundings()).map_err(refused)?;
    let explanation =
        explain::explain(&spec, &target(kernel, Split::Auto, Clock::Kernel)).map_err(refused)?;
    if args.json {
        // A structure of numbers and names always serialises.
        println!("{}", serde_json::to_string_pretty(&explanation).unwrap_or_default());
    } else {
        print!("{}", text(&explanation));
    }
    Ok(())
}

/// Writing to a string cannot fail, so results are dropped.
fn text(explanation: &Explanation) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} at {}, for Linux {} and later; nanoseconds are estimates",
        explanation.spec, explanation.hook, explanation.kernel
    );
    for table in &explanation.tables {
        layout(&mut out, table);
    }
    memory(&mut out, explanation);
    packets(&mut out, &explanation.packets);
    parts(&mut out, &explanation.parts);
    features(&mut out, &explanation.features);
    out
}

fn layout(out: &mut String, table: &Table) {
    let _ = writeln!(out, "\nrecord of {}, {} bytes", table.map, table.record_bytes);
    let _ = writeln!(out, "{:>6} {:>5}  {:28} {:36} features", "offset", "bytes", "name", "a packet does");
    for member in &table.record {
        line(out, "", member);
        for inner in &member.pane {
            line(out, "  ", inner);
        }
    }
    let _ = writeln!(out, "\nkey of {}, {} bytes", table.map, table.key_bytes);
    for member in &table.key {
        let _ = writeln!(out, "{:>6} {:>5}  {}", member.offset, member.bytes, member.name);
    }
}

/// A member, behind an indent.
fn line(out: &mut String, indent: &str, member: &Member) {
    let Member { offset, name, bytes, update, features, pane: _ } = member;
    let name = format!("{indent}{name}");
    let line = format!("{offset:>6} {bytes:>5}  {name:28} {update:36} {}", features.join(", "));
    let _ = writeln!(out, "{}", line.trim_end());
}

fn memory(out: &mut String, explanation: &Explanation) {
    let _ = writeln!(out, "\nmemory");
    for MapMemory { map, entries, bytes_per_entry, bytes, per_processor } in &explanation.maps {
        let table = explanation.tables.iter().find(|table| table.map == *map);
        let total = format!("{bytes} bytes{}", if *per_processor { " for each processor" } else { "" });
        let _ = match table {
            Some(table) => writeln!(
                out,
                "  {map:24} {total}: {entries} records of {bytes_per_entry} bytes (record {}, key {}, element \
                 {ELEMENT_OVERHEAD}: {SOURCE}), and buckets",
                table.record_bytes, table.key_bytes
            ),
            None => writeln!(out, "  {map:24} {total}"),
        };
    }
}

fn packets(out: &mut String, packets: &[PacketCost]) {
    let _ = writeln!(
        out,
        "\n{:12} {:>12} {:>8}  the model's own work comes on top",
        "packet", "instructions", "ns"
    );
    for packet in packets {
        let PacketCost { kind, about, samples, instructions, ns, helper_calls } = packet;
        if *samples == 0 {
            let _ = writeln!(out, "{kind:12} {:>12} {:>8}  {about}: none in the sample traffic", "-", "-");
            continue;
        }
        let _ = writeln!(out, "{kind:12} {instructions:>12.1} {ns:>8.1}  {about}");
        for HelperCalls { helper, map, per_packet } in helper_calls {
            let _ = writeln!(out, "{:12} {per_packet:>12.2} {:>8}  {helper} {map}", "", "");
        }
    }
}

fn features(out: &mut String, features: &[FeatureCost]) {
    let _ = writeln!(
        out,
        "\n{:28} {:>6} {:>12} {:>8} {:>12} {:>8}",
        "", "", "each packet", "", "each verdict", ""
    );
    let _ = writeln!(
        out,
        "{:28} {:>6} {:>12} {:>8} {:>12} {:>8}  computed from, bytes",
        "feature", "record", "instructions", "ns", "instructions", "ns"
    );
    for feature in features {
        let slots: Vec<String> = feature
            .slots
            .iter()
            .map(|slot| match slot.shared_with.as_slice() {
                [] => format!("{} {}", slot.name, slot.bytes),
                others => format!("{} {} (also {})", slot.name, slot.bytes, others.join(", ")),
            })
            .collect();
        let _ = writeln!(
            out,
            "{:28} {:>6} {:>12.1} {:>8.1} {:>12.1} {:>8.1}  {}",
            feature.name,
            feature.record_bytes,
            plus_zero(feature.packet_instructions),
            plus_zero(feature.packet_ns),
            plus_zero(feature.verdict_instructions),
            plus_zero(feature.verdict_ns),
            slots.join(", ")
        );
    }
    let _ = writeln!(
        out,
        "A feature costs what the packet path costs with it less what it costs without it, and so many bytes of the \
         record,\nrounded to words: what several share is saved only when all of them go."
    );
}

/// Tables beside the flow's own and windows; nothing where there are none.
fn parts(out: &mut String, parts: &[PartCost]) {
    if parts.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "\n{:36} {:>6} {:>12} {:>12} {:>8} {:>12} {:>8}",
        "", "", "", "each packet", "", "each verdict", ""
    );
    let _ = writeln!(
        out,
        "{:36} {:>6} {:>12} {:>12} {:>8} {:>12} {:>8}  features",
        "tables beside it, windows", "record", "memory", "instructions", "ns", "instructions", "ns"
    );
    for part in parts {
        let _ = writeln!(
            out,
            "{:36} {:>6} {:>12} {:>12.1} {:>8.1} {:>12.1} {:>8.1}  {}",
            part.name,
            part.bytes,
            part.memory_bytes,
            plus_zero(part.packet_instructions),
            plus_zero(part.packet_ns),
            plus_zero(part.verdict_instructions),
            plus_zero(part.verdict_ns),
            part.features.join(", ")
        );
    }
}

/// Shows what rounds to zero as zero, without a sign.
fn plus_zero(value: f64) -> f64 {
    if value.abs() < 0.05 { 0.0 } else { value }
}
