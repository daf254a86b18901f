//! The reference parser against two independent ones: `etherparse` on every shared capture and on mutations of
//! its packets, and tshark's tables.

use etherparse::{
    Ethernet2HeaderSlice, Icmpv4Slice, Icmpv6Slice, IpAuthHeaderSlice, IpNumber, Ipv4HeaderSlice,
    Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice, LaxLinkExtSlice, LaxNetSlice,
    LaxSlicedPacket, SingleVlanHeaderSlice, TcpHeaderSlice, TransportSlice, UdpHeaderSlice, ip_number,
};
use proptest::prelude::*;

use super::*;
use crate::ir::flow::testing;

/// What the header types of `etherparse` say about one frame, reduced to what both parsers define alike.
#[derive(Debug, PartialEq)]
enum Other {
    Fields(Box<Parsed>),
    /// There is no transport header, for a reason that ours may or may not share.
    Nothing,
}

/// The layers below transport: what is known, and the offset of the transport header.
struct Lower {
    known: Parsed,
    l4: usize,
}

fn parse(frame: &[u8]) -> Result<Parsed, Reason> {
    super::parse(frame, Transports::ALL)
}

/// The network layer by the header types of `etherparse`. Its own walk over packets refuses fragments, cut
/// packets and extension headers out of order, so the walk is made here.
fn lower(frame: &[u8]) -> Option<Lower> {
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
    let mut ether_type = ethernet.ether_type().0;
    let mut at = ethernet.slice().len();
    let (mut vlan_count, mut vlan_tci) = (0, 0);
    for _ in 0..MAX_TAGS {
        if [0x8100, 0x88a8, 0x9100].contains(&ether_type) {
            let tag = SingleVlanHeaderSlice::from_slice(&frame[at..]).ok()?;
            if vlan_count == 0 {
                let eligible = u16::from(tag.drop_eligible_indicator());
                let priority = u16::from(tag.priority_code_point().value());
                vlan_tci = priority << 13 | eligible << 12 | tag.vlan_identifier().value();
            }
            vlan_count += 1;
            ether_type = tag.ether_type().0;
            at += tag.slice().len();
        }
    }
    match ether_type {
        0x0800 => {
            let header = Ipv4HeaderSlice::from_slice(&frame[at..]).ok()?;
            if header.fragments_offset().value() != 0 {
                return None;
            }
            let header_len = header.slice().len();
            let ip_len = u32::from(header.total_len());
            let known = Parsed {
                src: Host::from_ipv4(header.source()),
                dst: Host::from_ipv4(header.destination()),
                ip_version: 4,
                ttl: header.ttl(),
                tos: header.dcp().value() << 2 | header.ecn().value(),
                ip_id: header.identification(),
                dont_fragment: header.dont_fragment(),
                more_fragments: header.more_fragments(),
                proto: header.protocol().0,
                ip_len,
                l4_len: ip_len.checked_sub(header_len as u32)?,
                vlan_count,
                vlan_tci,
                ..Parsed::default()
            };
            Some(Lower { known, l4: at + header_len })
        }
        0x86dd => {
            let header = Ipv6HeaderSlice::from_slice(&frame[at..]).ok()?;
            let mut l4 = at + header.slice().len();
            let start = l4;
            let mut proto = header.next_header();
            let mut more_fragments = false;
            for _ in 0..MAX_EXTENSIONS {
                let rest = &frame[l4..];
                match proto {
                    ip_number::IPV6_HOP_BY_HOP | ip_number::IPV6_ROUTE | ip_number::IPV6_DEST_OPTIONS => {
                        let extension = Ipv6RawExtHeaderSlice::from_slice(rest).ok()?;
                        (proto, l4) = (extension.next_header(), l4 + extension.slice().len());
                    }
                    ip_number::IPV6_FRAG => {
                        let fragment = Ipv6FragmentHeaderSlice::from_slice(rest).ok()?;
                        if fragment.fragment_offset().value() != 0 {
                            return None;
                        }
                        more_fragments |= fragment.more_fragments();
                        (proto, l4) = (fragment.next_header(), l4 + 8);
                    }
                    // It refuses a length of zero words, which real packets have.
                    ip_number::AUTH if rest.get(1) == Some(&0) => {
                        (proto, l4) = (IpNumber(*rest.first()?), l4 + 8);
                        frame.get(l4..)?;
                    }
                    ip_number::AUTH => {
                        let extension = IpAuthHeaderSlice::from_slice(rest).ok()?;
                        (proto, l4) = (extension.next_header(), l4 + extension.slice().len());
                    }
                    _ => break,
                }
            }
            let payload = u32::from(header.payload_length());
            let known = Parsed {
                src: Host(header.source()),
                dst: Host(header.destination()),
                ip_version: 6,
                ttl: header.hop_limit(),
                tos: header.traffic_class(),
                flow_label: header.flow_label().value(),
                more_fragments,
                proto: proto.0,
                ip_len: payload + 40,
                l4_len: payload.checked_sub((l4 - start) as u32)?,
                vlan_count,
                vlan_tci,
                ..Parsed::default()
            };
            Some(Lower { known, l4 })
        }
        _ => None,
    }
}

