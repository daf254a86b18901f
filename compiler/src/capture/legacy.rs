//! The pcap format: one header, then packets; microseconds or nanoseconds, either byte order.

use pcap_parser::pcap::{parse_pcap_frame, parse_pcap_frame_be, parse_pcap_header};

use super::{Damage, LinkType, Reader};

/// The link type is in the low 16 bits; above them stand flags about frame check sequences.
const LINK_TYPE_MASK: i32 = 0xffff;

pub(super) fn read<'a>(reader: &mut Reader<'a>, bytes: &'a [u8]) -> Result<(), Damage> {
    let (mut rest, header) = parse_pcap_header(bytes).map_err(|_| Damage::Truncated)?;
    let link = LinkType((header.network.0 & LINK_TYPE_MASK).cast_unsigned());
    reader.link(link);
    let parse = if header.is_bigendian() || header.magic_number == 0x4d3c_b2a1 {
        parse_pcap_frame_be
    } else {
        parse_pcap_frame
    };
    let fraction_nanos = if header.is_nanosecond_precision() { 1 } else { 1_000 };
    while !rest.is_empty() {
        // The frame parser has no error but a missing rest.
        let (after, frame) = parse(rest).map_err(|_| Damage::Truncated)?;
        let ts_ns = u64::from(frame.ts_sec) * 1_000_000_000 + u64::from(frame.ts_usec) * fraction_nanos;
        reader.packet(link, ts_ns, frame.data, frame.origlen);
        rest = after;
    }
    Ok(())
}
