//! Records of further tables, as [`crate::ir::flow::side`] says: each table has a function that collects a packet
//! and one that lays the record before a verdict. So the verifier walks them once, whatever led to them.

use super::maps::side_name;
use super::path::{Build, Path, address, copy_words};
use super::table::Flow;
use crate::bpf::module::Function;
use crate::bpf::{AluOp, AtomicOp, Cond, Helper, Size};
use crate::ir::flow::key::KeyPart;
use crate::ir::flow::record::KEY_SIZE;
use crate::ir::flow::side::{Place, SideTable, TableId};
use crate::ir::flow::{Counter, FlowProgram};
use crate::lower::LowerError;
use crate::lower::code::{FrameLimit, VReg};

/// `BPF_NOEXIST` in `include/uapi/linux/bpf.h`.
const NO_EXIST: i64 = 1;

const PACKETS: i16 = SideTable::PACKETS as i16;
const LAST: i16 = SideTable::LAST as i16;

/// `nn_collect_NAME(ctx)`: adds the packet in the scratch value to its record. Gives 0.
fn collect_name(table: &SideTable) -> String {
    format!("nn_collect_{}", table.name)
}

/// `nn_read_NAME(ctx)`: lays the record of the judged flow's forward packets into the scratch value, windows joined,
/// or an empty one. Gives 0.
fn read_name(table: &SideTable) -> String {
    format!("nn_read_{}", table.name)
}

impl Path<'_> {
    /// Adds the packet to the records of further tables.
    pub(super) fn sides(&mut self, flow: &Flow) {
        let program = self.program;
        if program.tables.is_empty() {
            return;
        }
        let scratch = self.scratch_value();
        self.share_packet(flow, scratch);
        for (index, field) in super::path::side_fields(program).into_iter().enumerate() {
            let value = self.field(field);
            let at = i16::try_from(index * 8).unwrap_or(i16::MAX);
            self.b.store(Size::DW, scratch, self.shared.fields.saturating_add(at), value);
        }
        for table in &program.tables {
            self.origin(&table.span);
            self.b.call_function(&collect_name(table), &[self.context]);
        }
    }

    /// Lays windows and further tables into the scratch value, as a verdict sees them.
    pub(super) fn see(&mut self, flow: &Flow, scratch: VReg) {
        let program = self.program;
        // Where there are windows, every packet has its time.
        if let Some(now) = flow.now {
            self.join(None, flow.record, now, (scratch, self.shared.image));
        }
        if program.tables.is_empty() {
            return;
        }
        self.share_packet(flow, scratch);
        for table in &program.tables {
            self.origin(&table.span);
            self.b.call_function(&read_name(table), &[self.context]);
        }
    }

    /// Writes the key to the frame: of the packet, or with `forward` of the judged flow's forward packets.
    fn side_key(&mut self, scratch: VReg, table: &SideTable, forward: bool) {
        let key = self.frame.key;
        for word in (0..KEY_SIZE as i16).step_by(8) {
            self.b.stack_store(Size::DW, key, word, 0);
        }
        // All ones where the packet is a backward one. The hosts in the scratch value are the packet's, the ports
        // are those of the forward sender and its receiver.
        let backward = self.b.load(Size::DW, scratch, self.shared.backward);
        self.b.neg(backward);
        let choose = |path: &mut Self, swap: bool, own: VReg, other: VReg| {
            // own ^ ((own ^ other) & backward)
            if swap {
                path.b.xor(other, own);
                path.b.and(other, backward);
                path.b.xor(own, other);
            }
        };
        for part in table.key.iter() {
            let at = i16::try_from(table.key.packed_offset(part)).unwrap_or(i16::MAX);
            let (src, dst) = (self.shared.src, self.shared.dst);
            let ends = match part {
                KeyPart::Src => (src, dst),
                KeyPart::Dst => (dst, src),
                KeyPart::SrcPort | KeyPart::DstPort | KeyPart::Proto => {
                    let ports = self.b.load(Size::DW, scratch, self.shared.ports);
                    let own = self.b.copy(ports);
                    match part {
                        KeyPart::Proto => {
                            self.b.rsh(own, 32);
                            self.b.stack_store(Size::B, key, at, own);
                            continue;
                        }
                        KeyPart::DstPort => self.b.rsh(own, 16),
                        KeyPart::Src | KeyPart::Dst | KeyPart::SrcPort => self.b.rsh(ports, 16),
                    }
                    choose(self, !forward, own, ports);
                    self.b.stack_store(Size::H, key, at, own);
                    continue;
                }
            };
            for half in [0, 8] {
                let own = self.b.load(Size::DW, scratch, ends.0 + half);
                let other = self.b.load(Size::DW, scratch, ends.1 + half);
                choose(self, forward, own, other);
                self.b.stack_store(Size::DW, key, at + half, own);
            }
        }
    }

    /// Looks the record up into a register; 0 where there is none.
    fn side_find(&mut self, table: &SideTable, record: VReg) {
        let map = self.b.map(&side_name(table));
        let key = self.key();
        let found = self.b.call(Helper::MapLookup, &[map, key]);
        self.b.mov(record, found);
    }

    /// A record before its first packet.
    fn side_initial(&mut self, id: TableId, table: &SideTable, to: (VReg, i16)) {
        for offset in (0..table.size).step_by(8) {
            self.write_initial(Some(id), to.0, to.1, offset);
        }
    }

    /// The packet's record, found or made; leaves where there is none.
    fn side_record(&mut self, scratch: VReg, id: TableId, table: &SideTable, record: VReg) {
        let found = self.b.label();
        self.side_find(table, record);
        self.b.jump(Cond::Ne, record, 0, found);
        let at = self.shared.side(self.program, id);
        self.side_initial(id, table, (scratch, at));
        let image = address(&mut self.b, scratch, at);
        let map = self.b.map(&side_name(table));
        let (key, flags) = (self.key(), self.b.constant(NO_EXIST));
        self.b.call(Helper::MapUpdate, &[map, key, image, flags]);
        self.side_find(table, record);
        let none = self.exit(super::path::Exit::Count(Counter::NoRecord));
        self.b.jump(Cond::Eq, record, 0, none);
        self.b.bind(found);
    }

    /// Takes the time of the record's previous packet; empties the record where that was too long ago.
    fn side_previous(&mut self, flow: &Flow, id: TableId, table: &SideTable) -> VReg {
        let now = self.now(flow);
        let previous = self.b.copy(now);
        self.b.atomic(Size::DW, AtomicOp::Xchg, flow.record, LAST, previous);
        let Some(idle) = table.idle else { return previous };
        let on = self.b.label();
        // A new record has no last time yet, and a clock may go backwards.
        self.b.jump(Cond::Gt, previous, now, on);
        let gap = self.b.compute(AluOp::Sub, now, previous);
        let limit = self.b.constant(idle.0.cast_signed());
        self.b.jump(Cond::Le, gap, limit, on);
        for offset in (0..table.size).step_by(8).filter(|offset| *offset != SideTable::LAST) {
            self.write_initial(Some(id), flow.record, 0, offset);
        }
        self.b.mov(previous, self.unknown);
        self.b.sub(previous, 1);
        self.b.bind(on);
        previous
    }
}

