//! The shipped module: packet path and model together, everything but the metadata.

use super::network::{self, MAX_STAGES, NetworkCode, Weights, shadow};
use super::packet::{self, Options};
use super::scratch::Scratch;
use super::{LARGEST_OLD_VALUE, LowerError, Need, internal, loads_on};
use crate::bpf::module::Module;
use crate::check::Checked;
use crate::compile::{Plan, Target};
use crate::diag::codes::check::{KERNEL_TOO_OLD, TOO_LARGE};
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::ir::Network;
use crate::ir::flow::FlowProgram;
use crate::params::layout::{SECTION, SLOTS};
use crate::spec::typed::FeatureSpec;

/// Lowers a plan with a specification to the module that is shipped, or replayed.
///
/// # Errors
///
/// `E0411` when the plan passes a fixed limit of the kernel, `E0410` when it needs a later one. Without a specification the module holds the
/// model only.
pub fn shipped(plan: &Plan, target: &Target) -> Outcome<Module> {
    build(plan, target).map_err(|error| vec![refusal(plan.spec.as_ref(), &error)])
}

fn build(plan: &Plan, target: &Target) -> Result<Module, LowerError> {
    let path = plan.flow.as_ref().zip(plan.spec.as_ref());
    with_network(&plan.network, path, target)
}

/// Why a module has no code for a shadow.
#[derive(Debug)]
pub enum NoShadow {
    /// Nothing judges packets.
    NoPacketPath,
    /// There are no slots.
    ConstantWeights,
    /// Two runs for every verdict of a packet pass the kernel's limit of tail calls.
    TailCalls,
    /// The stack before a tail call, or another fixed size, has no room for it.
    Room(LowerError),
}

/// Why the module of a plan has no code for a shadow; `None` when it has.
///
/// # Errors
///
/// As [`shipped`].
pub fn no_shadow(plan: &Plan, target: &Target) -> Outcome<Option<NoShadow>> {
    let path = plan.flow.as_ref().zip(plan.spec.as_ref());
    let built = with_reason(&plan.network, path, target);
    built.map(|(_, reason)| reason).map_err(|error| vec![refusal(plan.spec.as_ref(), &error)])
}

/// The same for any network that goes with the packet path, for example one that stands in for a model.
pub(crate) fn with_network(
    network: &Checked<Network>,
    path: Option<(&FlowProgram, &FeatureSpec)>,
    target: &Target,
) -> Result<Module, LowerError> {
    let (module, _) = with_reason(network, path, target)?;
    loads_on(&module, target.kernel)?;
    Ok(module)
}

fn with_reason(
    network: &Checked<Network>,
    path: Option<(&FlowProgram, &FeatureSpec)>,
    target: &Target,
) -> Result<(Module, Option<NoShadow>), LowerError> {
    let mut code = network::lower(network, target.network)?;
    let Some(path) = path else {
        return Ok((assemble(code, None), Some(NoShadow::NoPacketPath)));
    };
    let network = Called { network: network.get(), tail_calls: code.stages.len(), weights: code.weights };
    let (path, reason) = packet_path(path, network, &mut code.scratch, target)?;
    Ok((assemble(code, Some(path)), reason))
}

/// What a packet path needs to know of the network that it calls.
#[derive(Clone, Copy)]
pub(crate) struct Called<'a> {
    pub(crate) network: &'a Network,
    /// Programs of the chain behind `nn_infer`.
    pub(crate) tail_calls: usize,
    pub(crate) weights: Weights,
}

