//! Events of the `report` action, read from the ring buffer `nn_events`.
//!
//! The layout of an event is [`nnbpf_compiler::lower::packet::maps::event`]'s. The score is computed here, in
//! floating point, from the raw outputs; the kernel decided without it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use aya::maps::{Map as AyaMap, MapData, RingBuf};
use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::ir::flow::Trigger;
use nnbpf_compiler::ir::{Decision, interpret};
use nnbpf_compiler::lower::packet::maps::{EVENTS, event};
use nnbpf_compiler::lower::packet::shared::acts;

use crate::hosts::Host;
use crate::installation::parameters::provenances;
use crate::installation::{Installation, InstallationError};
use crate::maps::MapError;
use crate::pins::PinDirectory;
use crate::sys;

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
}

/// The only reader of an installation's events.
pub struct Events {
    ring: RingBuf<MapData>,
    decision: Decision,
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
        let decision = installation.metadata()?.plan.decision;
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
        Ok(Self { ring, decision, units: BTreeMap::new(), pins, _reader: reader })
    }

    /// The next event, waiting until `deadline` for one; `None` when none came.
    ///
    /// # Errors
    /// The ring buffer cannot be waited for.
    pub fn next(&mut self, deadline: Option<Instant>) -> Result<Option<Event>, MapError> {
        loop {
            // Bytes that are no event come from another program; they are passed over.
            while let Some(bytes) = self.ring.next().map(|item| item.to_vec()) {
                if let Some(mut event) = parse(&bytes) {
                    self.describe(&mut event);
                    return Ok(Some(event));
                }
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            sys::wait_readable(self.ring.as_fd(), left).map_err(|source| MapError::Kernel {
                map: EVENTS.to_owned(),
                operation: "waiting",
                source,
            })?;
        }
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

fn parse(bytes: &[u8]) -> Option<Event> {
    let asked = i32::from(u16::from_ne_bytes(field(bytes, event::ACTS)?));
    let outputs = bytes.get(usize::from(event::OUTPUTS.unsigned_abs())..)?;
    let [proto] = field(bytes, event::PROTO)?;
    let [trigger] = field(bytes, event::TRIGGER)?;
    Some(Event {
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
        outputs: outputs.as_chunks().0.iter().map(|output| i64::from_ne_bytes(*output)).collect(),
    })
}

fn field<const N: usize>(bytes: &[u8], offset: i16) -> Option<[u8; N]> {
    bytes.get(usize::from(offset.unsigned_abs())..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_is_too_short_is_no_event() {
        let whole = [0_u8; 96];
        let event = parse(&whole).unwrap();
        assert_eq!((event.outputs, event.trigger, event.actions), (vec![0, 0], None, vec![]));
        assert_eq!(parse(&whole[..79]), None);
        assert_eq!(parse(&[]), None);
    }
}
