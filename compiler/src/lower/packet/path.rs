//! What every step of the packet path needs: the builder, the frame, labels, counters, the clock.

use super::hook::{self, Answers};
use super::maps::{CONFIG, CONFIG_EPOCH, COUNTERS, EVENTS};
use super::seldom::Pending;
use super::shared::Shared;
use super::{Options, distinct, fuse, guard};
use crate::bpf::module::{Function, Line, Parameter};
use crate::bpf::{AluOp, Cond, Helper, Label, Size};
use crate::diag::Span;
use crate::ir::flow::decision::Variable;
use crate::ir::flow::ranges::field_limit;
use crate::ir::flow::record::KEY_SIZE;
use crate::ir::flow::{Counter, Expr, FlowProgram, Group, Sample};
use crate::ir::packet::Reason;
use crate::lower::LowerError;
use crate::lower::builder::{Builder, StackSlot};
use crate::lower::code::{FrameLimit, VReg};
use crate::lower::scratch::{self, Scratch, bytes_of};
use crate::spec::typed::{Clock, Directions, FeatureSpec, Field, Filter, Hook, Scope};

/// A program of the packet path under construction.
pub(super) struct Path<'a> {
    pub(super) b: Builder,
    pub(super) program: &'a FlowProgram,
    pub(super) scratch: &'a Scratch,
    pub(super) shared: &'a Shared,
    pub(super) options: Options,
    /// Number of the model's outputs.
    pub(super) outputs: usize,
    spec: &'a FeatureSpec,
    pub(super) hook: Hook,
    /// What the program returns.
    pub(super) answers: Answers,
    pub(super) frame: Frame,
    /// The context, live from end to end.
    pub(super) context: VReg,
    /// The scratch value, where the specification reads payload bytes.
    pub(super) payload: VReg,
    /// A register whose value is 0, which the verifier does not know.
    pub(super) unknown: VReg,
    /// Code that runs seldom, emitted after everything else.
    pub(super) pending: Vec<Pending>,
    pub(super) shadows: Vec<Shadow>,
    exits: Vec<(Exit, Label)>,
    /// The scratch value, while windows and further tables lie there as a verdict sees them.
    pub(super) images: Option<VReg>,
    /// The time of a verdict, while it reads windows.
    pub(super) judged_at: Option<VReg>,
    /// The scratch value in functions whose packet is there; none where it is in the frame.
    pub(super) packet: Option<VReg>,
}

/// A place that ends the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Counts and passes.
    Count(Counter),
    /// Passes.
    Pass,
    /// Drops a packet of this time, or of now, which has been counted.
    Drop { now: Option<VReg> },
}

/// A verdict while a shadow runs.
pub(super) struct Shadow {
    pub(super) entry: Label,
    pub(super) back: Label,
    /// The word that says which slot is active.
    pub(super) active: VReg,
}

/// Fixed places in the frame.
pub(super) struct Frame {
    /// The flow's key.
    pub(super) key: StackSlot,
    /// A 32-bit zero: the key of every single-entry map.
    pub(super) zero: StackSlot,
    /// Sender and receiver, 16 bytes each.
    pub(super) src: StackSlot,
    pub(super) dst: StackSlot,
    /// The fields that the specification reads.
    fields: Vec<(Field, Word)>,
}

/// Where a field is kept in the frame.
#[derive(Debug, Clone, Copy)]
struct Place {
    slot: StackSlot,
    offset: i16,
    size: Size,
}

/// Where a field is.
#[derive(Debug, Clone, Copy)]
enum Word {
    Frame(Place),
    /// So many bytes into the scratch value.
    Scratch(VReg, i16),
}

/// What all functions of the packet path are built from.
pub(super) type Build<'a> = (&'a FlowProgram, &'a FeatureSpec, &'a Scratch, &'a Shared, Options);

