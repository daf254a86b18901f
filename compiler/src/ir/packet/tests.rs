//! The reference parser against hand-made frames.

use super::*;

/// What most specifications follow.
const FEW: Transports = Transports { tcp: true, udp: true, icmp: false, sctp: false };

fn parse(frame: &[u8]) -> Result<Parsed, Reason> {
    super::parse(frame, FEW)
}

/// Ethernet with a type, and what follows.
fn frame(ether_type: u16, rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(ether_type.to_be_bytes());
    frame.extend(rest);
    frame
}

fn ipv4_header(proto: u8, total: u16, fragment: u16) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(total.to_be_bytes());
    header.extend([0, 1]);
    header.extend(fragment.to_be_bytes());
    header.extend([64, proto, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    header
}

fn ipv6_header(next: u8, payload: u16) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend(payload.to_be_bytes());
    header.extend([next, 63]);
    header.extend([0x20; 16]);
    header.extend([0x21; 16]);
    header
}

fn tcp_header(words: u8, flags: u8) -> Vec<u8> {
    let mut header = vec![0x12, 0x34, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, words << 4, flags, 1, 2, 0, 0, 0, 0];
    header.resize(20_usize.max(usize::from(words) * 4), 0);
    header
}

fn udp_header() -> Vec<u8> {
    vec![0, 53, 0x30, 0x39, 0xff, 0xff, 0, 0]
}

fn ipv4_tcp(total: u16, words: u8) -> Vec<u8> {
    frame(0x0800, &[ipv4_header(TCP, total, 0), tcp_header(words, 0x12)].concat())
}

#[test]
fn reads_every_field_of_tcp_over_ipv4() {
    let mut packet = ipv4_tcp(48, 6);
    packet.extend([0; 30]);
    let parsed = parse(&packet).unwrap();
    assert_eq!(
        parsed,
        Parsed {
            src: Host::from_ipv4([10, 0, 0, 1]),
            dst: Host::from_ipv4([10, 0, 0, 2]),
            src_port: 0x1234,
            dst_port: 80,
            proto: 6,
            ip_version: 4,
            ttl: 64,
            tcp_flags: 0x12,
            tcp_window: 0x102,
            frame_len: 14 + 20 + 24 + 30,
            ip_len: 48,
            l4_len: 28,
            l4_header_len: 24,
            ip_id: 1,
            ..Parsed::default()
        }
    );
    // 4 bytes by the headers, although 30 are captured.
    assert_eq!(parsed.payload_len(), 4);
    assert_eq!(parsed.src.to_string(), "10.0.0.1");
}

#[test]
fn every_prefix_of_a_packet_is_truncated_until_the_fixed_headers_are_there() {
    let tagged = frame(0x88a8, &[&[0, 1, 0x81, 0, 0, 2, 8, 0], &ipv4_tcp(44, 6)[14..]].concat());
    for (packet, needed) in [(ipv4_tcp(44, 6), 54), (tagged, 62)] {
        for len in 0..packet.len() {
            let result = parse(&packet[..len]);
            assert_eq!(result.err(), (len < needed).then_some(Reason::Truncated), "{len} bytes");
        }
    }
}

#[test]
fn counts_tags() {
    let inner = &ipv4_tcp(40, 5)[12..];
    let tag = [0x81, 0, 0, 7];
    let tagged = |n: usize| [&[0; 12][..], &tag.repeat(n), inner].concat();
    assert!(parse(&tagged(1)).is_ok());
    assert_eq!(parse(&tagged(2)).unwrap().frame_len, 62);
    assert_eq!(parse(&tagged(3)), Err(Reason::TooManyTags));
}

#[test]
fn refuses_ip_headers_that_contradict_themselves() {
    let patched = |at: usize, value: u8| {
        let mut packet = ipv4_tcp(40, 5);
        packet[at] = value;
        parse(&packet).err()
    };
    assert_eq!(patched(14, 0x55), Some(Reason::BadIp));
    assert_eq!(patched(14, 0x44), Some(Reason::BadIp));
    assert_eq!(patched(17, 19), Some(Reason::BadIp));
    assert_eq!(patched(17, 39), Some(Reason::BadTransport));
    assert_eq!(patched(23, 1), Some(Reason::OtherTransport));
    assert_eq!(patched(13, 6), Some(Reason::NotIp));
    assert_eq!(patched(46, 0x40), Some(Reason::BadTransport));
    assert_eq!(patched(46, 0x60), Some(Reason::BadTransport));
    assert_eq!(patched(46, 0x50), None);
}

