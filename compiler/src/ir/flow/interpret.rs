//! The reference interpreter of the packet path: one packet after the other, in the steps of [`super`].
//!
//! The network's verdict comes from the caller through [`Judge`], because its actions (blocking) change what
//! happens to later packets.

mod sweep;

pub use sweep::Swept;

use super::decision::Variable;
use std::borrow::Cow;

use super::collect;
use super::eval::{self, Content};
use super::guard::{EventFilter, FilterState, Fuse};
use super::lists::HostLists;
use super::record::{Key, NONE_64, Oriented, flag};
use super::side::Place;
use super::table::{FlowId, ListAnswer, Record, Table, low};
pub use super::verdict::{Acts, Fate, Judge, Judgement, Mode, NoJudge, PacketResult, Verdict};
use super::{Counter, FlowProgram, Group, Sample, SlotId, Trigger, Update, UpdateOp, distinct, ranges};
use crate::ir::packet::{self, Host, Parsed, Reason, tcp_flags};
use crate::spec::typed::{
    Action, Address, Direction, Directions, End, Filter, Nanos, Scope, TimeUnit, Triggers,
};

/// The packet path's state.
#[derive(Debug, Clone)]
pub struct FlowInterpreter<'p> {
    pub(super) program: &'p FlowProgram,
    mode: Mode,
    table: Table,
    /// Parallel to the program's further tables.
    sides: Vec<Table>,
    /// The time of the last packet, for the verdicts at the end of a capture.
    now: u64,
    pub(super) lists: HostLists,
    counters: Vec<u64>,
    created: u64,
    filter: (EventFilter, FilterState),
    fuse: Fuse,
    /// Packets that the fuse has heard of.
    fused: u64,
    /// How often each rule that samples has acted; parallel to the program's rules.
    sampled: Vec<u64>,
}

impl<'p> FlowInterpreter<'p> {
    /// An empty table and empty lists, in monitor mode.
    #[must_use]
    pub fn new(program: &'p FlowProgram) -> Self {
        Self::with(program, Mode::Monitor, HostLists::default())
    }

    /// An empty table.
    #[must_use]
    pub fn with(program: &'p FlowProgram, mode: Mode, lists: HostLists) -> Self {
        let table = Table::new(program.capacity);
        Self {
            program,
            mode,
            table,
            sides: program.tables.iter().map(|side| Table::new(side.capacity)).collect(),
            now: 0,
            lists,
            counters: vec![0; Counter::COUNT as usize],
            created: 0,
            filter: (EventFilter::default(), FilterState::default()),
            fuse: Fuse::default(),
            fused: 0,
            sampled: vec![0; program.rules.len()],
        }
    }

    /// The lists, for changes between packets.
    pub fn lists_mut(&mut self) -> &mut HostLists {
        &mut self.lists
    }

    /// Sets which events are sent, with fresh state.
    pub fn set_filter(&mut self, filter: EventFilter) {
        self.filter = (filter, FilterState::default());
    }

    /// What the filter remembers.
    #[must_use]
    pub fn filter_state(&self) -> FilterState {
        self.filter.1
    }

    /// Sets the fuse; its window starts here.
    pub fn set_fuse(&mut self, fuse: Fuse) {
        self.fuse = fuse;
        self.fused = self.counter(Counter::Packet(Reason::Parsed));
    }

    /// The fuse with its state.
    #[must_use]
    pub fn fuse(&self) -> &Fuse {
        &self.fuse
    }

    /// Whether verdicts and lists act: the fuse ends it.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Tells the fuse of a dropped packet.
    fn fuse_dropped(&mut self, now: u64) {
        let packets = self.counter(Counter::Packet(Reason::Parsed));
        if self.fuse.dropped(packets - self.fused, now) {
            self.mode = Mode::Monitor;
        }
        self.fused = packets;
    }

    /// The flow table.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The further tables, parallel to the program's.
    #[must_use]
    pub fn sides(&self) -> &[Table] {
        &self.sides
    }

