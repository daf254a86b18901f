//! The reference packet parser: one frame to the fields that a specification can name, or to the reason why
//! it has none.
//!
//! The bytecode of the packet path must agree with this module bit for bit, on every input. The same text, for
//! users, is `docs/packets.md`. Flow state lives in [`super::flow`]; capture files in [`crate::capture`].
//!
//! # Semantics
//!
//! A header is *present* when all its fixed bytes are captured. Lengths come from headers only: Ethernet
//! padding counts in `frame.len` and nowhere else, and a frame that was cut by a snapshot length keeps the
//! lengths that its headers state. The checks run in this order and the first that fails gives the reason:
//!
//! 1. More than [`MAX_FRAME`] captured bytes: [`Reason::FrameTooLong`].
//! 2. Ethernet: 14 bytes present, else [`Reason::Truncated`].
//! 3. While the type is a VLAN tag (0x8100, 0x88a8, 0x9100), at most two: 4 more bytes present, else
//!    `Truncated`; the type that follows. A tag after the second: [`Reason::TooManyTags`].
//! 4. Type 0x0800 is IPv4, 0x86dd is IPv6, everything else is [`Reason::NotIp`].
//! 5. IPv4: 20 bytes present, else `Truncated`; version 4, header length at least 20 and total length at least
//!    the header length, else [`Reason::BadIp`]; fragment offset 0, else [`Reason::LaterFragment`].
//!    The transport header starts after the options; `l4.len` is total length less header length.
//! 6. IPv6: 40 bytes present, else `Truncated`; version 6, else `BadIp`. Then extension headers, at most
//!    [`MAX_EXTENSIONS`]: hop-by-hop options (0), routing (43), fragment (44), authentication (51),
//!    destination options (60). Each: 8 bytes present, else `Truncated`; a fragment header with an offset
//!    other than 0 gives `LaterFragment`; its length is 8 for fragment, `4 * (n + 2)` for authentication,
//!    `8 * (n + 1)` for the others. A further extension header: [`Reason::TooManyExtensions`].
//!    `l4.len` is the payload length less the extension headers; negative: `BadIp`.
//! 7. The protocol is TCP (6) or UDP (17), or, where the specification follows them, ICMP (1), ICMPv6 (58) or
//!    SCTP (132), else [`Reason::OtherTransport`]: ESP, no next header, tunnels (an inner packet is never
//!    looked at), and authentication headers over IPv4.
//! 8. TCP: `l4.len` at least 20, else [`Reason::BadTransport`]; 20 bytes present, else `Truncated`; data
//!    offset at least 5 words and within `l4.len`, else `BadTransport`. TCP options need not be captured.
//! 9. UDP, ICMP, ICMPv6: `l4.len` at least 8, else `BadTransport`; 8 bytes present, else `Truncated`. The
//!    length field of the UDP header is a field like others: no length follows from it.
//! 10. SCTP: `l4.len` at least 12, else `BadTransport`; 12 bytes present, else `Truncated`.
//!
//! Of the payload, which begins behind the transport header and its options, the bytes that are captured and
//! within `l4.len` are fields; padding is none.
//!
//! A first fragment is parsed like a whole packet; its lengths are those of the fragment. Checksums are not
//! verified.

use crate::spec::typed::{Field, Transports};

/// Longest frame that is parsed: `frame.len` is a 16-bit number.
pub const MAX_FRAME: usize = 65_535;

/// VLAN tags that are skipped.
pub const MAX_TAGS: usize = 2;

/// IPv6 extension headers that are skipped.
pub const MAX_EXTENSIONS: usize = 8;

/// Bytes of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;

/// TCP flag bits, as in the low byte of the flags field.
pub mod tcp_flags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMP. Like the next it is taken over both versions of IP.
pub const ICMP: u8 = 1;
/// Protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Protocol number of SCTP.
pub const SCTP: u8 = 132;

