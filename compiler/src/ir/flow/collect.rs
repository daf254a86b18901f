//! Step 7 for the interpreter: the groups of a record, its windows, the records of further tables; and what a
//! verdict sees of all of them. The rules are those of [`super::side`].

use super::eval::Content;
use super::interpret::{Arrived, apply, passes};
use super::key::KeyParts;
use super::record::{Key, NONE_64};
use super::side::{Place, TableId, Window, WindowId, turn, valid};
use super::table::{Record, Table, low};
use super::{FlowProgram, SlotId};

/// The groups of a place.
pub(super) fn groups(program: &FlowProgram, place: Place, record: &mut Record, arrived: &Arrived<'_>) {
    for group in program.groups.iter().filter(|group| group.place == place) {
        if passes(&group.guard, arrived.packet, arrived.direction) {
            apply(program, group, record, arrived);
        }
    }
}

/// The windows of a record; gives how many of them have enough packets in their newest pane.
pub(super) fn windows(
    program: &FlowProgram,
    table: Option<TableId>,
    record: &mut Record,
    arrived: &Arrived<'_>,
) -> u64 {
    let mut saturated = 0;
    for (id, window) in program.windows_of(table) {
        turn_to(program, id, window, record, arrived.now / window.pane_nanos());
        if one_more(record, window.packets) > program.sample_limit / 2 {
            saturated += 1;
        } else {
            groups(program, window.place(id), record, arrived);
        }
    }
    saturated
}

/// Counts a packet; gives its ordinal.
fn one_more(record: &mut Record, packets: SlotId) -> u64 {
    let ordinal = low(record.get(packets)) + 1;
    record.exchange(packets, u128::from(ordinal));
    ordinal
}

/// Makes this pane the newest, unless a newer one has been seen.
fn turn_to(program: &FlowProgram, id: WindowId, window: &Window, record: &mut Record, pane: u64) {
    let Some(keep) = turn(low(record.get(window.pane)), pane) else { return };
    record.exchange(window.pane, u128::from(pane));
    for (slot, content) in program.slots_of(window.table).filter(|(_, slot)| slot.place.window == Some(id)) {
        record.turn(slot, u128::from(content.initial()), keep);
    }
}

/// The records of further tables that the packet belongs to; gives how often one was saturated.
pub(super) fn sides(program: &FlowProgram, tables: &mut [Table], arrived: &Arrived<'_>) -> u64 {
    let mut saturated = 0;
    let packet = arrived.packet;
    let ends = ((packet.src, packet.src_port), (packet.dst, packet.dst_port));
    for ((id, side), table) in program.side_tables().zip(tables) {
        let key = Key::narrowed(side.key, ends, packet.proto);
        let mut record = table.take(&key).unwrap_or_else(|| Record::side(program));
        let mut previous = low(record.exchange(side.last, u128::from(arrived.now)));
        let gap = arrived.now.checked_sub(previous);
        if side.idle.is_some_and(|idle| gap.is_some_and(|gap| gap > idle.0)) {
            record = Record::side(program);
            record.exchange(side.last, u128::from(arrived.now));
            previous = NONE_64;
        }
        let arrived = Arrived { previous, ..*arrived };
        if one_more(&mut record, side.packets) > program.sample_limit {
            saturated += 1;
        } else {
            groups(program, Place { table: Some(id), window: None }, &mut record, &arrived);
        }
        saturated += windows(program, Some(id), &mut record, &arrived);
        table.put(key, record);
    }
    saturated
}

/// What a verdict at this time sees in all slots: those of windows joined, those of further tables from the
/// records with these keys, empty where there is none.
pub(super) fn seen(
    program: &FlowProgram,
    record: &Record,
    sides: &[Table],
    key: &dyn Fn(KeyParts) -> Key,
    now: u64,
) -> Vec<Content> {
    let records: Vec<Option<&Record>> =
        program.tables.iter().zip(sides).map(|(side, table)| table.peek(&key(side.key))).collect();
    let content = |(id, slot): (SlotId, &super::Slot)| {
        let empty = u128::from(slot.initial());
        let record = match slot.place.table {
            None => Some(record),
            Some(table) => records.get(table.0 as usize).copied().flatten(),
        };
        let Some(record) = record else { return Content(empty) };
        let window = slot.place.window.and_then(|window| program.windows.get(window.0 as usize));
        let Some(window) = window else { return Content(record.get(id)) };
        let (newest, before) = valid(low(record.get(window.pane)), now / window.pane_nanos());
        let newest = if newest { record.get(id) } else { empty };
        let before = if before { record.get_before(id) } else { empty };
        Content(slot.join(newest, before, program.sample_limit))
    };
    (0..).map(SlotId).zip(&program.slots).map(content).collect()
}