/// All fields by the header types of `etherparse`, which leaves the payload to us.
fn etherparse(frame: &[u8]) -> Other {
    let Some(Lower { known, l4 }) = lower(frame) else { return Other::Nothing };
    let Some(rest) = frame.get(l4..) else { return Other::Nothing };
    let mut other = headers(frame, known, rest);
    if let (Other::Fields(fields), Ok(ethernet)) = (&mut other, Ethernet2HeaderSlice::from_slice(frame)) {
        let number = |address: [u8; 6]| address.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        (fields.eth_src, fields.eth_dst) = (number(ethernet.source()), number(ethernet.destination()));
        let from = rest.len().min(fields.l4_header_len as usize);
        let to = rest.len().min(fields.l4_len as usize).min(from + MAX_PAYLOAD);
        fields.payload.0[..to - from].copy_from_slice(&rest[from..to]);
    }
    other
}

/// The transport's header, which `rest` begins with.
fn headers(frame: &[u8], known: Parsed, rest: &[u8]) -> Other {
    let l4_len = known.l4_len;
    let common = Parsed { frame_len: frame.len() as u32, l4_header_len: 8, ..known };
    match known.proto {
        TCP => {
            // Options need not be captured for us, but for the header type.
            let mut padded = rest.to_vec();
            if padded.len() >= 20 {
                padded.resize(padded.len().max(60), 0);
            }
            let Ok(tcp) = TcpHeaderSlice::from_slice(&padded) else { return Other::Nothing };
            let l4_header_len = u32::from(tcp.data_offset()) * 4;
            if l4_header_len > l4_len {
                return Other::Nothing;
            }
            let bits = [
                (tcp.fin(), tcp_flags::FIN),
                (tcp.syn(), tcp_flags::SYN),
                (tcp.rst(), tcp_flags::RST),
                (tcp.psh(), tcp_flags::PSH),
                (tcp.ack(), tcp_flags::ACK),
                (tcp.urg(), tcp_flags::URG),
                (tcp.ece(), tcp_flags::ECE),
                (tcp.cwr(), tcp_flags::CWR),
            ];
            Other::Fields(Box::new(Parsed {
                src_port: tcp.source_port(),
                dst_port: tcp.destination_port(),
                tcp_flags: bits.iter().filter(|bit| bit.0).map(|bit| bit.1).sum(),
                tcp_seq: tcp.sequence_number(),
                tcp_ack_number: tcp.acknowledgment_number(),
                tcp_window: tcp.window_size(),
                tcp_urgent: tcp.urgent_pointer(),
                l4_header_len,
                ..common
            }))
        }
        UDP => {
            let Ok(udp) = UdpHeaderSlice::from_slice(rest) else { return Other::Nothing };
            if l4_len < 8 {
                return Other::Nothing;
            }
            Other::Fields(Box::new(Parsed {
                src_port: udp.source_port(),
                dst_port: udp.destination_port(),
                udp_len: udp.length(),
                ..common
            }))
        }
        ICMP | ICMPV6 => {
            // Its slices of timestamps want more than the fixed part.
            let mut padded = rest.to_vec();
            if padded.len() >= 8 {
                padded.resize(padded.len().max(20), 0);
            }
            let kind = if known.proto == ICMP {
                Icmpv4Slice::from_slice(&padded).map(|icmp| (icmp.type_u8(), icmp.code_u8())).ok()
            } else {
                Icmpv6Slice::from_slice(&padded).map(|icmp| (icmp.type_u8(), icmp.code_u8())).ok()
            };
            let Some((icmp_type, icmp_code)) = kind.filter(|_| l4_len >= 8) else { return Other::Nothing };
            Other::Fields(Box::new(Parsed { icmp_type, icmp_code, ..common }))
        }
        // It knows no SCTP: what RFC 9260, section 3.1, says.
        SCTP if l4_len >= 12 && rest.len() >= 12 => Other::Fields(Box::new(Parsed {
            src_port: u16::from(rest[0]) << 8 | u16::from(rest[1]),
            dst_port: u16::from(rest[2]) << 8 | u16::from(rest[3]),
            sctp_tag: u32::from_be_bytes(*rest[4..].first_chunk().unwrap()),
            l4_header_len: 12,
            ..common
        })),
        _ => Other::Nothing,
    }
}

