//! What the hooks differ in: ELF section, context, answers; and how the parser of tc sees all of a packet.
//!
//! At the hooks of tc a packet is a socket buffer. Three things about it are unlike a frame in memory:
//!
//! - Only its linear part is reachable. Where the parser misses bytes that the packet has, they are pulled in,
//!   and the parser starts again, once.
//! - The kernel keeps the outermost VLAN tag beside the packet. It counts as a tag, and its four bytes count in
//!   the length of the frame, so that fields are those of the frame on the wire.
//! - Not every device has Ethernet headers. Where what stands in the place of the type is not the protocol that
//!   the kernel knows, there is none, and the packet is counted as not IP.

use super::parse::Parser;
use super::path::Path;
use crate::bpf::{AluOp, Cond, Helper, Label, Size};
use crate::ir::packet::{ETHERNET_HEADER, MAX_EXTENSIONS, MAX_TAGS, Reason};
use crate::lower::builder::Builder;
use crate::lower::code::VReg;
use crate::spec::typed::Hook;

/// What `nn_entry` returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    pub pass: i32,
    pub drop: i32,
}

/// The answers of a hook.
#[must_use]
pub const fn answers(hook: Hook) -> Answers {
    match hook {
        // XDP_PASS and XDP_DROP in `include/uapi/linux/bpf.h`.
        Hook::Xdp => Answers { pass: 2, drop: 1 },
        // TC_ACT_UNSPEC, which lets the classifiers that follow decide, and TC_ACT_SHOT in
        // `include/uapi/linux/pkt_cls.h`.
        Hook::TcIngress | Hook::TcEgress => Answers { pass: -1, drop: 2 },
    }
}

/// The section of the programs. Frames of several buffers need one of their own for XDP only.
#[must_use]
pub const fn section(hook: Hook, fragments: bool) -> &'static str {
    match hook {
        Hook::Xdp if fragments => "xdp.frags",
        Hook::Xdp => "xdp",
        Hook::TcIngress | Hook::TcEgress => "classifier",
    }
}

/// Offsets in `struct xdp_md` of `include/uapi/linux/bpf.h`.
mod xdp {
    pub(super) const DATA: i16 = 0;
    pub(super) const DATA_END: i16 = 4;
}

/// Offsets in `struct __sk_buff` of `include/uapi/linux/bpf.h`.
mod skb {
    pub(super) const LEN: i16 = 0;
    pub(super) const MARK: i16 = 8;
    pub(super) const PROTOCOL: i16 = 16;
    pub(super) const VLAN_PRESENT: i16 = 20;
    pub(super) const VLAN_TCI: i16 = 24;
    pub(super) const DATA: i16 = 76;
    pub(super) const DATA_END: i16 = 80;
}

/// Longest extension header that the parser skips, and the headers around extensions: IPv6, and TCP without
/// options.
const EXTENSION: usize = 2_048;
const IPV6: usize = 40;
const TCP: usize = 20;

/// The parser looks at no byte behind these.
const HEADERS: usize = ETHERNET_HEADER + 4 * MAX_TAGS + IPV6 + EXTENSION * MAX_EXTENSIONS + TCP;

/// A frame as a hook shows it.
pub(super) struct Frame {
    pub(super) data: VReg,
    pub(super) end: VReg,
    pub(super) length: VReg,
    /// Where to go when a header is not all there.
    pub(super) truncated: Label,
    /// What only socket buffers have.
    pub(super) buffer: Option<Buffer>,
}

/// A socket buffer.
pub(super) struct Buffer {
    /// The parser's start.
    again: Label,
    /// 1 when everything that the parser may look at was pulled in.
    pulled: VReg,
    /// 1 when a VLAN tag lies beside the packet.
    pub(super) tagged: VReg,
    /// The ether type, as a load from the frame gives it.
    pub(super) protocol: VReg,
}

/// Sets the mark of a socket buffer.
pub(super) fn set_mark(b: &mut Builder, context: VReg, mark: VReg) {
    b.store(Size::W, context, skb::MARK, mark);
}

