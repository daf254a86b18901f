//! The reference parser against hand-made frames.

use super::*;

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
