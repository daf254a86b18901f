//! The lists of blocked and allowed hosts: asked seldom, so in a function of its own.

use super::fuse;
use super::maps::{ALLOWED, BLOCKED};
use super::path::{Path, address, copy_words, single_value};
use super::shared::Shared;
use crate::bpf::module::{Function, Parameter};
use crate::bpf::{Cond, Helper, Size};
use crate::lower::LowerError;
use crate::lower::builder::Builder;
use crate::lower::code::{FrameLimit, VReg};
use crate::lower::scratch;

/// `nn_lists(ctx)`: asks the lists about the sender and receiver in the scratch value. Gives the time until
/// which the sender is blocked, 0 when it is not; says in scratch whether one of the two is allowed.
pub(super) const FUNCTION: &str = "nn_lists";

impl Path<'_> {
    /// Until when the packet's sender is blocked.
    pub(super) fn ask_lists(&mut self) -> VReg {
        let scratch = self.scratch_value();
        self.share_ends(scratch);
        self.b.call_function(FUNCTION, &[self.context])
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
