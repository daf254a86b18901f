//! Captures made byte by byte, the shared captures, and damage of every kind.

use proptest::prelude::*;

use super::*;
use crate::ir::flow::testing;

const FRAME: [u8; 6] = [1, 2, 3, 4, 5, 6];

/// Number writers of one byte order.
struct Order {
    big: bool,
}

impl Order {
    fn u16(&self, value: u16) -> Vec<u8> {
        if self.big { value.to_be_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
    }

    fn u32(&self, value: u32) -> Vec<u8> {
        if self.big { value.to_be_bytes().to_vec() } else { value.to_le_bytes().to_vec() }
    }

    fn legacy(&self, magic: u32, link: u32, packets: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = [self.u32(magic), self.u16(2), self.u16(4)].concat();
        bytes.extend([self.u32(0), self.u32(0), self.u32(65_535), self.u32(link)].concat());
        for (seconds, fraction) in packets {
            bytes.extend([self.u32(*seconds), self.u32(*fraction), self.u32(6), self.u32(60)].concat());
            bytes.extend(FRAME);
        }
        bytes
    }

    fn block(&self, kind: u32, body: &[u8]) -> Vec<u8> {
        let length = self.u32(12 + body.len() as u32);
        [&self.u32(kind), &length, body, &length].concat()
    }

    fn section(&self) -> Vec<u8> {
        let body = [self.u32(0x1a2b_3c4d), self.u16(1), self.u16(0), vec![0xff; 8]].concat();
        self.block(0x0a0d_0d0a, &body)
    }

    fn interface(&self, link: u16, options: &[u8]) -> Vec<u8> {
        self.block(1, &[&self.u16(link)[..], &[0, 0], &self.u32(0), options].concat())
    }

    fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [self.u16(code), self.u16(value.len() as u16), value.to_vec()].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn enhanced(&self, interface: u32, ticks: u64) -> Vec<u8> {
        let numbers = [interface, (ticks >> 32) as u32, ticks as u32, 6, 60];
        let mut body: Vec<u8> = numbers.iter().flat_map(|n| self.u32(*n)).collect();
        body.extend(FRAME);
        body.extend([0, 0]);
        self.block(6, &body)
    }
}

fn code(result: Outcome<Capture<'_>>) -> &'static str {
    result.unwrap_err()[0].code.id
}

#[test]
fn reads_both_precisions_in_both_byte_orders() {
    for big in [false, true] {
        for (magic, unit) in [(0xa1b2_c3d4, 1_000), (0xa1b2_3c4d, 1)] {
            let bytes = Order { big }.legacy(magic, 1, &[(7, 8), (9, 10)]);
            let capture = read("t", &bytes).unwrap();
            let times: Vec<u64> = capture.packets.iter().map(|p| p.ts_ns).collect();
            assert_eq!(times, [7_000_000_000 + 8 * unit, 9_000_000_000 + 10 * unit]);
            assert_eq!(capture.packets[1].data, FRAME);
            assert_eq!((capture.packets[1].number, capture.packets[1].original_len), (2, 60));
            assert_eq!((capture.damage, capture.not_ethernet), (None, 0));
        }
    }
}

#[test]
fn reads_interfaces_with_their_own_clocks() {
    for big in [false, true] {
        let order = Order { big };
        let offset = 100_u64;
        let offset = if big { offset.to_be_bytes() } else { offset.to_le_bytes() };
        let bytes = [
            order.section(),
            order.interface(1, &[]),
            order.interface(
                1,
                &[order.option(9, &[9]), order.option(14, &offset), order.option(0, &[])].concat(),
            ),
            order.interface(1, &[order.option(9, &[0x8a]), order.option(0, &[])].concat()),
            order.interface(113, &[]),
            order.block(0x0bad, &[1, 2, 3, 4]),
            order.enhanced(0, 5),
            order.enhanced(1, 1 << 33),
            order.enhanced(2, 1536),
            order.enhanced(3, 1),
            order.enhanced(0, 6),
            // A new section forgets the interfaces.
            order.section(),
            order.interface(1, &[]),
            order.enhanced(0, 9),
        ]
        .concat();
        let capture = read("t", &bytes).unwrap();
        let packets: Vec<(u64, u64)> = capture.packets.iter().map(|p| (p.number, p.ts_ns)).collect();
        assert_eq!(
            packets,
            [(1, 5_000), (2, 100_000_000_000 + (1 << 33)), (3, 1_500_000_000), (5, 6_000), (6, 9_000)]
        );
        assert_eq!((capture.damage, capture.not_ethernet), (None, 1));
        assert_eq!(capture.packets[0].data, FRAME);
    }
}

#[test]
fn refuses_what_is_not_a_capture() {
    for bytes in [&b""[..], b"a", b"%PDF-1.7", &[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd, 0]] {
        let result = read("t", bytes);
        assert!(!result.as_ref().unwrap_err()[0].help.is_empty());
        assert_eq!(code(result), "E0601");
    }
}

#[test]
fn names_every_link_type_of_a_capture_without_ethernet() {
    let order = Order { big: false };
    assert_eq!(code(read("t", &order.legacy(0xa1b2_c3d4, 113, &[(0, 0)]))), "E0603");
    let bytes = [order.section(), order.interface(9, &[]), order.interface(101, &[])].concat();
    let refusals = read("t", &bytes).unwrap_err();
    let messages: Vec<&str> = refusals.iter().map(|d| d.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "the capture has link type 9 (PPP), not Ethernet",
            "the capture has link type 101 (raw IP), not Ethernet"
        ]
    );
}

#[test]
fn keeps_the_packets_before_a_cut() {
    let order = Order { big: false };
    let legacy = order.legacy(0xa1b2_c3d4, 1, &[(1, 0), (2, 0)]);
    let modern =
        [order.section(), order.interface(1, &[]), order.enhanced(0, 1), order.enhanced(0, 2)].concat();
    for (bytes, starts) in [(&legacy, [24, 46, 68]), (&modern, [48, 88, 128])] {
        for len in 4..bytes.len() {
            let whole = starts.iter().filter(|start| **start <= len).count().saturating_sub(1);
            match read("t", &bytes[..len]) {
                Err(refusals) => {
                    assert_eq!((whole, refusals[0].code.id), (0, "E0602"), "{len}");
                }
                Ok(capture) => {
                    assert_eq!(capture.packets.len(), whole, "{len}");
                    let at_boundary = starts.contains(&len) || len == 28;
                    assert_eq!(capture.damage.map(|d| d.code.id), (!at_boundary).then_some("E0602"), "{len}");
                }
            }
        }
    }
}

#[test]
fn says_where_a_file_contradicts_itself() {
    let order = Order { big: false };
    let start = [order.section(), order.interface(1, &[]), order.enhanced(0, 1)].concat();
    let with = |block: Vec<u8>| read("t", &[start.clone(), block].concat()).unwrap().damage.unwrap();
    let mut lengths = order.enhanced(0, 2);
    lengths[36] ^= 1;
    let simple = order.block(3, &[6, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0]);
    let resolution = order.interface(1, &[order.option(9, &[77]), order.option(0, &[])].concat());
    for (block, cause) in [
        (lengths, "a block contradicts itself"),
        (order.enhanced(5, 2), "interface 5"),
        (order.enhanced(0, u64::MAX), "a time stamp"),
        (simple, "a simple packet block"),
        (resolution, "time resolution 0x4d"),
    ] {
        let damage = with(block);
        assert_eq!(damage.code.id, "E0604");
        assert!(damage.message.contains(cause), "{}", damage.message);
        assert_eq!(damage.origin, Origin::Packet { file: "t".to_owned(), packet: 2 });
        assert_eq!(damage.notes, ["the 1 packets before it are used"]);
    }
    assert_eq!(code(read("t", &[order.section(), order.enhanced(0, 1)].concat())), "E0604");
}

#[test]
fn reads_every_shared_capture() {
    for listed in testing::captures("reads_every_shared_capture") {
        match read(&listed.file, &listed.bytes) {
            Ok(capture) => {
                assert!(listed.ethernet, "{}", listed.file);
                assert_eq!(capture.packets.len(), listed.packets, "{}", listed.file);
                assert_eq!(capture.damage, None, "{}", listed.file);
            }
            Err(refusals) => {
                assert!(!listed.ethernet, "{}: {refusals:?}", listed.file);
                assert!(refusals.iter().all(|d| d.code.id == "E0603"), "{}", listed.file);
            }
        }
    }
}

proptest! {
    /// Whatever happens to the bytes of a capture, reading it returns.
    #[test]
    fn damage_never_panics(
        big: bool,
        modern: bool,
        flips in prop::collection::vec((0_usize..160, any::<u8>()), 1..6),
        len in 4_usize..160,
    ) {
        let order = Order { big };
        let mut bytes = if modern {
            let options = [order.option(9, &[6]), order.option(0, &[])].concat();
            [order.section(), order.interface(1, &options), order.enhanced(0, 1), order.enhanced(0, 2)].concat()
        } else {
            order.legacy(0xa1b2_c3d4, 1, &[(1, 0), (2, 0), (3, 0)])
        };
        for (at, value) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(len);
        crate::withstand::captured(&bytes);
        if let Ok(capture) = read("t", &bytes) {
            prop_assert!(capture.packets.len() <= 3);
        }
    }
}
