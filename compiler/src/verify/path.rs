//! Everything around the network, compiled again from the specification in the metadata and compared instruction by
//! instruction.
//!
//! This rests on the compiler itself: it shows that the object is what this release makes of the specification, not
//! that this is right. Functions of the network are left to [`crate::prove`], their names, sections and parameters
//! are compared here.

use super::refused;
use crate::bpf::assemble::assemble;
use crate::bpf::decode::disassemble;
use crate::bpf::module::{Function, Line, Module, Parameter};
use crate::bpf::{Insn, Reg};
use crate::check::Checked;
use crate::compile::Target;
use crate::diag::Outcome;
use crate::diag::codes::object::{METADATA_FALSE, NOT_THE_PATH, OTHER_COMPILER};
use crate::ir::{Network, flow};
use crate::kernel::KernelVersion;
use crate::lower::network::{self, FUNCTION, NetworkCode, Weights, program_array};
use crate::lower::packet::{Clock, ENTRY, maps::CLOCK};
use crate::lower::scratch::Scratch;
use crate::lower::shipped::{Called, assemble as put_together, packet_path, refusal};
use crate::lower::{cost, loads_on};
use crate::metadata::{self, Metadata, SpecMetadata};
use crate::params::layout::{Layout, active_data};
use crate::params::slot;
use crate::spec::typed::FeatureSpec;
use crate::spec::{self, Surroundings};

/// Section of programs that take frames of several buffers.
const FRAGMENTS: &str = "xdp.frags";

/// Bits of line and column that line info keeps.
const MOST_LINE: u32 = (1 << 22) - 1;
const MOST_COLUMN: u32 = (1 << 10) - 1;

/// What the object must consist of; the functions of the network are those of the object.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    module: Module,
    pub(super) clock: Clock,
}

/// Whether a function belongs to the network: `nn_infer`, or a program of its chain.
#[must_use]
pub fn is_network(name: &str) -> bool {
    name == FUNCTION || name.strip_prefix("nn_layer").is_some_and(|rest| rest.parse::<usize>().is_ok())
}

impl Expected {
    /// Compiles the specification again.
    ///
    /// # Errors
    ///
    /// `E0715` when another release compiled the object, `E0709` when the metadata does not say what the
    /// specification says, and what compiling it may refuse.
    pub(super) fn derive(
        module: &Module,
        metadata: &Metadata,
        network: &Checked<Network>,
        file: &str,
    ) -> Outcome<Self> {
        if metadata.compiler != super::VERSION {
            let message = format!(
                "release {} compiled the object, and this is {}: its packet path cannot be derived again",
                metadata.compiler,
                super::VERSION
            );
            return Err(refused(&OTHER_COMPILER, file, message));
        }
        let wrong = |message: &str| refused(&METADATA_FALSE, file, message);
        let kernel =
            KernelVersion::named(&metadata.kernel).filter(|kernel| kernel.to_string() == metadata.kernel);
        let kernel = kernel.ok_or_else(|| wrong("the kernel is no version"))?;
        let clock =
            if module.data.iter().any(|data| data.section == CLOCK) { Clock::Replay } else { Clock::Kernel };
        let entry = module.programs.iter().find(|program| program.name == ENTRY);
        let target = Target {
            kernel,
            network: network::Options { weights: metadata.weights, ..network::Options::default() },
            clock,
            fragments: entry.is_some_and(|entry| entry.section == FRAGMENTS),
        };
        let spec = metadata.spec.as_ref().map(compiled_again).transpose()?;
        let program = spec.as_ref().map(flow::build).transpose()?;
        let path = program.as_ref().zip(spec.as_ref());
        statements(metadata, network.get(), path).map_err(|what| wrong(&what))?;
        let mut code = network_code(module, network.get(), metadata.weights, file)?;
        let lowered = (|| {
            let called =
                Called { network: network.get(), tail_calls: code.stages.len(), weights: code.weights };
            let path = path.map(|path| packet_path(path, called, &mut code.scratch, &target)).transpose()?;
            let module = put_together(code, path.map(|(path, _)| path));
            loads_on(&module, kernel)?;
            Ok(module)
        })();
        let mut expected = lowered.map_err(|error| vec![refusal(spec.as_ref(), &error)])?;
        for function in expected.programs.iter_mut().chain(&mut expected.functions) {
            if !is_network(&function.name) {
                *function = normal(function).ok_or_else(|| wrong("a function cannot be written"))?;
            }
        }
        Ok(Self { module: expected, clock })
    }

