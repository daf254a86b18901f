//! Events, read from the ring buffer `nn_events`: verdicts that a rule reports, and a fuse that blew.
//!
//! The layout of an event is [`nnbpf_compiler::lower::packet::maps::event`]'s. The score is computed here, in
//! floating point, from the raw outputs; the kernel decided without it.

mod stream;

pub use stream::Stream;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use aya::maps::{Map as AyaMap, MapData, RingBuf};
use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::ir::flow::Trigger;
use nnbpf_compiler::ir::flow::guard::acts;
use nnbpf_compiler::ir::{Decision, FractionBits, Output, interpret};
use nnbpf_compiler::lower::packet::guard::fuse_event;
use nnbpf_compiler::lower::packet::maps::{EVENTS, event};
use nnbpf_compiler::metadata::Metadata;

use crate::hosts::Host;
use crate::hot_update;
use crate::installation::parameters::provenances;
use crate::installation::{Generation, Installation, InstallationError, code};
use crate::maps::MapError;
use crate::pins::PinDirectory;
use crate::sys;

/// What the ring buffer tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    Verdict(Event),
    Fuse(FuseEvent),
}

/// One verdict that a rule reported; ends are in forward orientation.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When the verdict was given, in the time of packets.
    pub time_ns: u64,
    /// Generation of the parameters that gave it.
    pub generation: u64,
    /// Time of the flow's first packet.
    pub first_ns: u64,
    /// Packets of the flow so far.
    pub packets: u64,
    pub src: Host,
    pub dst: Host,
    pub sport: u16,
    pub dport: u16,
    pub proto: u8,
    /// `None` for a number that this release does not know.
    pub trigger: Option<Trigger>,
    /// Class index of the first output.
    pub label: u32,
    /// The label's name; its number where the model has no names.
    pub label_name: String,
    /// Probability of the label; `None` when the parameters that gave it are no longer installed.
    pub score: Option<f64>,
    /// What a model of several outputs says beside the first one.
    pub further: Vec<Further>,
    /// What the fired rules ask for, in the order drop, block, report.
    pub actions: Vec<&'static str>,
    pub outputs: Vec<i64>,
    /// Raw values, described by [`Events::features`].
    pub features: Vec<i64>,
}

/// What a further output of the model says.
#[derive(Debug, Clone, PartialEq)]
pub struct Further {
    /// The output's name.
    pub output: String,
    /// As [`Event::label_name`].
    pub label_name: String,
    /// As [`Event::score`].
    pub score: Option<f64>,
}

/// The fuse blew: the detector is in monitor mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FuseEvent {
    pub time_ns: u64,
    /// Of the window in which it blew.
    pub packets: u64,
    pub drops: u64,
    /// In millionths.
    pub limit: u32,
    /// In packets.
    pub window: u32,
}

/// A feature's name and the meaning of its raw value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    pub name: String,
    pub fraction: FractionBits,
}

/// The only reader of an installation's events.
pub struct Events {
    ring: RingBuf<MapData>,
    decision: Decision,
    /// Raw values in an event: outputs, then features.
    outputs: usize,
    features: Vec<Feature>,
    /// Units of the outputs by generation.
    units: BTreeMap<u64, f64>,
    /// Program generation that decision and features are of.
    code: Option<u32>,
    /// Generation of the last event.
    generation: Option<u64>,
    /// The program generation at work when that event came.
    current: Option<u32>,
    /// Whether there was no event waiting since then.
    rested: bool,
    pins: PinDirectory,
    /// Holds the lock that keeps other readers out.
    _reader: File,
}

