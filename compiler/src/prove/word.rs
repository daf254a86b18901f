//! From the packed word of a dense layer to the values that are stored: both what code computes and what the IR says,
//! as functions of the word's bits.

use std::collections::HashMap;

use super::bdd::{Bits, Diagrams, Function, shl, shr};
use super::term::{Facts, Id, Node, Reason, Terms};
use crate::ir::{Lanes, Post};

/// Most operations that one value is followed through.
const MOST_STEPS: usize = 4096;
/// Deepest nesting of them.
const DEEPEST: usize = 512;

/// What is stored of a word: an element of so many bits that stands so far up in what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stored {
    pub(super) lane: usize,
    pub(super) shift: u32,
    pub(super) bits: u32,
}

/// Comparisons of stored values with what the IR says.
#[derive(Default)]
pub(super) struct Words {
    /// Outcomes by what was compared, with the word left out: thousands of registers are treated alike.
    known: HashMap<(Vec<u64>, Lanes, Stored), bool>,
    /// How many had to be computed, and the work that it took.
    pub(super) computed: usize,
    pub(super) work: usize,
}

impl Words {
    /// Whether the element of a stored term is the value that `post` makes of a lane of `word`.
    ///
    /// Facts that hold for the word may be used: its own, and that nothing stands above the lanes of a packed one,
    /// each of which holds its accumulator and half of the lane's range.
    pub(super) fn holds(
        &mut self,
        terms: &Terms,
        (stored, word): (Id, Id),
        (lanes, post): (Lanes, Post),
        place: Stored,
    ) -> Result<bool, Reason> {
        let facts = terms.facts(word);
        let shape = Shape::of(terms, word, stored)?;
        let mut key = shape.tokens;
        key.extend([
            facts.range.low.cast_unsigned(),
            facts.range.high.cast_unsigned(),
            facts.bits,
            u64::from(terms.as_constant(word).is_some()),
        ]);
        key.extend(match post {
            Post::Raw => [0, 0, 0],
            Post::Relu { shift, bits } => [1, u64::from(shift), u64::from(bits)],
            Post::Signed { shift, bits } => [2, u64::from(shift), u64::from(bits)],
        });
        let key = (key, lanes, place);
        if let Some(&outcome) = self.known.get(&key) {
            return Ok(outcome);
        }
        let (outcome, work) = compare(terms, (stored, word), facts, (lanes, post), place)?;
        self.computed += 1;
        self.work += work;
        self.known.insert(key, outcome);
        Ok(outcome)
    }
}

/// The outcome, and the work that it took.
fn compare(
    terms: &Terms,
    (stored, word): (Id, Id),
    facts: Facts,
    (lanes, post): (Lanes, Post),
    place: Stored,
) -> Result<(bool, usize), Reason> {
    let mut diagrams = Diagrams::new();
    let used: u32 = lanes.widths().sum();
    let lanes_end =
        if lanes.packed() { u64::MAX.checked_shr(64 - used.min(64)).unwrap_or(0) } else { u64::MAX };
    let possible = facts.bits & lanes_end;
    let mut bits = [Function::NEVER; 64];
    for (bit, place) in (0u8..).zip(&mut bits) {
        if possible >> bit & 1 == 1 {
            *place = diagrams.bit(bit);
        }
    }
    let range = facts.range;
    // Where a fact does not hold, nothing has to be shown.
    let low = Diagrams::constant(range.low.cast_unsigned());
    let high = Diagrams::constant(range.high.cast_unsigned());
    let (below, above) = (diagrams.less(&bits, &low), diagrams.less(&high, &bits));
    let outside = diagrams.or(below, above);
    let inside = diagrams.not(outside);

    let mut follow = Follow { terms, word, bits, diagrams, done: HashMap::new() };
    let got = follow.term(stored, 0)?;
    let mut diagrams = follow.diagrams;
    let got = shr(&got, place.shift as usize, Function::NEVER);
    let wanted = expected(&mut diagrams, &bits, lanes, post, place.lane);
    let differs = diagrams.zip(&got, &wanted, Diagrams::xor);
    let mut same = true;
    for &bit in differs.iter().take(place.bits as usize) {
        same &= diagrams.and(bit, inside) == Function::NEVER;
    }
    if diagrams.overflown() {
        return Err("is too intricate a function of the accumulator".to_owned());
    }
    Ok((same, diagrams.work()))
}

