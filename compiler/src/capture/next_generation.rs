//! The pcapng format: sections of blocks, several interfaces with their own clocks and link types.

use pcap_parser::nom;
use pcap_parser::pcapng::{
    Block, EnhancedPacketBlock, InterfaceDescriptionBlock, OptionCode, parse_block_be, parse_block_le,
    parse_sectionheaderblock,
};
use pcap_parser::{PcapError, traits::PcapNGPacketBlock};

use super::{Damage, LinkType, Reader};

/// What a packet block needs to know of its interface.
#[derive(Clone, Copy)]
struct Interface {
    link: LinkType,
    clock: Clock,
}

/// How an interface counts time.
#[derive(Clone, Copy)]
struct Clock {
    /// Ticks of a second.
    ticks: u128,
    /// Seconds that are added.
    offset: i64,
}

pub(super) fn read<'a>(reader: &mut Reader<'a>, bytes: &'a [u8]) -> Result<(), Damage> {
    let mut rest = bytes;
    let mut big_endian = false;
    let mut interfaces: Vec<Interface> = Vec::new();
    while !rest.is_empty() {
        if rest.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) {
            // A new section: its own byte order, its own interfaces.
            let (after, section) = parse_sectionheaderblock(rest).map_err(damage)?;
            big_endian = section.big_endian();
            interfaces.clear();
            rest = after;
            continue;
        }
        let parse = if big_endian { parse_block_be } else { parse_block_le };
        let (after, block) = parse(rest).map_err(damage)?;
        match block {
            Block::InterfaceDescription(description) => {
                let interface = interface(&description, big_endian)?;
                reader.link(interface.link);
                interfaces.push(interface);
            }
            Block::EnhancedPacket(packet) => enhanced(reader, &interfaces, &packet)?,
            Block::SimplePacket(_) => {
                return Err(Damage::Malformed("a simple packet block, which has no time stamp".to_owned()));
            }
            // Names, statistics, secrets, comments: nothing that a packet would show.
            Block::SectionHeader(_)
            | Block::NameResolution(_)
            | Block::InterfaceStatistics(_)
            | Block::SystemdJournalExport(_)
            | Block::DecryptionSecrets(_)
            | Block::ProcessInformation(_)
            | Block::Custom(_)
            | Block::Unknown(_) => {}
        }
        rest = after;
    }
    Ok(())
}

fn damage(error: nom::Err<PcapError<&[u8]>>) -> Damage {
    match error {
        nom::Err::Incomplete(_) => Damage::Truncated,
        nom::Err::Error(_) | nom::Err::Failure(_) => {
            Damage::Malformed("a block contradicts itself".to_owned())
        }
    }
}

fn interface(description: &InterfaceDescriptionBlock<'_>, big_endian: bool) -> Result<Interface, Damage> {
    let resolution = description.if_tsresol;
    let exponent = u32::from(resolution & 0x7f);
    let ticks =
        if resolution & 0x80 == 0 { 10_u128.checked_pow(exponent) } else { 1_u128.checked_shl(exponent) };
    // More than 2^64 ticks a second could not count one.
    let ticks = ticks
        .filter(|ticks| *ticks <= u128::from(u64::MAX))
        .ok_or_else(|| Damage::Malformed(format!("an interface with time resolution {resolution:#04x}")))?;
    let offset = description
        .options
        .iter()
        .find(|option| option.code == OptionCode::IfTsoffset)
        .and_then(|option| option.value.first_chunk())
        .map_or(0, |bytes| if big_endian { i64::from_be_bytes(*bytes) } else { i64::from_le_bytes(*bytes) });
    Ok(Interface { link: LinkType(description.linktype.0.cast_unsigned()), clock: Clock { ticks, offset } })
}

fn enhanced<'a>(
    reader: &mut Reader<'a>,
    interfaces: &[Interface],
    packet: &EnhancedPacketBlock<'a>,
) -> Result<(), Damage> {
    let interface = interfaces.get(packet.if_id as usize).ok_or_else(|| {
        Damage::Malformed(format!("a packet of interface {}, which is not described", packet.if_id))
    })?;
    let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
    let ts_ns = interface
        .clock
        .nanos(ticks)
        .ok_or_else(|| Damage::Malformed("a time stamp before 1970 or after 2262".to_owned()))?;
    let data = packet.data.get(..packet.caplen as usize).unwrap_or(packet.data);
    reader.packet(interface.link, ts_ns, data, packet.orig_len());
    Ok(())
}

impl Clock {
    /// Nanoseconds since 1970, rounded down; `None` outside of what 63 bits hold.
    fn nanos(self, ticks: u64) -> Option<u64> {
        let seconds = i128::from(self.offset) * 1_000_000_000;
        // Below 2^64 times 2^30.
        let nanos = i128::try_from(u128::from(ticks) * 1_000_000_000 / self.ticks).ok()?;
        u64::try_from(seconds + nanos).ok().filter(|nanos| *nanos < 1 << 63)
    }
}
