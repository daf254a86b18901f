//! Whether one flow program can go on with the records of another.
//!
//! Two programs that agree on everything here find the same record for a packet and mean the same by each of its
//! bytes. Names, features, triggers, rules and the idle time may differ: they say what is made of a record.

use sha2::{Digest as _, Sha256};

use super::FlowProgram;
use crate::spec::typed::Filter;

impl FlowProgram {
    /// SHA-256 of what records are and of how packets change them.
    #[must_use]
    pub fn identity(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let mut say = |text: String| hash.update(text + "\n");
        say(format!("{:?} {:?} {:?} {}", self.key, self.directions, self.record, self.sample_limit));
        for slot in &self.slots {
            say(format!("slot {:?} {:?} {}", slot.kind, slot.width, slot.offset));
        }
        for group in &self.groups {
            let Filter { direction, flags_set, flags_clear, rest } = &group.guard;
            // As one derived text: records of objects that were made before conditions had a rest go on.
            let guard = format!(
                "Filter {{ direction: {direction:?}, flags_set: {flags_set}, flags_clear: {flags_clear} }}"
            );
            say(format!("group {guard} {:?}", group.clock));
            if !rest.is_always() {
                say(format!("condition {rest:?}"));
            }
            for update in &group.updates {
                say(format!("update {:?} {:?} {:?}", update.slot, update.op, update.sample));
            }
        }
        hash.finalize().into()
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