impl Events {
    /// Opens the ring buffer. The installation itself is not locked: updates and lists go on meanwhile.
    ///
    /// # Errors
    /// Somebody else reads already, or the object reports nothing.
    pub fn open(installation: Installation) -> Outcome<Self> {
        let metadata = installation.metadata()?;
        let outputs = metadata.plan.output_count();
        let features = features(&metadata);
        let decision = metadata.plan.decision;
        let pins = installation.pins().clone();
        let current = pins.current_number();
        drop(installation);
        let refused = |error: InstallationError| vec![error.diagnostic()];
        let unreadable = |source| InstallationError::Pin { path: pins.readers(), source };
        // Pins cannot be locked, directories can; the installation's own stays free for other commands.
        let reader = File::open(pins.readers()).map_err(|source| refused(unreadable(source)))?;
        reader
            .try_lock()
            .map_err(|_| refused(InstallationError::EventsInUse { directory: pins.path().to_owned() }))?;
        let ring = ring(&pins).map_err(|error| vec![error.diagnostic()])?;
        Ok(Self {
            ring,
            decision,
            outputs,
            features,
            units: BTreeMap::new(),
            code: current,
            generation: None,
            current,
            rested: false,
            pins,
            _reader: reader,
        })
    }

    /// Names and meanings of the features of the last event, in the specification's order; a program update can
    /// change them.
    #[must_use]
    pub fn features(&self) -> &[Feature] {
        &self.features
    }

    /// The next event, waiting until `deadline` for one; `None` when none came.
    ///
    /// # Errors
    /// The ring buffer cannot be waited for.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Record>, MapError> {
        loop {
            if let Some(record) = self.waiting() {
                return Ok(Some(record));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            self.wait(left)?;
        }
    }

    /// An event that is in the ring buffer already.
    pub fn waiting(&mut self) -> Option<Record> {
        loop {
            let Some(bytes) = self.ring.next().map(|item| item.to_vec()) else {
                self.rested = true;
                return None;
            };
            if let Some(generation) = generation(&bytes) {
                self.follow(generation);
            }
            let mut record = parse(&bytes, self.outputs, self.features.len());
            if let Some(Record::Verdict(event)) = &mut record {
                self.describe(event);
            }
            // Bytes that are no event come from another program; they are passed over.
            if record.is_some() {
                return record;
            }
        }
    }

    /// Waits until there is an event, at most so long; without a limit, for ever.
    ///
    /// # Errors
    /// The ring buffer cannot be waited for.
    pub fn wait(&self, limit: Option<Duration>) -> Result<(), MapError> {
        sys::wait_readable(self.ring.as_fd(), limit).map_err(|source| MapError::Kernel {
            map: EVENTS.to_owned(),
            operation: "waiting",
            source,
        })
    }

    /// Learns what the events of a generation mean, when other programs than before gave them.
    fn follow(&mut self, generation: u64) {
        let known = self.generation == Some(generation);
        if known && !self.rested {
            return;
        }
        self.rested = false;
        let current = self.pins.current_number();
        if known && current == self.current {
            return;
        }
        (self.generation, self.current) = (Some(generation), current);
        // Programs whose parameters are constants name the generation that was compiled in; of others the history
        // knows before they go to work.
        let constants = !self.pins.map(hot_update::PARAMS).exists();
        let entry = || Generation::read(&self.pins, u32::try_from(generation).ok()?);
        let code = if constants { current } else { entry().map(|entry| entry.code).or(current) };
        if code == self.code {
            return;
        }
        let Some(Ok(metadata)) = code.map(|code| code::metadata(&self.pins.code(code))) else { return };
        self.code = code;
        self.outputs = metadata.plan.output_count();
        self.features = features(&metadata);
        self.decision = metadata.plan.decision;
    }

    /// Adds what the kernel does not know: the label's name and the score.
    fn describe(&mut self, event: &mut Event) {
        event.label_name = label_name(&self.decision.first, event.label);
        if !self.units.contains_key(&event.generation) {
            // The array forgets generations; what was seen once is kept here.
            let known = provenances(&self.pins).unwrap_or_default();
            self.units
                .extend(known.iter().map(|provenance| (u64::from(provenance.generation), provenance.unit)));
        }
        let unit = self.units.get(&event.generation).copied();
        self.decision.unit = unit.unwrap_or(self.decision.unit);
        (event.score, event.further) = judged(&self.decision, unit.is_some(), &event.outputs);
    }
}