impl<'a> Path<'a> {
    /// A function beside the entry program, whose packet is in the scratch value; gives the register with that.
    pub(super) fn function(name: &str, build: Build<'a>) -> (Self, VReg) {
        let (program, _, _, shared, _) = build;
        let mut b = Builder::new(name, ".text", &[Parameter::Context]);
        let context = b.parameter(0);
        let nowhere = StackSlot { offset: 0, size: 0 };
        let frame = Frame {
            key: b.stack_slot(u16::try_from(KEY_SIZE).unwrap_or(u16::MAX)),
            zero: b.stack_slot(8),
            // Taken from the scratch value.
            src: nowhere,
            dst: nowhere,
            fields: Vec::new(),
        };
        let mut path = Self::bare(b, build, context, frame);
        let value = path.scratch_value();
        // The direction is 0 or 1.
        path.b.load_to(path.unknown, Size::DW, value, shared.backward);
        path.b.rsh(path.unknown, 1);
        let offset =
            |index: usize| shared.fields.saturating_add(i16::try_from(index * 8).unwrap_or(i16::MAX));
        path.packet = Some(value);
        path.frame.fields = side_fields(program)
            .into_iter()
            .enumerate()
            .map(|(index, field)| (field, Word::Scratch(value, offset(index))))
            .collect();
        (path, value)
    }

    /// The entry program of a model with so many outputs.
    pub(super) fn new(name: &str, build: Build<'a>, outputs: usize) -> Self {
        let (program, spec, _, _, options) = build;
        let section = hook::section(spec.hook, options.fragments);
        let mut b = Builder::new(name, section, &[Parameter::Context]);
        let context = b.parameter(0);
        let key = match program.scope {
            Scope::Flow => b.stack_slot(u16::try_from(KEY_SIZE).unwrap_or(u16::MAX)),
            Scope::Packet => StackSlot { offset: 0, size: 0 },
        };
        let zero = b.stack_slot(8);
        let (src, dst) = if ends_in_key(program) {
            let end = |from| StackSlot { offset: key.offset + from, size: 16 };
            (end(0), end(16))
        } else {
            (b.stack_slot(16), b.stack_slot(16))
        };
        let frame = Frame { key, zero, src, dst, fields: places(asked_fields(program), &mut b) };
        Self { outputs, answers: hook::answers(spec.hook), ..Self::bare(b, build, context, frame) }
    }

    /// What both kinds begin with.
    fn bare(
        mut b: Builder,
        (program, spec, scratch, shared, options): Build<'a>,
        context: VReg,
        frame: Frame,
    ) -> Self {
        let (unknown, payload) = (b.fresh(), b.fresh());
        Self {
            b,
            program,
            scratch,
            shared,
            options,
            outputs: 0,
            spec,
            hook: spec.hook,
            answers: Answers { pass: 0, drop: 0 },
            frame,
            context,
            payload,
            unknown,
            pending: Vec::new(),
            shadows: Vec::new(),
            exits: Vec::new(),
            images: None,
            judged_at: None,
            packet: None,
        }
    }

    pub(super) fn finish(self, limit: FrameLimit) -> Result<Function, LowerError> {
        self.b.finish(limit)
    }

    /// The following instructions come from this part of the specification.
    pub(super) fn origin(&mut self, span: &Span) {
        self.b.origin(line(self.spec, span));
    }

    /// The following instructions come from no line of the specification.
    pub(super) fn step(&mut self, text: &str) {
        self.b.origin(Line { file: file_name(self.spec), line: 0, column: 0, text: text.to_owned() });
    }

    /// Makes the verifier forget what it knows of a number below `2^bits`, so that paths which meet here look
    /// alike to it. The value stays.
    pub(super) fn blur(&mut self, register: VReg, bits: u32) {
        self.b.add(register, self.unknown);
        self.b.and(register, (1_i32 << bits) - 1);
    }

    /// A value for a place where the verifier knows again what it knew when it was stored: where that matters, a copy of
    /// which it knows no more than the field's size.
    fn forgotten(&mut self, field: Field, place: Place, value: VReg) -> VReg {
        if place.size != Size::DW || !distinct::counted(self.program, Sample::Field(field)) {
            return value;
        }
        let bits = u64::BITS - field_limit(field).leading_zeros();
        let value = self.b.copy(value);
        self.b.add(value, self.unknown);
        let mask = self.b.constant((1 << bits) - 1);
        self.b.and(value, mask);
        value
    }

