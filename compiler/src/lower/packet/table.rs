//! The flow table: look up, ask the lists, retire what is over, create what is missing, then update.
//! Steps 2 to 6 of [`crate::ir::flow`].

use super::maps::FLOWS;
use super::parse::Packet;
use super::path::{Exit, Path, address, copy_words, single_value};
use super::shared::Shared;
use crate::bpf::module::{Function, Parameter};
use crate::bpf::{AluOp, AtomicOp, Cond, Helper, Label, Size};
use crate::ir::flow::record::{KEY_SIZE, Layout, answer, flag};
use crate::ir::flow::side::TableId;
use crate::ir::flow::{Counter, FlowProgram, RETIRE_TRIES, Trigger};
use crate::ir::packet::{Reason, tcp_flags};
use crate::lower::LowerError;
use crate::lower::builder::Builder;
use crate::lower::code::{FrameLimit, VReg};
use crate::lower::scratch;
use crate::spec::typed::{Directions, Field, Nanos};

/// `BPF_ANY` in `include/uapi/linux/bpf.h`.
const ANY: i32 = 0;
/// `BPF_NOEXIST` in `include/uapi/linux/bpf.h`.
const NO_EXIST: i32 = 1;

/// Byte offsets in the record's header, as instructions take them.
pub(super) const PACKETS: i16 = Layout::PACKETS as i16;
pub(super) const LISTS: i16 = Layout::FORWARD_LISTS as i16;
pub(super) const LISTED: i32 = answer::LISTED as i32;
pub(super) const EXEMPT: i32 = answer::EXEMPT as i32;
pub(super) const ANSWER_BITS: i32 = answer::BITS as i32;

pub(super) const CLOSED: i32 = flag::CLOSED as i32;
pub(super) const RETIRED: i32 = flag::RETIRED as i32;

/// Registers that the steps share.
#[derive(Clone, Copy)]
pub(super) struct Flow {
    pub(super) sender_is_b: VReg,
    /// The packet's time, where every packet needs it; otherwise [`Path::now`] reads the clock.
    pub(super) now: Option<VReg>,
    /// The record of the packet's flow; while a window is updated, the copy of its newest pane.
    pub(super) record: VReg,
    /// The record with the times of the filters' previous packets.
    pub(super) whole: VReg,
    /// Its flags when it was found.
    pub(super) flags: VReg,
    /// 1 when the packet goes backwards.
    pub(super) backward: VReg,
    /// What the lists said, and the word that a record keeps of it.
    pub(super) until: VReg,
    pub(super) exempt: VReg,
    pub(super) answer: VReg,
    /// The packet's number in its flow, from 1.
    pub(super) ordinal: VReg,
    /// Why a verdict on the packet's own record is due.
    pub(super) trigger: VReg,
    /// How to put a new record in.
    update_mode: VReg,
    /// Enter here with `record` to have flags and direction read, and to update.
    join: Label,
    /// Enter here to put a new record in place of one that this processor has retired.
    replace: Label,
    /// Enter here to create the record.
    create: Label,
    /// Enter here when another processor is replacing the record.
    wait: Label,
    /// Enter here without a record.
    absent: Label,
}

impl Flow {
    pub(super) fn new(b: &mut Builder, sender_is_b: VReg, now: Option<VReg>) -> Self {
        let record = b.fresh();
        Self {
            sender_is_b,
            now,
            record,
            whole: record,
            flags: b.fresh(),
            backward: b.fresh(),
            until: b.fresh(),
            exempt: b.fresh(),
            answer: b.fresh(),
            ordinal: b.fresh(),
            trigger: b.fresh(),
            update_mode: b.fresh(),
            join: b.label(),
            replace: b.label(),
            create: b.label(),
            wait: b.label(),
            absent: b.label(),
        }
    }
}

