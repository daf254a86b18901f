//! `nnbpfc replay`: judges the packets of a capture by the engine that was asked for.
//!
//! One row per packet, with the verdict on its flow where one was due. A packet that retires an idle record
//! has a row for that record's verdict before its own.

use std::fmt::Write as _;

use nnbpf_compiler::capture::{self, Packet};
use nnbpf_compiler::compile;
use nnbpf_compiler::diag::codes::files::FLAG;
use nnbpf_compiler::diag::{Diagnostic, Origin};
use nnbpf_compiler::ir::Network;
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::ir::packet;
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::spec::typed::Transports;

use super::{further_columns, labels_and_scores};
use crate::args::{ReplayArgs, ReplayEngine};
use crate::engines::{Engine, Fate, Interpreted, Judged, Running, Virtual};
use crate::inputs::{Files, Loaded, target};
use crate::{Refusal, files};

/// Longest frame that a test run takes without fragments.
const LINEAR_FRAME: usize = 3_520;

pub fn run(args: &ReplayArgs) -> Result<(), Refusal> {
    let inputs = Files::read(&args.model, Some(&args.spec), &args.surroundings, &args.accuracy)?;
    let plan = inputs.plan(&args.accuracy)?;
    let file = Loaded::read(&args.capture)?;
    let capture = capture::read(&file.name, &file.bytes)?;
    super::warn_about(&capture);
    let (Some(flow), Some(spec)) = (&plan.flow, &plan.spec) else { return Err(no_flow().into()) };
    let mode = if args.enforce { Mode::Enforce } else { Mode::Monitor };
    let network = plan.network.get();

    let mut target = target(KernelVersion::DEFAULT, args.split, Clock::Replay);
    target.fragments = capture.packets.iter().any(|packet| packet.data.len() > LINEAR_FRAME);
    let module = || compile::module(&plan, &target).map_err(|refused| inputs.refusal(refused));
    let shown = Shown { network, transports: flow.transports };
    let text = match args.engine {
        ReplayEngine::Ir => judge(Interpreted::new(flow, network, mode), shown, &capture.packets)?,
        ReplayEngine::Vm => judge(Virtual::new(&module()?, spec.hook, mode)?, shown, &capture.packets)?,
        ReplayEngine::Kernel => judge(Running::new(&module()?, spec.hook, mode)?, shown, &capture.packets)?,
    };
    Ok(files::write(&args.output, text.as_bytes())?)
}

/// What rows are made with.
#[derive(Clone, Copy)]
struct Shown<'a> {
    network: &'a Network,
    transports: Transports,
}

fn judge(mut engine: impl Engine, shown: Shown<'_>, packets: &[Packet<'_>]) -> Result<String, Refusal> {
    let mut text = String::from("packet,ts_ns,src,dst,sport,dport,proto,trigger,label,score,action");
    text.push_str(&further_columns(&shown.network.decision));
    text.push('\n');
    for packet in packets {
        let result = engine.packet(packet.data, packet.ts_ns)?;
        if let Some(verdict) = &result.retired {
            row(&mut text, packet, shown, Some(verdict), Fate::Pass);
        }
        row(&mut text, packet, shown, result.own.as_ref(), result.fate);
    }
    Ok(text)
}

fn row(text: &mut String, packet: &Packet<'_>, shown: Shown<'_>, verdict: Option<&Judged>, fate: Fate) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{},{},", packet.number, packet.ts_ns);
    let _ = match packet::parse(packet.data, shown.transports) {
        Ok(p) => write!(text, "{},{},{},{},{},", p.src, p.dst, p.src_port, p.dst_port, p.proto),
        Err(_) => write!(text, ",,,,,"),
    };
    let _ = match verdict {
        Some(verdict) => {
            let trigger = verdict.trigger.name();
            let mut judged = labels_and_scores(shown.network, &verdict.outputs);
            let first = judged.next().unwrap_or_default();
            let further: String = judged.map(|cells| format!(",{cells}")).collect();
            writeln!(text, "{trigger},{first},{}{further}", verdict.action())
        }
        None => {
            let further = ",,".repeat(shown.network.decision.further.len());
            writeln!(text, ",,,{}{further}", if fate == Fate::Pass { "pass" } else { "blocked" })
        }
    };
}

fn no_flow() -> Diagnostic {
    Diagnostic::new(
        &FLAG,
        Origin::Flag { flag: "SPEC".to_owned() },
        "replay needs a specification",
        "write `nnbpfc replay MODEL SPEC CAPTURE --engine ir -o verdicts.csv`",
    )
}
