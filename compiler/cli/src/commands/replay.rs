//! `nnbpfc replay`: judges the packets of a capture by the engine that was asked for.
//!
//! One row per packet, with the verdict on its flow where one was due. A packet that retires an idle record
//! has a row for that record's verdict before its own. A sweep has a row for each of its verdicts, with no packet.

use std::fmt::Write as _;

use nnbpf_compiler::capture::{self, Packet};
use nnbpf_compiler::compile;
use nnbpf_compiler::diag::codes::files::FLAG;
use nnbpf_compiler::diag::{Diagnostic, Origin};
use nnbpf_compiler::ir::Network;
use nnbpf_compiler::ir::flow::FlowProgram;
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::ir::flow::key::KeyForm;
use nnbpf_compiler::ir::flow::record::{Key, Layout, flag};
use nnbpf_compiler::ir::packet;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::spec::typed::{Nanos, Transports};

use super::{further_columns, labels_and_scores};
use crate::args::{ReplayArgs, ReplayEngine};
use crate::engines::{Engine, Fate, Interpreted, Judged, Running, Virtual};
use crate::inputs::{Files, Loaded, target_of};
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

    let mut target = target_of(&args.target, Clock::Replay)?;
    target.fragments = capture.packets.iter().any(|packet| packet.data.len() > LINEAR_FRAME);
    let module = || compile::module(&plan, &target).map_err(|refused| inputs.refusal(refused));
    let shown = Shown { network, transports: flow.transports };
    let begin = capture.packets.first().map_or(0, |packet| packet.ts_ns);
    let sweeps = match args.sweep {
        Some(_) if !flow.sweep => return Err(no_sweep(&spec.file).into()),
        every => every.map(|every| Sweeps::new(flow, begin, every)),
    };
    let text = match args.engine {
        ReplayEngine::Ir => judge(Interpreted::new(flow, network, mode), shown, sweeps, &capture.packets)?,
        ReplayEngine::Vm => {
            judge(Virtual::new(&module()?, spec.hook, mode)?, shown, sweeps, &capture.packets)?
        }
        ReplayEngine::Kernel => {
            judge(Running::new(&module()?, spec.hook, mode)?, shown, sweeps, &capture.packets)?
        }
    };
    Ok(files::write(&args.output, text.as_bytes())?)
}

/// What rows are made with.
#[derive(Clone, Copy)]
struct Shown<'a> {
    network: &'a Network,
    transports: Transports,
}

