//! The transport header: ports and the fields behind them, of the transports that the specification follows.

use super::parse::{Parser, TRANSPORT_BITS};
use super::path::{Exit, Path};
use crate::bpf::{AluOp, Cond, Label, Size};
use crate::ir::flow::Counter;
use crate::ir::packet::{
    ICMP, ICMP_HEADER, ICMPV6, Reason, SCTP, SCTP_HEADER, TCP, TCP_HEADER, UDP, UDP_HEADER,
};
use crate::lower::code::VReg;
use crate::spec::typed::Field;

/// Where the ways through the transports meet, and what they leave there.
struct Met {
    src_port: VReg,
    dst_port: VReg,
    header_len: VReg,
    /// The fields that some transports have, as far as the specification reads them.
    fields: Vec<(Field, VReg)>,
    ports: Label,
    unselected: Label,
    bad: Label,
}

/// What a field is in its transport's header.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// The byte at an offset.
    Byte(i16),
    /// The 16-bit number at an offset.
    Number(i16),
    /// The 32-bit number at an offset.
    Word(i16),
    /// A bit of the byte at an offset.
    Bit(i16, u8),
    /// The header's length without so many bytes.
    Beyond(u8),
}

/// Where a field is that only one transport has. [`ICMP`] stands for both versions.
const fn part(field: Field) -> Option<(u8, Part)> {
    match field {
        Field::TcpFlags => Some((TCP, Part::Byte(13))),
        Field::TcpFlag(bit) => Some((TCP, Part::Bit(13, bit))),
        Field::TcpSeq => Some((TCP, Part::Word(4))),
        Field::TcpAckNumber => Some((TCP, Part::Word(8))),
        Field::TcpWindow => Some((TCP, Part::Number(14))),
        Field::TcpUrgent => Some((TCP, Part::Number(18))),
        Field::TcpOptionsLen => Some((TCP, Part::Beyond(TCP_HEADER))),
        Field::UdpLen => Some((UDP, Part::Number(4))),
        Field::SctpTag => Some((SCTP, Part::Word(4))),
        Field::IcmpType => Some((ICMP, Part::Byte(0))),
        Field::IcmpCode => Some((ICMP, Part::Byte(1))),
        Field::Direction
        | Field::FrameLen
        | Field::EthSrc
        | Field::EthDst
        | Field::EthType
        | Field::VlanCount
        | Field::VlanId
        | Field::VlanPcp
        | Field::IpLen
        | Field::IpTtl
        | Field::IpVersion
        | Field::IpProto
        | Field::IpHeaderLen
        | Field::IpTos
        | Field::IpDscp
        | Field::IpEcn
        | Field::IpId
        | Field::IpDf
        | Field::IpMf
        | Field::IpFlowLabel
        | Field::L4Len
        | Field::L4HeaderLen
        | Field::L4PayloadLen
        | Field::SrcPort
        | Field::DstPort
        | Field::Payload(_) => None,
    }
}