impl Path<'_> {
    /// Everything from the parsed packet to its end.
    pub(super) fn follow(&mut self, packet: &Packet) {
        let flow_line = self.program.span.clone();
        self.origin(&flow_line);
        self.count(Counter::Packet(Reason::Parsed));
        let now = self.program.times_packets().then(|| self.clock());
        let flow = Flow::new(&mut self.b, packet.sender_is_b, now);
        let update = self.b.label();
        self.find(&flow, flow.absent);
        self.load_flags(&flow);
        self.b.jump(Cond::Set, flow.flags, RETIRED, flow.wait);
        self.direction(&flow);
        let (asked, differs) = (self.b.label(), self.b.label());
        let lists = match self.program.record.forward_lists {
            Some(_) => Some(self.answered(&flow, differs)),
            None => {
                self.ask_always(&flow);
                None
            }
        };
        self.b.bind(asked);
        let expired = self.b.label();
        self.idle(&flow, expired);
        let closed = self.b.label();
        self.b.jump(Cond::Set, flow.flags, CLOSED, closed);

        self.b.bind(update);
        self.update(&flow);
        self.end_and_trigger(&flow);

        self.origin(&flow_line);
        if let Some(lists) = lists {
            self.ask_again(&flow, lists, differs, asked);
        }
        self.closed(&flow, closed);
        self.expired(&flow, expired);
        self.replace(&flow);
        self.absent(&flow);
        self.create(&flow);
        self.b.bind(flow.join);
        self.load_flags(&flow);
        self.direction(&flow);
        self.b.goto(update);
        self.wait(&flow);
    }

    /// Looks the record up.
    pub(super) fn find(&mut self, flow: &Flow, missing: Label) {
        let table = self.b.map(FLOWS);
        let key = self.key();
        let record = self.b.call(Helper::MapLookup, &[table, key]);
        self.b.mov(flow.record, record);
        self.b.jump(Cond::Eq, flow.record, 0, missing);
    }

    /// Direction from the record's flags.
    pub(super) fn direction(&mut self, flow: &Flow) {
        match self.program.directions {
            Directions::One => self.b.mov(flow.backward, 0),
            Directions::Both => {
                self.b.mov(flow.backward, flow.flags);
                self.b.rsh(flow.backward, flag::FORWARD_IS_B.trailing_zeros().cast_signed());
                self.b.xor(flow.backward, flow.sender_is_b);
                self.b.and(flow.backward, 1);
            }
        }
        self.keep(Field::Direction, flow.backward);
    }

    pub(super) fn load_flags(&mut self, flow: &Flow) {
        let offset = self.flags_offset();
        self.b.load_to(flow.flags, Size::W, flow.record, offset);
    }

    /// Where the record's flags are.
    pub(super) fn flags_offset(&self) -> i16 {
        i16::try_from(self.program.record.flags).unwrap_or(i16::MAX)
    }

    /// The time of the packet.
    pub(super) fn now(&mut self, flow: &Flow) -> VReg {
        match flow.now {
            Some(now) => now,
            None => self.clock(),
        }
    }

    /// Leaves for `expired` when the flow was idle or active for too long.
    pub(super) fn idle(&mut self, flow: &Flow, expired: Label) {
        if let Some(idle) = self.program.idle {
            let last = self.last_time(flow.record);
            self.later(flow, last, idle, expired);
        }
        if let Some(active) = self.program.active {
            let first = self.first_time(flow.record);
            self.later(flow, first, active, expired);
        }
    }

    /// Leaves for `expired` when more than a time has passed since another one.
    fn later(&mut self, flow: &Flow, than: VReg, time: Nanos, expired: Label) {
        let on = self.b.label();
        let now = self.now(flow);
        // A record that is being created has no last time yet, and a clock may go backwards.
        self.b.jump(Cond::Gt, than, now, on);
        let gap = self.b.compute(AluOp::Sub, now, than);
        match i32::try_from(time.0) {
            Ok(limit) => self.b.jump(Cond::Gt, gap, limit, expired),
            Err(_) => {
                let limit = self.b.constant(time.0.cast_signed());
                self.b.jump(Cond::Gt, gap, limit, expired);
            }
        }
        self.b.bind(on);
    }

    /// The time of the flow's last packet, which the record keeps.
    pub(super) fn last_time(&mut self, record: VReg) -> VReg {
        self.time(record, self.program.record.last)
    }

    /// The time of the flow's first packet; 0 where the record does not keep it.
    pub(super) fn first_time(&mut self, record: VReg) -> VReg {
        self.time(record, self.program.record.first)
    }

    fn time(&mut self, record: VReg, kept: Option<u32>) -> VReg {
        match kept {
            Some(offset) => self.b.load(Size::DW, record, i16::try_from(offset).unwrap_or(i16::MAX)),
            None => self.b.constant(0),
        }
    }

    /// Puts a new record in place of one that is over. It keeps what that one knows of the lists; its forward
    /// direction is the packet's.
    fn replace(&mut self, flow: &Flow) {
        self.b.bind(flow.replace);
        if self.program.record.forward_lists.is_some() {
            let cache = self.lists_of(flow, flow.backward);
            self.b.load_to(flow.answer, Size::DW, cache, LISTS);
        }
        self.b.mov(flow.update_mode, ANY);
        self.b.goto(flow.create);
    }

    /// A packet of a closed record.
    fn closed(&mut self, flow: &Flow, entry: Label) {
        self.b.bind(entry);
        let stray = self.exit(Exit::Count(Counter::Stray));
        if !self.program.transports.tcp {
            self.b.goto(stray);
            return;
        }
        let flags = self.field(Field::TcpFlags);
        self.b.and(flags, i32::from(tcp_flags::SYN | tcp_flags::ACK));
        self.b.jump(Cond::Ne, flags, i32::from(tcp_flags::SYN), stray);
        let old = self.retire(flow);
        self.b.jump(Cond::Set, old, RETIRED, flow.wait);
        self.b.goto(flow.replace);
    }

    /// A packet after the idle time.
    fn expired(&mut self, flow: &Flow, entry: Label) {
        self.b.bind(entry);
        if self.program.idle.is_none() && self.program.active.is_none() {
            return;
        }
        let old = self.retire(flow);
        self.b.jump(Cond::Set, old, RETIRED, flow.wait);
        if self.program.triggers.end {
            self.b.jump(Cond::Set, old, CLOSED, flow.replace);
            self.judge(flow, Trigger::Idle);
        }
        self.b.goto(flow.replace);
    }

    /// Marks the record as being replaced; gives its flags before.
    pub(super) fn retire(&mut self, flow: &Flow) -> VReg {
        let bits = self.b.constant(i64::from(RETIRED));
        self.b.atomic(Size::W, AtomicOp::FetchOr, flow.record, self.flags_offset(), bits);
        bits
    }

    /// A packet without a record.
    fn absent(&mut self, flow: &Flow) {
        self.b.bind(flow.absent);
        let kept = self.program.record.forward_lists.is_some();
        if kept {
            self.clear_answer(flow.answer);
        }
        self.ask_for(flow);
        if kept {
            self.answer(flow);
        }
        let on = self.b.label();
        self.blocked(flow, on);
        self.b.bind(on);
        self.b.mov(flow.update_mode, NO_EXIST);
        // Falls through to creation.
    }

    /// Puts a new record in and looks it up.
    fn create(&mut self, flow: &Flow) {
        self.b.bind(flow.create);
        let scratch = self.scratch_value();
        let image = address(&mut self.b, scratch, self.shared.image);
        self.write_image(flow, image);
        let table = self.b.map(FLOWS);
        let key = self.key();
        let result = self.b.call(Helper::MapUpdate, &[table, key, image, flow.update_mode]);
        let lost = self.b.label();
        self.b.jump(Cond::Ne, result, 0, lost);
        self.count(Counter::Created);
        self.b.bind(lost);
        let none = self.exit(Exit::Count(Counter::NoRecord));
        self.find(flow, none);
        // Falls through to the join.
    }

    fn write_image(&mut self, flow: &Flow, image: VReg) {
        let layout = self.program.record;
        let lists = [layout.forward_lists, layout.backward_lists].into_iter().flatten();
        let judged = self.program.judged().map(|slot| self.program.slot(slot).offset);
        let written: Vec<u32> = lists.chain(layout.first).chain(judged).collect();
        for offset in (0..layout.size).step_by(8).filter(|offset| !written.contains(offset)) {
            self.write_initial(None, image, 0, offset);
        }
        if layout.forward_lists.is_some() {
            self.b.store(Size::DW, image, LISTS, flow.answer);
        }
        if let Some(backward) = layout.backward_lists {
            // The lists were asked before they last changed, and said that nobody is on them.
            let before = self.b.compute(AluOp::Sub, flow.answer, 1 << ANSWER_BITS);
            self.b.and(before, !(LISTED | EXEMPT));
            let at = i16::try_from(backward).unwrap_or(i16::MAX);
            self.b.store(Size::DW, image, at, before);
        }
        let flags =
            self.b.compute(AluOp::Lsh, flow.sender_is_b, flag::FORWARD_IS_B.trailing_zeros().cast_signed());
        self.b.store(Size::W, image, self.flags_offset(), flags);
        if let Some(first) = layout.first {
            let now = self.now(flow);
            self.b.store(Size::DW, image, i16::try_from(first).unwrap_or(i16::MAX), now);
        }
        if let Some(judged) = judged {
            let now = self.now(flow);
            self.b.store(Size::DW, image, i16::try_from(judged).unwrap_or(i16::MAX), now);
        }
    }

    /// Eight bytes of slots as a new record of a table has them, at `offset` of the record that starts at `at`.
    pub(super) fn write_initial(&mut self, table: Option<TableId>, image: VReg, at: i16, offset: u32) {
        let mut word = [0_u8; 8];
        let program = self.program;
        for (_, slot) in program.slots_of(table) {
            let initial = slot.initial().to_le_bytes();
            let window = slot.place.window.and_then(|window| program.windows.get(window.0 as usize));
            let copies = [Some(slot.offset), window.map(|window| slot.offset + window.stride)];
            for start in copies.into_iter().flatten() {
                let bytes = initial.iter().take(slot.width.bytes().min(8) as usize);
                for (at, byte) in (start..).zip(bytes) {
                    if let Some(place) = at.checked_sub(offset).and_then(|index| word.get_mut(index as usize))
                    {
                        *place = *byte;
                    }
                }
            }
        }
        let at = at.saturating_add(i16::try_from(offset).unwrap_or(i16::MAX));
        let value = i64::from_le_bytes(word);
        match i32::try_from(value) {
            Ok(small) => self.b.store(Size::DW, image, at, small),
            Err(_) => {
                let value = self.b.constant(value);
                self.b.store(Size::DW, image, at, value);
            }
        }
    }

    /// Another processor is replacing the record: looks again until it has.
    fn wait(&mut self, flow: &Flow) {
        self.b.bind(flow.wait);
        let contended = self.exit(Exit::Count(Counter::Contended));
        let scratch = self.scratch_value();
        let key = self.key();
        copy_words(&mut self.b, (key, 0), (scratch, self.shared.key), (KEY_SIZE / 8) as i16);
        let replaced = self.b.call_function(WAIT, &[self.context]);
        self.b.jump(Cond::Eq, replaced, 0, contended);
        self.find(flow, flow.absent);
        self.b.goto(flow.join);
    }
}

