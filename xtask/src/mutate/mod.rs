//! `cargo xtask mutate`: changes emitted objects in one place each, and counts what verification lets through.
//!
//! A mutant is refused, or it gives what the original gives on 10,000 rows, or it has escaped. Functions around the
//! network are compared with what the specification compiles to, so that no change of them is ever accepted; one that
//! were would count as escaped without being run.

mod cases;
mod mutant;
mod run;

use std::collections::BTreeMap;

use nnbpf_compiler::bpf::module::{Function, Module};
use nnbpf_compiler::metadata::{self, Metadata};
use nnbpf_compiler::verify::{self, Extent, is_network};
use serde_json::Value;

use cases::Subject;
use mutant::{Kind, Random};
use run::Reference;

/// Change emitted objects and count what verification lets through.
#[derive(clap::Args)]
pub struct Mutate {
    /// How many, over all objects.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub mutants: usize,
    /// Where the pseudo-random numbers begin.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Only models in folders of these names.
    #[arg(long, value_name = "NAME")]
    pub only: Vec<String>,
}

/// What became of the mutants of a kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub refused: usize,
    pub equivalent: usize,
    pub escaped: usize,
}

/// All kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tallies {
    pub kinds: BTreeMap<&'static str, Tally>,
    /// What was refused, by code.
    pub codes: BTreeMap<&'static str, usize>,
    /// The first mutants that escaped.
    pub escapes: Vec<String>,
    pub objects: usize,
    /// Mutants of the network's code.
    pub network: usize,
}

/// Most escapes that are told one by one.
const TOLD: usize = 20;

impl Tallies {
    /// Sums over all kinds.
    #[must_use]
    pub fn total(&self) -> Tally {
        self.kinds.values().fold(Tally::default(), |sum, one| Tally {
            refused: sum.refused + one.refused,
            equivalent: sum.equivalent + one.equivalent,
            escaped: sum.escaped + one.escaped,
        })
    }

    fn add(&mut self, other: Self) {
        for (kind, tally) in other.kinds {
            let sum = self.kinds.entry(kind).or_default();
            sum.refused += tally.refused;
            sum.equivalent += tally.equivalent;
            sum.escaped += tally.escaped;
        }
        for (code, count) in other.codes {
            *self.codes.entry(code).or_default() += count;
        }
        self.escapes.extend(other.escapes);
        self.objects += other.objects;
        self.network += other.network;
    }
}

/// What became of one mutant.
enum Fate {
    Refused(&'static str),
    Equivalent,
    Escaped(String),
}

impl Mutate {
    /// Runs and prints a line per kind and the kill rate.
    ///
    /// # Errors
    /// A mutant escaped, or a committed model does not compile.
    pub fn run(&self) -> Result<(), String> {
        let tallies = self.count()?;
        println!("{:<28} {:>9} {:>11} {:>8}", "kind", "refused", "equivalent", "escaped");
        let total = tallies.total();
        let lines = Kind::ALL.map(|kind| (kind.name(), tallies.kinds.get(kind.name()).copied()));
        for (name, tally) in lines.into_iter().chain([("all", Some(total))]) {
            let Some(Tally { refused, equivalent, escaped }) = tally else { continue };
            println!("{name:<28} {refused:>9} {equivalent:>11} {escaped:>8}");
        }
        let codes: Vec<String> =
            tallies.codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
        println!("refused by code: {}", codes.join(", "));
        let mutants = total.refused + total.equivalent + total.escaped;
        let killed = total.refused as f64 * 100.0 / ((total.refused + total.escaped).max(1) as f64);
        println!(
            "mutants={mutants} objects={} network={} killed={killed:.4}%",
            tallies.objects, tallies.network
        );
        for escape in tallies.escapes.iter().take(TOLD) {
            println!("escaped: {escape}");
        }
        if total.escaped == 0 { Ok(()) } else { Err(format!("{} mutants escaped", total.escaped)) }
    }

