//! Reads the reference outputs (`.npz`): ZIP directory, inflate, `.npy` header. For tests only.

use std::collections::BTreeMap;

/// An array of the archive.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) values: Values,
}

#[derive(Debug)]
pub(super) enum Values {
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

impl Array {
    pub(super) fn numbers(&self) -> &[f64] {
        match &self.values {
            Values::Numbers(numbers) => numbers,
            Values::Texts(_) => panic!("an array of texts where numbers were expected"),
        }
    }

    /// As class labels.
    pub(super) fn labels(&self) -> Vec<String> {
        match &self.values {
            Values::Numbers(numbers) => numbers.iter().map(ToString::to_string).collect(),
            Values::Texts(texts) => texts.clone(),
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Every array by its name without `.npy`.
pub(super) fn read(bytes: &[u8]) -> BTreeMap<String, Array> {
    let end = bytes.windows(4).rposition(|window| window == b"PK\x05\x06").expect("end of the directory");
    let (count, mut at) = (u16_at(bytes, end + 10), u32_at(bytes, end + 16));
    let mut arrays = BTreeMap::new();
    for _ in 0..count {
        let (method, packed) = (u16_at(bytes, at + 10), u32_at(bytes, at + 20));
        let (name, extra, comment) = (u16_at(bytes, at + 28), u16_at(bytes, at + 30), u16_at(bytes, at + 32));
        let local = u32_at(bytes, at + 42);
        let file = String::from_utf8(bytes[at + 46..at + 46 + name].to_vec()).unwrap();
        let start = local + 30 + u16_at(bytes, local + 26) + u16_at(bytes, local + 28);
        let data = &bytes[start..start + packed];
        let plain = if method == 8 { inflate(data) } else { data.to_vec() };
        arrays.insert(file.trim_end_matches(".npy").to_owned(), npy(&plain));
        at += 46 + name + extra + comment;
    }
    arrays
}

fn npy(bytes: &[u8]) -> Array {
    assert_eq!(&bytes[..6], b"\x93NUMPY");
    let (length, start) = if bytes[6] == 1 { (u16_at(bytes, 8), 10) } else { (u32_at(bytes, 8), 12) };
    let header = String::from_utf8_lossy(&bytes[start..start + length]).into_owned();
    let data = &bytes[start + length..];
    let between = |from: &str, to: char| {
        let rest = &header[header.find(from).expect("a known header") + from.len()..];
        rest[..rest.find(to).unwrap()].to_owned()
    };
    assert!(header.contains("'fortran_order': False"));
    let kind = between("'descr': '", '\'');
    let numbers = |size: usize, decode: &dyn Fn(&[u8]) -> f64| {
        Values::Numbers(data.chunks_exact(size).map(decode).collect())
    };
    let values = match kind.as_str() {
        "<f4" => numbers(4, &|word| f64::from(f32::from_le_bytes(word.try_into().unwrap()))),
        "<f8" => numbers(8, &|word| f64::from_le_bytes(word.try_into().unwrap())),
        "<i8" => numbers(8, &|word| i64::from_le_bytes(word.try_into().unwrap()) as f64),
        "<i4" => numbers(4, &|word| f64::from(i32::from_le_bytes(word.try_into().unwrap()))),
        "|b1" | "|u1" => numbers(1, &|word| f64::from(word[0])),
        "|i1" => numbers(1, &|word| f64::from(word[0] as i8)),
        "<f2" => numbers(2, &|word| crate::onnx::tensor::half(u16::from_le_bytes(word.try_into().unwrap()))),
        text if text.starts_with("<U") => {
            let size: usize = text[2..].parse().unwrap();
            let decode = |cell: &[u8]| {
                let letters = cell.chunks_exact(4).filter_map(|word| char::from_u32(u32_at(word, 0) as u32));
                letters.filter(|letter| *letter != '\0').collect()
            };
            Values::Texts(data.chunks_exact(4 * size).map(decode).collect())
        }
        "|O" => Values::Texts(pickled(data)),
        other => panic!("element type {other} of a reference array"),
    };
    Array { values }
}

/// The texts of a pickled array of objects, each written in full.
fn pickled(bytes: &[u8]) -> Vec<String> {
    let mut at = bytes.windows(3).position(|window| window == b"]\x94(").expect("a list of objects") + 3;
    let mut texts = Vec::new();
    while bytes[at] == 0x8c {
        let length = usize::from(bytes[at + 1]);
        texts.push(String::from_utf8(bytes[at + 2..at + 2 + length].to_vec()).unwrap());
        assert_eq!(bytes[at + 2 + length], 0x94, "new objects enter the memo");
        at += 3 + length;
    }
    assert_eq!(bytes[at], b'e', "a list of new texts only");
    texts
}

/// Bits of a DEFLATE stream, least significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        (0..count).fold(0, |value, bit| {
            let next = usize::from(self.bytes[self.at / 8] >> (self.at % 8) & 1);
            self.at += 1;
            value | next << bit
        })
    }
}

