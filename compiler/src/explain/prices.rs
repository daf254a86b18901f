//! Nanoseconds of each kind of work, from the kernel's own test runs (`cargo xtask prices`).
//!
//! Helpers cost what they cost alone. Instructions cost what they add to a packet: a processor that executes several
//! at once hides a part of what each takes in a row of its like. `docs/costs.md` has the run, and how far estimates
//! are from measured packets. Caches are warm in a test run: a table that is larger than the caches costs memory
//! accesses more for each lookup.

use super::work::Class;
use crate::bpf::module::MapKind;

/// Nanoseconds of one piece of work.
#[must_use]
pub fn price(class: Class) -> f64 {
    match class {
        Class::Simple => 0.05,
        Class::Multiply => 0.15,
        Class::Divide => 0.8,
        Class::Load => 0.08,
        Class::Store => 0.05,
        Class::Atomic => 1.2,
        Class::Jump => 0.06,
        Class::Function => 5.0,
        Class::Lookup { map, key, found } => lookup(map, key, found),
        Class::Update { map, key, value } => update(map, key, value),
        Class::Delete { map: _ } => 60.0,
        Class::Clock => 31.8,
        Class::Event => 60.0,
        Class::TailCall => 1.3,
        Class::Context => 1.0,
    }
}

/// The hash of a key takes time for each of its bytes.
fn lookup(map: MapKind, key: u32, found: bool) -> f64 {
    match map {
        MapKind::Array | MapKind::PerCpuArray | MapKind::ProgArray => 0.5,
        MapKind::Hash | MapKind::LruHash if found => 26.3 + 0.22 * f64::from(key),
        MapKind::Hash | MapKind::LruHash => 18.3 + 0.16 * f64::from(key),
        MapKind::LpmTrie => 20.0,
        MapKind::RingBuf => 0.0,
    }
}

/// A new entry in a full table: it evicts another.
fn update(map: MapKind, key: u32, value: u32) -> f64 {
    match map {
        MapKind::Array | MapKind::PerCpuArray | MapKind::ProgArray => 5.0,
        MapKind::Hash => 95.0 + 0.25 * f64::from(key) + 0.1 * f64::from(value),
        MapKind::LruHash => 300.0 + 0.25 * f64::from(key) + 0.5 * f64::from(value),
        MapKind::LpmTrie => 200.0,
        MapKind::RingBuf => 0.0,
    }
}