/// Bytes of the fixed part of the transport headers.
pub const TCP_HEADER: u8 = 20;
pub const UDP_HEADER: u8 = 8;
pub const ICMP_HEADER: u8 = 8;
pub const SCTP_HEADER: u8 = 12;

/// What became of a frame in the parser. The discriminants are the first indices of the counters map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Reason {
    /// A transport over IP; all fields are known.
    Parsed = 0,
    /// Neither IPv4 nor IPv6.
    NotIp = 1,
    /// The captured bytes end before a header that is needed.
    Truncated = 2,
    /// More than [`MAX_FRAME`] bytes.
    FrameTooLong = 3,
    /// A third VLAN tag.
    TooManyTags = 4,
    /// An IP header that contradicts itself.
    BadIp = 5,
    /// More than [`MAX_EXTENSIONS`] IPv6 extension headers.
    TooManyExtensions = 6,
    /// A fragment other than the first: it has no ports.
    LaterFragment = 7,
    /// A protocol other than TCP and UDP that the specification does not follow.
    OtherTransport = 8,
    /// A transport header that does not fit its packet.
    BadTransport = 9,
}

impl Reason {
    /// All reasons, by index.
    pub const ALL: [Self; 10] = [
        Self::Parsed,
        Self::NotIp,
        Self::Truncated,
        Self::FrameTooLong,
        Self::TooManyTags,
        Self::BadIp,
        Self::TooManyExtensions,
        Self::LaterFragment,
        Self::OtherTransport,
        Self::BadTransport,
    ];

    /// Index in the counters map.
    #[must_use]
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// Name in reports and in BTF.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parsed => "parsed",
            Self::NotIp => "not_ip",
            Self::Truncated => "truncated",
            Self::FrameTooLong => "frame_too_long",
            Self::TooManyTags => "too_many_tags",
            Self::BadIp => "bad_ip",
            Self::TooManyExtensions => "too_many_extensions",
            Self::LaterFragment => "later_fragment",
            Self::OtherTransport => "other_transport",
            Self::BadTransport => "bad_transport",
        }
    }
}

/// A host address: IPv6, or IPv4 mapped into it (`::ffff:a.b.c.d`), in network order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Host(pub [u8; 16]);

impl Host {
    /// The mapped form of an IPv4 address.
    #[must_use]
    pub const fn from_ipv4([a, b, c, d]: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }
}

/// Prints mapped addresses as IPv4.
impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = std::net::Ipv6Addr::from(self.0);
        match address.to_ipv4_mapped() {
            Some(v4) => v4.fmt(f),
            None => address.fmt(f),
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Bytes of the payload that fields can name.
pub const MAX_PAYLOAD: usize = 256;

/// The first bytes of a payload, zeros behind its end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Payload(pub [u8; MAX_PAYLOAD]);

impl Default for Payload {
    fn default() -> Self {
        Self([0; MAX_PAYLOAD])
    }
}

/// Prints what comes before the zeros.
impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let end = self.0.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.0.get(..end).unwrap_or_default().fmt(f)
    }
}

/// The fields of one packet. What its headers do not have is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parsed {
    /// Whether it goes backwards in its flow; set once that is known.
    pub backward: bool,
    pub src: Host,
    pub dst: Host,
    /// Ethernet addresses, 48 bits each.
    pub eth_src: u64,
    pub eth_dst: u64,
    /// VLAN tags, and the control information of the outer one.
    pub vlan_count: u8,
    pub vlan_tci: u16,
    pub src_port: u16,
    pub dst_port: u16,
    /// 6 or 17; 1, 58 or 132 where they are followed.
    pub proto: u8,
    /// 4 or 6.
    pub ip_version: u8,
    pub ttl: u8,
    pub tos: u8,
    pub ip_id: u16,
    pub dont_fragment: bool,
    pub more_fragments: bool,
    pub flow_label: u32,
    pub tcp_flags: u8,
    pub tcp_seq: u32,
    pub tcp_ack_number: u32,
    pub tcp_window: u16,
    pub tcp_urgent: u16,
    pub udp_len: u16,
    pub sctp_tag: u32,
    pub icmp_type: u8,
    pub icmp_code: u8,
    pub frame_len: u32,
    pub ip_len: u32,
    pub l4_len: u32,
    pub l4_header_len: u32,
    pub payload: Payload,
}

