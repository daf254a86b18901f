//! Checked specification to flow program: which slots a record has, and what updates them.
//!
//! State is shared: two features that need the same running value over the same packets use one slot.

use super::record;
use super::side::{self, Place, SideTable, TableId, Window, WindowId};
use super::{
    Expr, FeatureExpr, FlowProgram, GAP_LIMIT, Group, Rule, SAMPLE_LIMIT, SAMPLE_LIMIT_NANOS, Sample, Slot,
    SlotId, SlotKind, Update, UpdateOp, Width, ranges,
};
use crate::diag::{Outcome, Span};
use crate::ir::Interval;
use crate::spec::typed::{
    Action, Aggregate, Feature, FeatureSpec, Filter, Function, Nanos, Operand, Scope, TableRef, TimeUnit,
};

/// Names of the record's header, which slots must not take.
const HEADER_NAMES: [&str; 7] =
    ["packets", "last_ns", "first_ns", "flags", "reserved", "forward_answer", "backward_answer"];

/// Longest slot name; the kernel takes BTF names up to 127 bytes.
const NAME_LIMIT: usize = 96;

/// Builds the flow program of a specification.
///
/// # Errors
///
/// None at present: resolution has already refused what cannot be computed. The type leaves room for limits of
/// the table.
pub fn build(spec: &FeatureSpec) -> Outcome<FlowProgram> {
    let mut builder = Builder::new(spec);
    let features: Vec<FeatureExpr> = spec.features.iter().map(|feature| builder.feature(feature)).collect();
    if spec.triggers.every_time.is_some() {
        builder.judged(&spec.flow.span);
    }
    let Builder { mut slots, groups, tables, mut windows, .. } = builder;
    let record = record::lay_out(&mut slots, &mut windows, header(spec, &features, &groups));
    let tables = (0..)
        .map(TableId)
        .zip(tables)
        .map(|(id, (_, table))| {
            let size = record::arrange(&mut slots, &mut windows, Some(id), SideTable::HEADER);
            SideTable { size, ..table }
        })
        .collect();
    let sample_limit = if groups.iter().flat_map(|group| &group.updates).any(adds_nanos) {
        SAMPLE_LIMIT_NANOS
    } else {
        SAMPLE_LIMIT
    };
    Ok(FlowProgram {
        scope: spec.flow.scope,
        filter: spec.flow.filter.clone(),
        name: spec.flow.name.clone(),
        transports: spec.flow.transports,
        key: spec.flow.key,
        directions: spec.flow.directions,
        capacity: spec.flow.capacity,
        idle: spec.flow.idle,
        active: spec.flow.active,
        sweep: spec.flow.sweep,
        end: spec.flow.end,
        triggers: spec.triggers,
        sample_limit,
        record,
        slots,
        tables,
        windows,
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

/// What something depends on; events tell when their flow began.
fn header(spec: &FeatureSpec, features: &[FeatureExpr], groups: &[Group]) -> record::Header {
    // Whatever looks at the last time looks at how long the flow lasts.
    let lasts = features
        .iter()
        .flat_map(|feature| feature.value.leaves())
        .any(|leaf| leaf.slots().contains(&SlotId::LAST_TIME));
    let gaps = groups.iter().any(|group| group.clock == Some(SlotId::LAST_TIME));
    let last = spec.flow.idle.is_some() || lasts || gaps;
    let mut actions = spec.rules.iter().flat_map(|rule| &rule.actions).peekable();
    // Where records keep times at all, those of rules that act keep both: an object whose rules report goes on with
    // the records of one whose rules do not.
    let acts = last && actions.peek().is_some();
    let reports = actions.any(|action| match action {
        Action::Report | Action::ReportOneIn(_) => true,
        Action::Drop
        | Action::BlockSource(_)
        | Action::BlockDestination(_)
        | Action::Mark(_)
        | Action::Pass => false,
    });
    record::Header {
        lists: spec.flow.key.pairs(),
        directions: spec.flow.directions,
        last,
        first: lasts || reports || acts || spec.flow.active.is_some() || spec.triggers.after_time.is_some(),
    }
}

/// Whether an update grows by nanoseconds, which bounds the number of samples.
fn adds_nanos(update: &Update) -> bool {
    update.sample == Sample::Gap(TimeUnit::Nanos) && matches!(update.op, UpdateOp::Add | UpdateOp::AddSquare)
}

struct Builder<'s> {
    spec: &'s FeatureSpec,
    slots: Vec<Slot>,
    groups: Vec<Group>,
    /// Those that features read, with their numbers in the specification.
    tables: Vec<(TableRef, SideTable)>,
    windows: Vec<Window>,
}

/// The feature on whose behalf a slot is made.
struct Request<'a> {
    feature: &'a str,
    span: &'a Span,
    filter: &'a Filter,
    place: Place,
    /// Added to the feature's name; empty where the slot is the feature.
    part: &'static str,
}

impl<'s> Builder<'s> {
    fn new(spec: &'s FeatureSpec) -> Self {
        let mut builder =
            Self { spec, slots: Vec::new(), groups: Vec::new(), tables: Vec::new(), windows: Vec::new() };
        builder.header("packets", SlotKind::Packets, Place::FLOW, record::Layout::PACKETS, &spec.flow.span);
        // Placed with the others of the header.
        builder.header("last_ns", SlotKind::Time, Place::FLOW, record::ABSENT, &spec.flow.span);
        builder
    }

    /// A slot whose place in the record is fixed.
    fn header(&mut self, name: &str, kind: SlotKind, place: Place, offset: u32, span: &Span) -> SlotId {
        let slot = Slot { name: name.to_owned(), kind, width: Width::W64, place, offset, span: span.clone() };
        self.slots.push(slot);
        self.last_slot()
    }

    /// The slot that was made last.
    fn last_slot(&self) -> SlotId {
        SlotId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX).saturating_sub(1))
    }

    /// Where the slots of an aggregate are; tables and windows are made when they are first asked for.
    fn place(&mut self, aggregate: &Aggregate) -> Place {
        let table = aggregate.table.and_then(|table| self.table(table));
        let window = aggregate.window.map(|length| self.window(table, length, &aggregate.span));
        Place { table, window }
    }

    fn table(&mut self, wanted: TableRef) -> Option<TableId> {
        let number = |index: usize| u32::try_from(index).ok().map(TableId);
        if let Some(known) = self.tables.iter().position(|(known, _)| *known == wanted) {
            return number(known);
        }
        let table = self.spec.tables.get(wanted.0 as usize)?;
        let id = number(self.tables.len())?;
        let place = Place { table: Some(id), window: None };
        let packets = self.header("packets", SlotKind::Packets, place, SideTable::PACKETS, &table.span);
        let last = self.header("last_ns", SlotKind::Time, place, SideTable::LAST, &table.span);
        let side = SideTable {
            name: table.name.clone(),
            key: table.key,
            capacity: table.capacity,
            idle: table.idle,
            packets,
            last,
            size: SideTable::HEADER,
            span: table.span.clone(),
        };
        self.tables.push((wanted, side));
        Some(id)
    }

    fn window(&mut self, table: Option<TableId>, length: Nanos, span: &Span) -> WindowId {
        let known = self.windows.iter().position(|known| (known.table, known.length) == (table, length));
        let id = WindowId(u32::try_from(known.unwrap_or(self.windows.len())).unwrap_or(u32::MAX));
        if known.is_some() {
            return id;
        }
        let name = self.name(table, &over(length), "");
        let whole = Place { table, window: None };
        let pane = self.named(self.name(table, &name, "pane"), whole, span, SlotKind::Pane, Width::W64);
        let inside = Place { table, window: Some(id) };
        let packets = self.named("packets".to_owned(), inside, span, SlotKind::Packets, Width::W64);
        self.windows.push(Window { name, table, length, pane, packets, start: 0, stride: 0 });
        id
    }

    /// The number of packets of a place.
    fn packets(&self, place: Place) -> SlotId {
        let window = place.window.and_then(|window| self.windows.get(window.0 as usize));
        let table = place.table.and_then(|table| self.tables.get(table.0 as usize));
        window
            .map(|window| window.packets)
            .or(table.map(|(_, table)| table.packets))
            .unwrap_or(SlotId::PACKETS)
    }

    /// The time of the last packet of a table's record.
    fn last_time(&self, table: Option<TableId>) -> SlotId {
        let table = table.and_then(|table| self.tables.get(table.0 as usize));
        table.map_or(SlotId::LAST_TIME, |(_, table)| table.last)
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
        let place = self.place(aggregate);
        let part =
            |part| Request { feature: name, span: &aggregate.span, filter: &aggregate.filter, place, part };
        let request = |own| part(if alone { "" } else { own });
        let sample = match aggregate.operand {
            None => Sample::Packet,
            Some(Operand::Field(field)) => Sample::Field(field),
            Some(Operand::Gap(unit)) => Sample::Gap(unit),
            Some(Operand::Address(address)) => Sample::Address(address),
        };
        if let (Scope::Packet, Sample::Field(field)) = (self.spec.flow.scope, sample) {
            return Expr::Field(field);
        }
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
            Function::Duration => {
                let unit = match aggregate.operand {
                    Some(Operand::Gap(unit)) => unit,
                    Some(Operand::Field(_) | Operand::Address(_)) | None => TimeUnit::Nanos,
                };
                if aggregate.filter == Filter::default() {
                    return Expr::Duration { unit };
                }
                let first = self.slot(&part("first_ns"), UpdateOp::SetFirst, Sample::Time);
                Expr::Span { first, last: self.clock(&part("last_ns")), unit }
            }
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
                    Sample::Field(_)
                    | Sample::Gap(_)
                    | Sample::AnyGap
                    | Sample::Time
                    | Sample::Address(_) => self.slot(&part("sum"), UpdateOp::Add, sample),
                },
                pane: aggregate.window.map(side::pane_nanos),
            },
        }
    }

    /// The number of samples: of packets for packets and fields, of gaps in whatever unit for gaps.
    fn count(&mut self, request: &Request<'_>, sample: Sample) -> SlotId {
        match sample {
            Sample::Packet | Sample::Field(_) | Sample::Address(_)
                if *request.filter == Filter::default() =>
            {
                self.packets(request.place)
            }
            Sample::Packet | Sample::Field(_) | Sample::Address(_) => {
                self.slot(request, UpdateOp::Count, Sample::Packet)
            }
            Sample::Gap(_) | Sample::AnyGap | Sample::Time => {
                self.slot(request, UpdateOp::Count, Sample::AnyGap)
            }
        }
    }

    /// The slot that this update of this sample fills, new or shared.
    fn slot(&mut self, request: &Request<'_>, op: UpdateOp, sample: Sample) -> SlotId {
        let group = self.group(request.filter, request.place);
        if let Some(known) = self
            .groups
            .get(group)
            .and_then(|group| group.updates.iter().find(|update| (update.op, update.sample) == (op, sample)))
        {
            return known.slot;
        }
        if matches!(sample, Sample::Gap(_) | Sample::AnyGap) {
            self.clock(request);
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

    fn group(&mut self, guard: &Filter, place: Place) -> usize {
        let known = |group: &Group| group.guard == *guard && group.place == place;
        self.groups.iter().position(known).unwrap_or_else(|| {
            self.groups.push(Group { place, guard: guard.clone(), clock: None, updates: Vec::new() });
            self.groups.len() - 1
        })
    }

    /// The time of the previous packet of a group, which it keeps from now on.
    fn clock(&mut self, request: &Request<'_>) -> SlotId {
        let group = self.group(request.filter, request.place);
        if let Some(known) = self.groups.get(group).and_then(|group| group.clock) {
            return known;
        }
        let slot = if *request.filter == Filter::default() {
            self.last_time(request.place.table)
        } else {
            let place = Place { window: None, ..request.place };
            self.push(&Request { part: "last_ns", place, ..*request }, SlotKind::Time, Width::W64)
        };
        if let Some(group) = self.groups.get_mut(group) {
            group.clock = Some(slot);
        }
        slot
    }

    /// The time of the last verdict at intervals of time.
    fn judged(&mut self, span: &Span) {
        let filter = &Filter::default();
        let request = Request { feature: "judged", span, filter, place: Place::FLOW, part: "ns" };
        self.push(&request, SlotKind::Judged, Width::W64);
    }

    fn push(&mut self, request: &Request<'_>, kind: SlotKind, width: Width) -> SlotId {
        let name = self.name(request.place.table, request.feature, request.part);
        self.named(name, request.place, request.span, kind, width)
    }

    fn named(&mut self, name: String, place: Place, span: &Span, kind: SlotKind, width: Width) -> SlotId {
        self.slots.push(Slot { name, kind, width, place, offset: record::UNPLACED, span: span.clone() });
        self.last_slot()
    }

    /// A C identifier that no other member of the record has.
    fn name(&self, table: Option<TableId>, feature: &str, part: &str) -> String {
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
        let taken = |name: &str| {
            HEADER_NAMES.contains(&name)
                || self.slots.iter().any(|slot| slot.place.table == table && slot.name == name)
                || self.windows.iter().any(|window| window.table == table && window.name == name)
        };
        while taken(&name) {
            name.push('_');
        }
        name
    }
}

/// `over_10s` for ten seconds: the name of a window's panes.
fn over(length: Nanos) -> String {
    let units = [(60_000_000_000, "min"), (1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")];
    let (nanos, unit) =
        units.into_iter().find(|(nanos, _)| length.0.is_multiple_of(*nanos)).unwrap_or((1, "ns"));
    format!("over_{}{unit}", length.0 / nanos)
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
        Sample::Time => u64::MAX >> 1,
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