/// The score of the first output, and what the others say; without scores where the unit is not known.
fn judged(decision: &Decision, unit_known: bool, outputs: &[i64]) -> (Option<f64>, Vec<Further>) {
    let score = |output: &Output, values: &[i64]| {
        let score = interpret::score(output.rule, decision.unit_of(output), values);
        score.filter(|_| unit_known)
    };
    let mut parts = decision.parts(outputs);
    let first = parts.next().and_then(|(output, values)| score(output, values));
    let further = parts
        .map(|(output, values)| Further {
            output: output.name.clone(),
            label_name: label_name(output, interpret::label(output.rule, values).unwrap_or_default()),
            score: score(output, values),
        })
        .collect();
    (first, further)
}

fn label_name(output: &Output, label: u32) -> String {
    output.labels.get(label as usize).cloned().unwrap_or_else(|| label.to_string())
}

fn ring(pins: &PinDirectory) -> Result<RingBuf<MapData>, MapError> {
    let path = pins.map(EVENTS);
    if !path.exists() {
        return Err(MapError::NoMap { map: EVENTS.to_owned() });
    }
    let failed = |error: aya::maps::MapError| MapError::Kernel {
        map: EVENTS.to_owned(),
        operation: "mapping",
        source: std::io::Error::other(error.to_string()),
    };
    RingBuf::try_from(AyaMap::RingBuf(MapData::from_pin(path).map_err(failed)?)).map_err(failed)
}

fn features(metadata: &Metadata) -> Vec<Feature> {
    let features = metadata.features.iter();
    features
        .map(|feature| Feature { name: feature.name.clone(), fraction: FractionBits(feature.fraction_bits) })
        .collect()
}

/// The generation that a verdict names.
fn generation(bytes: &[u8]) -> Option<u64> {
    if bytes.len() == usize::from(fuse_event::BYTES) {
        return None;
    }
    field(bytes, event::GENERATION).map(u64::from_ne_bytes)
}

/// An event of a model with so many outputs and features.
fn parse(bytes: &[u8], outputs: usize, features: usize) -> Option<Record> {
    if bytes.len() == usize::from(fuse_event::BYTES) {
        return parse_fuse(bytes).map(Record::Fuse);
    }
    if bytes.len() != usize::from(event::OUTPUTS.unsigned_abs()) + 8 * (outputs + features) {
        return None;
    }
    let asked = i32::from(u16::from_ne_bytes(field(bytes, event::ACTS)?));
    let values = bytes.get(usize::from(event::OUTPUTS.unsigned_abs())..)?;
    let mut values = values.as_chunks().0.iter().map(|value| i64::from_ne_bytes(*value));
    let [proto] = field(bytes, event::PROTO)?;
    let [trigger] = field(bytes, event::TRIGGER)?;
    Some(Record::Verdict(Event {
        time_ns: u64::from_ne_bytes(field(bytes, event::TIME)?),
        generation: u64::from_ne_bytes(field(bytes, event::GENERATION)?),
        first_ns: u64::from_ne_bytes(field(bytes, event::FIRST)?),
        packets: u64::from_ne_bytes(field(bytes, event::PACKETS)?),
        src: Host(field(bytes, event::SRC)?),
        dst: Host(field(bytes, event::DST)?),
        sport: u16::from_ne_bytes(field(bytes, event::SPORT)?),
        dport: u16::from_ne_bytes(field(bytes, event::DPORT)?),
        proto,
        trigger: [Trigger::End, Trigger::Idle, Trigger::Every, Trigger::After]
            .into_iter()
            .find(|known| *known as u32 == u32::from(trigger)),
        label: u32::from_ne_bytes(field(bytes, event::LABEL)?),
        label_name: String::new(),
        score: None,
        further: Vec::new(),
        actions: acts::NAMES.into_iter().filter(|(bit, _)| asked & bit != 0).map(|(_, name)| name).collect(),
        outputs: values.by_ref().take(outputs).collect(),
        features: values.collect(),
    }))
}