/// Whether `etherparse` sees a transport header by its own walk; then we must have fields too, or a reason that
/// it does not know.
fn explained(frame: &[u8], reason: Reason) -> bool {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(frame) else { return true };
    match packet.transport {
        Some(TransportSlice::Tcp(_) | TransportSlice::Udp(_)) => {}
        // It takes shorter ones of them.
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_) | TransportSlice::Igmp(_)) | None => {
            return true;
        }
    }
    match reason {
        // It walks over MACsec, over an authentication header in IPv4, and over three tags.
        Reason::NotIp => packet.link_exts.iter().any(|ext| matches!(ext, LaxLinkExtSlice::Macsec(_))),
        Reason::OtherTransport => frame_proto_is_ah(&packet),
        Reason::TooManyTags => packet.link_exts.len() > MAX_TAGS,
        // It takes the captured length where the stated one is shorter than the headers.
        Reason::BadIp | Reason::BadTransport => true,
        Reason::TooManyExtensions
        | Reason::Parsed
        | Reason::Truncated
        | Reason::FrameTooLong
        | Reason::LaterFragment => false,
    }
}

fn frame_proto_is_ah(packet: &LaxSlicedPacket<'_>) -> bool {
    matches!(&packet.net, Some(LaxNetSlice::Ipv4(ip)) if ip.header().protocol().0 == 51)
}

/// Compares the two parsers on one frame.
fn compare(frame: &[u8]) -> Result<(), String> {
    match (parse(frame), etherparse(frame)) {
        (Ok(ours), Other::Fields(theirs)) if ours == *theirs => Ok(()),
        (Ok(ours), Other::Fields(theirs)) => Err(format!("{ours:?}\n{theirs:?}")),
        (Ok(ours), Other::Nothing) => Err(format!("only ours: {ours:?}")),
        (Err(reason), Other::Fields(theirs)) => Err(format!("only theirs, ours {reason:?}: {theirs:?}")),
        (Err(reason), Other::Nothing) => {
            explained(frame, reason).then_some(()).ok_or_else(|| format!("not explained: {reason:?}"))
        }
    }
}

