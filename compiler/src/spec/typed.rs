//! The checked feature specification: names resolved, units converted, ranges known.
//!
//! Built by resolution only. Every part keeps its span, so that line info, diagnostics and reports can show
//! the line it came from. The enums grow with the language; consumers match them exhaustively.

use serde::{Deserialize, Serialize};

use crate::diag::Span;
use crate::ir::flow::decision::Diagram;
use crate::ir::flow::formula::Formula;
use crate::ir::flow::key::KeyParts;
use crate::ir::{FractionBits, Input, Interval};
use crate::spec::sources::Parameter;

/// Nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(pub u64);

/// A whole specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureSpec {
    pub name: String,
    pub version: u32,
    /// The file's name as the user gave it, and its text: line info quotes it.
    pub file: String,
    pub source: String,
    /// Files that it uses. Spans at and behind the beginning of one lie in it.
    pub fragments: Vec<Fragment>,
    /// Values from outside.
    pub parameters: Vec<Parameter>,
    pub hook: Hook,
    pub clock: Clock,
    pub flow: Flow,
    /// Tables that features may read with `per`: those of the specification, then one for each part of a key.
    pub tables: Vec<Table>,
    /// In the order of the model's inputs.
    pub features: Vec<Feature>,
    /// What the model says; at least one.
    pub outputs: Vec<Output>,
    /// When the model's outputs are its inputs again: the only output is then whether their error is too large.
    pub reconstruction: Option<Reconstruction>,
    pub triggers: Triggers,
    pub rules: Vec<Rule>,
}

/// A file that `use` inserts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    pub name: String,
    /// Who uses it, 0 for the specification and further fragments from 1, and the words that name it there.
    pub uses: Vec<(usize, String)>,
    pub source: String,
    /// Where its spans begin.
    pub start: usize,
}

impl FeatureSpec {
    /// The raw features, as a model sees them.
    #[must_use]
    pub fn inputs(&self) -> Vec<Input> {
        let input = |feature: &Feature| Input {
            name: feature.name.clone(),
            fraction_bits: feature.fraction_bits,
            range: feature.range,
        };
        self.features.iter().map(input).collect()
    }

    /// Name and text of the file that a position lies in, and the position in it.
    #[must_use]
    pub fn place(&self, at: usize) -> (&str, &str, usize) {
        let fragment = self.fragments.iter().rev().find(|fragment| fragment.start <= at);
        match fragment {
            Some(fragment) => (&fragment.name, &fragment.source, at - fragment.start),
            None => (&self.file, &self.source, at),
        }
    }
}

/// Where the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// Incoming packets, in the driver or right after it.
    Xdp,
    /// Incoming packets, before the protocols see them.
    TcIngress,
    /// Outgoing packets, before the driver gets them.
    TcEgress,
}

impl Hook {
    /// As a specification writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::TcIngress => "tc ingress",
            Self::TcEgress => "tc egress",
        }
    }
}

/// How exactly packets know their time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Clock {
    /// To the nanosecond.
    #[default]
    Exact,
    /// To the kernel's tick: packets of one tick share a time.
    Coarse,
}

/// What features are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The packets of a flow, aggregated in a record.
    Flow,
    /// Each packet by itself: there is no table, and of a flow's parts only transports and filter mean something.
    Packet,
}

/// The flow table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    pub scope: Scope,
    pub name: String,
    pub transports: Transports,
    /// Which packets are judged, with [`Scope::Packet`] only; all packets of a flow are followed.
    pub filter: Filter,
    /// What names a record.
    pub key: KeyParts,
    pub directions: Directions,
    /// Records, evicted least recently used first.
    pub capacity: u32,
    /// A packet later than this after the previous one judges the old record and starts a new one.
    /// `None`: records never expire.
    pub idle: Option<Nanos>,
    /// A packet later than this after the flow's first one does the same.
    pub active: Option<Nanos>,
    /// The object has a program that judges and removes records whose idle time has passed without a packet.
    pub sweep: bool,
    pub end: End,
    pub span: Span,
}

/// A table beside the flow's, whose records collect packets of several flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// Always part of the flow's key.
    pub key: KeyParts,
    /// Records, evicted least recently used first.
    pub capacity: u32,
    /// A packet later than this after the record's previous one starts it anew.
    pub idle: Option<Nanos>,
    pub span: Span,
}

/// Position in [`FeatureSpec::tables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableRef(pub u32);

/// Which transports are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transports {
    pub tcp: bool,
    pub udp: bool,
    /// ICMP and ICMPv6.
    pub icmp: bool,
    pub sctp: bool,
}

impl Transports {
    /// All of them.
    pub const ALL: Self = Self { tcp: true, udp: true, icmp: true, sctp: true };
}