/// The packet path around a network, which appends its part to scratch, and why there is no code for a shadow.
pub(crate) fn packet_path(
    (flow, spec): (&FlowProgram, &FeatureSpec),
    called: Called<'_>,
    scratch: &mut Scratch,
    target: &Target,
) -> Result<(packet::PacketPath, Option<NoShadow>), LowerError> {
    let Called { network, tail_calls, weights } = called;
    let verdicts = flow.verdicts_per_packet();
    if tail_calls * verdicts > MAX_STAGES {
        return Err(LowerError::TooLarge {
            what: "the number of tail calls that a packet can need".to_owned(),
            value: (tail_calls * verdicts) as u64,
            limit: MAX_STAGES as u64,
        });
    }
    let path = |scratch: &mut Scratch, with_shadow: bool| {
        let shadow = if with_shadow { Some(shadow::lower(network, scratch)?) } else { None };
        let options = Options {
            clock: target.clock,
            fragments: target.fragments,
            chained: tail_calls > 0,
            weights,
            shadow: with_shadow,
            kernel: target.kernel,
        };
        let mut path = packet::lower(flow, spec, network.output_count(), scratch, options)?;
        if let Some((function, map)) = shadow {
            path.functions.push(function);
            path.maps.push(map);
        }
        Ok(path)
    };
    let reason = if weights == Weights::Const {
        NoShadow::ConstantWeights
    } else if !shadow::fits(tail_calls, verdicts) {
        NoShadow::TailCalls
    } else {
        let before = scratch.clone();
        match path(scratch, true) {
            // A shadow is no reason to refuse what fits without one.
            Err(error @ (LowerError::FrameTooLarge { .. } | LowerError::TooLarge { .. })) => {
                *scratch = before;
                NoShadow::Room(error)
            }
            result => return Ok((result?, None)),
        }
    };
    Ok((path(scratch, false)?, Some(reason)))
}

/// Everything but the metadata.
pub(crate) fn assemble(code: NetworkCode, path: Option<packet::PacketPath>) -> Module {
    let NetworkCode { infer, stages, maps, data, scratch, .. } = code;
    let mut module = Module {
        programs: Vec::new(),
        functions: vec![infer],
        maps: vec![scratch.map()],
        data,
        metadata: Vec::new(),
    };
    if let Some(path) = path {
        module.programs.push(path.entry);
        module.programs.extend(path.sweep);
        module.functions.extend(path.functions);
        module.maps.extend(path.maps);
        module.data.extend(path.data);
    }
    // Every program of a chain has the type of the one that enters it.
    let section = module.programs.first().map(|entry| entry.section.clone());
    module.programs.extend(stages.into_iter().map(|mut stage| {
        if let Some(section) = &section {
            stage.section.clone_from(section);
        }
        stage
    }));
    module.maps.extend(maps);
    module
}

/// The diagnostic for a plan that cannot be lowered: `E0411` where it passes a limit, whatever it was lowered for,
/// `E0410` where the kernel that it is for is too old.
#[must_use]
pub fn refusal(spec: Option<&FeatureSpec>, error: &LowerError) -> Diagnostic {
    refusal_in(spec.map_or("the model", |spec| spec.file.as_str()), error)
}

/// What is told of a module that cannot be; `file` is whose size it depends on.
pub(crate) fn refusal_in(file: &str, error: &LowerError) -> Diagnostic {
    let too_large = |origin: Origin, help: &str| {
        Diagnostic::new(&TOO_LARGE, origin, format!("the program does not fit the kernel: {error}"), help)
    };
    match error {
        LowerError::TooLarge { .. } | LowerError::FrameTooLarge { .. } => too_large(
            Origin::File { file: file.to_owned() },
            "use fewer or shorter features, fewer rules with `when p >= …`, or a model with narrower layers",
        ),
        LowerError::KernelTooOld { since, need: Need::LargeValue { section, bytes }, .. } => Diagnostic::new(
            &KERNEL_TOO_OLD,
            Origin::Flag { flag: "--kernel".to_owned() },
            error.to_string(),
            // Constants stand in the object once, slots twice.
            if section == SECTION && bytes / SLOTS as usize <= LARGEST_OLD_VALUE {
                format!("target Linux {since} or later, or give up updates: `--weights const` needs half of it")
            } else {
                format!("target Linux {since} or later, or use a model with fewer weights")
            },
        ),
        LowerError::KernelTooOld { since, need: Need::FlowRecords { span }, .. } => Diagnostic::new(
            &KERNEL_TOO_OLD,
            Origin::Source { file: file.to_owned(), span: span.clone() },
            error.to_string(),
            format!("target Linux {since} or later, or judge single packets with `packets on …;`"),
        )
        .with_primary("records that all processors share")
        .with_note("two processors can carry the two directions of one flow; additions alone lose what one of them saw"),
        LowerError::OutOfRegisters { .. }
        | LowerError::UseBeforeDefinition { .. }
        | LowerError::BrokenFlow { .. }
        | LowerError::WrongAllocation { .. } => internal(error),
    }
}
