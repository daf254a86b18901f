//! Frame to key and fields, as [`crate::ir::packet`] says: each check in its order, each failure to its
//! counter. Addresses, the key and the fields that the specification reads end up in the frame.

use super::hook::{Buffer, Frame};
use super::path::{Path, ends_in_key};
use crate::bpf::{AluOp, Cond, Label, Size};
use crate::ir::flow::key::KeyPart;
use crate::ir::flow::ranges::field_limit;
use crate::ir::packet::{MAX_EXTENSIONS, MAX_FRAME, Reason};
use crate::lower::builder::StackSlot;
use crate::lower::code::VReg;
use crate::spec::typed::{Directions, Field};

/// Ether types as a little-endian load sees them.
const IPV4: i32 = 0x0008;
const IPV6: i32 = 0xdd86;
/// As [`Field::EthType`] has them.
const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;
const TAGS: [i32; 3] = [0x0081, 0xa888, 0x0091];

/// Bits that hold the offset of a network header: at most 22.
const NETWORK_BITS: u32 = 5;
/// Bits that hold the offset of a transport header: at most 62 plus eight extensions of 2,056 bytes.
pub(super) const TRANSPORT_BITS: u32 = 15;

/// IPv6 extension headers: hop-by-hop, routing, fragment, authentication, destination options.
const FRAGMENT: i32 = 44;
const AUTHENTICATION: i32 = 51;
const EXTENSIONS: [i32; 5] = [0, 43, FRAGMENT, AUTHENTICATION, 60];
/// What the parser leaves in registers; the rest is in the frame.
pub(super) struct Ends {
    pub(super) src_port: VReg,
    pub(super) dst_port: VReg,
    pub(super) proto: VReg,
}

/// What following steps of flows need in registers; the rest is in the frame.
pub(super) struct Packet {
    /// 1 when the sender is end `b` of the key.
    pub(super) sender_is_b: VReg,
}

/// Registers of the parser. Blocks that jump to a label leave their results here.
pub(super) struct Parser {
    pub(super) data: VReg,
    pub(super) end: VReg,
    /// Where to go when a header is not all there.
    pub(super) truncated: Label,
    /// What only socket buffers have.
    pub(super) buffer: Option<Buffer>,
    /// Offset of the network header, later of the transport header.
    pub(super) at: VReg,
    pub(super) proto: VReg,
    pub(super) l4_len: VReg,
    /// Whether an IPv6 fragment header told of more, where the specification asks.
    more: Option<VReg>,
    ipv4: Label,
    ipv6: Label,
    pub(super) transport: Label,
}

