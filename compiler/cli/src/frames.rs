//! Frames for measurements.

/// TCP flags of an ordinary segment.
pub const ACK: u8 = 0x10;

/// A TCP segment over IPv4 with 60 bytes of payload, from the documentation's addresses (RFC 5737).
#[must_use]
pub fn tcp(flags: u8) -> Vec<u8> {
    const PAYLOAD: u8 = 60;
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    frame.extend([0x45, 0, 0, 40 + PAYLOAD, 0, 1, 0x40, 0, 64, 6, 0, 0]);
    frame.extend([192, 0, 2, 1]);
    frame.extend([192, 0, 2, 2]);
    frame.extend(40_000u16.to_be_bytes());
    frame.extend(22u16.to_be_bytes());
    frame.extend(1u32.to_be_bytes());
    frame.extend(1u32.to_be_bytes());
    frame.extend([0x50, flags, 4, 0, 0, 0, 0, 0]);
    frame.extend([0; PAYLOAD as usize]);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use nnbpf_compiler::ir::packet::parse;
    use nnbpf_compiler::spec::typed::Transports;

    #[test]
    fn the_frame_parses() {
        let packet = parse(&tcp(ACK), Transports::default()).unwrap();
        assert_eq!((packet.tcp_flags, packet.l4_len, packet.dst_port), (ACK, 80, 22));
    }
}