#[test]
fn tells_fragments_apart() {
    let fragment = |field| frame(0x0800, &[ipv4_header(UDP, 28, field), udp_header()].concat());
    assert!(parse(&fragment(0x2000)).is_ok());
    assert!(parse(&fragment(0x4000)).is_ok());
    assert_eq!(parse(&fragment(0x2001)), Err(Reason::LaterFragment));
    assert_eq!(parse(&fragment(1)), Err(Reason::LaterFragment));
    let v6 = |offset: [u8; 2]| {
        let extension = [UDP, 0, offset[0], offset[1], 0, 0, 0, 0];
        frame(0x86dd, &[&ipv6_header(44, 16)[..], &extension, &udp_header()].concat())
    };
    assert_eq!(parse(&v6([0, 1])).unwrap().l4_len, 8);
    assert_eq!(parse(&v6([0, 8])), Err(Reason::LaterFragment));
}

#[test]
fn walks_extension_headers() {
    let chain = |headers: &[(u8, u8, usize)], payload: u16| {
        let mut rest = Vec::new();
        let mut kinds = headers.iter().map(|h| h.0).chain([UDP]);
        let first = kinds.next().unwrap();
        for ((_, n, len), next) in headers.iter().zip(kinds) {
            let mut extension = vec![0; *len];
            extension[0] = next;
            extension[1] = *n;
            rest.extend(extension);
        }
        rest.extend(udp_header());
        parse(&frame(0x86dd, &[ipv6_header(first, payload), rest].concat()))
    };
    let all = [(0, 0, 8), (60, 1, 16), (43, 2, 24), (51, 4, 24), (60, 0, 8)];
    let parsed = chain(&all, 80 + 8).unwrap();
    assert_eq!((parsed.l4_len, parsed.ip_len, parsed.src_port), (8, 128, 53));
    assert_eq!(chain(&all, 79), Err(Reason::BadIp));
    assert_eq!(chain(&all, 87), Err(Reason::BadTransport));
    assert!(chain(&[(60, 0, 8); 8], 72).is_ok());
    assert_eq!(chain(&[(60, 0, 8); 9], 80), Err(Reason::TooManyExtensions));
    assert_eq!(chain(&[(60, 9, 8)], 96), Err(Reason::Truncated));
    assert_eq!(chain(&[(50, 0, 8)], 16), Err(Reason::OtherTransport));
}

