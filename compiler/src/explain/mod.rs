//! What a specification costs, before there is a model: layout, memory, and work per packet, feature by feature.
//!
//! Work is counted, not guessed: the packet path is lowered around a network that stands in for a model, and
//! executed in the virtual machine on sample traffic; instructions and helper calls of the model are left
//! out. [Prices](prices) turn counts into nanoseconds. A feature costs what the packet path costs with it less what it
//! costs without it, so what features share is nobody's: it is saved only when all of them go.

mod stand_in;
mod sample;
pub mod work;
pub mod prices;
pub mod layout;
pub mod memory;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::bpf::module::{MapKind, Module, Parameter, Type};
use crate::compile::Target;
use crate::diag::{Diagnostic, Outcome};
use crate::ir::flow::{self, FlowProgram};
use crate::lower::builder::Builder;
use crate::lower::code::FrameLimit;
use crate::lower::network::FUNCTION as MODEL;
use crate::lower::packet::maps::{EVENTS, FLOWS};
use crate::lower::packet::{ENTRY, hook};
use crate::lower::{internal, shipped};
use crate::spec::advice;
use crate::spec::typed::{FeatureSpec, Scope, Triggers};
use crate::vm::Vm;
use layout::{Part, Table};
use memory::MapMemory;
use work::{Count, Sizes, Work};

/// Entries of a map in the virtual machine; the samples need a few.
const SAMPLE_ENTRIES: u32 = 1_024;

/// The cost of a specification.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    pub spec: String,
    pub hook: &'static str,
    pub kernel: String,
    pub tables: Vec<Table>,
    pub maps: Vec<MapMemory>,
    pub packets: Vec<PacketCost>,
    /// Tables beside the flow's own, and windows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartCost>,
    pub features: Vec<FeatureCost>,
}

/// Mean cost of one kind of packet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PacketCost {
    pub kind: &'static str,
    /// What the kind is.
    pub about: &'static str,
    /// Packets of the sample traffic that are of this kind.
    pub samples: u64,
    pub instructions: f64,
    pub ns: f64,
    pub helper_calls: Vec<HelperCalls>,
}

/// Mean number of calls of one helper on one map.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HelperCalls {
    pub helper: &'static str,
    /// Empty for helpers without a map.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub map: String,
    pub per_packet: f64,
}

/// What one feature costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureCost {
    pub name: String,
    pub slots: Vec<SlotUse>,
    /// Bytes that a record would be smaller without the feature.
    pub record_bytes: i64,
    /// On the path of an ordinary packet.
    pub packet_instructions: f64,
    pub packet_ns: f64,
    /// More, when a verdict is due.
    pub verdict_instructions: f64,
    pub verdict_ns: f64,
}

/// What a table beside the flow's own costs (`per …`), or a window (`over …`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PartCost {
    /// The map, and behind a dot the member of its records that a window is.
    pub name: String,
    /// Of each record.
    pub bytes: u32,
    /// At capacity: of a table with the kernel's overhead, of a window its bytes in all records.
    pub memory_bytes: u64,
    /// Features that are computed from it.
    pub features: Vec<String>,
    /// Less what the path of an ordinary packet costs without these features.
    pub packet_instructions: f64,
    pub packet_ns: f64,
    /// More, when a verdict is due.
    pub verdict_instructions: f64,
    pub verdict_ns: f64,
}

/// A slot that a feature is computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SlotUse {
    pub name: String,
    pub bytes: u32,
    /// Other features that are computed from it.
    pub shared_with: Vec<String>,
}