    /// The value of a counter.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.get(counter.index() as usize).copied().unwrap_or(0)
    }

    pub(super) fn count(&mut self, counter: Counter) {
        if let Some(value) = self.counters.get_mut(counter.index() as usize) {
            *value += 1;
        }
    }

    /// Processes one frame that arrives at `now`, in nanoseconds below 2^63.
    pub fn packet(&mut self, frame: &[u8], now: u64, judge: &mut dyn Judge) -> PacketResult {
        self.now = now;
        let parsed = packet::parse(frame, self.program.transports);
        let reason = parsed.as_ref().err().copied().unwrap_or(Reason::Parsed);
        self.count(Counter::Packet(reason));
        let mut result = PacketResult {
            reason,
            packet: parsed.ok(),
            fate: Fate::Pass,
            retired: None,
            own: None,
            mark: None,
        };
        let Some(packet) = result.packet else { return result };
        let followed = match packet.proto {
            packet::TCP => self.program.transports.tcp,
            packet::UDP => self.program.transports.udp,
            // The parser lets through what is followed.
            _ => true,
        };
        if !followed {
            self.count(Counter::Unselected);
            return result;
        }
        match self.program.scope {
            Scope::Flow => self.follow(&packet, now, judge, &mut result),
            Scope::Packet => self.judge_packet(&packet, now, judge, &mut result),
        }
        result
    }

    /// Step 3 for a packet whose sender is blocked until a time: whether it ends here.
    pub(super) fn blocks(&mut self, until: u64, now: u64, result: &mut PacketResult) -> bool {
        if now >= until {
            return false;
        }
        if self.mode == Mode::Monitor {
            self.count(Counter::WouldBlock);
            return false;
        }
        self.count(Counter::Blocked);
        self.fuse_dropped(now);
        result.fate = Fate::Blocked;
        true
    }

    /// The verdict on the packet's own record, or on the packet: marks and drops it where it says so.
    pub(super) fn own(&mut self, verdict: Verdict, now: u64, result: &mut PacketResult) {
        if self.mode == Mode::Enforce {
            result.mark = verdict.acts.mark;
        }
        if verdict.acts.drop {
            if self.mode == Mode::Enforce {
                self.count(Counter::Dropped);
                self.fuse_dropped(now);
                result.fate = Fate::Dropped;
            } else {
                self.count(Counter::WouldDrop);
            }
        }
        result.own = Some(verdict);
    }

    /// Steps 2 to 10 for a packet of a transport that is followed.
    fn follow(&mut self, packet: &Parsed, now: u64, judge: &mut dyn Judge, result: &mut PacketResult) {
        let oriented = Oriented::of(packet, self.program.key, self.program.directions);
        let key = oriented.key;
        let mut known = self.table.take(&key);

        let answer = self.ask_lists(packet, oriented, known.as_mut());
        if self.blocks(answer.blocked_until, now, result) {
            if let Some(record) = known {
                self.table.put(key, record);
            }
            return;
        }

        if let Some(old) = known.take_if(|record| self.expired(record, now))
            && self.program.triggers.end
            && old.flags & flag::CLOSED == 0
        {
            result.retired = Some(self.judge(Trigger::Idle, (packet.src, packet.dst), key, &old, now, judge));
        }
        if known.as_ref().is_some_and(|record| record.flags & flag::CLOSED != 0) {
            if packet.tcp_flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN {
                known = None;
            } else {
                self.count(Counter::Stray);
                if let Some(record) = known {
                    self.table.put(key, record);
                }
                return;
            }
        }

        let mut record = known.unwrap_or_else(|| self.create(oriented, now, answer));
        let direction = oriented.direction(record.flags);
        let packet = &Parsed { backward: direction == Direction::Backward, ..*packet };
        let ordinal = self.update(&mut record, packet, direction, now);
        let closed_now = ends(self.program.end, self.program.directions, &mut record, packet, direction);
        let trigger = if closed_now && self.program.triggers.end {
            Some(Trigger::End)
        } else {
            due(self.program, &mut record, ordinal, now)
        };
        if let Some(trigger) = trigger {
            let verdict = self.judge(trigger, (packet.src, packet.dst), key, &record, now, judge);
            self.own(verdict, now, result);
        }
        self.table.put(key, record);
    }

    /// Step 3: the cached answer, or a new one that is cached.
    fn ask_lists(&self, packet: &Parsed, oriented: Oriented, known: Option<&mut Record>) -> ListAnswer {
        let epoch = self.lists.epoch();
        let ask = || ListAnswer {
            epoch,
            blocked_until: self.lists.blocked_until(packet.src, packet.dst),
            exempt: self.lists.exempt(packet.src, packet.dst),
        };
        // The answer is on two hosts, which not every key names.
        let Some(record) = known.filter(|_| self.program.key.pairs()) else { return ask() };
        let direction = oriented.direction(record.flags);
        let cached = record.lists(direction);
        if cached.epoch != epoch {
            *cached = ask();
        }
        *cached
    }

    /// Step 4: whether the record's idle time has passed, or its active time.
    fn expired(&self, record: &Record, now: u64) -> bool {
        let last = record.last_ns();
        let later = |than: u64, time: Nanos| now.checked_sub(than).is_some_and(|passed| passed > time.0);
        self.program.idle.is_some_and(|idle| later(last, idle))
            || self.program.active.is_some_and(|active| later(record.first_ns, active))
    }

    /// Step 6.
    fn create(&mut self, oriented: Oriented, now: u64, forward: ListAnswer) -> Record {
        self.count(Counter::Created);
        let id = FlowId(self.created);
        self.created += 1;
        Record::new(self.program, id, now, oriented.sender_is_b, forward)
    }

    /// Step 7; returns the packet's ordinal in its flow.
    fn update(&mut self, record: &mut Record, packet: &Parsed, direction: Direction, now: u64) -> u64 {
        let ordinal = record.packets() + 1;
        record.exchange(SlotId::PACKETS, u128::from(ordinal));
        let previous = low(record.exchange(SlotId::LAST_TIME, u128::from(now)));
        let arrived = Arrived { packet, direction, now, previous };
        if ordinal > self.program.sample_limit {
            record.flags |= flag::SATURATED;
            self.count(Counter::Saturated);
        } else {
            collect::groups(self.program, Place::FLOW, record, &arrived);
        }
        let mut saturated = collect::windows(self.program, None, record, &arrived);
        saturated += collect::sides(self.program, &mut self.sides, &arrived);
        for _ in 0..saturated {
            self.count(Counter::Saturated);
        }
        ordinal
    }

    /// Computes the features of a record, asks the judge, and acts (step 10) as far as the packet's own fate
    /// is not concerned. `ends` are the hosts one of which may be allowed.
    fn judge(
        &mut self,
        trigger: Trigger,
        ends: (Host, Host),
        key: Key,
        record: &Record,
        now: u64,
        judge: &mut dyn Judge,
    ) -> Verdict {
        let verdict = verdict(self.program, trigger, key, record, &self.sides, now);
        self.act(verdict, ends, now, judge)
    }

    /// Asks the judge about the features of a verdict, and acts. `ends` are those that lists are asked about.
    pub(super) fn act(
        &mut self,
        mut verdict: Verdict,
        ends: (Host, Host),
        now: u64,
        judge: &mut dyn Judge,
    ) -> Verdict {
        verdict.judgement = judge.judge(&verdict.features);
        self.count(Counter::Verdicts);
        let acts = self.acts(verdict.judgement.rules, now);
        verdict.acts = match (self.lists.exempt(ends.0, ends.1), verdict.trigger) {
            (true, _) => Acts { report: acts.report, ..Acts::default() },
            // The packet at hand belongs to the new record.
            (false, Trigger::Idle) => Acts { drop: false, mark: None, ..acts },
            (false, Trigger::End | Trigger::Every | Trigger::After | Trigger::Eof) => acts,
        };
        let acts = verdict.acts;
        if acts.report {
            let (filter, state) = &mut self.filter;
            let bits = acts.bits().cast_unsigned();
            verdict.reported = filter.passes(state, verdict.judgement.label, bits, now);
            if !verdict.reported {
                self.count(Counter::EventsSuppressed);
            }
        }
        let blocks = [(verdict.src, acts.block_until), (verdict.dst, acts.block_receiver_until)];
        for (host, until) in blocks {
            if let (Some(until), Mode::Enforce) = (until, self.mode) {
                self.lists.block(host, until);
                self.count(Counter::HostsBlocked);
            }
        }
        verdict
    }

    /// What the rules ask for whose conditions hold, up to one that lets pass.
    fn acts(&mut self, rules: u32, now: u64) -> Acts {
        let mut acts = Acts::default();
        let until = |time: Nanos| Some(now.saturating_add(time.0));
        for (index, (rule, sampled)) in self.program.rules.iter().zip(&mut self.sampled).enumerate() {
            let bit = u32::try_from(index).ok().and_then(|index| rules.checked_shr(index)).unwrap_or(0);
            if bit & 1 == 0 {
                continue;
            }
            for action in &rule.actions {
                match action {
                    Action::Report => acts.report = true,
                    Action::ReportOneIn(of) => {
                        acts.report |= sampled.is_multiple_of(u64::from(*of));
                        *sampled += 1;
                    }
                    Action::Drop => acts.drop = true,
                    Action::BlockSource(time) => acts.block_until = acts.block_until.max(until(*time)),
                    Action::BlockDestination(time) => {
                        acts.block_receiver_until = acts.block_receiver_until.max(until(*time));
                    }
                    Action::Mark(mark) => acts.mark = Some(*mark),
                    Action::Pass => {}
                }
            }
            if rule.actions.contains(&Action::Pass) {
                break;
            }
        }
        acts
    }

    /// Ends the capture: judges every flow that is not closed, in the order of their first packets. Actions
    /// are computed but nothing is blocked.
    pub fn finish(self, judge: &mut dyn Judge) -> Vec<Verdict> {
        self.table
            .by_creation()
            .into_iter()
            .filter(|(_, record)| record.flags & flag::CLOSED == 0)
            .map(|(key, record)| {
                let mut verdict = verdict(self.program, Trigger::Eof, key, record, &self.sides, self.now);
                verdict.judgement = judge.judge(&verdict.features);
                verdict
            })
            .collect()
    }
}

