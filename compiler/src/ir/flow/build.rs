//! Checked specification to flow program: which slots a record has, and what updates them.
//!
//! State is shared: two features that need the same running value over the same packets use one slot.

use super::record;
use super::{
    Expr, FeatureExpr, FlowProgram, GAP_LIMIT, Group, Rule, SAMPLE_LIMIT, SAMPLE_LIMIT_NANOS, Sample, Slot,
    SlotId, SlotKind, Update, UpdateOp, Width, ranges,
};
use crate::diag::{Outcome, Span};
use crate::ir::Interval;
use crate::spec::typed::{Aggregate, Feature, FeatureSpec, Filter, Function, Operand, TimeUnit};

/// Names of the record's header, which slots must not take.
const HEADER_NAMES: [&str; 9] = [
    "packets",
    "last_ns",
    "first_ns",
    "flags",
    "reserved",
    "forward_epoch",
    "forward_blocked_until",
    "backward_epoch",
    "backward_blocked_until",
];

/// Longest slot name; the kernel takes BTF names up to 127 bytes.
const NAME_LIMIT: usize = 96;

/// Builds the flow program of a specification.
///
/// # Errors
///
/// None at present: resolution has already refused what cannot be computed. The type leaves room for limits of
/// the table.
pub fn build(spec: &FeatureSpec) -> Outcome<FlowProgram> {
    let mut builder = Builder::new(&spec.flow.span);
    let features = spec.features.iter().map(|feature| builder.feature(feature)).collect();
    if spec.triggers.every_time.is_some() {
        builder.judged(&spec.flow.span);
    }
    let Builder { mut slots, groups, .. } = builder;
    let record = record::lay_out(&mut slots, spec.flow.key, spec.flow.directions);
    let sample_limit = if groups.iter().flat_map(|group| &group.updates).any(adds_nanos) {
        SAMPLE_LIMIT_NANOS
    } else {
        SAMPLE_LIMIT
    };
    Ok(FlowProgram {
        name: spec.flow.name.clone(),
        tcp: spec.flow.tcp,
        udp: spec.flow.udp,
        key: spec.flow.key,
        directions: spec.flow.directions,
        capacity: spec.flow.capacity,
        idle: spec.flow.idle,
        end: spec.flow.end,
        triggers: spec.triggers,
        sample_limit,
        record,
        slots,
        groups,
        features,
        rules: spec
            .rules
            .iter()
            .map(|rule| Rule { label: rule.label, actions: rule.actions.clone(), span: rule.span.clone() })
            .collect(),
        span: spec.flow.span.clone(),
    })
}

/// Whether an update grows by nanoseconds, which bounds the number of samples.
fn adds_nanos(update: &Update) -> bool {
    update.sample == Sample::Gap(TimeUnit::Nanos) && matches!(update.op, UpdateOp::Add | UpdateOp::AddSquare)
}

struct Builder {
    slots: Vec<Slot>,
    groups: Vec<Group>,
}

/// The feature on whose behalf a slot is made.
struct Request<'a> {
    feature: &'a str,
    span: &'a Span,
    filter: &'a Filter,
    /// Added to the feature's name; empty where the slot is the feature.
    part: &'static str,
}

impl Builder {
    fn new(flow: &Span) -> Self {
        let header = |name: &str, kind, offset| Slot {
            name: name.to_owned(),
            kind,
            width: Width::W64,
            offset,
            span: flow.clone(),
        };
        Self {
            slots: vec![
                header("packets", SlotKind::Packets, record::Layout::PACKETS),
                header("last_ns", SlotKind::Time, record::Layout::LAST),
            ],
            groups: Vec::new(),
        }
    }

    fn feature(&mut self, feature: &Feature) -> FeatureExpr {
        let alone = feature.value.as_leaf();
        let derived = alone.map_or(feature.value.range, ranges::of);
        let mut leaf = |aggregate: &Aggregate| self.aggregate(&feature.name, aggregate, alone.is_some());
        FeatureExpr {
            name: feature.name.clone(),
            value: feature.value.map(&mut leaf),
            unit: feature.unit,
            fraction_bits: feature.fraction_bits,
            range: Interval {
                low: derived.low.max(feature.range.low),
                high: derived.high.min(feature.range.high),
            },
            span: feature.span.clone(),
        }
    }

