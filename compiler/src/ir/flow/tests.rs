//! The flow program's own invariants.

use super::*;

#[test]
fn counters_are_their_indices() {
    for (index, counter) in Counter::all().enumerate() {
        assert_eq!(counter.index() as usize, index);
    }
    assert_eq!(Counter::all().count(), Counter::COUNT as usize);
}
