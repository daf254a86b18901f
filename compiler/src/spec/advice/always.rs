//! Features that always have the same value: what flow, key and conditions leave of the samples.

use super::{is_over_all, origin};
use crate::diag::Diagnostic;
use crate::diag::codes::spec as codes;
use crate::ir::Interval;
use crate::ir::flow::decision::Variable;
use crate::ir::flow::key::KeyPart;
use crate::ir::flow::ranges;
use crate::ir::packet::{ICMP, ICMPV6, SCTP, TCP, UDP};
use crate::spec::fixed;
use crate::spec::resolve::field_name;
use crate::spec::typed::{
    Aggregate, Direction, Directions, Feature, FeatureSpec, Field, Function, Operand, Transports,
};

/// The warning about a feature that always has the same value.
pub(super) fn warning(spec: &FeatureSpec, feature: &Feature) -> Option<Diagnostic> {
    let range = feature.value.range_over(&|leaf| values(spec, leaf)).ok()?;
    if range.low != range.high {
        return None;
    }
    let scale = 1_i64 << feature.fraction_bits.0;
    let value = if range.low % scale == 0 {
        (range.low / scale).to_string()
    } else {
        // A multiple of 1/256 has at most eight decimals.
        (range.low as f64 / scale as f64).to_string()
    };
    let mut reasons: Vec<String> = Vec::new();
    for leaf in feature.value.leaves() {
        reasons.extend(samples(spec, leaf).map(|same| same.reason));
    }
    reasons.dedup();
    let warning = Diagnostic::warning(
        &codes::ONE_VALUE,
        origin(spec, &feature.span),
        format!("`{}` is always {value}", feature.name),
        "remove the feature: no model learns from it",
    );
    Some(reasons.into_iter().fold(warning, Diagnostic::with_note))
}

/// What all samples of an aggregate agree on.
struct Same {
    /// Their value, where it is known before there are packets.
    value: Option<u64>,
    reason: String,
}

/// Raw values of an aggregate, as far as its samples tell.
fn values(spec: &FeatureSpec, aggregate: &Aggregate) -> Interval {
    let by_type = ranges::of(aggregate);
    let Some(same) = samples(spec, aggregate) else { return by_type };
    let only = |raw: i64| {
        // Over no packet the value is 0.
        let low = if is_over_all(aggregate) { raw } else { 0 };
        Interval { low, high: raw }
    };
    let known = same.value.and_then(|value| i64::try_from(value).ok());
    match (aggregate.function, known) {
        (Function::Std | Function::StdPop | Function::Var | Function::VarPop, _) => only(0),
        (Function::Sum | Function::Rate, Some(0)) => only(0),
        (Function::Min | Function::Max | Function::First | Function::Last, Some(value)) => only(value),
        (Function::Mean | Function::Ewma(_), Some(value)) => only(value << ranges::MEAN_BITS.0),
        (
            Function::Count
            | Function::Sum
            | Function::Min
            | Function::Max
            | Function::First
            | Function::Last
            | Function::Mean
            | Function::Ewma(_)
            | Function::Distinct(_)
            | Function::Rate
            | Function::Duration,
            _,
        ) => by_type,
    }
}

/// What all samples agree on, and why.
fn samples(spec: &FeatureSpec, aggregate: &Aggregate) -> Option<Same> {
    let Some(Operand::Field(field)) = aggregate.operand else { return None };
    let name = field_name(field);
    let value = |value, reason: String| Some(Same { value: Some(value), reason });
    if let Some((only, why)) = fixed::of(field, spec.flow.transports) {
        return value(only, format!("`{name}` is {only}: {why}"));
    }
    let own = aggregate.table.is_none();
    if own && field == Field::Direction && spec.flow.directions == Directions::One {
        return value(
            0,
            "`direction` is 0: the key has a record for each direction, and every packet is forward"
                .to_owned(),
        );
    }
    let admitted = admitted(spec.flow.transports, aggregate);
    if let Some((only, _)) = fixed::of(field, admitted) {
        return value(
            only,
            format!("`{name}` is {only}: the condition admits no packets that have another value"),
        );
    }
    if let Some(only) = of_condition(field, aggregate) {
        return value(only, format!("`{name}` is {only}: the condition admits no other value"));
    }
    if own && of_key(spec, field, aggregate) {
        return Some(Same {
            value: None,
            reason: format!("all these packets of a flow have the same `{name}`: the key names it"),
        });
    }
    None
}

/// The transports of which a filter admits packets.
fn admitted(transports: Transports, aggregate: &Aggregate) -> Transports {
    let filter = &aggregate.filter;
    let of = |number: u8| !filter.rest.given(Variable::Field(Field::IpProto), number.into()).is_never();
    // Only TCP packets have flags.
    let others = filter.flags_set == 0;
    Transports {
        tcp: transports.tcp && of(TCP),
        udp: transports.udp && others && of(UDP),
        icmp: transports.icmp && others && (of(ICMP) || of(ICMPV6)),
        sctp: transports.sctp && others && of(SCTP),
    }
}

/// The only value of a field that a filter admits.
fn of_condition(field: Field, aggregate: &Aggregate) -> Option<u64> {
    let filter = &aggregate.filter;
    if field == Field::Direction {
        return filter.direction.map(|direction| u64::from(direction == Direction::Backward));
    }
    if let Field::TcpFlag(bit) = field {
        let mask = 1_u8.checked_shl(bit.into())?;
        return match (filter.flags_set & mask != 0, filter.flags_clear & mask != 0) {
            (true, _) => Some(1),
            (false, true) => Some(0),
            (false, false) => None,
        };
    }
    let (low, high) = filter.rest.values(Variable::Field(field), ranges::field_limit(field))?;
    (low == high).then_some(low)
}

/// Whether the key makes a field the same in all packets of a flow that a filter admits.
fn of_key(spec: &FeatureSpec, field: Field, aggregate: &Aggregate) -> bool {
    let parts = [
        (Field::SrcPort, KeyPart::SrcPort),
        (Field::DstPort, KeyPart::DstPort),
        (Field::IpProto, KeyPart::Proto),
    ];
    let Some((_, part)) = parts.into_iter().find(|(of, _)| *of == field) else { return false };
    // Both directions share a record where the key names both ends: then each end is the other's.
    let one_way = part == KeyPart::Proto
        || spec.flow.directions == Directions::One
        || aggregate.filter.direction.is_some();
    spec.flow.key.has(part) && one_way
}
