//! The layout of table entries as the object declares them, and what writes each member.

use serde::Serialize;

use crate::bpf::module::{Map, Module, Type};
use crate::ir::flow::side::{Place, TableId};
use crate::ir::flow::{FlowProgram, Slot, SlotId, SlotKind, UpdateOp, Width};
use crate::lower::packet::maps::{FLOWS, side_name};

/// A table of records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    pub map: String,
    pub capacity: u32,
    pub key: Vec<Member>,
    pub key_bytes: u32,
    pub record: Vec<Member>,
    pub record_bytes: u32,
}

/// One member of a key or a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// From the start of the record.
    pub offset: u32,
    pub name: String,
    pub bytes: u32,
    /// What a packet does to it; empty in keys.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub update: String,
    /// The features that are computed from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// Of a window, the members of its first pane; the second one follows it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pane: Vec<Member>,
}

/// The tables of a module, the flow's own first.
pub(super) fn tables(module: &Module, program: &FlowProgram) -> Vec<Table> {
    let map = |name: &str| module.maps.iter().find(|map| map.name == name);
    let own = map(FLOWS).map(|map| table(map, program, None));
    let side =
        program.side_tables().filter_map(|(id, side)| Some(table(map(&side_name(side))?, program, Some(id))));
    own.into_iter().chain(side).collect()
}

fn table(map: &Map, program: &FlowProgram, id: Option<TableId>) -> Table {
    let size = |ty: &Option<Type>| ty.as_ref().map_or(0, Type::size);
    let mut record = members(map.value.as_ref(), 0);
    for member in &mut record {
        say(program, Place { table: id, window: None }, member);
        let window = program.windows_of(id).find(|(_, window)| window.start == member.offset);
        if let Some((id, window)) = window {
            "that of its two panes which the time of the packet is in".clone_into(&mut member.update);
            for inner in &mut member.pane {
                say(program, window.place(id), inner);
            }
        }
    }
    Table {
        map: map.name.clone(),
        capacity: map.max_entries,
        key: members(map.key.as_ref(), 0),
        key_bytes: size(&map.key),
        record,
        record_bytes: size(&map.value),
    }
}

/// Says what packets do to a member at some place, and whose it is.
fn say(program: &FlowProgram, place: Place, member: &mut Member) {
    let mut slots = program.slots_of(place.table);
    match slots.find(|(_, slot)| slot.place == place && slot.offset == member.offset) {
        Some((id, slot)) => {
            member.update = updates(program, slot, id);
            member.features = users(program, id);
        }
        None => member.update = header(&member.name).to_owned(),
    }
}

fn members(ty: Option<&Type>, start: u32) -> Vec<Member> {
    let Some(Type::Struct(structure)) = ty else { return Vec::new() };
    let member = |member: &crate::bpf::module::Member| {
        let offset = start + member.offset;
        let pane = match &member.ty {
            Type::Array(pane, _) => members(Some(pane), offset),
            Type::Unsigned(_) | Type::Signed(_) | Type::Struct(_) => Vec::new(),
        };
        Member {
            offset,
            name: member.name.clone(),
            bytes: member.ty.size(),
            update: String::new(),
            features: Vec::new(),
            pane,
        }
    };
    structure.members.iter().map(member).collect()
}

/// A table beside the flow's own, or a window of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The map, and behind a dot the member of its records that a window is.
    pub name: String,
    /// Bytes of each record: all of them, or those of the window with its number.
    pub bytes: u32,
    /// Entries of the map.
    pub entries: u32,
    pub place: Place,
}

/// What a flow program keeps beside the slots of its own records' whole life.
pub(super) fn parts(program: &FlowProgram, tables: &[Table]) -> Vec<Part> {
    let entries =
        |name: &str| tables.iter().find(|table| table.map == name).map_or(0, |table| table.capacity);
    let own = [(None, FLOWS.to_owned(), 0)];
    let side = program.side_tables().map(|(id, side)| (Some(id), side_name(side), side.size));
    let mut parts = Vec::new();
    for (table, map, size) in own.into_iter().chain(side) {
        if table.is_some() {
            let place = Place { table, window: None };
            parts.push(Part { name: map.clone(), bytes: size, entries: entries(&map), place });
        }
        parts.extend(program.windows_of(table).map(|(id, window)| Part {
            name: format!("{map}.{}", window.name),
            bytes: 8 + 2 * window.stride,
            entries: entries(&map),
            place: window.place(id),
        }));
    }
    parts
}

impl Part {
    /// Whether a feature, by its number, is computed from what the part holds.
    pub(super) fn feeds(&self, program: &FlowProgram, feature: usize) -> bool {
        let Some(feature) = program.features.get(feature) else { return false };
        let Place { table, window } = self.place;
        let slots = feature.value.leaves().into_iter().flat_map(|leaf| leaf.slots());
        let mut places = slots.map(|id| program.slot(id).place);
        places.any(|place| place.table == table && (window.is_none() || place.window == window))
    }
}

/// Names of the features that are computed from a slot.
pub(super) fn users(program: &FlowProgram, slot: SlotId) -> Vec<String> {
    let uses = |value: &crate::ir::flow::FeatureExpr| {
        value.value.leaves().into_iter().any(|leaf| leaf.slots().contains(&slot))
    };
    program.features.iter().filter(|feature| uses(feature)).map(|feature| feature.name.clone()).collect()
}

/// The operations on a slot, as the module documentation of [`crate::ir::flow`] names them.
fn updates(program: &FlowProgram, slot: &Slot, id: SlotId) -> String {
    if id == SlotId::LAST_TIME {
        return if program.exchanges_last_time() { "exchange" } else { "store" }.to_owned();
    }
    match slot.kind {
        SlotKind::Packets => return "fetch-and-add".to_owned(),
        SlotKind::Time => return "exchange".to_owned(),
        SlotKind::Judged => return "compare-and-exchange when a verdict is due".to_owned(),
        SlotKind::Pane => return "compare-and-exchange when a pane begins".to_owned(),
        SlotKind::Count
        | SlotKind::Sum
        | SlotKind::Squares
        | SlotKind::Min
        | SlotKind::Max
        | SlotKind::First
        | SlotKind::Last
        | SlotKind::Bits { .. }
        | SlotKind::Ewma => {}
    }
    let mut updates = program.groups.iter().flat_map(|group| &group.updates);
    let update = updates.find(|update| update.slot == id);
    update.map_or_else(String::new, |update| operation(update.op, slot.width).to_owned())
}

fn operation(op: UpdateOp, width: Width) -> &'static str {
    match (op, width) {
        (UpdateOp::Count | UpdateOp::Add, _) => "add",
        (UpdateOp::AddSquare, Width::W32 | Width::W64) => "add of the square",
        (UpdateOp::AddSquare, Width::W128) => "fetch-and-add of the square's low word, add of the high word",
        (UpdateOp::Min, _) => "compare-and-exchange where smaller",
        (UpdateOp::Max, _) => "compare-and-exchange where greater",
        (UpdateOp::SetFirst, _) => "compare-and-exchange where empty",
        (UpdateOp::SetLast, _) => "store",
        (UpdateOp::Ewma(_), _) => "compare-and-exchange with the mean",
        (UpdateOp::SetBit(_), _) => "or of one bit to one word",
    }
}

/// What writes the members of a record that belong to no feature.
fn header(name: &str) -> &'static str {
    match name {
        "first_ns" => "stored when the record is created",
        "flags" => "fetch-and-or when a flow ends or expires",
        "reserved" => "nothing",
        _ if name.ends_with("answer") => "store when a list of hosts changed",
        _ => "",
    }
}