/// What the IR says: the accumulator of a lane through the post-operation.
fn expected(diagrams: &mut Diagrams, word: &Bits, lanes: Lanes, post: Post, lane: usize) -> Bits {
    let acc = if lanes.packed() {
        // The lane holds the accumulator and half of its range, so that its top bit is the sign turned round.
        let (start, bits) = (lanes.start(lane) as usize, lanes.bits(lane) as usize);
        let field = shr(word, start, Function::NEVER);
        let top = field.get(bits - 1).copied().unwrap_or(Function::NEVER);
        let sign = diagrams.not(top);
        let mut acc = [sign; 64];
        for (place, bit) in acc.iter_mut().zip(field).take(bits - 1) {
            *place = bit;
        }
        acc
    } else {
        *word
    };
    let [.., sign] = acc;
    match post {
        Post::Raw => acc,
        Post::Relu { shift, bits } => {
            let zero = [Function::NEVER; 64];
            let positive = diagrams.choose_all(sign, &zero, &acc);
            let shifted = shr(&positive, usize::from(shift), Function::NEVER);
            let beyond = shifted.iter().skip(usize::from(bits));
            let over = beyond.fold(Function::NEVER, |over, &bit| diagrams.or(over, bit));
            let top = Diagrams::constant((1 << bits) - 1);
            diagrams.choose_all(over, &top, &shifted)
        }
        Post::Signed { shift, bits } => {
            let shifted = shr(&acc, usize::from(shift), sign);
            // The value fits where all bits from its own sign upwards are alike.
            let mut alike = Function::ALWAYS;
            for &bit in shifted.iter().skip(usize::from(bits) - 1) {
                let differs = diagrams.xor(bit, sign);
                let same = diagrams.not(differs);
                alike = diagrams.and(alike, same);
            }
            let top = (1u64 << (bits - 1)) - 1;
            let limit = diagrams.choose_all(sign, &Diagrams::constant(!top), &Diagrams::constant(top));
            diagrams.choose_all(alike, &shifted, &limit)
        }
    }
}

/// The operations between a word and a term, as numbers that name neither.
struct Shape {
    tokens: Vec<u64>,
}

/// A term that is neither the word nor made of it.
const FOREIGN: &str = "is not a function of its own accumulator alone";

/// A sum as a part that is the word and a rest, where that is shorter.
fn without(terms: &Terms, word: Id, id: Id) -> Option<super::sum::Sum> {
    let (Node::Sum { terms: whole, .. }, Node::Sum { terms: part, .. }) = (terms.node(id), terms.node(word))
    else {
        return None;
    };
    if whole.len() < part.len() {
        return None;
    }
    let mut rest = terms.open(id);
    rest.add(&terms.open(word), u64::MAX);
    rest.settle();
    (rest.terms().len() < whole.len()).then_some(rest)
}

impl Shape {
    fn of(terms: &Terms, word: Id, stored: Id) -> Result<Self, Reason> {
        let mut shape = Self { tokens: Vec::new() };
        let mut places = HashMap::new();
        shape.visit(terms, word, stored, &mut places, 0)?;
        Ok(shape)
    }

    /// Writes a term behind its parts; gives its place.
    fn visit(
        &mut self,
        terms: &Terms,
        word: Id,
        id: Id,
        places: &mut HashMap<Id, u64>,
        depth: usize,
    ) -> Result<u64, Reason> {
        if id == word {
            return Ok(0);
        }
        if let Some(&place) = places.get(&id) {
            return Ok(place);
        }
        if depth > DEEPEST || places.len() > MOST_STEPS {
            return Err("is too intricate a function of the accumulator".to_owned());
        }
        let mut part = |own: &mut Self, part: Id| own.visit(terms, word, part, places, depth + 1);
        let tokens = match *terms.node(id) {
            Node::Constant(value) => vec![1, value],
            Node::And(a, b) => vec![2, part(self, a)?, part(self, b)?],
            Node::Or(a, b) => vec![3, part(self, a)?, part(self, b)?],
            Node::Xor(a, b) => vec![4, part(self, a)?, part(self, b)?],
            Node::Shr(a, count) => vec![5, part(self, a)?, u64::from(count)],
            Node::Sar(a, count) => vec![6, part(self, a)?, u64::from(count)],
            Node::Choice(a, b, c) => vec![7, part(self, a)?, part(self, b)?, part(self, c)?],
            Node::Negative(a) => vec![8, part(self, a)?],
            Node::Less(a, b) => vec![9, part(self, a)?, part(self, b)?],
            Node::Sum { .. } => {
                let rest = without(terms, word, id);
                let mut tokens = vec![10, u64::from(rest.is_some())];
                let sum = rest.unwrap_or_else(|| terms.open(id));
                tokens.push(sum.constant);
                for term in sum.terms() {
                    let (first, second) = term.factors;
                    if first != Id::ONE {
                        return Err(FOREIGN.to_owned());
                    }
                    tokens.extend([part(self, second)?, term.coefficient]);
                }
                tokens
            }
            Node::Active
            | Node::Feature(_)
            | Node::Value { .. }
            | Node::Partial { .. }
            | Node::Parameter { .. }
            | Node::At { .. }
            | Node::Picked { .. }
            | Node::SarBy(_, _) => return Err(FOREIGN.to_owned()),
        };
        // The length tells where the next one begins.
        self.tokens.push(tokens.len() as u64);
        self.tokens.extend(tokens);
        let place = places.len() as u64 + 1;
        places.insert(id, place);
        Ok(place)
    }
}

