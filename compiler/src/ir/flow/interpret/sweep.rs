//! A sweep: the idle verdict on a record whose flow sends no further packet.

use super::{FlowInterpreter, Judge, Verdict};
use crate::ir::flow::Trigger;
use crate::ir::flow::key::KeyPart;
use crate::ir::flow::record::{Key, flag};
use crate::ir::packet::Host;

/// What a sweep did to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swept {
    /// Nothing: there is none, or its idle time has not passed.
    Kept,
    /// Removed it: it was closed and judged before, or `end` is no trigger.
    Removed,
    /// Judged it and removed it.
    Judged(Verdict),
}

impl FlowInterpreter<'_> {
    /// Sweeps the record of a key at `now`, in nanoseconds below 2^63.
    pub fn sweep(&mut self, key: Key, now: u64, judge: &mut dyn Judge) -> Swept {
        if !self.table.peek(&key).is_some_and(|record| self.expired(record, now)) {
            return Swept::Kept;
        }
        let Some(record) = self.table.take(&key) else { return Swept::Kept };
        if !self.program.triggers.end || record.flags & flag::CLOSED != 0 {
            return Swept::Removed;
        }
        Swept::Judged(self.judge(Trigger::Idle, self.named_ends(key), key, &record, now, judge))
    }

    /// The hosts of a key one of which may be allowed; one that the key does not name is none.
    fn named_ends(&self, key: Key) -> (Host, Host) {
        match (self.program.key.has(KeyPart::Src), self.program.key.has(KeyPart::Dst)) {
            (true, false) => (key.a, key.a),
            (false, true) => (key.b, key.b),
            (true, true) | (false, false) => (key.a, key.b),
        }
    }
}