    /// Compares a whole module but for the code of its network.
    ///
    /// # Errors
    ///
    /// `E0714`, for the first difference.
    pub(super) fn compare(&self, module: &Module, file: &str) -> Outcome<()> {
        let expected = &self.module;
        names("programs", &expected.programs, &module.programs, |f| f.name.clone(), file)?;
        names("functions", &expected.functions, &module.functions, |f| f.name.clone(), file)?;
        let functions = module.programs.iter().chain(&module.functions);
        for (expected, found) in expected.programs.iter().chain(&expected.functions).zip(functions) {
            compare_function(expected, found, file)?;
        }
        names("maps", &expected.maps, &module.maps, |map| map.name.clone(), file)?;
        for (expected, found) in expected.maps.iter().zip(&module.maps) {
            if expected != found {
                let message = format!("the map `{}` is of another kind, size, type or content", found.name);
                return Err(refused(&NOT_THE_PATH, file, message));
            }
        }
        names("data sections", &expected.data, &module.data, |data| data.section.clone(), file)?;
        for (expected, found) in expected.data.iter().zip(&module.data) {
            if expected != found {
                let message = format!("the section `{}` has another type or content", found.section);
                return Err(refused(&NOT_THE_PATH, file, message));
            }
        }
        Ok(())
    }

    /// Compares one function, by its name.
    ///
    /// # Errors
    ///
    /// As [`Self::compare`].
    pub(super) fn compare_one(&self, found: &Function, file: &str) -> Outcome<()> {
        let mut all = self.module.programs.iter().chain(&self.module.functions);
        match all.find(|expected| expected.name == found.name) {
            Some(expected) => compare_function(expected, found, file),
            None => Err(refused(&NOT_THE_PATH, file, format!("`{}` should not be there", found.name))),
        }
    }
}

fn compiled_again(stored: &SpecMetadata) -> Outcome<FeatureSpec> {
    let parameters = stored.given();
    let surroundings = Surroundings { parameters: &parameters, fragments: stored };
    spec::compile_in(&stored.file(), &stored.source, &surroundings)
}

/// What the metadata says of specification and inputs, beside what the specification says.
fn statements(
    metadata: &Metadata,
    network: &Network,
    path: Option<(&flow::FlowProgram, &FeatureSpec)>,
) -> Result<(), String> {
    let spec = path.map(|(_, spec)| spec);
    if metadata.features != metadata::features(network, spec) {
        return Err("the features are not those of the plan and the specification".to_owned());
    }
    if metadata.hook != spec.map(|spec| spec.hook) {
        return Err("the hook is not that of the specification".to_owned());
    }
    let Some(((flow, spec), stored)) = path.zip(metadata.spec.as_ref()) else { return Ok(()) };
    let again = SpecMetadata::of(spec, Some(flow));
    let same = [
        ("name", again.name == stored.name),
        ("version", again.version == stored.version),
        ("hash", again.sha256 == stored.sha256),
        ("record", again.records == stored.records),
        ("further tables", again.tables == stored.tables),
        ("rules", again.rules == stored.rules),
    ];
    if let Some((what, _)) = same.iter().find(|(_, same)| !same) {
        return Err(format!("the {what} of the specification is another one than its text gives"));
    }
    let inputs = spec.inputs();
    if inputs.len() != network.inputs.len() || inputs != network.inputs {
        return Err("the inputs of the plan are not the features of the specification".to_owned());
    }
    Ok(())
}