/// Explains a specification.
///
/// # Errors
///
/// `E0411` when the packet path passes a limit of the kernel.
pub fn explain(spec: &FeatureSpec, target: &Target) -> Outcome<Explanation> {
    let program = flow::build(spec)?;
    let whole = module(spec, target, false)?;
    let own = Sampled::of(&whole, &program)?;
    let cost = Cost::of(spec, target)?;
    let features = feature_costs(spec, &program, target, &cost)?;
    let acted = Sampled::of(&module(&at_every_packet(spec), target, true)?, &program)?.judged;
    let ordinary = if own.ordinary.packets == 0 { &cost.quiet } else { &own.ordinary };
    let acts = spec.rules.iter().any(|rule| !rule.actions.is_empty());
    let packets = match spec.flow.scope {
        Scope::Flow => {
            let all = [
                packet("ordinary", "of a known flow, without a verdict", ordinary),
                packet("first", "the first one of a flow, without a verdict", &own.first),
                packet("judged", "of a known flow, no rule fires", &cost.judged),
            ];
            let acted =
                acts.then(|| packet("acted on", "of a known flow, every rule fires, monitor mode", &acted));
            all.into_iter().chain(acted).collect()
        }
        Scope::Packet => {
            let all = [
                packet("ordinary", "without a verdict", ordinary),
                packet("judged", "no rule fires", &cost.judged),
            ];
            let acted = acts.then(|| packet("acted on", "every rule fires, monitor mode", &acted));
            all.into_iter().chain(acted).collect()
        }
    };
    let (tables, maps) = (layout::tables(&whole, &program), memory::maps(&whole));
    let parts = layout::parts(&program, &tables);
    let parts = parts.iter().map(|part| part_cost(spec, &program, target, &cost, part, &maps));
    Ok(Explanation {
        spec: spec.name.clone(),
        hook: spec.hook.name(),
        kernel: target.kernel.to_string(),
        parts: parts.collect::<Outcome<_>>()?,
        tables,
        maps,
        packets,
        features,
    })
}

/// Everything about a specification that is worth a warning: what [`advice`] finds, and large tables.
///
/// # Errors
///
/// Those of [`explain`].
pub fn warnings(spec: &FeatureSpec, target: &Target) -> Outcome<Vec<Diagnostic>> {
    let maps = memory::maps(&module(spec, target, false)?);
    let mut found = advice::warnings(spec);
    found.extend(memory::large_state(spec, &maps));
    Ok(found)
}

/// What a specification with only some of its features costs on the path of every packet, in nanoseconds, and in
/// bytes of a record.
///
/// # Errors
///
/// Those of [`explain`].
pub fn cost_of_some(
    spec: &FeatureSpec,
    target: &Target,
    keep: impl Fn(usize) -> bool,
) -> Outcome<(f64, u32)> {
    let cost = Cost::of(&some(spec, keep), target)?;
    Ok((cost.quiet.nanoseconds_per_packet(prices::price), cost.record_bytes))
}

fn feature_costs(
    spec: &FeatureSpec,
    program: &FlowProgram,
    target: &Target,
    with: &Cost,
) -> Outcome<Vec<FeatureCost>> {
    program
        .features
        .iter()
        .enumerate()
        .map(|(index, feature)| {
            let without = Cost::of(&some(spec, |other| other != index), target)?;
            let mut ids: Vec<_> = feature.value.leaves().into_iter().flat_map(|leaf| leaf.slots()).collect();
            ids.sort_unstable();
            ids.dedup();
            let slots = ids.into_iter().map(|id| {
                let slot = program.slot(id);
                let mut shared_with = layout::users(program, id);
                shared_with.retain(|user| *user != feature.name);
                SlotUse { name: slot.name.clone(), bytes: slot.width.bytes(), shared_with }
            });
            let (packet, bare_packet) = (with.quiet_cost(), without.quiet_cost());
            let (verdict, bare_verdict) = (with.verdict_cost(), without.verdict_cost());
            Ok(FeatureCost {
                name: feature.name.clone(),
                slots: slots.collect(),
                record_bytes: i64::from(with.record_bytes) - i64::from(without.record_bytes),
                packet_instructions: packet.0 - bare_packet.0,
                packet_ns: packet.1 - bare_packet.1,
                verdict_instructions: verdict.0 - bare_verdict.0,
                verdict_ns: verdict.1 - bare_verdict.1,
            })
        })
        .collect()
}