impl Parsed {
    /// Transport payload in bytes.
    #[must_use]
    pub const fn payload_len(&self) -> u32 {
        // The parser refuses headers longer than the packet, so nothing saturates.
        self.l4_len.saturating_sub(self.l4_header_len)
    }

    /// The value of a field as specifications see it.
    #[must_use]
    pub fn field(&self, field: Field) -> u64 {
        match field {
            Field::Direction => u64::from(self.backward),
            Field::FrameLen => u64::from(self.frame_len),
            Field::EthType => u64::from(if self.ip_version == 4 { ETHER_IPV4 } else { ETHER_IPV6 }),
            Field::EthSrc => self.eth_src,
            Field::EthDst => self.eth_dst,
            Field::VlanCount => u64::from(self.vlan_count),
            Field::VlanId => u64::from(self.vlan_tci & 0x0fff),
            Field::VlanPcp => u64::from(self.vlan_tci >> 13),
            Field::IpLen => u64::from(self.ip_len),
            Field::IpTtl => u64::from(self.ttl),
            Field::IpVersion => u64::from(self.ip_version),
            Field::IpProto => u64::from(self.proto),
            // Whatever lies between the two starts.
            Field::IpHeaderLen => u64::from(self.ip_len.saturating_sub(self.l4_len)),
            Field::IpTos => u64::from(self.tos),
            Field::IpDscp => u64::from(self.tos >> 2),
            Field::IpEcn => u64::from(self.tos & 3),
            Field::IpId => u64::from(self.ip_id),
            Field::IpDf => u64::from(self.dont_fragment),
            Field::IpMf => u64::from(self.more_fragments),
            Field::IpFlowLabel => u64::from(self.flow_label),
            Field::L4Len => u64::from(self.l4_len),
            Field::L4HeaderLen => u64::from(self.l4_header_len),
            Field::L4PayloadLen => u64::from(self.payload_len()),
            Field::SrcPort => u64::from(self.src_port),
            Field::DstPort => u64::from(self.dst_port),
            Field::TcpFlags => u64::from(self.tcp_flags),
            Field::TcpFlag(bit) => u64::from(self.tcp_flags) >> bit.min(63) & 1,
            Field::TcpSeq => u64::from(self.tcp_seq),
            Field::TcpAckNumber => u64::from(self.tcp_ack_number),
            Field::TcpWindow => u64::from(self.tcp_window),
            Field::TcpUrgent => u64::from(self.tcp_urgent),
            Field::TcpOptionsLen => match self.proto {
                TCP => u64::from(self.l4_header_len.saturating_sub(u32::from(TCP_HEADER))),
                _ => 0,
            },
            Field::UdpLen => u64::from(self.udp_len),
            Field::SctpTag => u64::from(self.sctp_tag),
            Field::IcmpType => u64::from(self.icmp_type),
            Field::IcmpCode => u64::from(self.icmp_code),
            Field::Payload(index) => self.payload.0.get(usize::from(index)).copied().map_or(0, u64::from),
        }
    }
}

/// Ether types.
const ETHER_IPV4: u16 = 0x0800;
const ETHER_IPV6: u16 = 0x86dd;