/// The network's part of the module: its functions as they are, everything else as it must be.
fn network_code(module: &Module, network: &Network, weights: Weights, file: &str) -> Outcome<NetworkCode> {
    let infer = module.functions.iter().find(|function| function.name == FUNCTION);
    let infer = infer
        .cloned()
        .ok_or_else(|| refused(&METADATA_FALSE, file, format!("the function `{FUNCTION}` is missing")))?;
    let stages: Vec<Function> =
        module.programs.iter().filter(|program| is_network(&program.name)).cloned().collect();
    let layout = Layout::new(network);
    let slot = slot::bytes(network);
    let scratch = Scratch::new(network).map_err(|error| vec![refusal(None, &error)])?;
    let maps = if stages.is_empty() { Vec::new() } else { vec![program_array(&stages)] };
    let data = match weights {
        Weights::Map => vec![layout.params_data(&slot), active_data()],
        Weights::Const => vec![layout.constants_data(slot)],
    };
    let parameters = |first: bool| match weights {
        Weights::Map if first => vec![Parameter::Context, Parameter::Scalar],
        Weights::Map | Weights::Const => vec![Parameter::Context],
    };
    let stage = |(number, stage): (usize, Function)| Function {
        name: format!("nn_layer{number}"),
        section: "xdp".to_owned(),
        parameters: parameters(false),
        ..stage
    };
    Ok(NetworkCode {
        infer: Function { section: ".text".to_owned(), parameters: parameters(true), ..infer },
        stages: stages.into_iter().enumerate().map(stage).collect(),
        maps,
        data,
        scratch,
        layout,
        weights,
        predicted: Vec::new(),
    })
}

/// The function as it comes out of an object.
fn normal(function: &Function) -> Option<Function> {
    let assembled = assemble(function).ok()?;
    let code = disassemble(&assembled.bytes, &assembled.relocations).ok()?;
    let mut lines = assembled.line_of.iter();
    let mut line_of = Vec::with_capacity(code.len());
    for insn in &code {
        // A label stands before the slot of the next instruction, a wide constant takes two.
        let line = if matches!(insn, Insn::Label(_)) { lines.clone().next() } else { lines.next() };
        if matches!(insn, Insn::LoadImm64 { .. }) {
            lines.next();
        }
        line_of.push(line.copied().unwrap_or(0));
    }
    Some(Function { code, line_of, ..function.clone() })
}

fn names<T>(what: &str, expected: &[T], found: &[T], name: impl Fn(&T) -> String, file: &str) -> Outcome<()> {
    let all = |parts: &[T]| parts.iter().map(&name).collect::<Vec<_>>();
    let (expected, found) = (all(expected), all(found));
    if expected == found {
        return Ok(());
    }
    let (expected, found) = (expected.join(" "), found.join(" "));
    Err(refused(&NOT_THE_PATH, file, format!("the {what} are `{found}`, not `{expected}`")))
}

fn compare_function(expected: &Function, found: &Function, file: &str) -> Outcome<()> {
    let name = &found.name;
    let differs = |what: String| Err(refused(&NOT_THE_PATH, file, format!("`{name}` {what}")));
    if expected.name != *name {
        return differs(format!("stands where `{}` belongs", expected.name));
    }
    if (&expected.section, &expected.parameters) != (&found.section, &found.parameters) {
        return differs("is in another section or takes other parameters".to_owned());
    }
    if is_network(name) {
        return Ok(());
    }
    let insns = |function: &Function| {
        let code = function.code.iter().zip(&function.line_of);
        code.filter(|(insn, _)| !matches!(insn, Insn::Label(_)))
            .map(|(insn, line)| (insn.clone(), *line))
            .collect::<Vec<(Insn<Reg>, u32)>>()
    };
    let (theirs, ours) = (insns(found), insns(expected));
    for (index, ((found_insn, _), (insn, _))) in theirs.iter().zip(&ours).enumerate() {
        if found_insn != insn {
            return differs(format!("has `{found_insn}` as instruction {index}, not `{insn}`"));
        }
    }
    if theirs.len() != ours.len() {
        return differs(format!("has {} instructions, not {}", theirs.len(), ours.len()));
    }
    let none = Line::default();
    for (index, ((_, a), (_, b))) in theirs.iter().zip(&ours).enumerate() {
        let line = |function: &Function, index: u32| {
            let line = function.lines.get(index as usize).unwrap_or(&none);
            (line.line.min(MOST_LINE), line.column.min(MOST_COLUMN), line.text.replace('\0', " "))
        };
        if line(found, *a) != line(expected, *b) {
            return differs(format!("has another line at instruction {index}"));
        }
    }
    Ok(())
}

/// The stated frames, beside those of the code.
pub(super) fn stack(module: &Module, metadata: &Metadata, file: &str) -> Outcome<()> {
    let functions = module.programs.iter().chain(&module.functions);
    let frames = functions.map(|function| (function.name.clone(), cost::stack(function))).collect();
    if metadata.stack == frames {
        return Ok(());
    }
    Err(refused(&METADATA_FALSE, file, "the stated stack frames are not those of the functions"))
}
