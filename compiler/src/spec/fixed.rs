//! Fields that have one value in all packets of some transports.

use super::typed::{Field, Transports};
use crate::ir::packet::{ICMP_HEADER, SCTP, SCTP_HEADER, TCP, UDP};

/// The only value of a field among packets of these transports, and why.
pub(super) fn of(field: Field, transports: Transports) -> Option<(u64, &'static str)> {
    let Transports { tcp, udp, icmp, sctp } = transports;
    match field {
        Field::TcpFlags
        | Field::TcpFlag(_)
        | Field::TcpWindow
        | Field::TcpUrgent
        | Field::TcpOptionsLen
        | Field::TcpSeq
        | Field::TcpAckNumber
            if !tcp =>
        {
            Some((0, "the flow has no TCP packets"))
        }
        Field::SctpTag if !sctp => Some((0, "the flow has no SCTP packets")),
        Field::UdpLen if !udp => Some((0, "the flow has no UDP packets")),
        Field::IcmpType | Field::IcmpCode if !icmp => Some((0, "the flow has no ICMP packets")),
        Field::SrcPort | Field::DstPort if !(tcp || udp || sctp) => Some((0, "ICMP has no ports")),
        Field::L4HeaderLen if !(tcp || sctp) => {
            Some((ICMP_HEADER.into(), "headers of UDP and ICMP have no options"))
        }
        Field::L4HeaderLen if !(tcp || udp || icmp) => {
            Some((SCTP_HEADER.into(), "headers of SCTP have no options"))
        }
        Field::IpProto => match (tcp, udp, icmp, sctp) {
            (true, false, false, false) => Some((TCP.into(), "the flow has TCP packets only")),
            (false, true, false, false) => Some((UDP.into(), "the flow has UDP packets only")),
            (false, false, false, true) => Some((SCTP.into(), "the flow has SCTP packets only")),
            _ => None,
        },
        Field::Direction
        | Field::FrameLen
        | Field::EthType
        | Field::VlanCount
        | Field::VlanId
        | Field::VlanPcp
        | Field::IpLen
        | Field::IpTtl
        | Field::IpVersion
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
        | Field::TcpFlags
        | Field::TcpFlag(_)
        | Field::TcpWindow
        | Field::TcpUrgent
        | Field::TcpOptionsLen
        | Field::UdpLen
        | Field::IcmpType
        | Field::IcmpCode
        | Field::EthSrc
        | Field::EthDst
        | Field::TcpSeq
        | Field::TcpAckNumber
        | Field::SctpTag
        | Field::Payload(_) => None,
    }
}