impl Path<'_> {
    /// Gives sender's and receiver's port.
    pub(super) fn transport(&mut self, parser: &Parser) -> (VReg, VReg) {
        let met = self.met();
        let transports = self.program.transports;
        let udp = self.b.label();
        let icmp = transports.icmp.then(|| self.b.label());
        let sctp = transports.sctp.then(|| self.b.label());
        let other = self.refused(Reason::OtherTransport);

        self.b.bind(parser.transport);
        self.blur(parser.at, TRANSPORT_BITS);
        let ways = [(UDP, Some(udp)), (ICMP, icmp), (ICMPV6, icmp), (SCTP, sctp)];
        for (proto, way) in ways {
            if let Some(way) = way {
                self.b.jump(Cond::Eq, parser.proto, i32::from(proto), way);
            }
        }
        self.b.jump(Cond::Ne, parser.proto, i32::from(TCP), other);
        self.tcp(parser, &met);
        if let Some(sctp) = sctp {
            self.b.bind(sctp);
            self.sctp(parser, &met);
            self.b.goto(met.ports);
        }
        if let Some(icmp) = icmp {
            self.b.bind(icmp);
            self.icmp(parser, &met);
            self.b.goto(met.ports);
        }
        self.b.bind(udp);
        self.udp(parser, &met);

        self.b.bind(met.ports);
        self.b.to_big_endian(16, met.src_port);
        self.b.to_big_endian(16, met.dst_port);
        for (field, value) in &met.fields {
            self.keep(*field, *value);
        }
        self.keep(Field::L4HeaderLen, met.header_len);
        self.keep(Field::L4Len, parser.l4_len);
        if self.keeps(Field::L4PayloadLen) {
            let payload = self.b.compute(AluOp::Sub, parser.l4_len, met.header_len);
            self.keep(Field::L4PayloadLen, payload);
        }
        self.keep(Field::IpProto, parser.proto);
        self.keep(Field::SrcPort, met.src_port);
        self.keep(Field::DstPort, met.dst_port);
        self.payload(parser, met.header_len);
        (met.src_port, met.dst_port)
    }

    fn met(&mut self) -> Met {
        let read: Vec<Field> = self.frame.fields().filter(|field| part(*field).is_some()).collect();
        Met {
            src_port: self.b.fresh(),
            dst_port: self.b.fresh(),
            header_len: self.b.fresh(),
            fields: read.into_iter().map(|field| (field, self.b.fresh())).collect(),
            ports: self.b.label(),
            unselected: self.exit(Exit::Count(Counter::Unselected)),
            bad: self.refused(Reason::BadTransport),
        }
    }

    fn tcp(&mut self, parser: &Parser, met: &Met) {
        let header_len = met.header_len;
        self.b.jump(Cond::Lt, parser.l4_len, i32::from(TCP_HEADER), met.bad);
        let tcp = self.header(parser, i32::from(TCP_HEADER));
        self.b.load_to(header_len, Size::B, tcp, 12);
        self.b.rsh(header_len, 4);
        self.b.lsh(header_len, 2);
        self.b.jump(Cond::Lt, header_len, i32::from(TCP_HEADER), met.bad);
        self.b.jump(Cond::Gt, header_len, parser.l4_len, met.bad);
        if !self.program.transports.tcp {
            self.unselected(met);
            return;
        }
        self.fields(met, TCP, tcp);
        self.ports(met, tcp);
        self.b.goto(met.ports);
    }

    fn udp(&mut self, parser: &Parser, met: &Met) {
        let header = self.fixed(parser, met, UDP_HEADER);
        if !self.program.transports.udp {
            self.unselected(met);
            return;
        }
        self.ports(met, header);
        self.fields(met, UDP, header);
        self.known(met.header_len, UDP_HEADER);
    }

    fn sctp(&mut self, parser: &Parser, met: &Met) {
        let header = self.fixed(parser, met, SCTP_HEADER);
        self.ports(met, header);
        self.fields(met, SCTP, header);
        self.known(met.header_len, SCTP_HEADER);
    }

    fn icmp(&mut self, parser: &Parser, met: &Met) {
        let header = self.fixed(parser, met, ICMP_HEADER);
        self.known(met.src_port, 0);
        self.known(met.dst_port, 0);
        self.fields(met, ICMP, header);
        self.known(met.header_len, ICMP_HEADER);
    }

    /// A header of fixed length.
    fn fixed(&mut self, parser: &Parser, met: &Met, bytes: u8) -> VReg {
        self.b.jump(Cond::Lt, parser.l4_len, i32::from(bytes), met.bad);
        self.header(parser, i32::from(bytes))
    }

    /// A packet of a transport that the parser knows and the specification does not follow.
    fn unselected(&mut self, met: &Met) {
        self.count(Counter::Packet(Reason::Parsed));
        self.b.goto(met.unselected);
    }

    /// Both ports, as the header has them.
    fn ports(&mut self, met: &Met, header: VReg) {
        self.b.load_to(met.src_port, Size::H, header, 0);
        self.b.load_to(met.dst_port, Size::H, header, 2);
    }

    /// The fields that the specification reads: from the header of this transport, or nothing.
    fn fields(&mut self, met: &Met, proto: u8, header: VReg) {
        for &(field, value) in &met.fields {
            match part(field) {
                Some((owner, part)) if owner == proto => self.part(met, part, value, header),
                Some(_) | None => {
                    let nothing = self.nothing(field);
                    self.b.mov(value, nothing);
                }
            }
        }
    }

    fn part(&mut self, met: &Met, part: Part, value: VReg, header: VReg) {
        match part {
            Part::Byte(offset) => self.b.load_to(value, Size::B, header, offset),
            Part::Number(offset) => {
                self.b.load_to(value, Size::H, header, offset);
                self.b.to_big_endian(16, value);
            }
            Part::Word(offset) => {
                self.b.load_to(value, Size::W, header, offset);
                self.b.to_big_endian(32, value);
            }
            Part::Bit(offset, bit) => {
                self.b.load_to(value, Size::B, header, offset);
                self.b.rsh(value, i32::from(bit));
                self.b.and(value, 1);
            }
            Part::Beyond(fixed) => {
                self.b.mov(value, met.header_len);
                self.b.sub(value, i32::from(fixed));
            }
        }
    }

    /// A byte that the verifier does not know.
    fn known(&mut self, register: VReg, value: u8) {
        self.b.mov(register, self.unknown);
        self.b.and(register, 0xff);
        if value > 0 {
            self.b.or(register, i32::from(value));
        }
    }
}
