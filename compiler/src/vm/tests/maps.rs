//! Maps, from programs and from the host.

use super::*;
use crate::bpf::asm::*;
use crate::bpf::{Helper, Label, Size};
use crate::vm::{MapError, UpdateMode, Vm};

/// A module whose program reads its wish from the packet: byte 0 says lookup (0), update (1) or delete (2), byte 1
/// holds the flags, bytes 8.. the key (up to 8 bytes) and bytes 16..24 the value. A lookup gives the value's first
/// eight bytes, or −1 where there is none.
pub(super) fn operations(kind: MapKind, key: u32, max_entries: u32) -> Module {
    let (update, delete, found, short) = (Label(0), Label(1), Label(2), Label(3));
    Module {
        maps: vec![map("m", kind, key, 8, max_entries)],
        ..main(vec![
            mov(R0, -2),
            ldx(Size::W, R6, R1, 0),
            ldx(Size::W, R2, R1, 4),
            mov(R3, R6),
            add(R3, 24),
            jgt(R3, R2, short),
            ldx(Size::DW, R0, R6, 8),
            stx(Size::DW, Reg::FP, -8, R0),
            ldx(Size::DW, R0, R6, 16),
            stx(Size::DW, Reg::FP, -16, R0),
            ld_map(R1, "m"),
            mov(R2, Reg::FP),
            add(R2, -8),
            mov(R3, Reg::FP),
            add(R3, -16),
            ldx(Size::B, R4, R6, 1),
            ldx(Size::B, R0, R6, 0),
            jeq(R0, 1, update),
            jeq(R0, 2, delete),
            call(Helper::MapLookup),
            jne(R0, 0, found),
            mov(R0, -1),
            exit(),
            label(found),
            ldx(Size::DW, R0, R0, 0),
            exit(),
            label(update),
            call(Helper::MapUpdate),
            exit(),
            label(delete),
            call(Helper::MapDelete),
            label(short),
            exit(),
        ])
    }
}

/// The packet that [`operations`] reads.
pub(super) fn wish(what: u8, flags: u8, key: u64, value: u64) -> Vec<u8> {
    let mut packet = vec![what, flags, 0, 0, 0, 0, 0, 0];
    packet.extend(key.to_le_bytes());
    packet.extend(value.to_le_bytes());
    packet
}

struct Driver(Vm);

impl Driver {
    fn new(kind: MapKind, key: u32, max_entries: u32) -> Self {
        Self(Vm::new(&operations(kind, key, max_entries)).unwrap())
    }

    fn run(&mut self, what: u8, flags: u8, key: u64, value: u64) -> i64 {
        self.0.run("main", &mut wish(what, flags, key, value), 0).unwrap().ret.cast_signed()
    }

    fn get(&mut self, key: u64) -> i64 {
        self.run(0, 0, key, 0)
    }

    fn set(&mut self, key: u64, value: u64) -> i64 {
        self.run(1, 0, key, value)
    }

    fn delete(&mut self, key: u64) -> i64 {
        self.run(2, 0, key, 0)
    }
}

const NO_EXIST: u8 = 1;
const EXIST: u8 = 2;

#[test]
fn arrays() {
    for kind in [MapKind::Array, MapKind::PerCpuArray] {
        let mut map = Driver::new(kind, 4, 3);
        assert_eq!(map.get(2), 0);
        assert_eq!(map.set(2, 5), 0);
        assert_eq!(map.get(2), 5);
        assert_eq!(map.get(3), -1);
        assert_eq!(map.set(3, 5), -7);
        assert_eq!(map.run(1, NO_EXIST, 2, 5), -17);
        assert_eq!(map.run(1, 9, 2, 5), -22);
        assert_eq!(map.delete(2), -22);
        let mut host = map.0.map("m").unwrap();
        host.at_mut(0).unwrap()[0] = 9;
        assert_eq!(host.at(2).unwrap(), 5_u64.to_le_bytes());
        assert_eq!(host.at(3), None);
        assert_eq!(host.entries().len(), 3);
        assert_eq!(map.get(0), 9);
    }
}

#[test]
fn hashes() {
    let mut map = Driver::new(MapKind::Hash, 8, 2);
    assert_eq!(map.get(1), -1);
    assert_eq!(map.run(1, EXIST, 1, 10), -2);
    assert_eq!(map.run(1, NO_EXIST, 1, 10), 0);
    assert_eq!(map.run(1, NO_EXIST, 1, 11), -17);
    assert_eq!(map.run(1, EXIST, 1, 12), 0);
    assert_eq!(map.get(1), 12);
    assert_eq!(map.set(2, 20), 0);
    assert_eq!(map.set(3, 30), -7);
    assert_eq!(map.delete(1), 0);
    assert_eq!(map.delete(1), -2);
    assert_eq!(map.set(3, 30), 0);
    assert_eq!((map.get(1), map.get(2), map.get(3)), (-1, 20, 30));
    let mut host = map.0.map("m").unwrap();
    let key = |key: u64| key.to_le_bytes();
    assert_eq!(host.update(&key(4), &key(0), UpdateMode::Any), Err(MapError::TooBig));
    assert_eq!(host.update(&key(4)[..7], &key(0), UpdateMode::Any), Err(MapError::Invalid));
    assert_eq!(host.update(&key(2), &key(0)[..7], UpdateMode::Any), Err(MapError::Invalid));
    assert_eq!(host.update(&key(2), &key(21), UpdateMode::NoExist), Err(MapError::Exists));
    assert_eq!(host.get(&key(2)).unwrap(), key(20));
    let entries: Vec<_> = [(2_u64, 20_u64), (3, 30)].map(|(k, v)| (key(k).to_vec(), key(v).to_vec())).into();
    assert_eq!(host.entries(), entries);
    assert_eq!(host.delete(&key(3)), Ok(()));
    assert_eq!(host.get(&key(3)), None);
}