/// Whether both directions share a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directions {
    /// One record for both; forward is the sender of the first packet seen.
    Both,
    /// A record for each direction; every packet is forward.
    One,
}

/// What ends a TCP flow, besides idle expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Never,
    /// FIN of both sides (one side with [`Directions::One`]) and/or RST.
    On {
        fin: bool,
        rst: bool,
    },
}

/// One input of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    pub name: String,
    pub value: Formula<Aggregate>,
    pub unit: Unit,
    pub fraction_bits: FractionBits,
    /// Raw values that can arise, from the types of the fields or narrowed by the author.
    pub range: Interval,
    pub span: Span,
}

/// A running value over the packets of a flow that pass the filter.
/// Over no packet at all it is 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    pub function: Function,
    /// `None` for `count()` and `rate()`.
    pub operand: Option<Operand>,
    pub filter: Filter,
    /// Whose packets; none for the flow's own.
    pub table: Option<TableRef>,
    /// Over the last time of this length; none for all of the record's life.
    pub window: Option<Nanos>,
    pub span: Span,
}

/// Aggregate functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    Count,
    Sum,
    Min,
    Max,
    First,
    Last,
    /// Fixed point with 8 fraction bits, rounded down.
    Mean,
    /// Sample standard deviation, 0 for fewer than two samples; 8 fraction bits, rounded down.
    Std,
    /// Population standard deviation; 8 fraction bits, rounded down.
    StdPop,
    /// The squares of the two: sample and population variance; 8 fraction bits, rounded down.
    Var,
    VarPop,
    /// Mean in which each new sample has this weight and what came before has the rest; 8 fraction bits.
    Ewma(Weight),
    /// Estimated number of different values, from a bitmap of so many bits.
    Distinct(Bitmap),
    /// Sum, or number of packets, per second of the flow's duration; 8 fraction bits, rounded down.
    Rate,
    /// Time from the first packet to the last one, of the flow or of those that pass the filter.
    Duration,
}

/// A weight of `1/2^n`, `n` from 1 to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Weight(pub u8);

/// The size of a bitmap, as the binary logarithm of its bits: from 6 to 12.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bitmap(pub u8);

impl Bitmap {
    /// What `distinct` has when the specification names no size: 256 bits.
    pub const DEFAULT: Self = Self(8);

    /// Number of bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        1 << self.0
    }

    /// Number of 64-bit words.
    #[must_use]
    pub const fn words(self) -> u32 {
        self.bits() / 64
    }
}

/// What is aggregated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    Field(Field),
    /// Time since the previous packet that passed the same filter; packets without one contribute nothing.
    Gap(TimeUnit),
    /// An address of the packet, 16 bytes: for [`Function::Distinct`] only.
    Address(Address),
}

/// One end of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Address {
    /// `ip.src`.
    Source,
    /// `ip.dst`.
    Destination,
}

/// Fields of one packet. All are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `direction`: 0 for forward, 1 for backward.
    Direction,
    /// `frame.len`: captured bytes of the link-layer frame, 0..=65535.
    FrameLen,
    /// `eth.type`: what follows the VLAN tags.
    EthType,
    /// `eth.src`, `eth.dst`: the 48 bits of an Ethernet address as one number, the first byte highest.
    EthSrc,
    EthDst,
    /// `vlan.count`: VLAN tags, 0 to 2.
    VlanCount,
    /// `vlan.id`: number of the network in the outer tag; 0 without a tag.
    VlanId,
    /// `vlan.pcp`: priority in the outer tag; 0 without a tag.
    VlanPcp,
    /// `ip.len`: IPv4 total length, or IPv6 payload length plus 40.
    IpLen,
    /// `ip.ttl`: time to live or hop limit.
    IpTtl,
    /// `ip.version`: 4 or 6.
    IpVersion,
    /// `ip.proto`: the transport protocol's number.
    IpProto,
    /// `ip.header_len`: with options or extension headers.
    IpHeaderLen,
    /// `ip.tos`: the whole byte, or the traffic class.
    IpTos,
    /// `ip.dscp`: the upper six bits of it.
    IpDscp,
    /// `ip.ecn`: the lower two.
    IpEcn,
    /// `ip.id`: identification; 0 for IPv6.
    IpId,
    /// `ip.df`: don't fragment; 0 for IPv6.
    IpDf,
    /// `ip.mf`: more fragments, of the IPv4 header or an IPv6 fragment header.
    IpMf,
    /// `ip.flow_label`: 0 for IPv4.
    IpFlowLabel,
    /// `l4.len`: transport header and payload.
    L4Len,
    /// `l4.header_len`: TCP data offset in bytes; 8 for UDP and ICMP, 12 for SCTP.
    L4HeaderLen,
    /// `l4.payload_len`.
    L4PayloadLen,
    SrcPort,
    DstPort,
    /// `tcp.flags`: the low eight flag bits; 0 without TCP.
    TcpFlags,
    /// `tcp.syn` and the like: one of these bits, by its position.
    TcpFlag(u8),
    /// `tcp.seq`: sequence number as sent; 0 without TCP.
    TcpSeq,
    /// `tcp.ack_number`: acknowledgement number as sent, whether ACK is set or not; 0 without TCP.
    TcpAckNumber,
    /// `tcp.window`: unscaled; 0 without TCP.
    TcpWindow,
    /// `tcp.urgent`: the urgent pointer; 0 without TCP.
    TcpUrgent,
    /// `tcp.options_len`: bytes of options; 0 without TCP.
    TcpOptionsLen,
    /// `udp.len`: as the UDP header states it; 0 without UDP.
    UdpLen,
    /// `sctp.tag`: verification tag; 0 without SCTP.
    SctpTag,
    /// `icmp.type`, of ICMP and ICMPv6; 0 without.
    IcmpType,
    /// `icmp.code`, of ICMP and ICMPv6; 0 without.
    IcmpCode,
    /// `payload[N]`: a byte of what follows the transport header; 0 beyond its end and where it is not captured.
    Payload(u8),
}