/// A verdict at a time, before it is judged.
fn verdict(
    program: &FlowProgram,
    trigger: Trigger,
    key: Key,
    record: &Record,
    sides: &[Table],
    now: u64,
) -> Verdict {
    let ends = key.ends(record.flags & flag::FORWARD_IS_B != 0);
    let ((src, src_port), (dst, dst_port)) = ends;
    let seen: Cow<'_, [Content]> = if program.tables.is_empty() && program.windows.is_empty() {
        Cow::Borrowed(&record.slots)
    } else {
        Cow::Owned(collect::seen(program, record, sides, &|parts| Key::narrowed(parts, ends, key.proto), now))
    };
    Verdict {
        trigger,
        flow: record.id,
        src,
        src_port,
        dst,
        dst_port,
        proto: key.proto,
        first_ns: record.first_ns,
        last_ns: record.last_ns(),
        packets: record.packets(),
        features: program
            .features
            .iter()
            .map(|f| eval::value(program, &seen, (record.first_ns, now), &f.value))
            .collect(),
        judgement: Judgement::default(),
        acts: Acts::default(),
        reported: false,
    }
}

/// Whether a packet passes a filter.
#[must_use]
pub fn passes(filter: &Filter, packet: &Parsed, direction: Direction) -> bool {
    filter.direction.is_none_or(|wanted| wanted == direction)
        && packet.tcp_flags & filter.flags_set == filter.flags_set
        && packet.tcp_flags & filter.flags_clear == 0
        && filter.rest.holds(|variable| match variable {
            Variable::Backward => u64::from(direction == Direction::Backward),
            Variable::Flag(bit) => u64::from(packet.tcp_flags & bit != 0),
            Variable::Field(field) => packet.field(field),
        })
}

