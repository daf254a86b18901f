//! The lists of blocked and allowed hosts: what a record knows of them, and the function that asks them, which is
//! seldom. Step 3 of [`crate::ir::flow`].

use super::fuse;
use super::maps::{ALLOWED, BLOCKED, MODE_ENFORCE};
use super::path::{Exit, Path, address, copy_words, single_value};
use super::shared::Shared;
use super::table::{ANSWER_BITS, EXEMPT, Flow, LISTED, LISTS};
use crate::bpf::module::{Function, Parameter};
use crate::bpf::{AluOp, Cond, Helper, Label, Size};
use crate::ir::flow::Counter;
use crate::ir::flow::record::Layout;
use crate::lower::LowerError;
use crate::lower::builder::Builder;
use crate::lower::code::{FrameLimit, VReg};
use crate::lower::scratch;
use crate::spec::typed::Directions;

/// `nn_lists(ctx)`: asks the lists about the sender and receiver in the scratch value. Gives the time until
/// which the sender is blocked, 0 when it is not; says in scratch whether one of the two is allowed.
pub(super) const FUNCTION: &str = "nn_lists";

/// What a record has of the lists' answer for the packet's direction.
#[derive(Clone, Copy)]
pub(super) struct Lists {
    /// The record, moved to the direction's place.
    cache: VReg,
    /// The answer that stood there.
    word: VReg,
}

impl Path<'_> {
    /// Until when the packet's sender is blocked, and the scratch value, which says whether an end is allowed.
    pub(super) fn ask_lists(&mut self) -> (VReg, VReg) {
        let scratch = self.scratch_value();
        self.share_ends(scratch);
        (self.b.call_function(FUNCTION, &[self.context]), scratch)
    }

    /// The same of a packet of a flow.
    pub(super) fn ask_for(&mut self, flow: &Flow) {
        let (until, scratch) = self.ask_lists();
        self.b.mov(flow.until, until);
        if self.program.record.forward_lists.is_some() {
            self.b.load_to(flow.exempt, Size::DW, scratch, self.shared.exempt);
        }
    }

    /// Copies the packet's sender and receiver to the scratch value.
    pub(super) fn share_ends(&mut self, scratch: VReg) {
        let places = [(self.frame.src, self.shared.src), (self.frame.dst, self.shared.dst)];
        for (from, to) in places {
            for half in [0, 8] {
                let word = self.b.stack_load(Size::DW, from, half);
                self.b.store(Size::DW, scratch, to + half, word);
            }
        }
    }

    /// Leaves for `differs` unless the record knows that the packet's sender is not blocked, and neither end allowed.
    pub(super) fn answered(&mut self, flow: &Flow, differs: Label) -> Lists {
        let cache = self.lists_of(flow, flow.backward);
        self.clear_answer(flow.answer);
        let word = self.b.load(Size::DW, cache, LISTS);
        self.b.jump(Cond::Ne, word, flow.answer, differs);
        Lists { cache, word }
    }

    /// The record, moved to the place of the packet's direction.
    pub(super) fn lists_of(&mut self, flow: &Flow, backward: VReg) -> VReg {
        let cache = self.b.copy(flow.record);
        match self.program.directions {
            Directions::One => {}
            Directions::Both => {
                let shift = Layout::LISTS_SIZE.trailing_zeros().cast_signed();
                let offset = self.b.compute(AluOp::Lsh, backward, shift);
                self.b.add(cache, offset);
            }
        }
        cache
    }

    /// The answer that nobody is on a list, at the epoch of now.
    pub(super) fn clear_answer(&mut self, answer: VReg) {
        let epoch = self.epoch();
        self.b.mov(answer, epoch);
        self.b.lsh(answer, ANSWER_BITS);
    }

    /// Adds to a clear answer what the lists said.
    pub(super) fn answer(&mut self, flow: &Flow) {
        let listed = self.b.copy(flow.until);
        self.b.neg(listed);
        self.b.or(listed, flow.until);
        self.b.rsh(listed, 63);
        self.b.or(flow.answer, listed);
        let exempt = self.b.compute(AluOp::Lsh, flow.exempt, EXEMPT.trailing_zeros().cast_signed());
        self.b.or(flow.answer, exempt);
    }

    /// The lists' answer where the record has none, or one that the sender is blocked: then the block list says until
    /// when, and nobody has become allowed since. Drops or counts what is blocked.
    pub(super) fn ask_again(&mut self, flow: &Flow, lists: Lists, entry: Label, asked: Label) {
        let (known, test) = (self.b.label(), self.b.label());
        let Lists { cache, word } = lists;
        self.b.bind(entry);
        self.b.xor(word, flow.answer);
        self.b.jump(Cond::Eq, word, EXEMPT, asked);
        self.b.jump(Cond::Eq, word, LISTED, known);
        self.ask_for(flow);
        self.answer(flow);
        self.b.store(Size::DW, cache, LISTS, flow.answer);
        self.b.goto(test);
        self.b.bind(known);
        let expiry = self.look_for_source();
        self.b.jump(Cond::Eq, expiry, 0, asked);
        self.b.load_to(flow.until, Size::DW, expiry, 0);
        self.b.bind(test);
        self.blocked(flow, asked);
        self.b.goto(asked);
    }

    /// The lists' answer where a record's key does not name both hosts, so that none can be kept in it: mostly
    /// settled by one look at the block list. Drops or counts what is blocked.
    pub(super) fn ask_always(&mut self, flow: &Flow) {
        let on = self.b.label();
        let listed = self.look_for_source();
        self.b.jump(Cond::Eq, listed, 0, on);
        self.ask_for(flow);
        self.blocked(flow, on);
        self.b.bind(on);
    }

    /// Pointer to the source's entry of the block list, or 0.
    fn look_for_source(&mut self) -> VReg {
        let blocked = self.b.map(BLOCKED);
        let source = self.b.stack_address(self.frame.src);
        self.b.call(Helper::MapLookup, &[blocked, source])
    }

    /// Drops or counts a packet whose sender is on the block list; goes to `on` for others.
    pub(super) fn blocked(&mut self, flow: &Flow, on: Label) {
        self.b.jump(Cond::Eq, flow.until, 0, on);
        let now = self.now(flow);
        self.b.jump(Cond::Le, flow.until, now, on);
        self.denied(flow.now);
    }

    /// A packet on the block list: leaves in enforce mode, goes on in monitor mode.
    pub(super) fn denied(&mut self, now: Option<VReg>) {
        let monitor = self.b.label();
        let drop = self.exit(Exit::Drop { now });
        let mode = self.mode();
        self.b.jump(Cond::Ne, mode, MODE_ENFORCE, monitor);
        self.count(Counter::Blocked);
        self.b.goto(drop);
        self.b.bind(monitor);
        self.count(Counter::WouldBlock);
    }
}