#[test]
fn agrees_with_etherparse_on_every_capture() {
    let (mut frames, mut parsed) = (0_u32, 0_u32);
    for listed in testing::captures("agrees_with_etherparse_on_every_capture") {
        if !listed.ethernet {
            continue;
        }
        for packet in testing::capture(&listed.bytes).packets {
            frames += 1;
            parsed += u32::from(parse(packet.data).is_ok());
            if let Err(difference) = compare(packet.data) {
                panic!("{} packet {}: {difference}", listed.file, packet.number);
            }
        }
    }
    if frames > 0 {
        // Most of the shared captures are TCP and UDP; a comparison of nothing would be vain.
        assert!(parsed * 2 > frames, "{parsed} of {frames}");
    }
}

/// Interesting frames to mutate: of every shared capture the first, of every reason.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for listed in testing::captures("mutations_agree_with_etherparse") {
        if listed.ethernet {
            let capture = testing::capture(&listed.bytes);
            seeds.extend(capture.packets.iter().take(2).map(|packet| packet.data.to_vec()));
        }
    }
    seeds
}

#[test]
fn mutations_agree_with_etherparse() {
    let seeds = seeds();
    if seeds.is_empty() {
        return;
    }
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let strategy = (
        0..seeds.len(),
        prop::collection::vec((0_usize..90, any::<u8>()), 0..4),
        prop::option::of(0_usize..120),
    );
    runner
        .run(&strategy, |(seed, flips, cut)| {
            let mut frame = seeds[seed].clone();
            for (at, value) in flips {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            frame.truncate(cut.unwrap_or(usize::MAX));
            compare(&frame).map_err(TestCaseError::fail)
        })
        .unwrap();
}

#[test]
fn agrees_with_tshark_packet_by_packet() {
    let Some(folder) = testing::shared("agrees_with_tshark_packet_by_packet", "reference-features") else {
        return;
    };
    for name in ["zeek_sshguess", "doup123_slowloris", "teams", "http_ipv6", "dnp3"] {
        let (columns, rows) = testing::table(&folder.join(format!("{name}.packets.csv.gz")));
        let bytes = std::fs::read(folder.join(format!("../pcaps/{name}.pcap"))).unwrap();
        let packets = testing::capture(&bytes).packets;
        assert_eq!(packets.len(), rows.len(), "{name}");
        for (packet, row) in packets.iter().zip(&rows) {
            let what = format!("{name} packet {}", packet.number);
            let cell = |column: &str| &row[columns.iter().position(|c| c == column).unwrap()];
            let number = |column: &str| cell(column).trim_end_matches(".0").parse::<u64>().unwrap_or(0);
            assert_eq!((packet.number, packet.ts_ns), (number("n"), number("ts_ns")), "{what}");
            // The table has transport columns for these two only.
            let few = Transports { tcp: true, udp: true, ..Transports::default() };
            let Ok(parsed) = super::parse(packet.data, few) else {
                assert_eq!(cell("sport"), "", "{what}");
                continue;
            };
            let address = |column: &str| cell(column).parse::<std::net::IpAddr>().unwrap().to_string();
            assert_eq!(parsed.src.to_string(), address("src"), "{what}");
            assert_eq!(parsed.dst.to_string(), address("dst"), "{what}");
            for (field, column) in [
                (Field::FrameLen, "cap_len"),
                (Field::IpLen, "ip_len"),
                (Field::IpHeaderLen, "ip_hdr"),
                (Field::IpTtl, "ttl"),
                (Field::IpVersion, "ipver"),
                (Field::IpProto, "proto"),
                (Field::L4Len, "l4_len"),
                (Field::L4HeaderLen, "l4_hdr"),
                (Field::L4PayloadLen, "payload"),
                (Field::SrcPort, "sport"),
                (Field::DstPort, "dport"),
                (Field::TcpFlags, "tcp_flags"),
                (Field::TcpWindow, "tcp_win"),
            ] {
                assert_eq!(parsed.field(field), number(column), "{what} {column}");
            }
        }
    }
}