    /// `alone`: the aggregate is the whole feature, whose name its slot takes.
    fn aggregate(&mut self, name: &str, aggregate: &Aggregate, alone: bool) -> Expr {
        let part = |part| Request { feature: name, span: &aggregate.span, filter: &aggregate.filter, part };
        let request = |own| part(if alone { "" } else { own });
        let sample = match aggregate.operand {
            None => Sample::Packet,
            Some(Operand::Field(field)) => Sample::Field(field),
            Some(Operand::Gap(unit)) => Sample::Gap(unit),
            Some(Operand::Address(address)) => Sample::Address(address),
        };
        match aggregate.function {
            Function::Count => Expr::Load(self.count(&request("count"), sample)),
            Function::Sum => Expr::Load(self.slot(&request("sum"), UpdateOp::Add, sample)),
            Function::Min => Expr::Load(self.slot(&request("min"), UpdateOp::Min, sample)),
            Function::Max => Expr::Load(self.slot(&request("max"), UpdateOp::Max, sample)),
            Function::First => Expr::Load(self.slot(&request("first"), UpdateOp::SetFirst, sample)),
            Function::Last => Expr::Load(self.slot(&request("last"), UpdateOp::SetLast, sample)),
            Function::Mean => Expr::Mean {
                sum: self.slot(&part("sum"), UpdateOp::Add, sample),
                count: self.count(&part("count"), sample),
            },
            Function::Duration => Expr::Duration {
                unit: match aggregate.operand {
                    Some(Operand::Gap(unit)) => unit,
                    Some(Operand::Field(_) | Operand::Address(_)) | None => TimeUnit::Nanos,
                },
            },
            Function::Std | Function::StdPop | Function::Var | Function::VarPop => {
                let sum = self.slot(&part("sum"), UpdateOp::Add, sample);
                let squares = self.slot(&part("squares"), UpdateOp::AddSquare, sample);
                let count = self.count(&part("count"), sample);
                let population = matches!(aggregate.function, Function::StdPop | Function::VarPop);
                if matches!(aggregate.function, Function::Var | Function::VarPop) {
                    Expr::Var { sum, squares, count, population }
                } else {
                    Expr::Std { sum, squares, count, population }
                }
            }
            Function::Ewma(weight) => Expr::Ewma(self.slot(&request("ewma"), UpdateOp::Ewma(weight), sample)),
            Function::Distinct(bitmap) => Expr::Distinct {
                first: self.slot(&request("bits"), UpdateOp::SetBit(bitmap), sample),
                bitmap,
            },
            Function::Rate => Expr::Rate {
                sum: match sample {
                    Sample::Packet => self.count(&part("count"), sample),
                    Sample::Field(_) | Sample::Gap(_) | Sample::AnyGap | Sample::Address(_) => {
                        self.slot(&part("sum"), UpdateOp::Add, sample)
                    }
                },
            },
        }
    }

    /// The number of samples: of packets for packets and fields, of gaps in whatever unit for gaps.
    fn count(&mut self, request: &Request<'_>, sample: Sample) -> SlotId {
        match sample {
            Sample::Packet | Sample::Field(_) | Sample::Address(_)
                if *request.filter == Filter::default() =>
            {
                SlotId::PACKETS
            }
            Sample::Packet | Sample::Field(_) | Sample::Address(_) => {
                self.slot(request, UpdateOp::Count, Sample::Packet)
            }
            Sample::Gap(_) | Sample::AnyGap => self.slot(request, UpdateOp::Count, Sample::AnyGap),
        }
    }