pub(super) fn function(shared: &Shared) -> Result<Function, LowerError> {
    let mut b = Builder::new(FUNCTION, ".text", &[Parameter::Context]);
    let zero = b.stack_slot(8);
    let prefix = b.stack_slot(24);
    let (none, exempt, listed) = (b.label(), b.label(), b.label());
    fuse::account(&mut b, zero, none);
    let scratch = single_value(&mut b, scratch::MAP, zero, none);
    b.store(Size::DW, scratch, shared.exempt, 0);
    for end in [shared.src, shared.dst] {
        b.stack_store(Size::W, prefix, 0, 128);
        for word in (0..16).step_by(4) {
            let part = b.load(Size::W, scratch, end + word);
            b.stack_store(Size::W, prefix, 4 + word, part);
        }
        let allowed = b.map(ALLOWED);
        let key = b.stack_address(prefix);
        let found = b.call(Helper::MapLookup, &[allowed, key]);
        b.jump(Cond::Ne, found, 0, exempt);
    }
    let host = b.stack_slot(16);
    let place = b.stack_address(host);
    copy_words(&mut b, (scratch, shared.src), (place, 0), 2);
    let blocked = b.map(BLOCKED);
    let key = address(&mut b, place, 0);
    let expiry = b.call(Helper::MapLookup, &[blocked, key]);
    b.jump(Cond::Ne, expiry, 0, listed);
    b.ret(0);
    b.bind(listed);
    let until = b.load(Size::DW, expiry, 0);
    b.ret(until);
    b.bind(exempt);
    b.store(Size::DW, scratch, shared.exempt, 1);
    b.bind(none);
    b.ret(0);
    b.finish(FrameLimit::Share(super::frame::LISTS))
}