fn part_cost(
    spec: &FeatureSpec,
    program: &FlowProgram,
    target: &Target,
    with: &Cost,
    part: &Part,
    maps: &[MapMemory],
) -> Outcome<PartCost> {
    let without = Cost::of(&some(spec, |feature| !part.feeds(program, feature)), target)?;
    let map = maps.iter().find(|map| map.map == part.name);
    let features = spec.features.iter().enumerate().filter(|(index, _)| part.feeds(program, *index));
    let (packet, bare_packet) = (with.quiet_cost(), without.quiet_cost());
    let (verdict, bare_verdict) = (with.verdict_cost(), without.verdict_cost());
    Ok(PartCost {
        name: part.name.clone(),
        bytes: part.bytes,
        memory_bytes: map.map_or(u64::from(part.bytes) * u64::from(part.entries), |map| map.bytes),
        features: features.map(|(_, feature)| feature.name.clone()).collect(),
        packet_instructions: packet.0 - bare_packet.0,
        packet_ns: packet.1 - bare_packet.1,
        verdict_instructions: verdict.0 - bare_verdict.0,
        verdict_ns: verdict.1 - bare_verdict.1,
    })
}

/// Work of one version of a specification.
struct Cost {
    record_bytes: u32,
    /// Packets, of a known flow where there are flows, that are never judged.
    quiet: Work,
    /// The same packets, each judged.
    judged: Work,
}

impl Cost {
    fn of(spec: &FeatureSpec, target: &Target) -> Outcome<Self> {
        let never = FeatureSpec { triggers: Triggers::default(), ..spec.clone() };
        let program = flow::build(&never)?;
        let quiet = Sampled::of(&module(&never, target, false)?, &program)?.ordinary;
        let judged = Sampled::of(&module(&at_every_packet(spec), target, false)?, &program)?.judged;
        let record_bytes = match program.scope {
            Scope::Flow => program.record.size,
            Scope::Packet => 0,
        };
        Ok(Self { record_bytes, quiet, judged })
    }

    /// Instructions and nanoseconds of an ordinary packet.
    fn quiet_cost(&self) -> (f64, f64) {
        (self.quiet.instructions_per_packet(), self.quiet.nanoseconds_per_packet(prices::price))
    }

    /// What a verdict adds.
    fn verdict_cost(&self) -> (f64, f64) {
        let (instructions, ns) = self.quiet_cost();
        (
            self.judged.instructions_per_packet() - instructions,
            self.judged.nanoseconds_per_packet(prices::price) - ns,
        )
    }
}

fn at_every_packet(spec: &FeatureSpec) -> FeatureSpec {
    FeatureSpec { triggers: Triggers { every: Some(1), ..Triggers::default() }, ..spec.clone() }
}

fn some(spec: &FeatureSpec, keep: impl Fn(usize) -> bool) -> FeatureSpec {
    let mut some = spec.clone();
    let mut index = 0;
    some.features.retain(|_| {
        index += 1;
        keep(index - 1)
    });
    some
}

/// One packet over and over, as the kernel's test runs take it.
pub struct Traffic {
    pub module: Module,
    /// A program of the same hook that passes every packet.
    pub empty: Module,
    pub frame: Vec<u8>,
    /// What the packet executes, the network in the place of the model included.
    pub work: Work,
}