/// Follows terms from the word on.
struct Follow<'a> {
    terms: &'a Terms,
    word: Id,
    bits: Bits,
    diagrams: Diagrams,
    done: HashMap<Id, Bits>,
}

impl Follow<'_> {
    /// The bits of a term; its nesting and number of parts were looked at before.
    fn term(&mut self, id: Id, depth: usize) -> Result<Bits, Reason> {
        if id == self.word {
            return Ok(self.bits);
        }
        if let Some(bits) = self.done.get(&id) {
            return Ok(*bits);
        }
        if depth > DEEPEST || self.diagrams.overflown() {
            return Err("is too intricate a function of the accumulator".to_owned());
        }
        let depth = depth + 1;
        let single = |flag: Function| {
            let mut bits = [Function::NEVER; 64];
            if let Some(lowest) = bits.first_mut() {
                *lowest = flag;
            }
            bits
        };
        let bits = match *self.terms.node(id) {
            Node::Constant(value) => Diagrams::constant(value),
            Node::And(a, b) => {
                let (a, b) = (self.term(a, depth)?, self.term(b, depth)?);
                self.diagrams.zip(&a, &b, Diagrams::and)
            }
            Node::Or(a, b) => {
                let (a, b) = (self.term(a, depth)?, self.term(b, depth)?);
                self.diagrams.zip(&a, &b, Diagrams::or)
            }
            Node::Xor(a, b) => {
                let (a, b) = (self.term(a, depth)?, self.term(b, depth)?);
                self.diagrams.zip(&a, &b, Diagrams::xor)
            }
            Node::Shr(a, count) => shr(&self.term(a, depth)?, count as usize, Function::NEVER),
            Node::Sar(a, count) => {
                let a = self.term(a, depth)?;
                let [.., sign] = a;
                shr(&a, count as usize, sign)
            }
            Node::Choice(flag, a, b) => {
                let [flag, ..] = self.term(flag, depth)?;
                let (a, b) = (self.term(a, depth)?, self.term(b, depth)?);
                self.diagrams.choose_all(flag, &a, &b)
            }
            Node::Negative(a) => {
                let [.., sign] = self.term(a, depth)?;
                single(sign)
            }
            Node::Less(a, b) => {
                let (a, b) = (self.term(a, depth)?, self.term(b, depth)?);
                single(self.diagrams.less(&a, &b))
            }
            Node::Sum { .. } => {
                let rest = without(self.terms, self.word, id);
                let start = if rest.is_some() { self.bits } else { [Function::NEVER; 64] };
                let sum = rest.unwrap_or_else(|| self.terms.open(id));
                let mut total = self.diagrams.add(&start, &Diagrams::constant(sum.constant), false);
                for term in sum.terms() {
                    let (first, second) = term.factors;
                    if first != Id::ONE {
                        return Err(FOREIGN.to_owned());
                    }
                    let part = self.term(second, depth)?;
                    total = self.scaled(&total, &part, term.coefficient);
                }
                total
            }
            Node::Active
            | Node::Feature(_)
            | Node::Value { .. }
            | Node::Partial { .. }
            | Node::Parameter { .. }
            | Node::At { .. }
            | Node::Picked { .. }
            | Node::SarBy(_, _) => return Err(FOREIGN.to_owned()),
        };
        self.done.insert(id, bits);
        Ok(bits)
    }

    /// `total + factor * part`.
    fn scaled(&mut self, total: &Bits, part: &Bits, factor: u64) -> Bits {
        if factor.is_power_of_two() {
            return self.diagrams.add(total, &shl(part, factor.trailing_zeros() as usize), false);
        }
        let opposite = factor.wrapping_neg();
        if opposite.is_power_of_two() {
            return self.diagrams.add(total, &shl(part, opposite.trailing_zeros() as usize), true);
        }
        let product = self.diagrams.scale(part, factor);
        self.diagrams.add(total, &product, false)
    }
}