impl Path<'_> {
    /// Emits the parser. Control goes on where the packet is one that the specification follows.
    pub(super) fn parse(&mut self) -> Ends {
        self.step("parse Ethernet");
        let parser = self.ethernet();
        self.pull(&parser);
        self.step("parse IPv6");
        self.ipv6(&parser);
        self.step("parse IPv4");
        self.ipv4(&parser);
        self.step("parse transport");
        let (src_port, dst_port) = self.transport(&parser);
        Ends { src_port, dst_port, proto: parser.proto }
    }

    fn ethernet(&mut self) -> Parser {
        let Frame { data, end, length, truncated, buffer } = self.frame();
        let too_long = self.refused(Reason::FrameTooLong);
        self.b.jump(Cond::Gt, length, i32::try_from(MAX_FRAME).unwrap_or(i32::MAX), too_long);
        self.keep(Field::FrameLen, length);

        let parser = Parser {
            data,
            end,
            truncated,
            buffer,
            at: self.b.fresh(),
            proto: self.b.fresh(),
            l4_len: self.b.fresh(),
            more: self.keeps(Field::IpMf).then(|| self.b.fresh()),
            ipv4: self.b.label(),
            ipv6: self.b.label(),
            transport: self.b.label(),
        };
        let (mut tag, two_tags) = (self.b.label(), self.b.label());
        for (tags, next) in [(0, Some(tag)), (1, Some(two_tags)), (2, None)] {
            let header = 14 + 4 * tags;
            if tags > 0 {
                self.b.bind(tag);
                tag = two_tags;
            }
            if let (2, Some(buffer)) = (tags, &parser.buffer) {
                let too_many = self.refused(Reason::TooManyTags);
                self.b.jump(Cond::Ne, buffer.tagged, 0, too_many);
            }
            self.present(&parser, data, header);
            self.vlan(&parser, tags);
            if tags == 0 {
                self.ethernet_addresses(data);
            }
            let ether_type = self.b.load(Size::H, data, i16::try_from(header - 2).unwrap_or(i16::MAX));
            if let (0, Some(buffer)) = (tags, &parser.buffer) {
                let not_ip = self.refused(Reason::NotIp);
                self.b.jump(Cond::Ne, ether_type, buffer.protocol, not_ip);
            }
            self.b.mov(parser.at, header);
            self.blur(parser.at, NETWORK_BITS);
            self.b.jump(Cond::Eq, ether_type, IPV4, parser.ipv4);
            self.b.jump(Cond::Eq, ether_type, IPV6, parser.ipv6);
            let tagged = match next {
                Some(label) => label,
                None => self.refused(Reason::TooManyTags),
            };
            for tag in TAGS {
                self.b.jump(Cond::Eq, ether_type, tag, tagged);
            }
            let not_ip = self.refused(Reason::NotIp);
            self.b.goto(not_ip);
        }
        parser
    }

    /// Both addresses as numbers.
    fn ethernet_addresses(&mut self, data: VReg) {
        for (field, at) in [(Field::EthDst, 0), (Field::EthSrc, 6)] {
            if !self.keeps(field) {
                continue;
            }
            let number = self.number(data, at);
            self.b.lsh(number, 32);
            let low = self.b.load(Size::W, data, at + 2);
            self.b.to_big_endian(32, low);
            self.b.or(number, low);
            self.keep(field, number);
        }
    }

    /// The fields of VLAN tags, of which so many have been found in the frame and are captured.
    fn vlan(&mut self, parser: &Parser, tags: i32) {
        let beside = parser.buffer.as_ref().map(|buffer| buffer.tagged);
        if self.keeps(Field::VlanCount) {
            let count = self.b.copy(self.unknown);
            if let Some(beside) = beside {
                self.b.add(count, beside);
            }
            self.b.add(count, tags);
            self.blur(count, 2);
            self.keep(Field::VlanCount, count);
        }
        if !self.keeps(Field::VlanId) && !self.keeps(Field::VlanPcp) {
            return;
        }
        let control = match tags {
            0 => self.nothing(Field::IpId),
            _ => self.number(parser.data, 14),
        };
        if let Some(beside) = beside {
            // The tag beside the packet is the outer one. Its control information means nothing without it.
            let mask = self.b.copy(beside);
            self.b.neg(mask);
            let outer = self.tag_beside();
            self.b.and(outer, mask);
            self.b.xor(mask, -1);
            self.b.and(control, mask);
            self.b.or(control, outer);
            self.b.and(control, 0xffff);
        }
        if self.keeps(Field::VlanPcp) {
            let priority = self.b.compute(AluOp::Rsh, control, 13);
            self.keep(Field::VlanPcp, priority);
        }
        self.b.and(control, 0x0fff);
        self.keep(Field::VlanId, control);
    }

    /// A field that the packet does not have, which the verifier takes for any value of it.
    pub(super) fn nothing(&mut self, field: Field) -> VReg {
        let value = self.b.copy(self.unknown);
        let limit = (field_limit(field) + 1).next_power_of_two() - 1;
        self.b.and(value, i32::try_from(limit).unwrap_or(i32::MAX));
        value
    }

    fn keep_nothing(&mut self, fields: &[Field]) {
        for &field in fields {
            if self.keeps(field) {
                let nothing = self.nothing(field);
                self.keep(field, nothing);
            }
        }
    }

    /// Some bits of a number, if the specification reads them.
    fn keep_bits(&mut self, field: Field, number: VReg, from: i32, mask: i32) {
        if self.keeps(field) {
            let bits = self.b.copy(number);
            if from > 0 {
                self.b.rsh(bits, from);
            }
            self.b.and(bits, mask);
            self.keep(field, bits);
        }
    }

    /// `ip.tos` and its parts, in a number behind so many bits.
    fn type_of_service(&mut self, number: VReg, from: i32) {
        self.keep_bits(Field::IpTos, number, from, 0xff);
        self.keep_bits(Field::IpDscp, number, from + 2, 0x3f);
        self.keep_bits(Field::IpEcn, number, from, 3);
    }

    fn keeps_any(&self, fields: &[Field]) -> bool {
        fields.iter().any(|field| self.keeps(*field))
    }

    /// Loads the packet's start again: what the verifier knows to be captured differs with the number of tags.
    pub(super) fn reload(&mut self, parser: &Parser) {
        self.load_start(parser.data);
    }

    /// Checks that `bytes` from `header` on are captured.
    pub(super) fn present(&mut self, parser: &Parser, header: VReg, bytes: i32) {
        self.present_or(parser, header, bytes, parser.truncated);
    }

    /// The same, with another place to go when they are not.
    pub(super) fn present_or(&mut self, parser: &Parser, header: VReg, bytes: i32, missing: Label) {
        let end = self.b.compute(AluOp::Add, header, bytes);
        self.b.jump(Cond::Gt, end, parser.end, missing);
    }

    /// Pointer to the header at `at`, of which so many bytes are captured.
    pub(super) fn header(&mut self, parser: &Parser, bytes: i32) -> VReg {
        let header = self.b.compute(AluOp::Add, parser.data, parser.at);
        self.present(parser, header, bytes);
        header
    }

    /// A 16-bit number of a header.
    pub(super) fn number(&mut self, header: VReg, offset: i16) -> VReg {
        let value = self.b.load(Size::H, header, offset);
        self.b.to_big_endian(16, value);
        value
    }

    /// Version, checked.
    fn version(&mut self, header: VReg, version: i32, ether_type: u16) {
        let bad = self.refused(Reason::BadIp);
        let first = self.b.load(Size::B, header, 0);
        self.b.rsh(first, 4);
        self.b.jump(Cond::Ne, first, version, bad);
        for (field, known) in [(Field::IpVersion, version), (Field::EthType, i32::from(ether_type))] {
            if self.keeps(field) {
                let value = self.b.copy(self.unknown);
                self.b.or(value, known);
                self.keep(field, value);
            }
        }
    }

    fn time_to_live(&mut self, header: VReg, offset: i16) {
        if self.keeps(Field::IpTtl) {
            let ttl = self.b.load(Size::B, header, offset);
            self.keep(Field::IpTtl, ttl);
        }
    }

    fn ipv4(&mut self, parser: &Parser) {
        let (bad, later) = (self.refused(Reason::BadIp), self.refused(Reason::LaterFragment));
        self.b.bind(parser.ipv4);
        self.reload(parser);
        let ip = self.header(parser, 20);
        self.version(ip, 4, ETHER_IPV4);
        let header_len = self.b.load(Size::B, ip, 0);
        self.b.and(header_len, 0x0f);
        self.b.lsh(header_len, 2);
        self.b.jump(Cond::Lt, header_len, 20, bad);
        let ip_len = self.number(ip, 2);
        self.b.jump(Cond::Lt, ip_len, header_len, bad);
        self.keep(Field::IpLen, ip_len);
        self.keep(Field::IpHeaderLen, header_len);
        // The offset's 13 bits, as a little-endian load sees them.
        let fragment = self.b.load(Size::H, ip, 6);
        self.b.jump(Cond::Set, fragment, 0xff1f, later);
        self.keep_bits(Field::IpDf, fragment, 6, 1);
        self.keep_bits(Field::IpMf, fragment, 5, 1);
        if self.keeps_any(&[Field::IpTos, Field::IpDscp, Field::IpEcn]) {
            let tos = self.b.load(Size::B, ip, 1);
            self.type_of_service(tos, 0);
        }
        if self.keeps(Field::IpId) {
            let id = self.number(ip, 4);
            self.keep(Field::IpId, id);
        }
        self.keep_nothing(&[Field::IpFlowLabel]);
        self.time_to_live(ip, 8);
        self.b.load_to(parser.proto, Size::B, ip, 9);
        // The mapped form: ten zero bytes, two of ones, the address.
        let mapping = self.b.constant(0xffff_0000);
        for (slot, offset) in [(self.frame.src, 12), (self.frame.dst, 16)] {
            let zero = self.unknown_zero();
            let address = self.b.load(Size::W, ip, offset);
            self.b.lsh(address, 32);
            self.b.or(address, mapping);
            if let Some(zero) = zero {
                self.b.add(address, zero);
            }
            self.b.stack_store(Size::DW, slot, 0, zero.unwrap_or(self.unknown));
            self.b.stack_store(Size::DW, slot, 8, address);
        }
        self.b.mov(parser.l4_len, ip_len);
        self.b.sub(parser.l4_len, header_len);
        self.b.add(parser.at, header_len);
        // Falls through to the transport.
    }

    fn ipv6(&mut self, parser: &Parser) {
        self.b.bind(parser.ipv6);
        self.reload(parser);
        let ip = self.header(parser, 40);
        self.version(ip, 6, ETHER_IPV6);
        let payload = self.number(ip, 4);
        if self.keeps(Field::IpLen) {
            let ip_len = self.b.compute(AluOp::Add, payload, 40);
            self.keep(Field::IpLen, ip_len);
        }
        self.b.load_to(parser.proto, Size::B, ip, 6);
        self.time_to_live(ip, 7);
        if self.keeps_any(&[Field::IpTos, Field::IpDscp, Field::IpEcn, Field::IpFlowLabel]) {
            let first = self.b.load(Size::W, ip, 0);
            self.b.to_big_endian(32, first);
            self.type_of_service(first, 20);
            self.keep_bits(Field::IpFlowLabel, first, 0, 0x000f_ffff);
        }
        self.keep_nothing(&[Field::IpId, Field::IpDf]);
        if let Some(more) = parser.more {
            let none = self.nothing(Field::IpMf);
            self.b.mov(more, none);
        }
        for (slot, from) in [(self.frame.src, 8), (self.frame.dst, 24)] {
            for half in [0, 8] {
                let word = self.b.load(Size::DW, ip, from + half);
                self.b.stack_store(Size::DW, slot, half, word);
            }
        }
        self.b.add(parser.at, 40);
        let start = self.b.copy(parser.at);
        let done = self.b.label();
        for _ in 0..MAX_EXTENSIONS {
            self.extension(parser, done);
        }
        let too_many = self.refused(Reason::TooManyExtensions);
        let extends = self.extends(parser, done);
        self.b.jump(Cond::Ne, extends, 0, too_many);
        self.b.bind(done);
        self.blur(parser.at, TRANSPORT_BITS);
        let extensions = self.b.compute(AluOp::Sub, parser.at, start);
        let bad = self.refused(Reason::BadIp);
        self.b.jump(Cond::Gt, extensions, payload, bad);
        if let Some(more) = parser.more {
            self.keep(Field::IpMf, more);
        }
        if self.keeps(Field::IpHeaderLen) {
            let header_len = self.b.compute(AluOp::Add, extensions, 40);
            self.keep(Field::IpHeaderLen, header_len);
        }
        self.b.mov(parser.l4_len, payload);
        self.b.sub(parser.l4_len, extensions);
        self.b.goto(parser.transport);
    }

    /// One round of skipping an extension header; leaves for `done` at anything else.
    ///
    /// There is one way through a round, whatever the header is: with branches the verifier would walk every
    /// round once for each kind of header in the rounds before.
    fn extension(&mut self, parser: &Parser, done: Label) {
        let later = self.refused(Reason::LaterFragment);
        let extends = self.extends(parser, done);
        self.b.jump(Cond::Eq, extends, 0, done);
        let header = self.header(parser, 8);
        let kind = self.b.copy(parser.proto);
        self.b.load_to(parser.proto, Size::B, header, 0);
        let length = self.b.load(Size::B, header, 1);
        let offset = self.b.load(Size::H, header, 2);
        // All ones for a fragment header, whose offset's 13 bits are here as a little-endian load sees them.
        let fragment = self.b.compute(AluOp::Xor, kind, FRAGMENT);
        self.b.sub(fragment, 1);
        self.b.arsh(fragment, 63);
        self.b.and(offset, fragment);
        self.b.jump(Cond::Set, offset, 0xf8ff, later);
        if let Some(more) = parser.more {
            // The lowest bit of the second byte.
            let bit = self.b.compute(AluOp::Rsh, offset, 8);
            self.b.and(bit, 1);
            self.b.or(more, bit);
        }
        // Units of 8 bytes without the first; of 4 bytes without the first two for authentication.
        self.b.xor(kind, AUTHENTICATION);
        self.b.sub(kind, 1);
        self.b.rsh(kind, 63);
        self.b.add(length, kind);
        self.b.add(length, 1);
        let unit = self.b.constant(3);
        self.b.sub(unit, kind);
        self.b.lsh(length, unit);
        // 8 bytes for a fragment header, whatever its second byte says.
        self.b.xor(fragment, -1);
        self.b.xor(length, 8);
        self.b.and(length, fragment);
        self.b.xor(length, 8);
        self.b.add(parser.at, length);
        self.blur(parser.at, TRANSPORT_BITS);
    }

    /// Odd when the protocol is an extension header; leaves for `other` where it is too large to be one.
    fn extends(&mut self, parser: &Parser, other: Label) -> VReg {
        let set = EXTENSIONS.into_iter().fold(0i64, |set, extension| set | 1 << extension);
        self.b.jump(Cond::Gt, parser.proto, 63, other);
        let rest = self.b.constant(set);
        self.b.rsh(rest, parser.proto);
        self.b.and(rest, 1);
        rest
    }

    /// The key of [`crate::ir::flow::record::Key`], in the frame.
    pub(super) fn flow_key(&mut self, ends: &Ends) -> Packet {
        self.step("key of the flow");
        let (src_port, dst_port) = (ends.src_port, ends.dst_port);
        let sender_is_b = self.b.fresh();
        let (swap, keep, done) = (self.b.label(), self.b.label(), self.b.label());
        let (src, dst) = (self.frame.src, self.frame.dst);
        let [src_port, dst_port] = [(KeyPart::SrcPort, src_port), (KeyPart::DstPort, dst_port)]
            .map(|(part, port)| self.program.key.has(part).then_some(port));
        if ends_in_key(self.program) {
            self.b.mov(sender_is_b, 0);
            self.store_rest(ends.proto, src_port, dst_port);
            return Packet { sender_is_b };
        }
        let (src_high, dst_high) = (self.key_word(KeyPart::Src, src, 8), self.key_word(KeyPart::Dst, dst, 8));
        let (src_low, dst_low) = (self.key_word(KeyPart::Src, src, 0), self.key_word(KeyPart::Dst, dst, 0));
        match self.program.directions {
            Directions::One => {}
            Directions::Both => {
                self.b.jump(Cond::Gt, src_high, dst_high, swap);
                self.b.jump(Cond::Ne, src_high, dst_high, keep);
                self.b.jump(Cond::Gt, src_low, dst_low, swap);
                self.b.jump(Cond::Ne, src_low, dst_low, keep);
                if let (Some(src_port), Some(dst_port)) = (src_port, dst_port) {
                    self.b.jump(Cond::Gt, src_port, dst_port, swap);
                }
            }
        }
        self.b.bind(keep);
        self.b.mov(sender_is_b, 0);
        self.store_key(ends.proto, [src_low, src_high, dst_low, dst_high], src_port, dst_port);
        match self.program.directions {
            Directions::One => {}
            Directions::Both => {
                self.b.goto(done);
                self.b.bind(swap);
                self.b.mov(sender_is_b, 1);
                self.store_key(ends.proto, [dst_low, dst_high, src_low, src_high], dst_port, src_port);
                self.b.bind(done);
                // It selects a part of the record, so that the verifier would follow 0 and 1 apart to the end.
                self.blur(sender_is_b, 1);
            }
        }
        Packet { sender_is_b }
    }

    /// Half of an address that is part of the key, else zeros.
    fn key_word(&mut self, part: KeyPart, slot: StackSlot, half: i16) -> VReg {
        if self.program.key.has(part) { self.b.stack_load(Size::DW, slot, half) } else { self.b.constant(0) }
    }

    fn store_key(&mut self, proto: VReg, words: [VReg; 4], a_port: Option<VReg>, b_port: Option<VReg>) {
        let key = self.frame.key;
        for (offset, word) in [0, 8, 16, 24].into_iter().zip(words) {
            self.b.stack_store(Size::DW, key, offset, word);
        }
        self.store_rest(proto, a_port, b_port);
    }

    /// Ports and protocol.
    fn store_rest(&mut self, proto: VReg, a_port: Option<VReg>, b_port: Option<VReg>) {
        let key = self.frame.key;
        let rest = if self.program.key.has(KeyPart::Proto) {
            self.b.compute(AluOp::Lsh, proto, 32)
        } else {
            self.b.constant(0)
        };
        if let Some(b_port) = b_port {
            let port = self.b.compute(AluOp::Lsh, b_port, 16);
            self.b.or(rest, port);
        }
        if let Some(a_port) = a_port {
            self.b.or(rest, a_port);
        }
        self.b.stack_store(Size::DW, key, 32, rest);
    }
}