/// Parses the captured bytes of one Ethernet frame. ICMP and SCTP are other transports unless `transports` has
/// them; TCP and UDP never are.
///
/// # Errors
///
/// The reason why the frame has no fields; never [`Reason::Parsed`].
pub fn parse(frame: &[u8], transports: Transports) -> Result<Parsed, Reason> {
    if frame.len() > MAX_FRAME {
        return Err(Reason::FrameTooLong);
    }
    let ethernet: &[u8; ETHERNET_HEADER] = bytes(frame, 0)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low] = *ethernet;
    let mut ether_type = u16::from_be_bytes([high, low]);
    let mut at = ETHERNET_HEADER;
    let mut parsed = Parsed {
        // At most MAX_FRAME, checked on entry.
        frame_len: u32::try_from(frame.len()).map_err(|_| Reason::FrameTooLong)?,
        eth_src: u64::from_be_bytes([0, 0, s0, s1, s2, s3, s4, s5]),
        eth_dst: u64::from_be_bytes([0, 0, d0, d1, d2, d3, d4, d5]),
        ..Parsed::default()
    };
    for _ in 0..MAX_TAGS {
        if !is_tag(ether_type) {
            break;
        }
        let [control_high, control_low, high, low] = *bytes(frame, at)?;
        if parsed.vlan_count == 0 {
            parsed.vlan_tci = u16::from_be_bytes([control_high, control_low]);
        }
        parsed.vlan_count += 1;
        ether_type = u16::from_be_bytes([high, low]);
        at += 4;
    }
    let l4 = match ether_type {
        ETHER_IPV4 => ipv4(frame, at, &mut parsed)?,
        ETHER_IPV6 => ipv6(frame, at, &mut parsed)?,
        other if is_tag(other) => return Err(Reason::TooManyTags),
        _ => return Err(Reason::NotIp),
    };
    transport(frame, l4, transports, &mut parsed)?;
    let start = l4 + parsed.l4_header_len as usize;
    let captured = frame.get(start..).unwrap_or_default().iter().take(parsed.payload_len() as usize);
    for (place, byte) in parsed.payload.0.iter_mut().zip(captured) {
        *place = *byte;
    }
    Ok(parsed)
}

const fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, 0x8100 | 0x88a8 | 0x9100)
}

/// `N` bytes from an offset, when they are captured.
fn bytes<const N: usize>(frame: &[u8], at: usize) -> Result<&[u8; N], Reason> {
    frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(Reason::Truncated)
}

/// Gives the offset of the transport header.
fn ipv4(frame: &[u8], at: usize, parsed: &mut Parsed) -> Result<usize, Reason> {
    let header: &[u8; 20] = bytes(frame, at)?;
    let [
        version_ihl,
        tos,
        len_high,
        len_low,
        id_high,
        id_low,
        fragment_high,
        fragment_low,
        ttl,
        proto,
        _sum_high,
        _sum_low,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = *header;
    let header_len = u32::from(version_ihl & 0x0f) * 4;
    let ip_len = u32::from(u16::from_be_bytes([len_high, len_low]));
    if version_ihl >> 4 != 4 || header_len < 20 || ip_len < header_len {
        return Err(Reason::BadIp);
    }
    let fragment = u16::from_be_bytes([fragment_high, fragment_low]);
    if fragment & 0x1fff != 0 {
        return Err(Reason::LaterFragment);
    }
    parsed.src = Host::from_ipv4([s0, s1, s2, s3]);
    parsed.dst = Host::from_ipv4([d0, d1, d2, d3]);
    parsed.ip_version = 4;
    parsed.ttl = ttl;
    parsed.tos = tos;
    parsed.ip_id = u16::from_be_bytes([id_high, id_low]);
    parsed.dont_fragment = fragment & 0x4000 != 0;
    parsed.more_fragments = fragment & 0x2000 != 0;
    parsed.proto = proto;
    parsed.ip_len = ip_len;
    parsed.l4_len = ip_len - header_len;
    Ok(at + header_len as usize)
}

/// Gives the offset of the transport header.
fn ipv6(frame: &[u8], at: usize, parsed: &mut Parsed) -> Result<usize, Reason> {
    let start: &[u8; 8] = bytes(frame, at)?;
    let src: &[u8; 16] = bytes(frame, at + 8)?;
    let dst: &[u8; 16] = bytes(frame, at + 24)?;
    let [b0, b1, b2, b3, len_high, len_low, next, ttl] = *start;
    if b0 >> 4 != 6 {
        return Err(Reason::BadIp);
    }
    parsed.tos = b0 << 4 | b1 >> 4;
    parsed.flow_label = u32::from_be_bytes([0, b1 & 0x0f, b2, b3]);
    let payload = u32::from(u16::from_be_bytes([len_high, len_low]));
    let mut proto = next;
    let mut extensions = 0_u32;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(proto) {
            break;
        }
        let [next, n, b2, b3, ..]: [u8; 8] = *bytes(frame, at + 40 + extensions as usize)?;
        extensions += match proto {
            44 => {
                if u16::from_be_bytes([b2, b3]) & 0xfff8 != 0 {
                    return Err(Reason::LaterFragment);
                }
                parsed.more_fragments |= b3 & 1 != 0;
                8
            }
            51 => 4 * (u32::from(n) + 2),
            _ => 8 * (u32::from(n) + 1),
        };
        proto = next;
    }
    if is_extension(proto) {
        return Err(Reason::TooManyExtensions);
    }
    parsed.l4_len = payload.checked_sub(extensions).ok_or(Reason::BadIp)?;
    parsed.src = Host(*src);
    parsed.dst = Host(*dst);
    parsed.ip_version = 6;
    parsed.ttl = ttl;
    parsed.proto = proto;
    parsed.ip_len = payload + 40;
    Ok(at + 40 + extensions as usize)
}

