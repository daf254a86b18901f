//! The packet path's part of the per-CPU scratch value: what its functions hand to each other, and the
//! verdicts of the last packet as replaying programs read them.

use super::maps::{event_type, host, member};
use super::path::{payload_bytes, side_fields};
use crate::bpf::AluOp;
use crate::bpf::module::{Struct, Type};
use crate::ir::flow::FlowProgram;
use crate::ir::flow::record::KEY_SIZE;
use crate::ir::flow::side::TableId;
use crate::lower::LowerError;
use crate::lower::builder::Builder;
use crate::lower::code::VReg;
use crate::lower::scratch::Scratch;
use crate::spec::typed::Scope;

pub use crate::ir::flow::guard::acts;

/// Byte offsets in the scratch value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shared {
    /// Sender and receiver of the packet at hand, 16 bytes each.
    pub src: i16,
    pub dst: i16,
    /// 1 when the last question to the lists found one of the ends allowed.
    pub exempt: i16,
    /// What the judged record knows of the lists, where it keeps their answer.
    pub answer: i16,
    /// 1 when the packet's sender is not the judged flow's forward sender.
    pub backward: i16,
    /// Time of the packet.
    pub now: i16,
    /// Header of the record that is judged.
    pub first: i16,
    pub packets: i16,
    /// Ports of the judged flow's forward sender and receiver (u16 each), then the protocol (u8), in one u64.
    pub ports: i16,
    /// The verdict on the packet's own record; label, rules and outputs stand in the model's part.
    pub own: VerdictAt,
    /// The verdict on the record that the packet retired, copied before the next one.
    pub retired: VerdictAt,
    /// Label (u32), rules (u32), then the outputs of the retired record's verdict.
    pub retired_model: i16,
    /// The first bytes of the payload, where the specification reads some, and how many are copied: a multiple of 8.
    pub payload: i16,
    pub payload_bytes: Option<i16>,
    /// Offset of the payload in the frame, and how many of its bytes there are.
    pub payload_start: i16,
    pub payload_length: i16,
    /// The flow's key, where there are flows, for the function that waits for another processor.
    pub key: i16,
    /// A record before its first packet, where there are flows.
    pub image: i16,
    /// An event under construction.
    pub event: i16,
    /// What groups of further tables take of the packet, one 64-bit word each; 0 without such tables.
    pub fields: i16,
    /// Records of further tables, one after the other: before their first packet, or as a verdict sees them.
    pub sides: i16,
}

/// Byte offsets of one verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerdictAt {
    /// Why it was given (u32), 0 for no verdict.
    pub trigger: i16,
    /// Bits of [`acts`] (u32).
    pub acts: i16,
}

impl Shared {
    /// The place of a further table's record.
    pub(super) fn side(&self, program: &FlowProgram, id: TableId) -> i16 {
        let before: u32 =
            program.side_tables().take_while(|(other, _)| *other != id).map(|(_, table)| table.size).sum();
        self.sides.saturating_add(i16::try_from(before).unwrap_or(i16::MAX))
    }

    /// Appends the part to the scratch value.
    pub(super) fn append(
        scratch: &mut Scratch,
        program: &FlowProgram,
        outputs: usize,
    ) -> Result<Self, LowerError> {
        let words = |count: u32| Type::Array(Box::new(Type::Unsigned(8)), count);
        let verdict = || {
            Type::Struct(Struct {
                name: "nn_verdict".to_owned(),
                size: 8,
                members: vec![member("trigger", 0, Type::Unsigned(4)), member("acts", 4, Type::Unsigned(4))],
            })
        };
        let at = |offset| VerdictAt { trigger: offset, acts: offset + 4 };
        let outputs_count = u32::try_from(outputs).unwrap_or(u32::MAX / 16);
        let retired_model = Type::Struct(Struct {
            name: "nn_retired".to_owned(),
            size: 8 + outputs_count * 8,
            members: vec![
                member("label", 0, Type::Unsigned(4)),
                member("rules", 4, Type::Unsigned(4)),
                member("outputs", 8, Type::Array(Box::new(Type::Signed(8)), outputs_count)),
            ],
        });
        let payload_bytes = payload_bytes(program);
        let (payload, payload_start, payload_length) = match payload_bytes {
            None => (0, 0, 0),
            Some(bytes) => {
                let bytes = u32::from(bytes.unsigned_abs()).next_power_of_two();
                (
                    scratch.append("payload", Type::Array(Box::new(Type::Unsigned(1)), bytes))?,
                    scratch.append("payload_start", Type::Unsigned(8))?,
                    scratch.append("payload_length", Type::Unsigned(8))?,
                )
            }
        };
        // Without a table there is neither key nor record.
        let table = |scratch: &mut Scratch, name, count| match program.scope {
            Scope::Flow => scratch.append(name, words(count)),
            Scope::Packet => Ok(0),
        };
        Ok(Self {
            payload,
            payload_bytes,
            payload_start,
            payload_length,
            src: scratch.append("src", host())?,
            dst: scratch.append("dst", host())?,
            exempt: scratch.append("exempt", Type::Unsigned(8))?,
            answer: table(scratch, "answer", 1)?,
            backward: scratch.append("backward", Type::Unsigned(8))?,
            now: scratch.append("now", Type::Unsigned(8))?,
            first: scratch.append("first_ns", Type::Unsigned(8))?,
            packets: scratch.append("packets", Type::Unsigned(8))?,
            ports: scratch.append("ports", Type::Unsigned(8))?,
            own: at(scratch.append("verdict", verdict())?),
            retired: at(scratch.append("retired_verdict", verdict())?),
            retired_model: scratch.append("retired_model", retired_model)?,
            key: table(scratch, "key", KEY_SIZE / 8)?,
            image: table(scratch, "image", program.record.size / 8)?,
            event: scratch.append("event", event_type(outputs, program.features.len()))?,
            fields: match side_fields(program).len() {
                0 => 0,
                count => scratch.append("fields", words(u32::try_from(count).unwrap_or(u32::MAX / 8)))?,
            },
            sides: match program.tables.iter().map(|table| table.size / 8).sum() {
                0 => 0,
                count => scratch.append("sides", words(count))?,
            },
        })
    }

    /// A base from which the offsets of [`Self::own`] reach the verdict on the packet's own record or, with
    /// `retired` 1, on the old one.
    pub(super) fn verdict(&self, b: &mut Builder, scratch: VReg, retired: VReg) -> VReg {
        let distance = b.compute(AluOp::And, retired, 1);
        b.mul(distance, i32::from(self.retired.trigger - self.own.trigger));
        b.add(distance, scratch);
        distance
    }
}
