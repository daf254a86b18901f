//! Names and types of the packet path's maps and data sections.
//!
//! The names are an interface: scripts, the loader and operators use them (see `docs/object-format.md`).

use super::Clock;
use super::guard::{FILTER, FUSE, FUSE_SEEN, filter_type, fuse_type, seen_type};
use crate::bpf::module::{Data, Map, MapKind, Member, Struct, Type};
use crate::ir::flow::key::KeyPart;
use crate::ir::flow::record::Layout;
use crate::ir::flow::side::{Place, SideTable, TableId, Window, WindowId};
use crate::ir::flow::{Counter, FlowProgram, Slot, SlotKind, Width};
use crate::spec::typed::{Clock as Precision, Scope};

/// Flow table: key to record. Not there where packets are judged one by one.
pub const FLOWS: &str = "nn_flows";
/// What the names of further tables begin with.
pub const SIDE_FLOWS: &str = "nn_flows_";
/// Blocked hosts: address to expiry in nanoseconds of the packet clock.
pub const BLOCKED: &str = "nn_blocked";
/// Allowed hosts: prefixes that no rule and no block list acts on.
pub const ALLOWED: &str = "nn_allowed";
/// Counters, one structure per processor.
pub const COUNTERS: &str = "nn_counters";
/// Events of the `report` action.
pub const EVENTS: &str = "nn_events";
/// Mode and epoch of the host lists.
pub const CONFIG: &str = ".data.nn_config";
/// How often the rules that report samples have acted; only where there are such rules.
pub const SAMPLES: &str = ".data.nn_samples";
/// The kernel's tick that a packet last read the clock in, and what it read; only with `clock coarse`.
pub const TICK: &str = ".data.nn_tick";
/// The time of the packet at hand, in replay builds only.
pub const CLOCK: &str = ".data.nn_clock";

/// Offset of `mode` in the configuration: 0 monitor, 1 enforce.
pub const CONFIG_MODE: u32 = 0;
/// Offset of the epoch in the configuration.
pub const CONFIG_EPOCH: u32 = 8;
/// Offset of the times in `.data.nn_tick`: of even and of odd ticks.
pub const TICK_TIMES: u32 = 8;
/// Value of `mode` in which verdicts and lists act.
pub const MODE_ENFORCE: i32 = 1;

/// Blocked hosts that are remembered; the least recently used makes room.
pub const BLOCKED_HOSTS: u32 = 65_536;
/// Allowed prefixes.
pub const ALLOWED_PREFIXES: u32 = 1_024;
/// Bytes of the event ring.
pub const EVENT_BYTES: u32 = 2 << 20;
/// `BPF_F_NO_PREALLOC` in `include/uapi/linux/bpf.h`: required for prefix tries.
const NO_PREALLOC: u32 = 1;

/// A host address.
pub(super) fn host() -> Type {
    Type::Array(Box::new(Type::Unsigned(1)), 16)
}

pub(super) fn member(name: &str, offset: u32, ty: Type) -> Member {
    Member { name: name.to_owned(), offset, ty }
}

fn structure(name: &str, size: u32, members: Vec<Member>) -> Type {
    Type::Struct(Struct { name: name.to_owned(), size, members })
}

fn key(program: &FlowProgram) -> Type {
    let bytes = program.key_form().bytes;
    let mut members = vec![
        member("a", 0, host()),
        member("b", 16, host()),
        member("a_port", 32, Type::Unsigned(2)),
        member("b_port", 34, Type::Unsigned(2)),
        member("proto", 36, Type::Unsigned(1)),
        member("reserved", 37, Type::Array(Box::new(Type::Unsigned(1)), 3)),
    ];
    members.retain(|member| member.offset < bytes);
    structure("nn_flow_key", bytes, members)
}

fn record(program: &FlowProgram) -> Type {
    let layout = program.record;
    let mut members = vec![
        member("packets", Layout::PACKETS, Type::Unsigned(8)),
        member("flags", layout.flags, Type::Unsigned(4)),
    ];
    for (direction, lists) in [("forward", layout.forward_lists), ("backward", layout.backward_lists)] {
        let Some(lists) = lists else { continue };
        members.push(member(&format!("{direction}_answer"), lists, Type::Unsigned(8)));
    }
    let times = [("last_ns", layout.last), ("first_ns", layout.first)];
    members.extend(times.iter().filter_map(|(name, at)| Some(member(name, (*at)?, Type::Unsigned(8)))));
    let header = layout.flags + 4;
    let own = slots(program, Place::FLOW, header);
    members.extend(own.into_iter().filter(|member| Some(member.offset) != layout.last));
    if members.iter().all(|member| member.offset != header) {
        members.push(member("reserved", header, Type::Unsigned(4)));
    }
    members.sort_by_key(|member| member.offset);
    members.extend(panes(program, None));
    structure("nn_flow_record", program.record.size, members)
}

