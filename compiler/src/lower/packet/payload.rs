//! Payload bytes: copied to the scratch value by the parser, as far as the specification reads them.
//!
//! With XDP words are copied, each with its own proof that it is captured. At tc, and where frames have several buffers, a helper copies whatever is there, so
//! that nothing has to be pulled into the linear part.

use super::parse::{Parser, TRANSPORT_BITS};
use super::path::{Path, address, copy_words};
use crate::bpf::{AluOp, Cond, Helper, Size};
use crate::lower::code::VReg;
use crate::spec::typed::Hook;

/// Bits that hold the length of a transport header, at most 60.
const HEADER_BITS: u32 = 6;

impl Path<'_> {
    /// Copies the payload's first bytes, zeros behind its end.
    pub(super) fn payload(&mut self, parser: &Parser, header_len: VReg) {
        let Some(bytes) = self.shared.payload_bytes else { return };
        self.step("payload");
        let scratch = self.scratch_value();
        self.b.mov(self.payload, scratch);
        let wanted = self.b.compute(AluOp::Sub, parser.l4_len, header_len);
        let start = self.b.copy(header_len);
        self.b.and(start, (1 << HEADER_BITS) - 1);
        self.b.add(start, parser.at);
        match (self.hook, self.options.fragments) {
            (Hook::Xdp, false) => self.direct(parser, start, wanted, bytes),
            (Hook::Xdp, true) => {
                let packet = self.b.call(Helper::XdpGetBuffLen, &[self.context]);
                self.loaded(Helper::XdpLoadBytes, start, (wanted, packet), bytes);
            }
            (Hook::TcIngress | Hook::TcEgress, _) => {
                let packet = self.whole_length();
                self.loaded(Helper::SkbLoadBytes, start, (wanted, packet), bytes);
            }
        }
    }

    /// From the bytes that the program reaches itself.
    ///
    /// Where they are fewer than the specification reads, whole words are copied first. The rest is in the eight bytes
    /// in front of its end, of which the first ones are of the header or copied already: a shift takes them away.
    fn direct(&mut self, parser: &Parser, start: VReg, wanted: VReg, bytes: i16) {
        let to = self.shared.payload;
        let (short, rest, done) = (self.b.label(), self.b.label(), self.b.label());
        // Offset and length come back from the scratch value as numbers without a past: the verifier would follow them
        // to the transports' headers and tell the ways through these apart.
        let (from_at, length_at) = (self.shared.payload_start, self.shared.payload_length);
        self.b.store(Size::DW, self.payload, from_at, start);
        let start = self.b.load(Size::DW, self.payload, from_at);
        self.b.and(start, (1 << TRANSPORT_BITS) - 1);
        self.reload(parser);
        let from = self.b.compute(AluOp::Add, parser.data, start);
        let captured = self.b.compute(AluOp::Sub, parser.end, from);
        self.at_most_register(wanted, captured);
        self.b.store(Size::DW, self.payload, length_at, wanted);
        let length = self.b.load(Size::DW, self.payload, length_at);
        self.b.jump(Cond::Slt, length, i32::from(bytes), short);
        self.present_or(parser, from, i32::from(bytes), done);
        copy_words(&mut self.b, (from, 0), (self.payload, to), bytes / 8);
        self.b.goto(done);

        self.b.bind(short);
        self.clear_payload(bytes);
        let length = self.b.load(Size::DW, self.payload, length_at);
        // Negative where the packet was cut within the header.
        self.b.jump(Cond::Slt, length, 1, done);
        for at in (0..bytes).step_by(8) {
            self.b.jump(Cond::Slt, length, i32::from(at) + 8, rest);
            self.present_or(parser, from, i32::from(at) + 8, done);
            copy_words(&mut self.b, (from, at), (self.payload, to + at), 1);
        }
        self.b.goto(done);

        self.b.bind(rest);
        let length = self.b.load(Size::DW, self.payload, length_at);
        let shift = self.b.compute(AluOp::And, length, 7);
        self.b.jump(Cond::Eq, shift, 0, done);
        self.b.lsh(shift, 3);
        self.b.neg(shift);
        self.b.and(shift, 63);
        let end = self.b.load(Size::DW, self.payload, from_at);
        self.b.add(end, length);
        self.b.sub(end, 8);
        self.b.and(end, (1 << TRANSPORT_BITS) - 1);
        let last = self.b.compute(AluOp::Add, parser.data, end);
        self.present_or(parser, last, 8, done);
        let word = self.b.load(Size::DW, last, 0);
        self.b.rsh(word, shift);
        // Below the size of the place, a power of two.
        self.b.and(length, i32::from(bytes.unsigned_abs().next_power_of_two()) - 8);
        self.b.add(length, self.payload);
        self.b.store(Size::DW, length, to, word);
        self.b.bind(done);
    }

    /// By a helper, from wherever the bytes lie. The packet has so many.
    fn loaded(&mut self, helper: Helper, start: VReg, (wanted, packet): (VReg, VReg), bytes: i16) {
        let done = self.b.label();
        self.clear_payload(bytes);
        // Negative where the packet was cut within the header.
        let rest = self.b.compute(AluOp::Sub, packet, start);
        self.at_most_register(wanted, rest);
        let most = self.b.constant(i64::from(bytes));
        self.at_most_register(wanted, most);
        // Without a past, as in `direct`.
        let at = self.shared.payload_length;
        self.b.store(Size::DW, self.payload, at, wanted);
        let length = self.b.load(Size::DW, self.payload, at);
        self.b.jump(Cond::Gt, length, i32::from(bytes), done);
        self.b.jump(Cond::Lt, length, 1, done);
        let to = address(&mut self.b, self.payload, self.shared.payload);
        self.b.call(helper, &[self.context, start, to, length]);
        self.b.bind(done);
    }

    /// Replaces a number by a smaller one, without a branch. Both are below 2^62 in magnitude.
    fn at_most_register(&mut self, value: VReg, limit: VReg) {
        self.b.sub(value, limit);
        let less = self.b.compute(AluOp::Rsh, value, 63);
        self.b.mul(value, less);
        self.b.add(value, limit);
    }

    fn clear_payload(&mut self, bytes: i16) {
        for at in (0..bytes).step_by(8) {
            self.b.store(Size::DW, self.payload, self.shared.payload + at, 0);
        }
    }
}