    /// Counts without printing.
    ///
    /// # Errors
    /// A committed model does not compile.
    pub fn count(&self) -> Result<Tallies, String> {
        let names: Vec<&str> = self.only.iter().map(String::as_str).collect();
        let subjects = cases::subjects(&names)?;
        if subjects.is_empty() {
            return Err("no model has such a name".to_owned());
        }
        let share = self.mutants.div_ceil(subjects.len());
        // Objects are shared out to the processors; each has random numbers of its own, so that the result is the same.
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let parts = std::thread::scope(|scope| {
            let work = || {
                let mut tallies = Tallies::default();
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some(subject) = subjects.get(index) else { return Ok(tallies) };
                    let before = (share * index).min(self.mutants);
                    let count = share.min(self.mutants - before);
                    tallies.add(mutate(subject, count, self.seed.wrapping_add(index as u64))?);
                }
            };
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            handles
                .into_iter()
                .map(|handle| handle.join().map_err(|_| "a thread panicked".to_owned())?)
                .collect::<Result<Vec<Tallies>, String>>()
        })?;
        let mut all = Tallies::default();
        parts.into_iter().for_each(|part| all.add(part));
        all.escapes.sort();
        Ok(all)
    }
}

/// So many mutants of one object.
fn mutate(subject: &Subject, count: usize, seed: u64) -> Result<Tallies, String> {
    let mut random = Random(seed.wrapping_mul(0x0123_4567_89ab_cdef));
    let mut tallies = Tallies { objects: 1, ..Tallies::default() };
    let module = &subject.verified.module;
    let all = || module.programs.iter().chain(&module.functions);
    let network: Vec<&Function> = all().filter(|function| is_network(&function.name)).collect();
    let around: Vec<&Function> = all().filter(|function| !is_network(&function.name)).collect();
    let mut reference = None;
    let mut done = 0;
    while done < count {
        let drawn = match random.below(20) {
            0 => parameter(subject, &mut random),
            1 => retrained(subject, &mut random),
            2 => in_metadata(subject, &mut random),
            3..=6 => code(subject, &around, &mut random, &mut reference, seed)?,
            _ => {
                let drawn = code(subject, &network, &mut random, &mut reference, seed)?;
                tallies.network += usize::from(drawn.is_some());
                drawn
            }
        };
        let Some((kind, fate)) = drawn else { continue };
        done += 1;
        let tally = tallies.kinds.entry(kind.name()).or_default();
        match fate {
            Fate::Refused(code) => {
                tally.refused += 1;
                *tallies.codes.entry(code).or_default() += 1;
            }
            Fate::Equivalent => tally.equivalent += 1,
            Fate::Escaped(what) => {
                tally.escaped += 1;
                tallies.escapes.push(format!("{}: {}: {what}", subject.name, kind.name()));
            }
        }
    }
    Ok(tallies)
}

/// A change to one of these functions, longer ones more often.
fn code(
    subject: &Subject,
    functions: &[&Function],
    random: &mut Random,
    reference: &mut Option<Reference>,
    seed: u64,
) -> Result<Option<(Kind, Fate)>, String> {
    let sum: usize = functions.iter().map(|function| function.code.len()).sum();
    let mut at = random.below(sum);
    let chosen = functions.iter().find(|function| {
        let inside = at < function.code.len();
        at = at.saturating_sub(function.code.len());
        inside
    });
    let Some((kind, mutant)) = chosen.and_then(|function| mutant::mutant(function, random)) else {
        return Ok(None);
    };
    if let Err(refused) = subject.verified.with_function(&mutant, "mutant") {
        return Ok(Some((kind, Fate::Refused(code_of(&refused)))));
    }
    if !is_network(&mutant.name) {
        return Ok(Some((kind, Fate::Escaped(format!("a change of `{}`", mutant.name)))));
    }
    let reference = match reference {
        Some(reference) => reference,
        None => reference.insert(Reference::new(subject, seed)?),
    };
    if reference.equivalent(&mutant) {
        return Ok(Some((kind, Fate::Equivalent)));
    }
    let original = chosen.map_or(&[][..], |function| &function.code);
    let differs = original.iter().zip(&mutant.code).enumerate().find(|(_, (a, b))| a != b);
    let what =
        differs.map_or_else(String::new, |(at, (a, b))| format!("`{}` {at}: `{a}` is `{b}`", mutant.name));
    Ok(Some((kind, Fate::Escaped(what))))
}