/// A packet that reaches step 7.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived<'p> {
    pub(super) packet: &'p Parsed,
    pub(super) direction: Direction,
    pub(super) now: u64,
    /// Time of the record's previous packet.
    pub(super) previous: u64,
}

/// The updates of one group whose guard holds.
pub(super) fn apply(program: &FlowProgram, group: &Group, record: &mut Record, arrived: &Arrived<'_>) {
    let Arrived { packet, now, previous, .. } = *arrived;
    let since = match group.clock {
        None => NONE_64,
        Some(clock) if program.is_last_time(clock) => previous,
        Some(clock) => low(record.exchange(clock, u128::from(now))),
    };
    let times = Times { now, previous: (since != NONE_64).then_some(since) };
    for update in &group.updates {
        if let Some(sample) = sample(update.sample, packet, times) {
            write(update, u128::from(program.slot(update.slot).initial()), record, sample);
        }
    }
}

/// The value of a sample, `None` for a gap before the second packet.
fn sample(sample: Sample, packet: &Parsed, times: Times) -> Option<u64> {
    match sample {
        Sample::Packet => Some(1),
        Sample::Field(field) => Some(packet.field(field)),
        Sample::Gap(unit) => times.previous.map(|previous| gap_in(unit, previous, times.now)),
        Sample::AnyGap => times.previous.map(|_| 1),
        Sample::Time => Some(times.now),
        Sample::Address(address) => Some(distinct::fold(match address {
            Address::Source => packet.src,
            Address::Destination => packet.dst,
        })),
    }
}