/// Values by hand from the layouts in RFC 791, 8200, 9293 and IEEE 802.1Q.
#[test]
fn reads_what_few_packets_have() {
    let values = |packet: &[u8], fields: &[Field]| -> Vec<u64> {
        let parsed = super::parse(packet, Transports::ALL).unwrap();
        fields.iter().map(|field| parsed.field(*field)).collect()
    };
    // Priority 5, eligible to be dropped, network 0x234; inside of it network 1. Options of 4 bytes.
    let mut ip = ipv4_header(TCP, 20 + 4 + 28 + 3, 0x6000);
    (ip[0], ip[1], ip[4], ip[5]) = (0x46, 0xb9, 0xab, 0xcd);
    ip.extend([1, 1, 1, 0]);
    let mut tcp = tcp_header(7, 0xc2);
    tcp[18..20].copy_from_slice(&[0x12, 0x34]);
    let packet = frame(0x88a8, &[&[0xb2, 0x34, 0x81, 0, 0, 1, 8, 0][..], &ip, &tcp].concat());
    let link = [Field::VlanCount, Field::VlanId, Field::VlanPcp, Field::EthType];
    assert_eq!(values(&packet, &link), [2, 0x234, 5, 0x0800]);
    let network = [Field::IpHeaderLen, Field::IpTos, Field::IpDscp, Field::IpEcn, Field::IpId];
    assert_eq!(values(&packet, &network), [24, 0xb9, 0x2e, 1, 0xabcd]);
    assert_eq!(values(&packet, &[Field::IpDf, Field::IpMf, Field::IpFlowLabel]), [1, 1, 0]);
    assert_eq!(values(&packet, &[Field::TcpUrgent, Field::TcpOptionsLen, Field::UdpLen]), [0x1234, 8, 0]);
    let flags: Vec<Field> = (0..8).map(Field::TcpFlag).collect();
    assert_eq!(values(&packet, &flags), [0, 1, 0, 0, 0, 0, 1, 1]);

    let mut ip = ipv6_header(44, 16 + 1);
    ip[..4].copy_from_slice(&[0x6b, 0x9f, 0xed, 0xcb]);
    let packet = frame(0x86dd, &[&ip[..], &[UDP, 0, 0, 1, 0, 0, 0, 0], &udp_header()].concat());
    assert_eq!(values(&packet, &network), [48, 0xb9, 0x2e, 1, 0]);
    assert_eq!(values(&packet, &[Field::IpDf, Field::IpMf, Field::IpFlowLabel]), [0, 1, 0xf_edcb]);
    assert_eq!(values(&packet, &link), [0, 0, 0, 0x86dd]);
    assert_eq!(values(&packet, &[Field::UdpLen, Field::TcpOptionsLen, Field::TcpFlag(1)]), [0xffff, 0, 0]);
}

#[test]
fn other_transports_are_followed_where_they_are_asked_for() {
    let echo = [8, 3, 0, 0, 0x12, 0x34, 0, 1, 0x61];
    let sctp = [0x0b, 0x59, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0];
    let v4 = |proto, rest: &[u8]| {
        frame(0x0800, &[&ipv4_header(proto, 20 + rest.len() as u16, 0)[..], rest].concat())
    };
    let v6 = |proto, rest: &[u8]| frame(0x86dd, &[&ipv6_header(proto, rest.len() as u16)[..], rest].concat());
    let only = |icmp, sctp| Transports { icmp, sctp, ..FEW };
    for (packet, transports) in [
        (v4(ICMP, &echo), only(true, false)),
        (v6(ICMPV6, &echo), only(true, false)),
        (v4(SCTP, &sctp), only(false, true)),
        (v6(SCTP, &sctp), only(false, true)),
    ] {
        let other = Transports { icmp: !transports.icmp, sctp: !transports.sctp, ..FEW };
        assert_eq!(super::parse(&packet, other), Err(Reason::OtherTransport));
        let parsed = super::parse(&packet, transports).unwrap();
        let fields = [Field::IcmpType, Field::IcmpCode, Field::L4HeaderLen, Field::L4PayloadLen];
        let icmp = transports.icmp;
        let expected = if icmp { [8, 3, 8, 1] } else { [0, 0, 12, 2] };
        assert_eq!(fields.map(|field| parsed.field(field)), expected);
        assert_eq!((parsed.src_port, parsed.dst_port), if icmp { (0, 0) } else { (0x0b59, 7) });
        let fixed = if icmp { 8 } else { 12 };
        let rest = if icmp { echo.len() } else { sctp.len() };
        let cut = &packet[..packet.len() - rest + fixed - 1];
        assert_eq!(super::parse(cut, transports), Err(Reason::Truncated));
    }
    assert_eq!(super::parse(&v4(ICMP, &echo[..7]), Transports::ALL), Err(Reason::BadTransport));
    assert_eq!(super::parse(&v6(SCTP, &sctp[..11]), Transports::ALL), Err(Reason::BadTransport));
    assert_eq!(super::parse(&v4(47, &echo), Transports::ALL), Err(Reason::OtherTransport));
}

#[test]
fn refuses_frames_beyond_the_length_field() {
    let mut packet = ipv4_tcp(40, 5);
    packet.resize(MAX_FRAME, 0);
    assert_eq!(parse(&packet).unwrap().frame_len, 65_535);
    packet.push(0);
    assert_eq!(parse(&packet), Err(Reason::FrameTooLong));
}

#[test]
fn reasons_are_their_indices() {
    for (index, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason.index() as usize, index);
    }
}