/// A bit of a parameter, in one slot or in all of them.
fn parameter(subject: &Subject, random: &mut Random) -> Option<(Kind, Fate)> {
    let module = with_parameter(subject, random)?;
    let metadata = subject.verified.metadata.clone();
    Some((Kind::Parameter, whole(module, metadata)))
}

/// A bit of a parameter with everything that vouches for it repaired: another model, which its ONNX file tells apart.
fn retrained(subject: &Subject, random: &mut Random) -> Option<(Kind, Fate)> {
    let module = with_parameter(subject, random)?;
    let metadata = verify::vouched_again(&module, &subject.verified.metadata);
    let fate = match metadata {
        // What overflows, or is no parameter, has no certificate.
        Err(refused) => Fate::Refused(code_of(&refused)),
        Ok(metadata) => match verify::module(module, metadata, "mutant", Extent::Whole) {
            Err(refused) => Fate::Refused(code_of(&refused)),
            Ok(verified) => match verify::same_model(&verified, &subject.plan, "model") {
                Err(refused) => Fate::Refused(code_of(&refused)),
                Ok(()) => Fate::Escaped("the model did not tell it apart".to_owned()),
            },
        },
    };
    Some((Kind::Retrained, fate))
}

fn with_parameter(subject: &Subject, random: &mut Random) -> Option<Module> {
    use nnbpf_compiler::params::layout::{CONSTANTS_SECTION, SECTION};
    let mut module = subject.verified.module.clone();
    let ours = [SECTION, CONSTANTS_SECTION];
    let data = module.data.iter_mut().find(|data| ours.contains(&data.section.as_str()))?;
    let slots = if data.section == SECTION { 2 } else { 1 };
    let half = data.bytes.len() / slots;
    let (at, bit, both) = (random.below(half), random.below(8), random.below(2) == 0);
    for slot in 0..if both { slots } else { 1 } {
        *data.bytes.get_mut(slot * half + at)? ^= 1 << bit;
    }
    Some(module)
}

/// A number somewhere in the metadata.
fn in_metadata(subject: &Subject, random: &mut Random) -> Option<(Kind, Fate)> {
    let mut value: Value = serde_json::from_slice(&subject.verified.module.metadata).ok()?;
    let mut numbers = 0;
    visit(&mut value, &mut |_| numbers += 1);
    let mut at = random.below(numbers);
    let (bit, away) = (random.below(16), random.below(2) == 0);
    visit(&mut value, &mut |number| {
        if at == 0
            && let Some(old) = number.as_i64()
        {
            *number = (if away { old ^ (1 << bit) } else { old.wrapping_add(1) }).into();
        }
        at = at.wrapping_sub(1);
    });
    let payload = serde_json::to_vec(&value).ok()?;
    if payload == subject.verified.module.metadata {
        return None;
    }
    let fate = match metadata::from_payload(&payload, "mutant") {
        Err(refused) => Fate::Refused(code_of(&refused)),
        // The code is what it was: a number that nothing depends on.
        Ok(metadata) => match whole(subject.verified.module.clone(), metadata) {
            Fate::Escaped(_) => Fate::Equivalent,
            fate @ (Fate::Refused(_) | Fate::Equivalent) => fate,
        },
    };
    Some((Kind::Metadata, fate))
}

fn whole(module: Module, metadata: Metadata) -> Fate {
    match verify::module(module, metadata, "mutant", Extent::Whole) {
        Err(refused) => Fate::Refused(code_of(&refused)),
        Ok(_) => Fate::Escaped("everything held".to_owned()),
    }
}

fn code_of(refused: &[nnbpf_compiler::diag::Diagnostic]) -> &'static str {
    refused.first().map_or("none", |first| first.code.id)
}

fn visit(value: &mut Value, look: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Number(_) => look(value),
        Value::Array(values) => values.iter_mut().for_each(|value| visit(value, look)),
        Value::Object(members) => members.values_mut().for_each(|value| visit(value, look)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