const fn is_extension(proto: u8) -> bool {
    matches!(proto, 0 | 43 | 44 | 51 | 60)
}

fn transport(frame: &[u8], l4: usize, transports: Transports, parsed: &mut Parsed) -> Result<(), Reason> {
    let fixed = match parsed.proto {
        TCP => TCP_HEADER,
        UDP => UDP_HEADER,
        ICMP | ICMPV6 if transports.icmp => ICMP_HEADER,
        SCTP if transports.sctp => SCTP_HEADER,
        _ => return Err(Reason::OtherTransport),
    };
    if parsed.l4_len < u32::from(fixed) {
        return Err(Reason::BadTransport);
    }
    parsed.l4_header_len = u32::from(fixed);
    let mut ports = [0; 4];
    match parsed.proto {
        TCP => {
            let header: &[u8; 20] = bytes(frame, l4)?;
            let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, w0, w1, _, _, u0, u1] =
                *header;
            let header_len = u32::from(offset >> 4) * 4;
            if header_len < 20 || header_len > parsed.l4_len {
                return Err(Reason::BadTransport);
            }
            parsed.l4_header_len = header_len;
            parsed.tcp_flags = flags;
            parsed.tcp_seq = u32::from_be_bytes([q0, q1, q2, q3]);
            parsed.tcp_ack_number = u32::from_be_bytes([a0, a1, a2, a3]);
            parsed.tcp_window = u16::from_be_bytes([w0, w1]);
            parsed.tcp_urgent = u16::from_be_bytes([u0, u1]);
            ports = [s0, s1, d0, d1];
        }
        UDP => {
            let [s0, s1, d0, d1, l0, l1, ..]: [u8; 8] = *bytes(frame, l4)?;
            parsed.udp_len = u16::from_be_bytes([l0, l1]);
            ports = [s0, s1, d0, d1];
        }
        SCTP => {
            let [s0, s1, d0, d1, t0, t1, t2, t3, ..]: [u8; 12] = *bytes(frame, l4)?;
            parsed.sctp_tag = u32::from_be_bytes([t0, t1, t2, t3]);
            ports = [s0, s1, d0, d1];
        }
        // ICMP and ICMPv6: anything else was refused.
        _ => {
            let [icmp_type, icmp_code, ..]: [u8; 8] = *bytes(frame, l4)?;
            parsed.icmp_type = icmp_type;
            parsed.icmp_code = icmp_code;
        }
    }
    let [s0, s1, d0, d1] = ports;
    parsed.src_port = u16::from_be_bytes([s0, s1]);
    parsed.dst_port = u16::from_be_bytes([d0, d1]);
    Ok(())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod differential;