fn judge(
    mut engine: impl Engine,
    shown: Shown<'_>,
    mut sweeps: Option<Sweeps>,
    packets: &[Packet<'_>],
) -> Result<String, Refusal> {
    let mut text = String::from("packet,ts_ns,src,dst,sport,dport,proto,trigger,label,score,action");
    let further = shown.network.decision.further.iter().map(|output| &output.name);
    text.push_str(&further_columns(further));
    text.push('\n');
    for packet in packets {
        if let Some(sweeps) = &mut sweeps {
            sweeps.until(packet.ts_ns, &mut engine, shown, &mut text)?;
        }
        let result = engine.packet(packet.data, packet.ts_ns)?;
        if let Some(verdict) = &result.retired {
            row(&mut text, packet, shown, Some(verdict), Fate::Pass);
        }
        row(&mut text, packet, shown, result.own.as_ref(), result.fate);
    }
    if let Some(sweeps) = &mut sweeps {
        sweeps.until(LAST_TIME, &mut engine, shown, &mut text)?;
    }
    Ok(text)
}

/// Times are below 2^63.
const LAST_TIME: u64 = i64::MAX.cast_unsigned();

/// Sweeps at regular times, counted from the capture's first packet. One whose time is that of a packet comes before it.
struct Sweeps {
    idle: Option<Nanos>,
    active: Option<Nanos>,
    layout: Layout,
    form: KeyForm,
    begin: u64,
    every: u64,
    /// Sweeps up to this time have taken place.
    done: u64,
}

impl Sweeps {
    fn new(flow: &FlowProgram, begin: u64, seconds: u32) -> Self {
        let every = u64::from(seconds) * 1_000_000_000;
        Self {
            idle: flow.idle,
            active: flow.active,
            layout: flow.record,
            form: flow.key_form(),
            begin,
            every,
            done: begin,
        }
    }

    /// The first sweep later than a time.
    fn after(&self, time: u64) -> u64 {
        let before = time.saturating_sub(self.begin) / self.every;
        self.every.saturating_mul(before + 1).saturating_add(self.begin)
    }

    /// When a record is over: any later sweep removes it.
    fn over(&self, record: &[u8]) -> u64 {
        let plus = |at: Option<u32>, time: Option<Nanos>| {
            let since = at
                .and_then(|at| record.get(at as usize..))
                .and_then(<[u8]>::first_chunk)
                .copied()
                .map(u64::from_le_bytes);
            since.zip(time).map_or(u64::MAX, |(since, time)| since.saturating_add(time.0))
        };
        plus(self.layout.last, self.idle).min(plus(self.layout.first, self.active))
    }

    /// All sweeps that are due up to a time. Nothing happens between two of them, so each record meets the first one
    /// after it is over, and the others need not take place.
    fn until(
        &mut self,
        limit: u64,
        engine: &mut impl Engine,
        shown: Shown<'_>,
        text: &mut String,
    ) -> Result<(), Refusal> {
        if self.after(self.done) > limit {
            return Ok(());
        }
        let records = engine.records()?;
        let time = |record: &[u8]| self.after(self.over(record).max(self.done));
        let mut due: Vec<(u64, &Vec<u8>, &Vec<u8>)> =
            records.iter().map(|(key, record)| (time(record), key, record)).collect();
        due.retain(|(time, ..)| *time <= limit);
        due.sort();
        for (now, key, record) in due {
            let Some(verdict) = engine.sweep(key, now)? else { continue };
            // Writing to a string cannot fail.
            let _ = write!(text, ",{now},{}", ends(self.form.read(key), record, self.layout));
            judged(text, shown, &verdict);
        }
        self.done = limit;
        Ok(())
    }
}

/// Forward sender, receiver, their ports and the protocol, as far as the key names them.
fn ends(key: Option<Key>, record: &[u8], layout: Layout) -> String {
    let Some(Key { a, b, a_port, b_port, proto }) = key else { return ",,,,,".to_owned() };
    let flags = record.get(layout.flags as usize..).and_then(<[u8]>::first_chunk).copied();
    if flags.map_or(0, u32::from_le_bytes) & flag::FORWARD_IS_B == 0 {
        format!("{a},{b},{a_port},{b_port},{proto},")
    } else {
        format!("{b},{a},{b_port},{a_port},{proto},")
    }
}

fn row(text: &mut String, packet: &Packet<'_>, shown: Shown<'_>, verdict: Option<&Judged>, fate: Fate) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{},{},", packet.number, packet.ts_ns);
    let _ = match packet::parse(packet.data, shown.transports) {
        Ok(p) => write!(text, "{},{},{},{},{},", p.src, p.dst, p.src_port, p.dst_port, p.proto),
        Err(_) => write!(text, ",,,,,"),
    };
    match verdict {
        Some(verdict) => judged(text, shown, verdict),
        None => {
            let further = ",,".repeat(shown.network.decision.further.len());
            let _ = writeln!(text, ",,,{}{further}", if fate == Fate::Pass { "pass" } else { "blocked" });
        }
    }
}

/// A verdict to the end of its row.
fn judged(text: &mut String, shown: Shown<'_>, verdict: &Judged) {
    let trigger = verdict.trigger.name();
    let mut judged = labels_and_scores(shown.network, &verdict.outputs);
    let first = judged.next().unwrap_or_default();
    let further: String = judged.map(|cells| format!(",{cells}")).collect();
    let _ = writeln!(text, "{trigger},{first},{}{further}", verdict.action());
}

fn no_sweep(spec: &str) -> Diagnostic {
    Diagnostic::new(
        &FLAG,
        Origin::Flag { flag: "--sweep".to_owned() },
        format!("{spec} asks for no sweeps"),
        "write `sweep` behind the idle time of its flow block, as in `idle 60 s sweep;`",
    )
}

fn no_flow() -> Diagnostic {
    Diagnostic::new(
        &FLAG,
        Origin::Flag { flag: "SPEC".to_owned() },
        "replay needs a specification",
        "write `nnbpfc replay MODEL SPEC CAPTURE --engine ir -o verdicts.csv`",
    )
}
