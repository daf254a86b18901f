//! Sample traffic: four connections whose packets take the paths that ordinary traffic takes.
//!
//! Each connection starts with its handshake and goes on in both directions, with payloads of 0 to 1,400 bytes,
//! PSH on every fourth segment, and gaps of 20 microseconds to 40 milliseconds. The numbers are pseudo-random from
//! a fixed seed, so the samples are the same in every run. No packet ends its flow and none comes late.

use crate::ir::packet::{ICMP, SCTP, SCTP_HEADER, TCP, TCP_HEADER, UDP, UDP_HEADER};
use crate::spec::typed::Transports;

/// A frame and when it arrives.
pub(super) struct Frame {
    pub(super) bytes: Vec<u8>,
    pub(super) at_ns: u64,
}

/// Connections, and packets of each.
const FLOWS: u16 = 4;
const PACKETS: u16 = 48;

const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// The generator of Park and Miller.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0 * 48_271 % 0x7fff_ffff;
        self.0 % limit
    }
}

/// The transport of the samples: the first of those that the specification follows.
fn proto(transports: Transports) -> u8 {
    let Transports { tcp, udp, icmp, sctp } = transports;
    match (tcp, udp, icmp, sctp) {
        (true, ..) => TCP,
        (false, false, true, _) => ICMP,
        (false, false, false, true) => SCTP,
        (false, true, ..) | (false, false, false, false) => UDP,
    }
}

/// The traffic for a specification that follows these transports.
pub(super) fn traffic(transports: Transports) -> Vec<Frame> {
    let proto = proto(transports);
    let mut random = Random(2026);
    let mut at_ns = 1_000_000_000;
    let mut frames = Vec::new();
    for flow in 0..FLOWS {
        for number in 0..PACKETS {
            let forwards = match number {
                0 | 2 => true,
                1 => false,
                _ => random.below(5) < 3,
            };
            let handshake = proto == TCP && number < 3;
            let flags = match number {
                0 => SYN,
                1 => SYN | ACK,
                _ if number % 4 == 3 => ACK | PSH,
                _ => ACK,
            };
            let payload = if handshake { 0 } else { random.below(1_401) };
            let payload = u16::try_from(payload).unwrap_or(0);
            frames.push(Frame { bytes: frame(proto, flow, forwards, flags, payload), at_ns });
            // Short gaps are more frequent than long ones.
            let shift = random.below(12);
            at_ns += 20_000 + random.below(40_000_000 >> shift);
        }
    }
    frames
}

/// One segment over and over, 100 nanoseconds apart.
pub(super) fn repeated(transports: Transports) -> Vec<Frame> {
    let proto = proto(transports);
    (0..64)
        .map(|number| Frame { bytes: frame(proto, 0, true, ACK, 60), at_ns: 1_000_000_000 + number * 100 })
        .collect()
}

/// A packet between two hosts of the documentation's networks (RFC 5737).
fn frame(proto: u8, flow: u16, forwards: bool, flags: u8, payload: u16) -> Vec<u8> {
    let (client, server) = ([192, 0, 2, 7], [198, 51, 100, 80]);
    let (client_port, server_port) =
        (40_000 + flow, [443, 80, 53, 22].into_iter().nth(usize::from(flow) % 4).unwrap_or(443));
    let (src, dst, sport, dport) = if forwards {
        (client, server, client_port, server_port)
    } else {
        (server, client, server_port, client_port)
    };
    let header = match proto {
        TCP => u16::from(TCP_HEADER),
        SCTP => u16::from(SCTP_HEADER),
        _ => u16::from(UDP_HEADER),
    };
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00, 0x45, 0];
    bytes.extend((20 + header + payload).to_be_bytes());
    bytes.extend([0, 1, 0x40, 0, 64, proto, 0, 0]);
    bytes.extend(src);
    bytes.extend(dst);
    bytes.extend(u16::to_be_bytes(sport));
    bytes.extend(u16::to_be_bytes(dport));
    if proto == TCP {
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 4, 0, 0, 0, 0, 0]);
    } else {
        bytes.extend((header + payload).to_be_bytes());
        bytes.resize(bytes.len() + usize::from(header) - 6, 0);
    }
    bytes.resize(bytes.len() + usize::from(payload), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::packet::parse;

    #[test]
    fn every_frame_parses_and_time_advances() {
        let one = |tcp, udp, icmp, sctp| Transports { tcp, udp, icmp, sctp };
        for (transports, proto) in [
            (one(true, true, true, true), TCP),
            (one(false, true, true, true), UDP),
            (one(false, false, true, true), ICMP),
            (one(false, false, false, true), SCTP),
        ] {
            let traffic = traffic(transports);
            assert_eq!(traffic.len(), 192);
            for frame in &traffic {
                let packet = parse(&frame.bytes, transports).unwrap();
                assert_eq!(packet.proto, proto);
                assert_eq!(packet.tcp_flags & 0b101, 0, "FIN or RST");
            }
            assert!(traffic.windows(2).all(|pair| {
                let gap = pair[1].at_ns - pair[0].at_ns;
                (20_000..40_020_000).contains(&gap)
            }));
        }
    }
}
