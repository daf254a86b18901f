//! What the packet path decides: judgements, verdicts, what they ask for, and what becomes of a packet.

use super::Trigger;
use super::guard::acts;
use super::table::FlowId;
use crate::ir::packet::{Host, Parsed, Reason};

/// Whether verdicts and lists act or are only observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Monitor,
    Enforce,
}

/// Turns raw features into a verdict.
pub trait Judge {
    /// Judges one vector of features, in the specification's order.
    fn judge(&mut self, features: &[i64]) -> Judgement;
}

/// What the network says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judgement {
    /// Class index.
    pub label: u32,
    /// Bit `r` is set when rule `r` fires.
    pub rules: u32,
    /// Raw outputs, for scores; may stay empty.
    pub outputs: Vec<i64>,
}

/// Judges nothing: no rule ever fires. For feature extraction.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoJudge;

impl Judge for NoJudge {
    fn judge(&mut self, _features: &[i64]) -> Judgement {
        Judgement::default()
    }
}

impl<F: FnMut(&[i64]) -> Judgement> Judge for F {
    fn judge(&mut self, features: &[i64]) -> Judgement {
        self(features)
    }
}

/// What became of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketResult {
    pub reason: Reason,
    /// Its fields, when [`Reason::Parsed`].
    pub packet: Option<Parsed>,
    pub fate: Fate,
    /// The verdict on the old record that this packet retired.
    pub retired: Option<Verdict>,
    /// The verdict on the packet's own record.
    pub own: Option<Verdict>,
    /// The mark that the packet gets.
    pub mark: Option<u32>,
}

impl PacketResult {
    /// The verdicts in the order in which they were given.
    pub fn verdicts(&self) -> impl Iterator<Item = &Verdict> {
        self.retired.iter().chain(&self.own)
    }
}

/// Whether the packet goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    /// Dropped by the block list.
    Blocked,
    /// Dropped by its verdict.
    Dropped,
}

/// One judged record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub trigger: Trigger,
    pub flow: FlowId,
    /// The forward sender.
    pub src: Host,
    pub src_port: u16,
    pub dst: Host,
    pub dst_port: u16,
    pub proto: u8,
    /// Times of the record's first and last packet.
    pub first_ns: u64,
    pub last_ns: u64,
    pub packets: u64,
    /// Raw values in the specification's order.
    pub features: Vec<i64>,
    pub judgement: Judgement,
    pub acts: Acts,
    /// Whether an event was sent.
    pub reported: bool,
}

/// What the fired rules ask for, exemptions of allowed hosts already applied. Carried out in enforce mode
/// only, except `report`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acts {
    pub drop: bool,
    /// Until when the forward sender is to be blocked.
    pub block_until: Option<u64>,
    /// Until when the forward receiver is to be blocked.
    pub block_receiver_until: Option<u64>,
    /// The packet's new mark.
    pub mark: Option<u32>,
    pub report: bool,
}

impl Acts {
    /// Bits of [`acts`].
    #[must_use]
    pub fn bits(&self) -> i32 {
        let bit = |wanted: bool, bit: i32| if wanted { bit } else { 0 };
        bit(self.drop, acts::DROP)
            | bit(self.block_until.is_some(), acts::BLOCK)
            | bit(self.block_receiver_until.is_some(), acts::BLOCK_RECEIVER)
            | bit(self.mark.is_some(), acts::MARK)
            | bit(self.report, acts::REPORT)
    }
}