/// Units that time is counted in; conversion divides nanoseconds and rounds down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    Nanos,
    Micros,
    Millis,
    Seconds,
    /// Ticks of a clock that counts in this unit: both times are converted before one is taken from the other.
    MicroTicks,
    MilliTicks,
    SecondTicks,
}

impl TimeUnit {
    /// Whether times are converted before one is taken from the other.
    #[must_use]
    pub const fn ticks(self) -> bool {
        match self {
            Self::Nanos | Self::Micros | Self::Millis | Self::Seconds => false,
            Self::MicroTicks | Self::MilliTicks | Self::SecondTicks => true,
        }
    }

    /// What a result counts, however it came about.
    #[must_use]
    pub const fn counted(self) -> Self {
        match self {
            Self::Nanos => Self::Nanos,
            Self::Micros | Self::MicroTicks => Self::Micros,
            Self::Millis | Self::MilliTicks => Self::Millis,
            Self::Seconds | Self::SecondTicks => Self::Seconds,
        }
    }
}

/// What a feature's number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Packets,
    Bytes,
    Time(TimeUnit),
    PacketsPerSecond,
    BytesPerSecond,
    /// Ports, flags, versions: numbers without a dimension.
    Plain,
}

/// Which packets count: all conditions hold. Filters that let the same packets through are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    pub direction: Option<Direction>,
    /// TCP flag bits that must be set, and that must be clear. A packet without TCP has none set.
    pub flags_set: u8,
    pub flags_clear: u8,
    /// What else must hold; asks for nothing that stands above.
    pub rest: Diagram,
}

/// Direction of a packet in its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    Forward,
    Backward,
}

/// When verdicts are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Triggers {
    /// At the end of a flow: FIN, RST or idle expiry.
    pub end: bool,
    /// At every N-th packet of a flow.
    pub every: Option<u32>,
    /// At the first packet so long after the last such verdict, or after the flow's first packet.
    pub every_time: Option<Nanos>,
    /// At the N-th packet of a flow.
    pub after: Option<u32>,
    /// At the first packet so long after the flow's first one.
    pub after_time: Option<Nanos>,
}

/// One output of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// None for `model { labels A, B; }`.
    pub name: Option<String>,
    /// Class labels in the order of the output's values.
    pub labels: Vec<String>,
    pub span: Span,
}

/// `reconstruction l1 > N;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconstruction {
    pub error: ReconstructionError,
    /// In billionths.
    pub threshold: u64,
    pub span: Span,
}

/// What is made of the differences between a model's outputs and its scaled inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReconstructionError {
    /// The mean of their absolute values.
    Absolute,
    /// The mean of their squares.
    Squared,
}

/// What to do about a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Index into [`FeatureSpec::outputs`].
    pub output: usize,
    /// Index into its [`Output::labels`].
    pub label: usize,
    pub threshold: Option<Probability>,
    pub actions: Vec<Action>,
    pub span: Span,
}

/// A probability in millionths, 0..=1_000_000, exactly as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(pub u32);

/// Actions of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Drops the packet that caused the verdict, in enforce mode.
    Drop,
    /// Blocks the flow's forward source for a time, in enforce mode.
    BlockSource(Nanos),
    /// Blocks the flow's forward destination for a time, in enforce mode.
    BlockDestination(Nanos),
    /// Sets the mark of the packet that caused the verdict, in enforce mode; at tc only.
    Mark(u32),
    /// Sends an event.
    Report,
    /// Sends an event the first time that the rule acts, and then every so many times; at least 2.
    ReportOneIn(u32),
    /// Ends the rules: those behind this one do not act on the verdict.
    Pass,
}
