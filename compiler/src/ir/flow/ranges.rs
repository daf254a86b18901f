//! Which raw values aggregates can take, from the types of their samples.
//!
//! The front end intersects these with what the author declares; the network's overflow proof rests on them.

use super::{GAP_LIMIT, GAP_LIMIT_NANOS, SAMPLE_LIMIT, SAMPLE_LIMIT_NANOS};
use crate::ir::{FractionBits, Interval};
use crate::spec::typed::{Aggregate, Field, Function, Operand, TimeUnit};

/// Fraction bits of means and standard deviations.
pub const MEAN_BITS: FractionBits = FractionBits(8);

/// Greatest duration of a flow in any unit, 104 days in nanoseconds; longer ones count as this.
pub const DURATION_LIMIT: i64 = (1 << 53) - 1;

/// Greatest raw rate, 2^45 per second; higher ones count as this.
pub const RATE_LIMIT: i64 = (1 << 53) - 1;

/// Fraction bits of the state of a weighted mean. With weights down to 2^-8, what rounding loses in all is below
/// 2^-8 of a unit.
pub const EWMA_BITS: FractionBits = FractionBits(16);

/// Greatest value of a field.
#[must_use]
pub const fn field_limit(field: Field) -> u64 {
    match field {
        Field::Direction | Field::TcpFlag(_) | Field::IpDf | Field::IpMf => 1,
        Field::FrameLen => 65_535,
        Field::EthType => 0x86dd,
        Field::VlanCount => 2,
        Field::VlanId => 4_095,
        Field::VlanPcp => 7,
        // 40 and eight extension headers of 2,048 bytes.
        Field::IpHeaderLen => 16_424,
        Field::EthSrc | Field::EthDst => (1 << 48) - 1,
        Field::TcpSeq | Field::TcpAckNumber | Field::SctpTag => 0xffff_ffff,
        Field::IpTos | Field::IcmpType | Field::IcmpCode | Field::Payload(_) => 255,
        Field::IpDscp => 63,
        Field::IpEcn => 3,
        Field::IpId | Field::TcpUrgent | Field::UdpLen => 65_535,
        Field::IpFlowLabel => 0x000f_ffff,
        Field::TcpOptionsLen => 40,
        // IPv6: payload length plus 40.
        Field::IpLen => 65_575,
        // Without options or extension headers: all of an IPv6 payload.
        Field::L4Len | Field::L4PayloadLen => 65_535,
        Field::IpTtl | Field::TcpFlags => 255,
        Field::IpVersion => 6,
        Field::IpProto => 132,
        Field::L4HeaderLen => 60,
        Field::SrcPort | Field::DstPort | Field::TcpWindow => 65_535,
    }
}

/// Greatest gap in a unit; longer ones count as this.
#[must_use]
pub const fn gap_limit(unit: TimeUnit) -> u64 {
    match unit {
        TimeUnit::Nanos => GAP_LIMIT_NANOS,
        TimeUnit::Micros
        | TimeUnit::Millis
        | TimeUnit::Seconds
        | TimeUnit::MicroTicks
        | TimeUnit::MilliTicks
        | TimeUnit::SecondTicks => GAP_LIMIT,
    }
}

/// Nanoseconds in a unit.
#[must_use]
pub const fn unit_nanos(unit: TimeUnit) -> u64 {
    match unit {
        TimeUnit::Nanos => 1,
        TimeUnit::Micros | TimeUnit::MicroTicks => 1_000,
        TimeUnit::Millis | TimeUnit::MilliTicks => 1_000_000,
        TimeUnit::Seconds | TimeUnit::SecondTicks => 1_000_000_000,
    }
}

/// Greatest sample of an operand.
#[must_use]
pub const fn sample_limit(operand: Operand) -> u64 {
    match operand {
        Operand::Field(field) => field_limit(field),
        Operand::Gap(unit) => gap_limit(unit),
        // Only their different values are counted.
        Operand::Address(_) => 1,
    }
}

/// Fraction bits of an aggregate's raw value.
#[must_use]
pub const fn fraction_bits(function: Function) -> FractionBits {
    match function {
        Function::Count
        | Function::Sum
        | Function::Min
        | Function::Max
        | Function::First
        | Function::Last
        | Function::Duration => FractionBits(0),
        Function::Mean
        | Function::Std
        | Function::StdPop
        | Function::Var
        | Function::VarPop
        | Function::Ewma(_)
        | Function::Distinct(_)
        | Function::Rate => MEAN_BITS,
    }
}

/// Raw values of an aggregate. All start at 0, the value without samples.
#[must_use]
pub fn of(aggregate: &Aggregate) -> Interval {
    with_limit(aggregate, i64::try_from(aggregate.operand.map_or(1, sample_limit)).unwrap_or(i64::MAX))
}

/// The same for samples that are known to be smaller than their type says.
#[must_use]
pub fn with_limit(aggregate: &Aggregate, sample: i64) -> Interval {
    let samples = |limit| i64::try_from(limit).unwrap_or(i64::MAX);
    let high = match aggregate.function {
        Function::Count => samples(SAMPLE_LIMIT),
        // Below 2^63: the limits are chosen for it.
        Function::Sum => match aggregate.operand {
            Some(Operand::Gap(TimeUnit::Nanos)) => samples(SAMPLE_LIMIT_NANOS).saturating_mul(sample),
            Some(Operand::Gap(_) | Operand::Field(_) | Operand::Address(_)) | None => {
                samples(SAMPLE_LIMIT).saturating_mul(sample)
            }
        },
        Function::Min | Function::Max | Function::First | Function::Last => sample,
        Function::Mean | Function::Ewma(_) => sample << MEAN_BITS.0,
        // Two samples at the ends of the range: sqrt(1/2) of it, here rounded up to 3/4.
        Function::Std => (sample << MEAN_BITS.0) / 4 * 3,
        // Half of the samples at each end of the range.
        Function::StdPop => (sample << MEAN_BITS.0) / 2,
        Function::Var => variance(sample, false),
        Function::VarPop => variance(sample, true),
        Function::Distinct(bitmap) => super::distinct::estimate(bitmap.bits(), bitmap).cast_signed(),
        Function::Rate => RATE_LIMIT,
        Function::Duration => DURATION_LIMIT,
    };
    Interval { low: 0, high }
}

/// Greatest raw variance of samples in `0..=sample`: half of its square, for a population a quarter;
/// `i64::MAX` where that passes 62 bits.
#[must_use]
pub fn variance(sample: i64, population: bool) -> i64 {
    let square = (i128::from(sample) * i128::from(sample)) << MEAN_BITS.0;
    let high = square / if population { 4 } else { 2 };
    i64::try_from(high).ok().filter(|high| *high < 1 << 62).unwrap_or(i64::MAX)
}