fn table_of(program: &FlowProgram, id: TableId) -> Result<&SideTable, LowerError> {
    program.tables.get(id.0 as usize).ok_or(LowerError::TooLarge {
        what: "the number of a table".to_owned(),
        value: u64::from(id.0),
        limit: program.tables.len() as u64,
    })
}

/// The function that collects a packet.
pub(super) fn collect(build: Build<'_>, id: TableId) -> Result<Function, LowerError> {
    let program = build.0;
    let table = table_of(program, id)?;
    let (mut path, scratch) = Path::function(&collect_name(table), build);
    path.origin(&table.span);
    path.side_key(scratch, table, false);
    let now = path.b.load(Size::DW, scratch, path.shared.now);
    let sender = path.unknown;
    let flow = Flow::new(&mut path.b, sender, Some(now));
    path.b.load_to(flow.backward, Size::DW, scratch, path.shared.backward);
    path.side_record(scratch, id, table, flow.record);
    let previous = path.side_previous(&flow, id, table);
    let (full, done) = (path.b.label(), path.b.label());
    let before = path.b.constant(1);
    path.b.atomic(Size::DW, AtomicOp::FetchAdd, flow.record, PACKETS, before);
    let limit = path.b.constant(program.sample_limit.cast_signed());
    path.b.jump(Cond::Ge, before, limit, full);
    path.groups(&flow, Place { table: Some(id), window: None }, Some(previous));
    path.b.goto(done);
    path.b.bind(full);
    path.count(Counter::Saturated);
    path.b.bind(done);
    path.windows(&flow, Some(id), Some(previous));
    let out = path.exit(super::path::Exit::Pass);
    path.b.goto(out);
    path.exits();
    path.finish(FrameLimit::Share(super::frame::SIDE))
}

/// The function that lays a record before a verdict.
pub(super) fn read(build: Build<'_>, id: TableId) -> Result<Function, LowerError> {
    let program = build.0;
    let table = table_of(program, id)?;
    let (mut path, scratch) = Path::function(&read_name(table), build);
    path.origin(&table.span);
    path.side_key(scratch, table, true);
    let record = path.b.fresh();
    path.side_find(table, record);
    let missing = path.b.label();
    path.b.jump(Cond::Eq, record, 0, missing);
    let at = path.shared.side(program, id);
    // All but the windows, whose panes are joined.
    let plain = program.windows_of(Some(id)).map(|(_, window)| window.start).min().unwrap_or(table.size);
    copy_words(&mut path.b, (record, 0), (scratch, at), i16::try_from(plain / 8).unwrap_or(i16::MAX));
    let now = path.b.load(Size::DW, scratch, path.shared.now);
    path.join(Some(id), record, now, (scratch, at));
    let out = path.exit(super::path::Exit::Pass);
    path.b.goto(out);
    path.b.bind(missing);
    path.side_initial(id, table, (scratch, at));
    path.b.goto(out);
    path.exits();
    path.finish(FrameLimit::Share(super::frame::SIDE))
}