/// `nn_wait(ctx)`: looks the key in scratch up until its record is not being replaced, or gone, and gives 1; 0
/// after [`RETIRE_TRIES`]. A function of its own and without a loop, so that the verifier walks it once.
const WAIT: &str = "nn_wait";

pub(super) fn waiting(program: &FlowProgram, shared: &Shared) -> Result<Function, LowerError> {
    let flags_offset = i16::try_from(program.record.flags).unwrap_or(i16::MAX);
    let mut b = Builder::new(WAIT, ".text", &[Parameter::Context]);
    let zero = b.stack_slot(8);
    let (failed, replaced) = (b.label(), b.label());
    let scratch = single_value(&mut b, scratch::MAP, zero, failed);
    for _ in 0..RETIRE_TRIES {
        let table = b.map(FLOWS);
        let key = address(&mut b, scratch, shared.key);
        let record = b.call(Helper::MapLookup, &[table, key]);
        b.jump(Cond::Eq, record, 0, replaced);
        let flags = b.load(Size::W, record, flags_offset);
        b.and(flags, RETIRED);
        b.jump(Cond::Eq, flags, 0, replaced);
    }
    b.goto(failed);
    b.bind(replaced);
    b.ret(1);
    b.bind(failed);
    b.ret(0);
    b.finish(FrameLimit::Share(super::frame::LISTS))
}
