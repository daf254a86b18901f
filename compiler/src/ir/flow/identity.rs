//! Whether one flow program can go on with the records of another.
//!
//! Two programs that agree on everything here find the same record for a packet and mean the same by each of its
//! bytes. Names, features, triggers, rules and the idle time may differ as long as records keep the same times: they
//! say what is made of a record.

use sha2::{Digest as _, Sha256};

use super::side::TableId;
use super::{FlowProgram, SlotId};
use crate::spec::typed::{Filter, Scope};

impl FlowProgram {
    /// SHA-256 of what records are and of how packets change them. Which times are kept is part of it.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut say = |text: String| hash.update(text + "\n");
        if self.scope == Scope::Packet {
            say("no records".to_owned());
            return hash.finalize().into();
        }
        say(format!("{:?} {:?} {:?} {}", self.key, self.directions, self.record, self.sample_limit));
        self.say_state(None, &mut say);
        hash.finalize().into()
    }

    /// The same of the records of each further table, by the name of the table.
    #[must_use]
    pub fn side_identities(&self) -> Vec<(&str, [u8; 32])> {
        let mut identities = Vec::new();
        for (id, table) in self.side_tables() {
            let mut hash = Sha256::new();
            let mut say = |text: String| hash.update(text + "\n");
            // Directions are those of packets in the flow's records.
            say(format!("{:?} {:?} {:?} {}", table.key, self.key, self.directions, self.sample_limit));
            self.say_state(Some(id), &mut say);
            identities.push((table.name.as_str(), hash.finalize().into()));
        }
        identities
    }

    /// The slots of a table's records and what changes them. Slots are numbered within their table, so that another
    /// table changes nothing here.
    fn say_state(&self, table: Option<TableId>, say: &mut impl FnMut(String)) {
        let number = |slot: SlotId| {
            let before = self.slots_of(table).take_while(|(other, _)| *other != slot).count();
            SlotId(u32::try_from(before).unwrap_or(u32::MAX))
        };
        for (_, slot) in self.slots_of(table) {
            say(format!("slot {:?} {:?} {}", slot.kind, slot.width, slot.offset));
        }
        for (id, window) in self.windows_of(table) {
            let pane = number(window.pane);
            say(format!("window {} {pane:?} {} {}", window.length.0, window.start, window.stride));
            for group in self.groups.iter().filter(|group| group.place == window.place(id)) {
                say(format!("in window {:?}", group.updates.first().map(|update| number(update.slot))));
            }
        }
        for group in self.groups.iter().filter(|group| group.place.table == table) {
            let Filter { direction, flags_set, flags_clear, rest } = &group.guard;
            // As one derived text: records of objects that were made before conditions had a rest go on.
            let guard = format!(
                "Filter {{ direction: {direction:?}, flags_set: {flags_set}, flags_clear: {flags_clear} }}"
            );
            say(format!("group {guard} {:?}", group.clock.map(number)));
            if !rest.is_always() {
                say(format!("condition {rest:?}"));
            }
            for update in &group.updates {
                say(format!("update {:?} {:?} {:?}", number(update.slot), update.op, update.sample));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::ir::flow::build;
    use crate::spec;

    fn identity(flow: &str, features: &str) -> [u8; 32] {
        let source = format!(
            "spec s v1;\nattach xdp;\nflow conn on udp {{ {flow} }}\nfeatures of conn {{ {features} }}\n\
             model {{ labels benign, attack; }}\nclassify conn at every packet;\non attack {{ report; }}\n"
        );
        build(&spec::compile("s.spec", &source).unwrap()).unwrap().identity()
    }

    #[test]
    fn records_are_the_same_or_not() {
        const FLOW: &str = "key five_tuple bidirectional; capacity 64 evict lru; idle 60 s; end never;";
        let one = identity(FLOW, "longest = max(l4.payload_len) in 0..1500;");
        // Another name, another idle time, another range.
        assert_eq!(identity(FLOW, "most = max(l4.payload_len) in 0..900;"), one);
        assert_eq!(
            identity(
                "key five_tuple bidirectional; capacity 64 evict lru; idle 9 s; end never;",
                "longest = max(l4.payload_len) in 0..1500;"
            ),
            one
        );
        // Another aggregate, another field, other keys.
        assert_ne!(identity(FLOW, "longest = min(l4.payload_len) in 0..1500;"), one);
        assert_ne!(identity(FLOW, "longest = max(l4.len) in 0..1500;"), one);
        assert_ne!(
            identity(
                "key five_tuple directional; capacity 64 evict lru; idle 60 s; end never;",
                "longest = max(l4.payload_len) in 0..1500;"
            ),
            one
        );
        let pairs = |key: &str| {
            let flow = format!("key {key}; capacity 64 evict lru; idle 60 s; end never;");
            identity(&flow, "longest = max(l4.payload_len) in 0..1500;")
        };
        assert_ne!(pairs("ip.src, ip.dst directional"), pairs("ip.src, ip.dst, ip.proto directional"));
        assert_ne!(pairs("ip.src"), pairs("ip.dst"));
        assert_eq!(pairs("ip.src, ip.dst, l4.src_port, l4.dst_port, ip.proto"), one);
    }
}