    /// The slot that this update of this sample fills, new or shared.
    fn slot(&mut self, request: &Request<'_>, op: UpdateOp, sample: Sample) -> SlotId {
        let group = self.group(request.filter);
        if let Some(known) = self
            .groups
            .get(group)
            .and_then(|group| group.updates.iter().find(|update| (update.op, update.sample) == (op, sample)))
        {
            return known.slot;
        }
        if matches!(sample, Sample::Gap(_) | Sample::AnyGap) {
            self.clock(group, request);
        }
        let slot = self.push(request, kind(op), width(op, sample));
        if let UpdateOp::SetBit(bitmap) = op {
            // Neighbours in the record: slots of 64 bits are placed in their order.
            for words in (1..bitmap.words()).rev() {
                self.push(request, SlotKind::Bits { words }, Width::W64);
            }
        }
        if let Some(group) = self.groups.get_mut(group) {
            group.updates.push(Update { slot, op, sample, span: request.span.clone() });
        }
        slot
    }

    fn group(&mut self, guard: &Filter) -> usize {
        self.groups.iter().position(|group| group.guard == *guard).unwrap_or_else(|| {
            self.groups.push(Group { guard: guard.clone(), clock: None, updates: Vec::new() });
            self.groups.len() - 1
        })
    }

    /// Gives a group the time of its previous packet.
    fn clock(&mut self, group: usize, request: &Request<'_>) {
        let missing = self.groups.get(group).is_some_and(|group| group.clock.is_none());
        if !missing {
            return;
        }
        let slot = if *request.filter == Filter::default() {
            SlotId::LAST_TIME
        } else {
            self.push(&Request { part: "last_ns", ..*request }, SlotKind::Time, Width::W64)
        };
        if let Some(group) = self.groups.get_mut(group) {
            group.clock = Some(slot);
        }
    }

    /// The time of the last verdict at intervals of time.
    fn judged(&mut self, span: &Span) {
        let request = Request { feature: "judged", span, filter: &Filter::default(), part: "ns" };
        self.push(&request, SlotKind::Judged, Width::W64);
    }

    fn push(&mut self, request: &Request<'_>, kind: SlotKind, width: Width) -> SlotId {
        let id = SlotId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let name = self.name(request.feature, request.part);
        self.slots.push(Slot { name, kind, width, offset: 0, span: request.span.clone() });
        id
    }

    /// A C identifier that no other member of the record has.
    fn name(&self, feature: &str, part: &str) -> String {
        let mut name: String = feature
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .take(NAME_LIMIT)
            .collect();
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            name.insert(0, '_');
        }
        if !part.is_empty() {
            name.push('_');
            name.push_str(part);
        }
        while HEADER_NAMES.contains(&name.as_str()) || self.slots.iter().any(|slot| slot.name == name) {
            name.push('_');
        }
        name
    }
}

const fn kind(op: UpdateOp) -> SlotKind {
    match op {
        UpdateOp::Count => SlotKind::Count,
        UpdateOp::Add => SlotKind::Sum,
        UpdateOp::AddSquare => SlotKind::Squares,
        UpdateOp::Min => SlotKind::Min,
        UpdateOp::Max => SlotKind::Max,
        UpdateOp::SetFirst => SlotKind::First,
        UpdateOp::SetLast => SlotKind::Last,
        UpdateOp::Ewma(_) => SlotKind::Ewma,
        UpdateOp::SetBit(bitmap) => SlotKind::Bits { words: bitmap.words() },
    }
}

fn width(op: UpdateOp, sample: Sample) -> Width {
    let limit = match sample {
        Sample::Packet | Sample::AnyGap | Sample::Address(_) => 1,
        Sample::Field(field) => ranges::field_limit(field),
        Sample::Gap(unit) => ranges::gap_limit(unit),
    };
    match op {
        UpdateOp::Count => Width::W32,
        UpdateOp::Add | UpdateOp::Ewma(_) | UpdateOp::SetBit(_) => Width::W64,
        UpdateOp::AddSquare => {
            let fits = u128::from(limit).pow(2) * u128::from(SAMPLE_LIMIT) <= u128::from(u64::MAX);
            if fits { Width::W64 } else { Width::W128 }
        }
        UpdateOp::Min | UpdateOp::Max | UpdateOp::SetFirst | UpdateOp::SetLast => {
            if limit <= GAP_LIMIT {
                Width::W32
            } else {
                Width::W64
            }
        }
    }
}