    /// Keeps a field for later steps, if the specification reads it.
    pub(super) fn keep(&mut self, field: Field, value: VReg) {
        match self.frame.word(field) {
            Some(Word::Frame(place)) => {
                let value = self.forgotten(field, place, value);
                self.b.stack_store(place.size, place.slot, place.offset, value);
            }
            Some(Word::Scratch(base, offset)) => self.b.store(Size::DW, base, offset, value),
            None => {}
        }
    }

    /// Whether a later step reads the field.
    pub(super) fn keeps(&self, field: Field) -> bool {
        self.frame.word(field).is_some()
    }

    /// The value of a kept field.
    pub(super) fn field(&mut self, field: Field) -> VReg {
        let word = self.frame.word(field);
        if let (None, Field::Payload(index)) = (word, field) {
            let at = self.shared.payload.saturating_add(i16::from(index));
            return self.b.load(Size::B, self.payload, at);
        }
        match word {
            Some(Word::Frame(place)) => self.b.stack_load(place.size, place.slot, place.offset),
            Some(Word::Scratch(base, offset)) => self.b.load(Size::DW, base, offset),
            // Not reached: `used_fields` names every field that a step asks for.
            None => self.b.constant(0),
        }
    }

    /// The direction, as a condition asks for it: what a test tells of it is forgotten.
    pub(super) fn direction_of(&mut self, backward: VReg) -> VReg {
        if self.keeps(Field::Direction) {
            return self.field(Field::Direction);
        }
        let backward = self.b.copy(backward);
        self.blur(backward, 1);
        backward
    }

    /// The time of the packet.
    pub(super) fn clock(&mut self) -> VReg {
        match self.spec.clock {
            Clock::Exact => self.exact_time(),
            Clock::Coarse => self.coarse_time(),
        }
    }

    /// The mode, as [`guard::mode`] gives it.
    pub(super) fn mode(&mut self) -> VReg {
        guard::mode(&mut self.b)
    }

    /// The epoch of the host lists.
    pub(super) fn epoch(&mut self) -> VReg {
        let config = self.b.map_value(CONFIG, CONFIG_EPOCH);
        self.b.load(Size::DW, config, 0)
    }

    /// Pointer to the flow's key.
    pub(super) fn key(&mut self) -> VReg {
        let slot = self.frame.key;
        self.b.stack_address(slot)
    }

    /// Pointer to this processor's scratch value; leaves by [`Exit::Pass`] where there is none, which no
    /// kernel does.
    pub(super) fn scratch_value(&mut self) -> VReg {
        let out = self.exit(Exit::Pass);
        single_value(&mut self.b, scratch::MAP, self.frame.zero, out)
    }

    /// Adds one to a counter.
    pub(super) fn count(&mut self, counter: Counter) {
        let out = self.exit(Exit::Pass);
        count(&mut self.b, counter, self.frame.zero, out);
    }

    /// Where the program ends this way; emitted by [`Self::exits`].
    pub(super) fn exit(&mut self, exit: Exit) -> Label {
        if let Some((_, label)) = self.exits.iter().find(|(known, _)| *known == exit) {
            return *label;
        }
        let label = self.b.label();
        self.exits.push((exit, label));
        label
    }

    /// Where a frame without fields goes.
    pub(super) fn refused(&mut self, reason: Reason) -> Label {
        self.exit(Exit::Count(Counter::Packet(reason)))
    }

    /// Emits the code that runs seldom, then all exits.
    pub(super) fn exits(&mut self) {
        self.seldom();
        self.shadows();
        self.step("packet is done");
        let pass = self.exit(Exit::Pass);
        let mut done = 0;
        while let Some((exit, label)) = self.exits.get(done).copied() {
            done += 1;
            match exit {
                Exit::Count(counter) => {
                    self.b.bind(label);
                    self.count(counter);
                    self.b.goto(pass);
                }
                Exit::Pass => {}
                Exit::Drop { now } => {
                    self.b.bind(label);
                    fuse::dropped(&mut self.b, self.context, now);
                    self.b.ret(self.answers.drop);
                }
            }
        }
        self.b.bind(pass);
        self.b.ret(self.answers.pass);
    }
}