fn parse_fuse(bytes: &[u8]) -> Option<FuseEvent> {
    Some(FuseEvent {
        time_ns: u64::from_ne_bytes(field(bytes, fuse_event::TIME)?),
        packets: u64::from_ne_bytes(field(bytes, fuse_event::PACKETS)?),
        drops: u64::from_ne_bytes(field(bytes, fuse_event::DROPS)?),
        limit: u32::from_ne_bytes(field(bytes, fuse_event::LIMIT)?),
        window: u32::from_ne_bytes(field(bytes, fuse_event::WINDOW)?),
    })
}

fn field<const N: usize>(bytes: &[u8], offset: i16) -> Option<[u8; N]> {
    bytes.get(usize::from(offset.unsigned_abs())..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use nnbpf_compiler::ir::{Decision, Output, Rule};

    use super::{FuseEvent, Record, judged, parse};

    #[test]
    fn what_is_too_short_is_no_event() {
        let whole = [0_u8; 96];
        let Some(Record::Verdict(event)) = parse(&whole, 1, 1) else { panic!("a verdict") };
        assert_eq!((event.outputs, event.trigger, event.actions), (vec![0], None, vec![]));
        assert_eq!(event.features, [0]);
        // Nor what has other outputs and features.
        for (bytes, outputs, features) in [(79, 1, 1), (88, 1, 1), (96, 1, 0), (96, 2, 1), (0, 1, 1)] {
            assert_eq!(parse(&whole[..bytes], outputs, features), None);
        }
    }

    #[test]
    fn the_fuse_has_an_event_of_its_own() {
        let mut bytes = Vec::new();
        for word in [7_u64, 1_000, 300] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(200_000_u32.to_ne_bytes());
        bytes.extend(1_000_u32.to_ne_bytes());
        let fuse = FuseEvent { time_ns: 7, packets: 1_000, drops: 300, limit: 200_000, window: 1_000 };
        assert_eq!(parse(&bytes, 2, 2), Some(Record::Fuse(fuse)));
    }

    /// Classes of real values 0.5 and 2.5; a logit of -1, in quarters; real values 0, 1 and 0.5.
    #[test]
    fn every_output_has_its_label_and_score() {
        let output = |name: &str, start, finer, rule, labels: &[&str]| Output {
            name: name.to_owned(),
            start,
            finer,
            rule,
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
        };
        let decision = Decision {
            first: output("kind", 0, 0, Rule::ArgMax, &["benign", "attack"]),
            further: vec![
                output("burst", 2, 1, Rule::Positive, &["no", "yes"]),
                output("family", 3, 0, Rule::ArgMax, &["web", "ssh", "other"]),
            ],
            unit: 0.5,
            tests: Vec::new(),
        };
        let values = [1, 5, -4, 0, 2, 1];
        let expected = [("burst", "no", 0.731_059), ("family", "ssh", 0.506_480)];
        let (score, further) = judged(&decision, true, &values);
        assert!((score.unwrap() - 0.880_797).abs() < 1e-6, "{score:?}");
        assert_eq!(further.len(), expected.len());
        for (one, (name, label, score)) in further.iter().zip(expected) {
            assert_eq!((one.output.as_str(), one.label_name.as_str()), (name, label));
            assert!((one.score.unwrap() - score).abs() < 1e-6, "{one:?}");
        }
        // Of parameters that are no longer known.
        let (score, further) = judged(&decision, false, &values);
        assert_eq!(score, None);
        let said: Vec<_> = further.iter().map(|one| (one.label_name.as_str(), one.score)).collect();
        assert_eq!(said, [("no", None), ("ssh", None)]);
    }
}