/// The slots of a place from an offset on, in their order in the record.
fn slots(program: &FlowProgram, place: Place, from: u32) -> Vec<Member> {
    let wanted = |slot: &&Slot| slot.place == place && slot.offset >= from;
    let mut slots: Vec<&Slot> = program.slots_of(place.table).map(|(_, slot)| slot).filter(wanted).collect();
    slots.sort_by_key(|slot| slot.offset);
    let mut slots = slots.into_iter();
    let mut members = Vec::new();
    while let Some(slot) = slots.next() {
        let words = |count| Type::Array(Box::new(Type::Unsigned(8)), count);
        let ty = match (slot.kind, slot.width) {
            (SlotKind::Bits { words: count }, _) if count > 1 => {
                // The bitmap's other words follow.
                let _last = slots.nth(count as usize - 2);
                words(count)
            }
            (_, Width::W32) => Type::Unsigned(4),
            (_, Width::W64) => Type::Unsigned(8),
            (_, Width::W128) => words(2),
        };
        members.push(member(&slot.name, slot.offset, ty));
    }
    members
}

/// The windows of a table's records: for each an array of an even and an odd pane.
fn panes(program: &FlowProgram, table: Option<TableId>) -> Vec<Member> {
    let owner =
        table.and_then(|table| program.tables.get(table.0 as usize)).map_or("flow", |table| &table.name);
    let pane = |(id, window): (WindowId, &Window)| {
        let mut members = slots(program, window.place(id), window.start);
        for member in &mut members {
            member.offset -= window.start;
        }
        let pane = structure(&format!("nn_{owner}_{}", window.name), window.stride, members);
        member(&window.name, window.start, Type::Array(Box::new(pane), 2))
    };
    program.windows_of(table).map(pane).collect()
}

/// The map of a further table.
#[must_use]
pub fn side_name(table: &SideTable) -> String {
    format!("{SIDE_FLOWS}{}", table.name)
}

/// The key of a further table.
fn side_key(table: &SideTable) -> Type {
    let mut end = 0;
    let mut members = Vec::new();
    for part in table.key.iter() {
        let ty = match part {
            KeyPart::Src | KeyPart::Dst => host(),
            KeyPart::SrcPort | KeyPart::DstPort => Type::Unsigned(2),
            KeyPart::Proto => Type::Unsigned(1),
        };
        let name = match part {
            KeyPart::Src => "src",
            KeyPart::Dst => "dst",
            KeyPart::SrcPort => "src_port",
            KeyPart::DstPort => "dst_port",
            KeyPart::Proto => "proto",
        };
        members.push(member(name, table.key.packed_offset(part), ty));
        end = table.key.packed_offset(part) + part.bytes();
    }
    let size = table.key.packed_size();
    if end < size {
        members.push(member("reserved", end, Type::Array(Box::new(Type::Unsigned(1)), size - end)));
    }
    structure(&format!("nn_{}_key", table.name), size, members)
}

/// The record of a further table.
fn side_record(program: &FlowProgram, id: TableId, table: &SideTable) -> Type {
    let mut members = slots(program, Place { table: Some(id), window: None }, 0);
    members.extend(panes(program, Some(id)));
    structure(&format!("nn_{}_record", table.name), table.size, members)
}

fn counters() -> Type {
    let members = Counter::all()
        .map(|counter| member(counter.name(), counter.index() * 8, Type::Unsigned(8)))
        .collect();
    structure("nn_counters", Counter::COUNT * 8, members)
}

/// Offsets in an event, which tells a verdict on one flow; ends are in forward orientation.
pub mod event {
    /// When the verdict was given.
    pub const TIME: i16 = 0;
    /// Generation of the parameters that gave it.
    pub const GENERATION: i16 = 8;
    /// Time of the flow's first packet.
    pub const FIRST: i16 = 16;
    pub const PACKETS: i16 = 24;
    pub const SRC: i16 = 32;
    pub const DST: i16 = 48;
    pub const SPORT: i16 = 64;
    pub const DPORT: i16 = 66;
    pub const PROTO: i16 = 68;
    /// [`crate::ir::flow::Trigger`] as a number.
    pub const TRIGGER: i16 = 69;
    /// Bits of [`super::super::shared::acts`].
    pub const ACTS: i16 = 70;
    pub const LABEL: i16 = 72;
    pub const RULES: i16 = 76;
    /// One i64 per output follows.
    pub const OUTPUTS: i16 = 80;

    /// One raw feature each, i64, behind the outputs.
    #[must_use]
    pub fn features(outputs: usize) -> i16 {
        let bytes = i16::try_from(outputs.saturating_mul(8)).unwrap_or(i16::MAX);
        OUTPUTS.saturating_add(bytes)
    }
}