/// Whether sender and receiver lie in the frame where the key has them: it names both, and they never change places.
pub(super) fn ends_in_key(program: &FlowProgram) -> bool {
    match (program.scope, program.directions) {
        (Scope::Flow, Directions::One) => program.key.pairs(),
        (Scope::Flow, Directions::Both) | (Scope::Packet, _) => false,
    }
}

impl Frame {
    /// The fields that are kept.
    pub(super) fn fields(&self) -> impl Iterator<Item = Field> {
        self.fields.iter().map(|(field, _)| *field)
    }

    fn word(&self, field: Field) -> Option<Word> {
        self.fields.iter().find(|(known, _)| *known == field).map(|(_, word)| *word)
    }
}

/// Gives fields their places in the frame: as many bytes as each needs, and none at the start of a 64-bit word. What
/// is stored there the verifier knows again when it is loaded, and it would follow packets apart to the end that
/// differ in what is known of them, as of the protocol; what is stored elsewhere it forgets.
fn places(mut fields: Vec<Field>, b: &mut Builder) -> Vec<(Field, Word)> {
    let size = |field: &Field| match field_limit(*field) {
        0..=0xff => Size::B,
        0x100..=0xffff => Size::H,
        0x1_0000..=0xffff_ffff => Size::W,
        _ => Size::DW,
    };
    // Large ones first: small ones fill what they leave.
    fields.sort_by_key(|field| std::cmp::Reverse(bytes_of(size(field))));
    let mut words: Vec<(StackSlot, [bool; 8])> = Vec::new();
    let mut place = |field: Field| {
        let size = size(&field);
        if size == Size::DW {
            let slot = b.stack_slot(8);
            return Some((field, Word::Frame(Place { slot, offset: 0, size })));
        }
        let bytes = bytes_of(size) as usize;
        let free = |taken: &[bool; 8]| {
            let fits = |at: &usize| taken.get(*at..at + bytes).is_some_and(|part| !part.contains(&true));
            (0..taken.len()).step_by(bytes).find(fits)
        };
        if words.iter().all(|(_, taken)| free(taken).is_none()) {
            let mut start = [false; 8];
            start[0] = true;
            words.push((b.stack_slot(8), start));
        }
        let found = words.iter_mut().find_map(|(slot, taken)| {
            let at = free(taken)?;
            taken.iter_mut().skip(at).take(bytes).for_each(|byte| *byte = true);
            Some(Place { slot: *slot, offset: i16::try_from(at).ok()?, size })
        });
        found.map(|place| (field, Word::Frame(place)))
    };
    fields.into_iter().filter_map(&mut place).collect()
}

/// Pointer to the only value of a map; jumps to `missing` where there is none.
pub(super) fn single_value(b: &mut Builder, map: &str, zero: StackSlot, missing: Label) -> VReg {
    b.stack_store(Size::W, zero, 0, 0);
    let map = b.map(map);
    let key = b.stack_address(zero);
    let value = b.call(Helper::MapLookup, &[map, key]);
    b.jump(Cond::Eq, value, 0, missing);
    value
}

/// Adds one to a counter of this processor.
pub(super) fn count(b: &mut Builder, counter: Counter, zero: StackSlot, missing: Label) {
    let counters = single_value(b, COUNTERS, zero, missing);
    let offset = i16::try_from(counter.index() * 8).unwrap_or(i16::MAX);
    let value = b.load(Size::DW, counters, offset);
    b.add(value, 1);
    b.store(Size::DW, counters, offset, value);
}

/// Sends an event of so many bytes; gives the helper's result.
pub(super) fn send_event(b: &mut Builder, event: VReg, bytes: u32) -> VReg {
    let ring = b.map(EVENTS);
    let size = b.constant(i64::from(bytes));
    let flags = b.constant(0);
    b.call(Helper::RingbufOutput, &[ring, event, size, flags])
}

/// Copies 64-bit words between two places.
pub(super) fn copy_words(b: &mut Builder, from: (VReg, i16), to: (VReg, i16), words: i16) {
    for word in 0..words {
        let value = b.load(Size::DW, from.0, from.1 + word * 8);
        b.store(Size::DW, to.0, to.1 + word * 8, value);
    }
}

