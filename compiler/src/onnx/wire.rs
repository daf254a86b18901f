//! Counts the parts of a file before it is decoded: a part of two bytes becomes a hundred in memory.

/// Numbers of the fields that hold messages, for each message that holds others (`onnx.proto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Graph,
    Function,
    Node,
    Attribute,
    Tensor,
    Leaf,
}

impl Message {
    /// What a field of this message holds.
    const fn field(self, number: u64) -> Self {
        match (self, number) {
            (Self::Model, 7) | (Self::Attribute, 6) => Self::Graph,
            (Self::Model, 25) => Self::Function,
            (Self::Graph, 1) | (Self::Function, 7) => Self::Node,
            (Self::Node, 5) | (Self::Function, 11) => Self::Attribute,
            (Self::Graph, 5) | (Self::Attribute, 5) => Self::Tensor,
            _ => Self::Leaf,
        }
    }

    /// Quarters of a part that a field is. Packed numbers and bytes cost what they hold, and of a list of strings,
    /// such as trees have, each costs less than a part.
    const fn quarters(self, number: u64) -> usize {
        match (self, number) {
            (Self::Tensor, 4 | 5 | 7 | 9 | 10 | 11) | (Self::Attribute, 4 | 7 | 8) => 0,
            (Self::Attribute, 9) => 1,
            _ => 4,
        }
    }
}

/// Deepest nesting that is looked into; the decoder has a limit of its own.
const DEPTH: usize = 16;

/// How many nodes, attributes, names and other parts a file has, counted up to one more than `most`; four strings of
/// a list are one.
///
/// Damaged files are counted as far as they can be read.
pub(super) fn parts(bytes: &[u8], most: usize) -> usize {
    let mut count = 0;
    count_in(bytes, Message::Model, DEPTH, most.saturating_mul(4), &mut count);
    count.div_ceil(4)
}

fn count_in(mut bytes: &[u8], message: Message, depth: usize, most: usize, count: &mut usize) {
    while let Some((key, rest)) = varint(bytes) {
        if *count > most {
            return;
        }
        let number = key >> 3;
        bytes = match key & 7 {
            0 => match varint(rest) {
                Some((_, rest)) => rest,
                None => return,
            },
            1 => rest.get(8..).unwrap_or_default(),
            5 => rest.get(4..).unwrap_or_default(),
            2 => {
                let Some((length, rest)) = varint(rest) else { return };
                let Some((part, rest)) =
                    usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
                else {
                    return;
                };
                *count += message.quarters(number);
                let inner = message.field(number);
                if inner != Message::Leaf && depth > 0 {
                    count_in(part, inner, depth - 1, most, count);
                }
                rest
            }
            _ => return,
        };
    }
}

/// A number of seven bits a byte, and what follows.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * index).min(63);
        if byte < 0x80 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}
