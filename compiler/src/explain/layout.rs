//! The layout of table entries as the object declares them, and what writes each member.

use serde::Serialize;

use crate::bpf::module::{Map, Module, Type};
use crate::ir::flow::{FlowProgram, Slot, SlotId, UpdateOp, Width};
use crate::lower::packet::maps::FLOWS;

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
    pub offset: u32,
    pub name: String,
    pub bytes: u32,
    /// What a packet does to it; empty in keys.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub update: String,
    /// The features that are computed from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

/// The tables of a module, in the order of its maps.
pub(super) fn tables(module: &Module, program: &FlowProgram) -> Vec<Table> {
    module.maps.iter().filter(|map| map.name == FLOWS).map(|map| table(map, program)).collect()
}

fn table(map: &Map, program: &FlowProgram) -> Table {
    let size = |ty: &Option<Type>| ty.as_ref().map_or(0, Type::size);
    let mut record = members(map.value.as_ref());
    for member in &mut record {
        let slot = program.slots.iter().zip(0..).find(|(slot, _)| slot.offset == member.offset);
        match slot {
            Some((slot, id)) => {
                let id = SlotId(id);
                member.update = updates(program, slot, id);
                member.features = users(program, id);
            }
            None => member.update = header(&member.name).to_owned(),
        }
    }
    Table {
        map: map.name.clone(),
        capacity: map.max_entries,
        key: members(map.key.as_ref()),
        key_bytes: size(&map.key),
        record,
        record_bytes: size(&map.value),
    }
}

fn members(ty: Option<&Type>) -> Vec<Member> {
    let Some(Type::Struct(structure)) = ty else { return Vec::new() };
    let member = |member: &crate::bpf::module::Member| Member {
        offset: member.offset,
        name: member.name.clone(),
        bytes: member.ty.size(),
        update: String::new(),
        features: Vec::new(),
    };
    structure.members.iter().map(member).collect()
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
    if id == SlotId::PACKETS {
        return "fetch-and-add".to_owned();
    }
    if id == SlotId::LAST_TIME {
        return if program.exchanges_last_time() { "exchange" } else { "store" }.to_owned();
    }
    for group in &program.groups {
        if group.clock == Some(id) {
            return "exchange".to_owned();
        }
        if let Some(update) = group.updates.iter().find(|update| update.slot == id) {
            return operation(update.op, slot.width).to_owned();
        }
    }
    String::new()
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
        _ if name.ends_with("answer") || name.ends_with("blocked_until") => {
            "store when a list of hosts changed"
        }
        _ => "",
    }
}