/// A new register with `base + offset`.
pub(super) fn address(b: &mut Builder, base: VReg, offset: i16) -> VReg {
    b.compute(AluOp::Add, base, i32::from(offset))
}

/// The line of a specification that a span starts on.
pub(super) fn line(spec: &FeatureSpec, span: &Span) -> Line {
    let (file, source, at) = spec.place(span.start);
    let before = source.get(..at).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let text = source.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
    Line {
        file: base_name(file),
        line: u32::try_from(before.matches('\n').count()).map_or(0, |n| n + 1),
        column: u32::try_from(at.saturating_sub(start)).map_or(0, |n| n + 1),
        text: text.trim().to_owned(),
    }
}

/// The specification's file without its folder: builds in different folders give the same bytes.
fn file_name(spec: &FeatureSpec) -> String {
    base_name(&spec.file)
}

fn base_name(file: &str) -> String {
    file.rsplit('/').next().unwrap_or_default().to_owned()
}

/// Fields that samples and guards read, and the flags where the end of flows does.
fn used_fields(program: &FlowProgram) -> Vec<Field> {
    let mut fields = Vec::new();
    if program.transports.tcp && program.scope == Scope::Flow {
        fields.push(Field::TcpFlags);
    }
    for group in &program.groups {
        group_fields(group, &mut fields);
    }
    filter_fields(&program.filter, &mut fields);
    for leaf in super::features::leaves(program) {
        match leaf {
            Expr::Field(field) => add_field(field, &mut fields),
            Expr::Load(_)
            | Expr::Mean { .. }
            | Expr::Duration { .. }
            | Expr::Span { .. }
            | Expr::Std { .. }
            | Expr::Var { .. }
            | Expr::Ewma(_)
            | Expr::Distinct { .. }
            | Expr::Rate { .. } => {}
        }
    }
    fields
}

/// What is kept in the frame: these fields, and the direction where a condition that is no list of properties asks for
/// it. Bytes of the payload are in the scratch value.
fn asked_fields(program: &FlowProgram) -> Vec<Field> {
    let mut fields = used_fields(program);
    fields.retain(|field| !matches!(field, Field::Payload(_)));
    let asks =
        |group: &Group| group.guard.rest.nodes().iter().any(|node| node.variable == Variable::Backward);
    if program.groups.iter().any(asks) && !fields.contains(&Field::Direction) {
        fields.push(Field::Direction);
    }
    fields
}

/// How many of the payload's first bytes are copied, if the specification reads some: a multiple of 8.
pub(super) fn payload_bytes(program: &FlowProgram) -> Option<i16> {
    let end = |field| if let Field::Payload(index) = field { Some(i16::from(index) + 1) } else { None };
    let last: Option<i16> = used_fields(program).into_iter().filter_map(end).max();
    last.map(|bytes| (bytes + 7) / 8 * 8)
}

/// Those that groups of further tables read.
pub(super) fn side_fields(program: &FlowProgram) -> Vec<Field> {
    let mut fields = Vec::new();
    for group in program.groups.iter().filter(|group| group.place.table.is_some()) {
        group_fields(group, &mut fields);
    }
    fields
}

fn group_fields(group: &Group, fields: &mut Vec<Field>) {
    filter_fields(&group.guard, fields);
    for update in &group.updates {
        match update.sample {
            Sample::Field(field) => add_field(field, fields),
            Sample::Packet | Sample::Gap(_) | Sample::AnyGap | Sample::Time | Sample::Address(_) => {}
        }
    }
}

fn filter_fields(filter: &Filter, fields: &mut Vec<Field>) {
    if filter.flags_set | filter.flags_clear != 0 {
        add_field(Field::TcpFlags, fields);
    }
    for node in filter.rest.nodes() {
        match node.variable {
            Variable::Backward => {}
            Variable::Flag(_) => add_field(Field::TcpFlags, fields),
            Variable::Field(field) => add_field(field, fields),
        }
    }
}

fn add_field(field: Field, fields: &mut Vec<Field>) {
    if !fields.contains(&field) {
        fields.push(field);
    }
}