impl Path<'_> {
    /// Bounds and length of the frame; also makes the register that the verifier does not know.
    pub(super) fn frame(&mut self) -> Frame {
        match self.hook {
            Hook::Xdp => self.xdp_frame(),
            Hook::TcIngress | Hook::TcEgress => self.skb_frame(),
        }
    }

    /// Start and end of what is linear; also makes the register that the verifier does not know.
    pub(super) fn linear(&mut self) -> (VReg, VReg) {
        let (start, stop) = match self.hook {
            Hook::Xdp => (xdp::DATA, xdp::DATA_END),
            Hook::TcIngress | Hook::TcEgress => (skb::DATA, skb::DATA_END),
        };
        let data = self.b.load(Size::W, self.context, start);
        let end = self.b.load(Size::W, self.context, stop);
        self.captured(data, end);
        (data, end)
    }

    fn xdp_frame(&mut self) -> Frame {
        let whole = self.options.fragments.then(|| self.b.call(Helper::XdpGetBuffLen, &[self.context]));
        let data = self.b.load(Size::W, self.context, xdp::DATA);
        let end = self.b.load(Size::W, self.context, xdp::DATA_END);
        let captured = self.captured(data, end);
        let length = whole.unwrap_or(captured);
        Frame { data, end, length, truncated: self.refused(Reason::Truncated), buffer: None }
    }

    fn skb_frame(&mut self) -> Frame {
        let pulled = self.b.constant(0);
        let again = self.b.here();
        let data = self.b.load(Size::W, self.context, skb::DATA);
        let end = self.b.load(Size::W, self.context, skb::DATA_END);
        self.captured(data, end);
        let tagged = self.b.load(Size::W, self.context, skb::VLAN_PRESENT);
        let protocol = self.b.load(Size::W, self.context, skb::PROTOCOL);
        let length = self.b.compute(AluOp::Lsh, tagged, 2);
        let packet = self.b.load(Size::W, self.context, skb::LEN);
        self.b.add(length, packet);
        let buffer = Buffer { again, pulled, tagged, protocol };
        Frame { data, end, length, truncated: self.b.label(), buffer: Some(buffer) }
    }

    /// Bytes between start and end.
    fn captured(&mut self, data: VReg, end: VReg) -> VReg {
        let captured = self.b.compute(AluOp::Sub, end, data);
        // Frames are shorter than 2^32 bytes, but the verifier takes the difference for any number.
        self.b.mov(self.unknown, captured);
        self.b.rsh(self.unknown, 32);
        captured
    }

    /// Control information of the VLAN tag beside a socket buffer; of no meaning without one.
    pub(super) fn tag_beside(&mut self) -> VReg {
        self.b.load(Size::W, self.context, skb::VLAN_TCI)
    }

    /// Bytes of a socket buffer, linear or not.
    pub(super) fn whole_length(&mut self) -> VReg {
        self.b.load(Size::W, self.context, skb::LEN)
    }

    /// Loads the packet's start again.
    pub(super) fn load_start(&mut self, data: VReg) {
        let at = match self.hook {
            Hook::Xdp => xdp::DATA,
            Hook::TcIngress | Hook::TcEgress => skb::DATA,
        };
        self.b.load_to(data, Size::W, self.context, at);
    }

    /// Where a header of a socket buffer was missing: pulls in what the packet has of all headers and parses it
    /// again, unless that is done or the linear part is all there is.
    pub(super) fn pull(&mut self, parser: &Parser) {
        let Some(buffer) = &parser.buffer else { return };
        let truncated = self.refused(Reason::Truncated);
        self.b.bind(parser.truncated);
        self.b.jump(Cond::Ne, buffer.pulled, 0, truncated);
        let packet = self.b.load(Size::W, self.context, skb::LEN);
        let data = self.b.load(Size::W, self.context, skb::DATA);
        let end = self.b.load(Size::W, self.context, skb::DATA_END);
        let linear = self.b.compute(AluOp::Sub, end, data);
        self.b.jump(Cond::Ge, linear, packet, truncated);
        let short = self.b.label();
        let headers = i32::try_from(HEADERS).unwrap_or(i32::MAX);
        self.b.jump(Cond::Le, packet, headers, short);
        self.b.mov(packet, headers);
        self.b.bind(short);
        let failed = self.b.call(Helper::SkbPullData, &[self.context, packet]);
        self.b.jump(Cond::Ne, failed, 0, truncated);
        self.b.mov(buffer.pulled, 1);
        self.b.goto(buffer.again);
    }
}