/// Canonical code: number of codes per length, symbols in order.
struct Huffman {
    counts: [usize; 16],
    symbols: Vec<usize>,
}

impl Huffman {
    fn new(lengths: &[usize]) -> Self {
        let mut counts = [0; 16];
        lengths.iter().for_each(|&length| counts[length] += 1);
        counts[0] = 0;
        let mut symbols: Vec<usize> = (0..lengths.len()).filter(|&symbol| lengths[symbol] > 0).collect();
        symbols.sort_by_key(|&symbol| lengths[symbol]);
        Self { counts, symbols }
    }

    fn decode(&self, bits: &mut Bits<'_>) -> usize {
        let (mut code, mut first, mut index) = (0, 0, 0);
        for count in &self.counts[1..] {
            code |= bits.take(1);
            if code < first + count {
                return self.symbols[index + code - first];
            }
            index += count;
            first = (first + count) << 1;
            code <<= 1;
        }
        panic!("damaged archive")
    }
}

/// RFC 1951.
fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut bits = Bits { bytes, at: 0 };
    let mut out = Vec::new();
    loop {
        let last = bits.take(1);
        match bits.take(2) {
            0 => {
                let start = bits.at.div_ceil(8);
                let length = u16_at(bytes, start);
                out.extend_from_slice(&bytes[start + 4..start + 4 + length]);
                bits.at = (start + 4 + length) * 8;
            }
            1 => {
                let mut lengths = vec![8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                codes(&mut bits, &mut out, &Huffman::new(&lengths), &Huffman::new(&[5; 30]));
            }
            2 => {
                let (literals, distances, used) = (bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4);
                let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
                let mut lengths = vec![0; 19];
                order[..used].iter().for_each(|&place: &usize| lengths[place] = bits.take(3));
                let code = Huffman::new(&lengths);
                let mut lengths = Vec::new();
                while lengths.len() < literals + distances {
                    let (value, repeat) = match code.decode(&mut bits) {
                        16 => (*lengths.last().unwrap(), 3 + bits.take(2)),
                        17 => (0, 3 + bits.take(3)),
                        18 => (0, 11 + bits.take(7)),
                        length => (length, 1),
                    };
                    lengths.extend(std::iter::repeat_n(value, repeat));
                }
                let (first, second) = lengths.split_at(literals);
                codes(&mut bits, &mut out, &Huffman::new(first), &Huffman::new(second));
            }
            _ => panic!("damaged archive"),
        }
        if last == 1 {
            return out;
        }
    }
}

fn codes(bits: &mut Bits<'_>, out: &mut Vec<u8>, literals: &Huffman, distances: &Huffman) {
    loop {
        let symbol = literals.decode(bits);
        match symbol {
            0..=255 => out.push(symbol as u8),
            256 => return,
            _ => {
                let length = match symbol - 257 {
                    code @ 0..=7 => code + 3,
                    28 => 258,
                    code => {
                        let extra = code / 4 - 1;
                        ((4 + code % 4) << extra) + 3 + bits.take(extra)
                    }
                };
                let distance = match distances.decode(bits) {
                    code @ 0..=3 => code + 1,
                    code => {
                        let extra = code / 2 - 1;
                        ((2 + code % 2) << extra) + 1 + bits.take(extra)
                    }
                };
                for _ in 0..length {
                    out.push(out[out.len() - distance]);
                }
            }
        }
    }
}
