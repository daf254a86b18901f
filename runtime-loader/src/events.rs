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
use nnbpf_compiler::ir::{Decision, FractionBits, interpret};
use nnbpf_compiler::lower::packet::guard::fuse_event;
use nnbpf_compiler::lower::packet::maps::{EVENTS, event};

use crate::hosts::Host;
use crate::installation::parameters::provenances;
use crate::installation::{Installation, InstallationError};
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
    /// Class index.
    pub label: u32,
    /// The label's name; its number where the model has no names.
    pub label_name: String,
    /// Probability of the label; `None` when the parameters that gave it are no longer installed.
    pub score: Option<f64>,
    /// What the fired rules ask for, in the order drop, block, report.
    pub actions: Vec<&'static str>,
    pub outputs: Vec<i64>,
    /// Raw values, described by [`Events::features`].
    pub features: Vec<i64>,
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
        let features = metadata
            .features
            .into_iter()
            .map(|feature| Feature { name: feature.name, fraction: FractionBits(feature.fraction_bits) })
            .collect();
        let decision = metadata.plan.decision;
        let pins = installation.pins().clone();
        drop(installation);
        let refused = |error: InstallationError| vec![error.diagnostic()];
        let unreadable = |source| InstallationError::Pin { path: pins.readers(), source };
        // Pins cannot be locked, directories can; the installation's own stays free for other commands.
        let reader = File::open(pins.readers()).map_err(|source| refused(unreadable(source)))?;
        reader
            .try_lock()
            .map_err(|_| refused(InstallationError::EventsInUse { directory: pins.path().to_owned() }))?;
        let ring = ring(&pins).map_err(|error| vec![error.diagnostic()])?;
        Ok(Self { ring, decision, outputs, features, units: BTreeMap::new(), pins, _reader: reader })
    }

    /// Names and meanings of the features, in the specification's order.
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
            let mut record = parse(&self.ring.next()?, self.outputs);
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

    /// Adds what the kernel does not know: the label's name and the score.
    fn describe(&mut self, event: &mut Event) {
        let name = self.decision.labels.get(event.label as usize);
        event.label_name = name.cloned().unwrap_or_else(|| event.label.to_string());
        if !self.units.contains_key(&event.generation) {
            // The array forgets generations; what was seen once is kept here.
            let known = provenances(&self.pins).unwrap_or_default();
            self.units
                .extend(known.iter().map(|provenance| (u64::from(provenance.generation), provenance.unit)));
        }
        if let Some(unit) = self.units.get(&event.generation) {
            self.decision.unit = *unit;
            event.score = interpret::score(&self.decision, &event.outputs);
        }
    }
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

/// An event of a model with so many outputs.
fn parse(bytes: &[u8], outputs: usize) -> Option<Record> {
    if bytes.len() == usize::from(fuse_event::BYTES) {
        return parse_fuse(bytes).map(Record::Fuse);
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
        trigger: [Trigger::End, Trigger::Idle, Trigger::Every]
            .into_iter()
            .find(|known| *known as u32 == u32::from(trigger)),
        label: u32::from_ne_bytes(field(bytes, event::LABEL)?),
        label_name: String::new(),
        score: None,
        actions: [(acts::DROP, "drop"), (acts::BLOCK, "block"), (acts::REPORT, "report")]
            .into_iter()
            .filter(|(bit, _)| asked & bit != 0)
            .map(|(_, name)| name)
            .collect(),
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
    use super::{FuseEvent, Record, parse};

    #[test]
    fn what_is_too_short_is_no_event() {
        let whole = [0_u8; 96];
        let Some(Record::Verdict(event)) = parse(&whole, 1) else { panic!("a verdict") };
        assert_eq!((event.outputs, event.trigger, event.actions), (vec![0], None, vec![]));
        assert_eq!(event.features, [0]);
        assert_eq!(parse(&whole[..79], 1), None);
        assert_eq!(parse(&[], 1), None);
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
        assert_eq!(parse(&bytes, 2), Some(Record::Fuse(fuse)));
    }
}