/// What a measurement is compared with: a segment without peculiarities, judged or not.
///
/// # Errors
///
/// Those of [`explain`].
pub fn repeated(spec: &FeatureSpec, target: &Target, judged: bool) -> Outcome<Traffic> {
    let spec = if judged {
        at_every_packet(spec)
    } else {
        FeatureSpec { triggers: Triggers::default(), ..spec.clone() }
    };
    let program = flow::build(&spec)?;
    let module = module(&spec, target, false)?;
    let traffic = sample::repeated(program.transports);
    let frame = traffic.first().map(|frame| frame.bytes.clone()).unwrap_or_default();
    let sampled = Sampled::through(&module, traffic, Count::All)?;
    let work = if judged { sampled.judged } else { sampled.ordinary };
    let mut pass = Builder::new(ENTRY, hook::section(spec.hook, target.fragments), &[Parameter::Context]);
    pass.ret(hook::answers(spec.hook).pass);
    let pass = pass.finish(FrameLimit::Leaf).map_err(|error| vec![internal(&error)])?;
    let empty = Module { programs: vec![pass], ..Module::default() };
    Ok(Traffic { module, empty, frame, work })
}

/// The shipped module of a specification around a network that stands in for a model.
fn module(spec: &FeatureSpec, target: &Target, fires: bool) -> Outcome<Module> {
    let program = flow::build(spec)?;
    let network = stand_in::network(spec, fires)?;
    shipped::with_network(&network, Some((&program, spec)), target)
        .map_err(|error| vec![shipped::refusal_in(&spec.file, &error)])
}

/// Sample traffic through a module, packets sorted by what became of them.
#[derive(Default)]
struct Sampled {
    ordinary: Work,
    first: Work,
    judged: Work,
}

impl Sampled {
    fn of(module: &Module, program: &FlowProgram) -> Outcome<Self> {
        Self::through(module, sample::traffic(program.transports), Count::PacketPath)
    }

    fn through(module: &Module, traffic: Vec<sample::Frame>, count: Count) -> Outcome<Self> {
        let mut module = module.clone();
        for map in &mut module.maps {
            if matches!(map.kind, MapKind::Hash | MapKind::LruHash) {
                map.max_entries = map.max_entries.min(SAMPLE_ENTRIES);
            }
        }
        let sizes = sizes(&module);
        let mut vm = Vm::new(&module).map_err(|error| vec![internal(&error)])?;
        let mut sampled = Self::default();
        for mut frame in traffic {
            let (_, profile) =
                vm.profile(ENTRY, &mut frame.bytes, frame.at_ns).map_err(|error| vec![internal(&error)])?;
            // Events that nobody takes would fill the ring.
            if let Some(mut events) = vm.map(EVENTS) {
                drop(events.records());
            }
            let judged = profile.steps.iter().any(|step| step.function == MODEL);
            let created = profile
                .calls
                .iter()
                .any(|call| matches!(&call.map, Some((map, _)) if map == FLOWS) && is_update(call));
            match (judged, created) {
                (false, false) => sampled.ordinary.add(&profile, &sizes, count),
                (false, true) => sampled.first.add(&profile, &sizes, count),
                (true, false) => sampled.judged.add(&profile, &sizes, count),
                // A flow's first packet that is judged at once is of neither kind.
                (true, true) => {}
            }
        }
        Ok(sampled)
    }
}

fn is_update(call: &crate::vm::HelperCall) -> bool {
    call.helper == crate::bpf::Helper::MapUpdate
}

fn sizes(module: &Module) -> Sizes {
    let size = |ty: &Option<Type>| ty.as_ref().map_or(0, Type::size);
    module.maps.iter().map(|map| (map.name.clone(), (size(&map.key), size(&map.value)))).collect()
}

fn packet(kind: &'static str, about: &'static str, work: &Work) -> PacketCost {
    PacketCost {
        kind,
        about,
        samples: work.packets,
        instructions: work.instructions_per_packet(),
        ns: work.nanoseconds_per_packet(prices::price),
        helper_calls: work
            .calls
            .iter()
            .map(|((helper, map), count)| HelperCalls {
                helper,
                map: map.clone(),
                per_packet: work::mean(*count, work.packets),
            })
            .collect(),
    }
}
