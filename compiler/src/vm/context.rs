//! Program contexts: what loads from `r1` give at entry. The verifier rewrites such loads; here they are computed.

use super::error::Fault;
use super::memory::{Memory, PACKET};

/// Which context structure a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// `struct xdp_md`.
    Xdp,
    /// `struct __sk_buff`.
    SkBuff,
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Data,
    DataEnd,
    Length,
    /// The interface, 1 as in the kernel's test runs.
    Interface,
    Zero,
}

impl Context {
    /// The context of programs in a section.
    pub(super) fn of_section(section: &str) -> Option<Self> {
        match section {
            "xdp" | "xdp.frags" => Some(Self::Xdp),
            "classifier" | "tc" => Some(Self::SkBuff),
            _ => None,
        }
    }

    /// A load of `bytes` at `offset`; only whole 32-bit fields exist.
    pub(super) fn load(self, memory: &Memory, offset: u64, bytes: u64) -> Result<u64, Fault> {
        let field = if bytes == 4 { self.field(offset) } else { None };
        Ok(match field.ok_or(Fault::BadContextLoad { offset, bytes })? {
            Field::Data => memory.address(PACKET, 0, 0),
            Field::DataEnd => memory.address(PACKET, 0, memory.packet_len()),
            Field::Length => u64::from(memory.packet_len()),
            Field::Interface => 1,
            Field::Zero => 0,
        })
    }

    /// Offsets from `struct xdp_md` and `struct __sk_buff` in `include/uapi/linux/bpf.h`.
    fn field(self, offset: u64) -> Option<Field> {
        match (self, offset) {
            // Without metadata `data_meta` is where the packet starts.
            (Self::Xdp, 0 | 8) | (Self::SkBuff, 76 | 140) => Some(Field::Data),
            (Self::Xdp, 4) | (Self::SkBuff, 80) => Some(Field::DataEnd),
            (Self::Xdp, 12) | (Self::SkBuff, 36 | 40) => Some(Field::Interface),
            // The receive queue; mark, priority, hash and the control block.
            (Self::Xdp, 16) | (Self::SkBuff, 8 | 32 | 48 | 52 | 56 | 60 | 64 | 68) => Some(Field::Zero),
            (Self::SkBuff, 0) => Some(Field::Length),
            _ => None,
        }
    }
}