#[test]
fn eviction_takes_the_least_recently_used() {
    let mut map = Driver::new(MapKind::LruHash, 8, 3);
    for key in 1..=3 {
        assert_eq!(map.set(key, key * 10), 0);
    }
    // The program uses 1, the host reads 2, which is no use: 2 goes.
    assert_eq!(map.get(1), 10);
    assert!(map.0.map("m").unwrap().get(&2_u64.to_le_bytes()).is_some());
    assert_eq!(map.set(4, 40), 0);
    assert_eq!(map.get(2), -1);
    // Now the order is 3, 1, 4; an update is a use.
    assert_eq!(map.set(3, 31), 0);
    assert_eq!(map.set(5, 50), 0);
    assert_eq!(map.get(1), -1);
    assert_eq!((map.get(3), map.get(4), map.get(5)), (31, 40, 50));
    // A deleted element is used before anything is evicted.
    assert_eq!(map.delete(4), 0);
    assert_eq!(map.set(6, 60), 0);
    assert_eq!((map.get(3), map.get(5), map.get(6)), (31, 50, 60));
}

#[test]
fn eviction_agrees_with_a_plain_list() {
    let mut map = Driver::new(MapKind::LruHash, 8, 7);
    let mut model: Vec<(u64, u64)> = Vec::new();
    let mut seed = 1_u64;
    for step in 0..5000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let key = (seed >> 33) % 12;
        let known = model.iter().position(|(k, _)| *k == key);
        match (seed >> 50) % 4 {
            0 => {
                assert_eq!(map.delete(key), if known.is_some() { 0 } else { -2 });
                known.map(|at| model.remove(at));
            }
            1 => {
                let value = known.map(|at| model.remove(at));
                assert_eq!(map.get(key), value.map_or(-1, |(_, value)| value as i64));
                model.extend(value);
            }
            _ => {
                assert_eq!(map.set(key, step), 0);
                match known {
                    Some(at) => drop(model.remove(at)),
                    None if model.len() == 7 => drop(model.remove(0)),
                    None => {}
                }
                model.push((key, step));
            }
        }
    }
    let mut expected: Vec<_> =
        model.iter().map(|(k, v)| (k.to_le_bytes().to_vec(), v.to_le_bytes().to_vec())).collect();
    expected.sort();
    assert_eq!(map.0.map("m").unwrap().entries(), expected);
}

#[test]
fn prefixes() {
    // Keys of 32 bits of length and four bytes of data, as the driver's 64-bit key: length low, data high.
    let prefix = |length: u64, data: [u8; 4]| length | u64::from(u32::from_le_bytes(data)) << 32;
    let mut map = Driver::new(MapKind::LpmTrie, 8, 3);
    assert_eq!(map.set(prefix(8, [10, 0, 0, 0]), 8), 0);
    assert_eq!(map.set(prefix(12, [10, 0x1f, 0, 0]), 12), 0);
    assert_eq!(map.get(prefix(32, [10, 0x12, 3, 4])), 12);
    assert_eq!(map.get(prefix(32, [10, 0x22, 3, 4])), 8);
    assert_eq!(map.get(prefix(32, [11, 0, 0, 0])), -1);
    // The lookup's own length bounds the match.
    assert_eq!(map.get(prefix(9, [10, 0x12, 0, 0])), 8);
    assert_eq!(map.set(prefix(33, [0; 4]), 1), -22);
    assert_eq!(map.run(1, NO_EXIST, prefix(12, [10, 0x10, 9, 9]), 1), -17);
    assert_eq!(map.set(prefix(0, [0; 4]), 1), 0);
    assert_eq!(map.set(prefix(1, [0; 4]), 1), -28);
    assert_eq!(map.get(prefix(32, [11, 0, 0, 0])), 1);
    assert_eq!(map.delete(prefix(12, [10, 0x10, 0, 0])), 0);
    assert_eq!(map.delete(prefix(12, [10, 0x10, 0, 0])), -2);
    assert_eq!(map.get(prefix(32, [10, 0x12, 3, 4])), 8);
}

#[test]
fn ring_buffers() {
    let module = Module {
        maps: vec![map("events", MapKind::RingBuf, 0, 0, 4096)],
        ..main(vec![
            stx(Size::DW, Reg::FP, -16, 7),
            stx(Size::DW, Reg::FP, -8, 8),
            ld_map(R1, "events"),
            mov(R2, Reg::FP),
            add(R2, -16),
            mov(R3, 13),
            mov(R4, 0),
            call(Helper::RingbufOutput),
            exit(),
        ])
    };
    let mut vm = Vm::new(&module).unwrap();
    let run = |vm: &mut Vm| vm.run("main", &mut Vec::new(), 0).unwrap().ret.cast_signed();
    // Header and padding make 24 bytes of each record.
    for _ in 0..4095 / 24 {
        assert_eq!(run(&mut vm), 0);
    }
    assert_eq!(run(&mut vm), -11);
    let records = vm.map("events").unwrap().records();
    assert_eq!(records.len(), 170);
    assert_eq!(records[0], [7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]);
    assert_eq!(run(&mut vm), 0);
    assert_eq!(vm.map("events").unwrap().records().len(), 1);
}