/// The structure of an event.
#[must_use]
pub fn event_type(outputs: usize, features: usize) -> Type {
    use event::{
        ACTS, DPORT, DST, FIRST, GENERATION, LABEL, OUTPUTS, PACKETS, PROTO, RULES, SPORT, SRC, TIME, TRIGGER,
    };
    let at = |offset: i16| u32::from(offset.cast_unsigned());
    let words = |count: usize| u32::try_from(count).unwrap_or(u32::MAX / 32);
    let array = |count: usize| Type::Array(Box::new(Type::Signed(8)), words(count));
    structure(
        "nn_event",
        at(OUTPUTS) + (words(outputs) + words(features)) * 8,
        vec![
            member("time_ns", at(TIME), Type::Unsigned(8)),
            member("generation", at(GENERATION), Type::Unsigned(8)),
            member("first_ns", at(FIRST), Type::Unsigned(8)),
            member("packets", at(PACKETS), Type::Unsigned(8)),
            member("src", at(SRC), host()),
            member("dst", at(DST), host()),
            member("sport", at(SPORT), Type::Unsigned(2)),
            member("dport", at(DPORT), Type::Unsigned(2)),
            member("proto", at(PROTO), Type::Unsigned(1)),
            member("trigger", at(TRIGGER), Type::Unsigned(1)),
            member("acts", at(ACTS), Type::Unsigned(2)),
            member("label", at(LABEL), Type::Unsigned(4)),
            member("rules", at(RULES), Type::Unsigned(4)),
            member("outputs", at(OUTPUTS), array(outputs)),
            member("features", at(OUTPUTS) + words(outputs) * 8, array(features)),
        ],
    )
}

/// The maps of the packet path.
pub(super) fn maps(program: &FlowProgram) -> Vec<Map> {
    let map = |name: &str, kind, key, value, max_entries, flags| Map {
        name: name.to_owned(),
        kind,
        key,
        value,
        max_entries,
        flags,
        programs: Vec::new(),
    };
    let prefix =
        structure("nn_prefix", 20, vec![member("bits", 0, Type::Unsigned(4)), member("host", 4, host())]);
    let mut maps = Vec::new();
    match program.scope {
        Scope::Flow => {
            let record = record(program);
            maps.push(map(FLOWS, MapKind::LruHash, Some(key(program)), Some(record), program.capacity, 0));
        }
        Scope::Packet => {}
    }
    maps.extend([
        map(BLOCKED, MapKind::LruHash, Some(host()), Some(Type::Unsigned(8)), BLOCKED_HOSTS, 0),
        map(ALLOWED, MapKind::LpmTrie, Some(prefix), Some(Type::Unsigned(4)), ALLOWED_PREFIXES, NO_PREALLOC),
        map(COUNTERS, MapKind::PerCpuArray, Some(Type::Unsigned(4)), Some(counters()), 1, 0),
        map(EVENTS, MapKind::RingBuf, None, None, EVENT_BYTES, 0),
        map(FUSE_SEEN, MapKind::PerCpuArray, Some(Type::Unsigned(4)), Some(seen_type()), 1, 0),
    ]);
    maps.extend(program.side_tables().map(|(id, table)| {
        let (key, record) = (side_key(table), side_record(program, id, table));
        map(&side_name(table), MapKind::LruHash, Some(key), Some(record), table.capacity, 0)
    }));
    maps
}

/// The data sections of the packet path.
pub(super) fn data(program: &FlowProgram, precision: Precision, clock: Clock) -> Vec<Data> {
    let config = structure(
        "nn_config",
        16,
        vec![
            member("mode", CONFIG_MODE, Type::Unsigned(4)),
            member("reserved", 4, Type::Unsigned(4)),
            member("epoch", CONFIG_EPOCH, Type::Unsigned(8)),
        ],
    );
    let section = |section: &str, variable: &str, ty: Type| Data {
        section: section.to_owned(),
        variable: variable.to_owned(),
        bytes: vec![0; ty.size() as usize],
        ty,
        writable: true,
    };
    let mut data = vec![
        section(CONFIG, "nn_config", config),
        section(FILTER, "nn_filter", filter_type()),
        section(FUSE, "nn_fuse", fuse_type()),
    ];
    let samples = u32::try_from(program.samples().count()).unwrap_or(0);
    if samples > 0 {
        let counts = Type::Array(Box::new(Type::Unsigned(8)), samples);
        let ty = structure("nn_samples", samples * 8, vec![member("acted", 0, counts)]);
        data.push(section(SAMPLES, "nn_samples", ty));
    }
    match precision {
        Precision::Exact => {}
        Precision::Coarse => {
            let times = Type::Array(Box::new(Type::Unsigned(8)), 2);
            let members = vec![member("tick", 0, Type::Unsigned(8)), member("ns", TICK_TIMES, times)];
            data.push(section(TICK, "nn_tick", structure("nn_tick", 24, members)));
        }
    }
    match clock {
        Clock::Kernel => {}
        Clock::Replay => data.push(section(CLOCK, "nn_clock", Type::Unsigned(8))),
    }
    data
}