/// The time of a packet and that of the one before it under the same filter.
#[derive(Clone, Copy)]
struct Times {
    now: u64,
    previous: Option<u64>,
}

/// Time passed in a unit, rounded down, at most the unit's limit.
fn gap_in(unit: TimeUnit, previous: u64, now: u64) -> u64 {
    let nanos = ranges::unit_nanos(unit);
    let passed = if unit.ticks() {
        (now / nanos).saturating_sub(previous / nanos)
    } else {
        now.saturating_sub(previous) / nanos
    };
    passed.min(ranges::gap_limit(unit))
}

/// Updates a slot whose empty content is `empty`.
fn write(update: &Update, empty: u128, record: &mut Record, sample: u64) {
    if let UpdateOp::SetBit(bitmap) = update.op {
        let (word, bit) = distinct::place(sample, bitmap);
        let slot = SlotId(update.slot.0 + word);
        let old = record.get(slot);
        record.exchange(slot, old | u128::from(bit));
        return;
    }
    let sample = u128::from(sample);
    let old = record.get(update.slot);
    let new = match update.op {
        UpdateOp::Count => old + 1,
        UpdateOp::Add => old + sample,
        UpdateOp::AddSquare => old + sample * sample,
        UpdateOp::Min => old.min(sample),
        UpdateOp::Max => old.max(sample),
        UpdateOp::SetFirst => {
            if old == empty {
                sample
            } else {
                old
            }
        }
        UpdateOp::SetLast => sample,
        // Done above: its slot depends on the sample.
        UpdateOp::SetBit(_) => old,
        UpdateOp::Ewma(weight) => u128::from(eval::ewma(low(old), low(sample), weight)),
    };
    record.exchange(update.slot, new);
}

/// Step 9 for a packet that does not end its flow. Every trigger that holds is spent, whichever names the verdict.
fn due(program: &FlowProgram, record: &mut Record, ordinal: u64, now: u64) -> Option<Trigger> {
    let Triggers { end: _, every, every_time, after, after_time } = program.triggers;
    let since = |start: u64, time: Nanos| now.checked_sub(start).is_some_and(|passed| passed >= time.0);
    let packets_after = after.is_some_and(|n| ordinal == u64::from(n));
    let time_after =
        record.flags & flag::AFTER == 0 && after_time.is_some_and(|time| since(record.first_ns, time));
    if time_after {
        record.flags |= flag::AFTER;
    }
    let packets_every = every.is_some_and(|n| n != 0 && ordinal.is_multiple_of(u64::from(n)));
    let time_every = match (program.judged(), every_time) {
        (Some(slot), Some(time)) if since(low(record.get(slot)), time) => {
            record.exchange(slot, u128::from(now));
            true
        }
        (Some(_), Some(_)) | (None, _) | (_, None) => false,
    };
    let every = packets_every || time_every;
    if packets_after || time_after { Some(Trigger::After) } else { every.then_some(Trigger::Every) }
}

/// Step 8: whether this packet closed the record.
fn ends(
    end: End,
    directions: Directions,
    record: &mut Record,
    packet: &Parsed,
    direction: Direction,
) -> bool {
    let End::On { fin, rst } = end else { return false };
    if packet.proto != packet::TCP {
        return false;
    }
    if fin && packet.tcp_flags & tcp_flags::FIN != 0 {
        record.flags |= match direction {
            Direction::Forward => flag::FIN_FORWARD,
            Direction::Backward => flag::FIN_BACKWARD,
        };
    }
    let needed = match directions {
        Directions::Both => flag::FIN_FORWARD | flag::FIN_BACKWARD,
        Directions::One => flag::FIN_FORWARD,
    };
    let ended = rst && packet.tcp_flags & tcp_flags::RST != 0 || fin && record.flags & needed == needed;
    if ended {
        record.flags |= flag::CLOSED;
    }
    ended
}
