//! Features of a capture as CSV text: one row per trigger, then the flows that the capture left unfinished.
//!
//! The rows are what a network would be asked, so training on them and serving cannot drift apart.

use std::fmt::Write as _;

use super::FlowProgram;
use super::interpret::{FlowInterpreter, NoJudge, Verdict};
use crate::capture::Packet;
use crate::rows::decimal::Decimal;

/// The columns before the features.
pub const COLUMNS: &str = "first_ns,last_ns,src,dst,sport,dport,proto,trigger";

/// Runs the packets through an empty flow table, without lists and verdicts.
#[must_use]
pub fn extract<'a>(program: &FlowProgram, packets: impl IntoIterator<Item = &'a Packet<'a>>) -> String {
    let mut out = String::from(COLUMNS);
    for feature in &program.features {
        out.push(',');
        out.push_str(&feature.name);
    }
    out.push('\n');
    let mut interpreter = FlowInterpreter::new(program);
    for packet in packets {
        let result = interpreter.packet(packet.data, packet.ts_ns, &mut NoJudge);
        for verdict in result.verdicts() {
            row(&mut out, program, verdict);
        }
    }
    for verdict in interpreter.finish(&mut NoJudge) {
        row(&mut out, program, &verdict);
    }
    out
}

/// Appends one row.
pub fn row(out: &mut String, program: &FlowProgram, verdict: &Verdict) {
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "{},{},{},{},{},{},{},{}",
        verdict.first_ns,
        verdict.last_ns,
        verdict.src,
        verdict.dst,
        verdict.src_port,
        verdict.dst_port,
        verdict.proto,
        verdict.trigger.name()
    );
    for (feature, raw) in program.features.iter().zip(&verdict.features) {
        let _ = write!(out, ",{}", Decimal { raw: *raw, fraction: feature.fraction_bits });
    }
    out.push('\n');
}
