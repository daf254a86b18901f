//! `nn_sweep`: the idle verdict on a flow that sends no further packet, where the specification asks for it.
//!
//! No packet enters this program. The loader runs it by `BPF_PROG_TEST_RUN` on the key of a record whose idle
//! time has passed; it does what the next packet of the flow would have done to the record, and removes it.
//! Whoever sets the record's retired flag judges it, so it is judged once, by a packet or by a sweep.
//!
//! It shares the per-CPU scratch value with `nn_entry`. Test runs of XDP and tc disable bottom halves
//! (`bpf_test_run` in `net/bpf/test_run.c`, since commit `af2d0d09eabe` in 6.3), and every packet is handled with them disabled, so none
//! comes between on the same processor.

use super::maps::FLOWS;
use super::path::{Exit, Path};
use super::table::{CLOSED, Flow, RETIRED};
use crate::bpf::{AluOp, Cond, Helper, Size};
use crate::ir::flow::Trigger;
use crate::ir::flow::key::KeyPart;
use crate::ir::flow::record::KEY_SIZE;

/// Name of the program.
pub const SWEEP: &str = "nn_sweep";

/// Where the key stands in the packet: behind what a test run takes for an Ethernet header.
pub const KEY_AT: usize = 14;

/// What the program returns when it removed a record without a verdict. Neither this nor [`JUDGED`] is an answer
/// of a hook; a record that stays gives the answer that lets a packet pass.
pub const REMOVED: u32 = 256;
/// What it returns when it judged a record and removed it.
pub const JUDGED: u32 = 257;

impl Path<'_> {
    /// The whole program but its exits.
    pub(super) fn sweep(&mut self) {
        self.step("key of a record to sweep");
        self.swept_key();
        let flow_line = self.program.span.clone();
        self.origin(&flow_line);
        // The key is taken for that of a packet from `a` to `b`.
        let sender_is_b = self.b.constant(0);
        let now = self.clock();
        let flow = Flow::new(&mut self.b, sender_is_b, Some(now));
        let kept = self.exit(Exit::Pass);
        self.find(&flow, kept);
        self.load_flags(&flow);
        self.b.jump(Cond::Set, flow.flags, RETIRED, kept);
        self.direction(&flow);
        let (expired, remove, done) = (self.b.label(), self.b.label(), self.b.label());
        self.idle(&flow, expired);
        self.b.goto(kept);

        self.b.bind(expired);
        let old = self.retire(&flow);
        self.b.jump(Cond::Set, old, RETIRED, kept);
        let result = self.b.constant(i64::from(REMOVED));
        if self.program.triggers.end {
            // Computed, so that the verifier walks the removal once.
            self.b.mov(result, old);
            self.b.rsh(result, CLOSED.trailing_zeros().cast_signed());
            self.b.and(result, 1);
            self.b.xor(result, JUDGED.cast_signed());
            self.b.jump(Cond::Set, old, CLOSED, remove);
            self.judge(&flow, Trigger::Idle);
        }

        self.origin(&flow_line);
        self.b.bind(remove);
        // The table may have evicted the record meanwhile, and have a new one of the same flow.
        self.find(&flow, done);
        let flags = self.b.load(Size::W, flow.record, self.flags_offset());
        self.b.and(flags, RETIRED);
        self.b.jump(Cond::Eq, flags, 0, done);
        let table = self.b.map(FLOWS);
        let key = self.key();
        self.b.call(Helper::MapDelete, &[table, key]);
        self.b.bind(done);
        self.b.ret(result);
        self.exits();
    }

    /// Key and ends from the packet to the frame. An end that the key does not name is taken for the other one:
    /// it is asked for allowed hosts, and `::` stands for none.
    fn swept_key(&mut self) {
        let kept = self.exit(Exit::Pass);
        let (data, end) = self.linear();
        let form = self.program.key_form();
        let behind = i32::try_from(KEY_AT).unwrap_or(0) + i32::try_from(form.bytes).unwrap_or(0);
        let behind = self.b.compute(AluOp::Add, data, behind);
        self.b.jump(Cond::Gt, behind, end, kept);
        let (a, b) = match (self.program.key.has(KeyPart::Src), self.program.key.has(KeyPart::Dst)) {
            (true, false) => (0, 0),
            (false, true) => (16, 16),
            (true, true) | (false, false) => (0, 16),
        };
        let at = i16::try_from(KEY_AT).unwrap_or(0);
        let places = [
            (self.frame.key, 0, i16::try_from(KEY_SIZE).unwrap_or(0)),
            (self.frame.src, a, 16),
            (self.frame.dst, b, 16),
        ];
        for (slot, from, bytes) in places {
            for offset in (0..bytes).step_by(8) {
                let place = u32::from((from + offset).unsigned_abs());
                let word = match form.bytes.saturating_sub(place) {
                    0 => self.b.constant(0),
                    1..8 => self.b.load(Size::W, data, at + from + offset),
                    _ => self.b.load(Size::DW, data, at + from + offset),
                };
                if let (32, Some(proto)) = (place, form.proto) {
                    let proto = self.b.constant(i64::from(proto) << 32);
                    self.b.or(word, proto);
                }
                self.b.stack_store(Size::DW, slot, offset, word);
            }
        }
    }
}
