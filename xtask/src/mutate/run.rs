//! Mutants of the network that were accepted, beside the original on many rows in the user-space virtual machine.

use nnbpf_compiler::bpf::module::{Function, Module};
use nnbpf_compiler::ir::{Network, Op};
use nnbpf_compiler::lower::evaluation::{self, BENCH};
use nnbpf_compiler::lower::network::Weights;
use nnbpf_compiler::lower::scratch::{MAP, Scratch};
use nnbpf_compiler::metadata::Metadata;
use nnbpf_compiler::params::layout::{ACTIVE_SECTION, SECTION};
use nnbpf_compiler::params::slot;
use nnbpf_compiler::vm::Vm;

use super::cases::Subject;
use super::mutant::Random;

/// Rows that a mutant must agree on to count as equivalent.
pub(super) const ROWS: usize = 10_000;

/// The shortest packet that a program takes; the network does not look at it.
const PACKET: usize = 64;

/// What an inference leaves: the answer, and label, rules, outputs and further labels.
type Answer = Option<(u64, Vec<u8>)>;

/// The original with what it says about the rows.
pub(super) struct Reference {
    module: Module,
    rows: Vec<Vec<i64>>,
    /// Another network of the same plan, for the second slot.
    second: Option<Vec<u8>>,
    scratch: Scratch,
    /// Bytes of scratch that are compared.
    parts: Vec<std::ops::Range<usize>>,
    answers: Vec<Answer>,
}

impl Reference {
    /// Runs the original on rows that are drawn from this seed.
    pub(super) fn new(subject: &Subject, seed: u64) -> Result<Self, String> {
        let network = subject.plan.network.get();
        let module = evaluation::module(&subject.plan.network, subject.options, 1)
            .map_err(|error| format!("{}: {error}", subject.name))?;
        let computed = subject.verified.network.get();
        let scratch = Scratch::new(computed).map_err(|error| error.to_string())?;
        let at = |offset: i16| usize::try_from(offset).unwrap_or(0);
        let outputs = at(nnbpf_compiler::lower::scratch::GENERATION)..at(scratch.feature(0));
        let labels = (1..=network.decision.further.len()).map(|index| {
            let label = at(scratch.label(index));
            label..label + 4
        });
        let parts = std::iter::once(outputs).chain(labels).collect();
        let second = second_slot(&subject.verified.metadata, computed);
        let mut reference =
            Self { module, rows: rows(network, seed), second, scratch, parts, answers: Vec::new() };
        let mut vm = reference.vm(None).ok_or_else(|| format!("{}: no module", subject.name))?;
        let answers = (0..ROWS).map(|row| reference.answer(&mut vm, row)).collect();
        reference.answers = answers;
        Ok(reference)
    }

    /// Whether a function in place of its original gives the same on every row.
    pub(super) fn equivalent(&self, mutant: &Function) -> bool {
        let Some(mut vm) = self.vm(Some(mutant)) else { return false };
        (0..ROWS).all(|row| self.answers.get(row).is_some_and(|answer| *answer == self.answer(&mut vm, row)))
    }

    fn vm(&self, mutant: Option<&Function>) -> Option<Vm> {
        let mut module = self.module.clone();
        if let Some(mutant) = mutant {
            let mut all = module.programs.iter_mut().chain(&mut module.functions);
            let place = all.find(|function| function.name == mutant.name)?;
            *place = Function { section: place.section.clone(), ..mutant.clone() };
        }
        let mut vm = Vm::new(&module).ok()?;
        if let (Some(second), Some(data)) = (&self.second, vm.data_mut(SECTION))
            && let Some(place) = data.get_mut(second.len()..)
        {
            place.copy_from_slice(second);
        }
        Some(vm)
    }

    fn answer(&self, vm: &mut Vm, row: usize) -> Answer {
        let features = self.rows.get(row)?;
        if let Some(active) = vm.data_mut(ACTIVE_SECTION).and_then(|data| data.first_mut()) {
            // Every fourth row is judged by the second slot.
            *active = u8::from(row % 4 == 3);
        }
        {
            let mut map = vm.map(MAP)?;
            let value = map.at_mut(0)?;
            // Whatever an inference before has left.
            value.fill(0xa5);
            for (index, feature) in features.iter().enumerate() {
                let at = usize::try_from(self.scratch.feature(index)).ok()?;
                value.get_mut(at..at + 8)?.copy_from_slice(&feature.to_le_bytes());
            }
        }
        let run = vm.run(BENCH, &mut vec![0; PACKET], 0).ok()?;
        let mut map = vm.map(MAP)?;
        let value = map.at(0)?;
        let mut bytes = Vec::new();
        for part in &self.parts {
            bytes.extend(value.get(part.clone())?);
        }
        Some((run.ret, bytes))
    }
}

/// Parameters of the same plan whose intervals are narrower: half of every weight.
fn second_slot(metadata: &Metadata, network: &Network) -> Option<Vec<u8>> {
    if metadata.weights == Weights::Const {
        return None;
    }
    let mut other = network.clone();
    for op in &mut other.ops {
        match op {
            Op::Dense(dense) => dense.weights.iter_mut().for_each(|weight| *weight /= 2),
            Op::Forest(forest) => forest.leaves.iter_mut().for_each(|leaf| *leaf /= 2),
            Op::Quantise(_) | Op::Table(_) | Op::Gate(_) => {}
        }
    }
    Some(slot::bytes(&other))
}

/// Rows within the ranges of the features: uniform ones, ends, and small numbers.
fn rows(network: &Network, seed: u64) -> Vec<Vec<i64>> {
    let mut random = Random(seed);
    let mut feature = |low: i64, high: i64| {
        let span = i128::from(high) - i128::from(low) + 1;
        match random.below(8) {
            0 => low,
            1 => high,
            2 | 3 => (low.max(0)).saturating_add((random.next() % 64).cast_signed()).min(high),
            4 => {
                // Somewhere between magnitudes.
                let shifted = random.next() >> random.below(63);
                i64::try_from((i128::from(low) + i128::from(shifted) % span).min(i128::from(high)))
                    .unwrap_or(low)
            }
            _ => i64::try_from(i128::from(low) + i128::from(random.next()) % span).unwrap_or(low),
        }
    };
    (0..ROWS)
        .map(|_| network.inputs.iter().map(|input| feature(input.range.low, input.range.high)).collect())
        .collect()
}
