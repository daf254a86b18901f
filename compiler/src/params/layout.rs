//! Where each parameter stands in a slot: in the order in which code consumes it, so that weights stream
//! through the cache.
//!
//! | part | content |
//! |---|---|
//! | inputs | for each feature `low`, `span`, `multiplier`, `offset`, `shift` (see [`super::slot`]) |
//! | a dense layer | for each block of registers: their bias words, then for each input one weight word per register |
//! | replaced | for each feature whose values are replaced `first`, `last`, `to` |
//! | a further quantiser | the same as the first for each value |
//! | a table | its entries, four in a word |
//! | a gate | `start`, `most`, `offset`, `shift` |
//! | a forest | `nodes`, `leaves`, `base` (see [`super::slot`]) |
//! | margins | for each [`RuleTest::Margin`] its margin |
//! | thresholds | for each [`RuleTest::Softmax`] `low`, `span`, `drop`, `multiplier`, `offset` (see [`super::slot`]) |
//!
//! A word holds the lanes of one register as `Σ value_k * 2^start_k` modulo 2^64. Bytes are not written
//! here.

use sha2::{Digest, Sha256};

use crate::bpf::module::{Data, Member, Struct, Type};
use crate::cost::blocking::{self, Blocking, Style};
use crate::cost::work::{LayerShape, Work};
use crate::ir::softmax::Lead;
use crate::ir::{Dense, Forest, FractionBits, Interval, Lanes, Network, Op, Post, Rule, RuleTest};

/// Section of the two slots.
pub const SECTION: &str = ".data.nn_params";
/// Section of the numbers where they never change: one slot, which nobody can write.
pub const CONSTANTS_SECTION: &str = ".rodata.nn_weights";
/// Section that says which slot is active.
pub const ACTIVE_SECTION: &str = ".data.nn_active";
/// Set in the index of [`ACTIVE_SECTION`] while the other slot holds a shadow.
pub const SHADOW_BIT: u32 = 2;
/// Generation of the parameters that an object is compiled with.
pub const COMPILED_IN: u32 = 1;
/// Number of slots.
pub const SLOTS: u32 = 2;

/// Entries of zero behind a table whose numbers have fractions: one word.
pub(crate) const TABLE_PADDING: u32 = 4;
/// Words of one feature's quantiser.
pub(crate) const QUANTISER_WORDS: usize = 5;
/// Words of what replaces values of one feature.
pub(crate) const REPLACED_WORDS: usize = 3;
/// Words of one probability over more than two classes.
pub(crate) const THRESHOLD_WORDS: usize = 5;
/// Bytes of a node of a tree, and where its parts stand behind its threshold.
pub(crate) const NODE_BYTES: u32 = 16;
pub(crate) const NODE_PAIR: u32 = 8;
pub(crate) const NODE_FEATURE: u32 = 12;
pub(crate) const NODE_ROW: u32 = 14;
/// The layout of a slot, a function of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub(crate) parts: Vec<Part>,
    pub(crate) margins: u32,
    pub(crate) thresholds: u32,
    members: Vec<Member>,
    bytes: u32,
    hash: [u8; 32],
}

/// The parameters of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Quantise { offset: u32 },
    Dense(DensePart),
    Table { offset: u32 },
    Gate { offset: u32 },
    Forest(ForestPart),
}

/// The parameters of a forest, as byte offsets within the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ForestPart {
    pub(crate) nodes: u32,
    pub(crate) leaves: u32,
    pub(crate) base: u32,
}

/// The parameters of a dense layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DensePart {
    pub(crate) offset: u32,
    pub(crate) columns: usize,
    pub(crate) lanes: Lanes,
    /// Registers in each block, in order.
    pub(crate) blocks: Vec<usize>,
    /// Inputs per round of the loop; `None` for straight-line code.
    pub(crate) unroll: Option<usize>,
}

impl DensePart {
    /// Byte offset of a block within the slot.
    pub(crate) fn block_offset(&self, block: usize) -> u32 {
        let before: usize = self.blocks.iter().take(block).sum();
        self.offset + word_bytes(before * (self.columns + 1))
    }

    /// First register of a block.
    pub(crate) fn first_register(&self, block: usize) -> usize {
        self.blocks.iter().take(block).sum()
    }

    /// How its code is written.
    pub(crate) fn blocking(&self) -> Blocking {
        Blocking { blocks: self.blocks.clone(), unroll: self.unroll }
    }

    fn new(dense: &Dense, offset: u32, way: Blocking) -> Self {
        let Blocking { blocks, unroll } = way;
        Self { offset, columns: dense.columns, lanes: dense.lanes, blocks, unroll }
    }
}

impl Layout {
    /// The layout for every network of this one's plan.
    #[must_use]
    pub fn new(network: &Network) -> Self {
        Self::styled(network, Style::Planned)
    }

    /// The layout for code that is written in this style; only [`Style::Planned`] is ever shipped.
    #[must_use]
    pub fn styled(network: &Network, style: Style) -> Self {
        let ways = blockings(network, style);
        let hash = plan_hash(network, &ways);
        let mut ways = ways.into_iter();
        let mut layout =
            Self { parts: Vec::new(), margins: 0, thresholds: 0, members: Vec::new(), bytes: 0, hash };
        let (mut layer, mut quantisers, mut tables, mut gates) = (0, 0, 0, 0);
        for op in &network.ops {
            match op {
                Op::Quantise(quantise) => {
                    let ty = Type::Array(Box::new(quantiser_type()), count(quantise.features.len()));
                    let name =
                        if quantisers == 0 { "inputs".to_owned() } else { format!("rescale{quantisers}") };
                    let offset = layout.push(name, ty);
                    layout.parts.push(Part::Quantise { offset });
                    if !quantise.replaced.is_empty() {
                        let ty = Type::Array(Box::new(replaced_type()), count(quantise.replaced.len()));
                        layout.push("replaced".to_owned(), ty);
                    }
                    quantisers += 1;
                }
                Op::Dense(dense) => {
                    // There is one for each layer.
                    let Some(way) = ways.next() else { continue };
                    let part = DensePart::new(dense, layout.bytes, way);
                    let words: usize = part.blocks.iter().sum::<usize>() * (dense.columns + 1);
                    layout.push(
                        format!("layer{layer}"),
                        Type::Array(Box::new(Type::Unsigned(8)), count(words)),
                    );
                    layout.parts.push(Part::Dense(part));
                    layer += 1;
                }
                Op::Table(table) => {
                    // Code may read the entry behind the last one.
                    let behind = if table.fraction == 0 { 0 } else { TABLE_PADDING };
                    let ty = Type::Array(Box::new(Type::Unsigned(2)), (1 << table.bits) + behind);
                    let offset = layout.push(format!("table{tables}"), ty);
                    layout.parts.push(Part::Table { offset });
                    tables += 1;
                }
                Op::Gate(_) => {
                    let offset = layout.push(format!("gate{gates}"), gate_type());
                    layout.parts.push(Part::Gate { offset });
                    gates += 1;
                }
                Op::Forest(forest) => {
                    let part = layout.push_forest(forest);
                    layout.parts.push(Part::Forest(part));
                }
            }
        }
        layout.margins = layout.bytes;
        let margins = margins(network).count();
        if margins > 0 {
            layout.push("margins".to_owned(), Type::Array(Box::new(Type::Signed(8)), count(margins)));
        }
        layout.thresholds = layout.bytes;
        let thresholds = thresholds(network).count();
        if thresholds > 0 {
            let ty = Type::Array(Box::new(threshold_type()), count(thresholds));
            layout.push("thresholds".to_owned(), ty);
        }
        layout
    }

    /// Size of one slot.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// SHA-256 of the plan: two networks with the same hash run on the same code.
    #[must_use]
    pub const fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Type of one slot, with a member for each layer.
    #[must_use]
    pub fn slot_type(&self) -> Type {
        Type::Struct(Struct { name: "nn_slot".to_owned(), size: self.bytes, members: self.members.clone() })
    }

    /// `.data.nn_params` with the same parameters in both slots.
    #[must_use]
    pub fn params_data(&self, slot: &[u8]) -> Data {
        Data {
            section: SECTION.to_owned(),
            variable: "nn_params".to_owned(),
            ty: Type::Array(Box::new(self.slot_type()), SLOTS),
            bytes: slot.repeat(SLOTS as usize),
            writable: true,
        }
    }

    /// `.rodata.nn_weights` with these parameters.
    #[must_use]
    pub(crate) fn constants_data(&self, slot: Vec<u8>) -> Data {
        Data {
            section: CONSTANTS_SECTION.to_owned(),
            variable: "nn_weights".to_owned(),
            ty: self.slot_type(),
            bytes: slot,
            writable: false,
        }
    }

    fn push_forest(&mut self, forest: &Forest) -> ForestPart {
        let words = |number| Type::Array(Box::new(Type::Signed(8)), count(number));
        let nodes = Type::Array(Box::new(node_type()), count(forest.pairs.saturating_mul(2)));
        ForestPart {
            nodes: self.push("nodes".to_owned(), nodes),
            leaves: self.push("leaves".to_owned(), words(forest.rows.saturating_mul(forest.stride()))),
            base: self.push("base".to_owned(), words(forest.outputs)),
        }
    }

    fn push(&mut self, name: String, ty: Type) -> u32 {
        let offset = self.bytes;
        self.bytes = self.bytes.saturating_add(ty.size());
        self.members.push(Member { name, offset, ty });
        offset
    }
}

/// How each dense layer is written.
fn blockings(network: &Network, style: Style) -> Vec<Blocking> {
    let shape = |op: &Op| match op {
        Op::Dense(dense) => Some(LayerShape::of(dense)),
        Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => None,
    };
    let shapes: Vec<LayerShape> = network.ops.iter().filter_map(shape).collect();
    blocking::choose(&Work::fixed(network), &shapes, style)
}

/// `.data.nn_active`: slot 0, generation [`COMPILED_IN`].
///
/// Eight aligned bytes, so that one load sees index and generation of the same update. The index is 0 or 1,
/// plus [`SHADOW_BIT`].
#[must_use]
pub fn active_data() -> Data {
    let member =
        |name: &str, offset, bytes| Member { name: name.to_owned(), offset, ty: Type::Unsigned(bytes) };
    let mut bytes = vec![0; 4];
    bytes.extend(COMPILED_IN.to_le_bytes());
    Data {
        section: ACTIVE_SECTION.to_owned(),
        variable: "nn_active".to_owned(),
        ty: Type::Struct(Struct {
            name: "nn_active".to_owned(),
            size: 8,
            members: vec![member("index", 0, 4), member("generation", 4, 4)],
        }),
        bytes,
        writable: true,
    }
}

/// The margins of a network's rules, in order.
pub(crate) fn margins(network: &Network) -> impl Iterator<Item = i64> + '_ {
    network.decision.tests.iter().filter_map(|test| match test {
        RuleTest::Label { .. } | RuleTest::Softmax { .. } => None,
        RuleTest::Margin { margin, .. } => Some(*margin),
    })
}

/// The probabilities over more than two classes among a network's rules, in order.
pub(crate) fn thresholds(network: &Network) -> impl Iterator<Item = Lead> + '_ {
    network.decision.tests.iter().filter_map(|test| match test {
        RuleTest::Label { .. } | RuleTest::Margin { .. } => None,
        RuleTest::Softmax { lead, .. } => Some(*lead),
    })
}

/// Bytes of so many words.
pub(crate) fn word_bytes(words: usize) -> u32 {
    count(words).saturating_mul(8)
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX / 64)
}

fn quantiser_type() -> Type {
    words_type(
        "nn_input",
        [
            ("low", Type::Signed(8)),
            ("span", Type::Unsigned(8)),
            ("multiplier", Type::Signed(8)),
            ("offset", Type::Signed(8)),
            ("shift", Type::Unsigned(8)),
        ],
    )
}

fn threshold_type() -> Type {
    words_type(
        "nn_threshold",
        [
            ("low", Type::Signed(8)),
            ("span", Type::Unsigned(8)),
            ("drop", Type::Unsigned(8)),
            ("multiplier", Type::Signed(8)),
            ("offset", Type::Signed(8)),
        ],
    )
}

fn replaced_type() -> Type {
    words_type(
        "nn_replaced",
        [("first", Type::Signed(8)), ("last", Type::Signed(8)), ("to", Type::Signed(8))],
    )
}

fn gate_type() -> Type {
    words_type(
        "nn_gate",
        [
            ("start", Type::Signed(8)),
            ("most", Type::Signed(8)),
            ("offset", Type::Signed(8)),
            ("shift", Type::Unsigned(8)),
        ],
    )
}

fn node_type() -> Type {
    let member = |name: &str, offset, ty| Member { name: name.to_owned(), offset, ty };
    Type::Struct(Struct {
        name: "nn_node".to_owned(),
        size: NODE_BYTES,
        members: vec![
            member("threshold", 0, Type::Signed(8)),
            member("pair", NODE_PAIR, Type::Unsigned(4)),
            member("feature", NODE_FEATURE, Type::Unsigned(2)),
            member("row", NODE_ROW, Type::Unsigned(2)),
        ],
    })
}

/// A structure of words.
fn words_type<const N: usize>(name: &str, words: [(&str, Type); N]) -> Type {
    let offsets = (0u32..).step_by(8);
    let members = offsets.zip(words).map(|(offset, (name, ty))| Member { name: name.to_owned(), offset, ty });
    Type::Struct(Struct { name: name.to_owned(), size: word_bytes(N), members: members.collect() })
}

/// Hashes everything that decides how code reads a slot and what its numbers mean, and no parameter.
fn plan_hash(network: &Network, ways: &[Blocking]) -> [u8; 32] {
    let mut plan = Sha256::new();
    let mut put = |bytes: &[u8]| plan.update(bytes);
    put(b"nnbpf plan 2");
    put(&count(network.inputs.len()).to_le_bytes());
    for input in &network.inputs {
        let FractionBits(bits) = input.fraction_bits;
        let Interval { low, high } = input.range;
        put(&count(input.name.len()).to_le_bytes());
        put(input.name.as_bytes());
        put(&[bits]);
        put(&low.to_le_bytes());
        put(&high.to_le_bytes());
    }
    put(&count(network.ops.len()).to_le_bytes());
    for op in &network.ops {
        match op {
            Op::Quantise(quantise) => {
                put(&[if quantise.even { 5 } else { 1 }]);
                put(&count(quantise.features.len()).to_le_bytes());
                if !quantise.replaced.is_empty() {
                    put(&[6]);
                    put(&count(quantise.replaced.len()).to_le_bytes());
                    quantise.replaced.iter().for_each(|one| put(&count(one.feature).to_le_bytes()));
                }
            }
            Op::Dense(dense) => {
                let post = match dense.post {
                    Post::Raw => [0, 0, 0],
                    Post::Relu { shift, bits } => [1, shift, bits],
                    Post::Signed { shift, bits } => [2, shift, bits],
                };
                put(&[2]);
                put(&count(dense.rows).to_le_bytes());
                put(&count(dense.columns).to_le_bytes());
                put_lanes(&mut put, dense.lanes);
                put(&post);
            }
            Op::Table(table) => {
                put(&[4]);
                put(&count(table.width).to_le_bytes());
                put(&count(table.mapped).to_le_bytes());
                put(&[table.bits, table.fraction]);
            }
            Op::Gate(gate) => {
                put(&[7]);
                put(&count(gate.width).to_le_bytes());
                put(&count(gate.mapped).to_le_bytes());
            }
            Op::Forest(forest) => {
                put(&[3]);
                put(&count(forest.outputs).to_le_bytes());
                put(&count(forest.trees).to_le_bytes());
                put(&forest.depth.to_le_bytes());
                put(&count(forest.pairs).to_le_bytes());
                put(&count(forest.rows).to_le_bytes());
                put(&count(forest.targets.len()).to_le_bytes());
                forest.targets.iter().for_each(|target| put(&target.to_le_bytes()));
            }
        }
    }
    // Where weights stand follows from how layers are written, which another release may choose otherwise.
    for way in ways {
        put(&count(way.blocks.len()).to_le_bytes());
        way.blocks.iter().for_each(|registers| put(&count(*registers).to_le_bytes()));
        put(&count(way.unroll.unwrap_or(0)).to_le_bytes());
    }
    let rule = |rule: Rule| match rule {
        Rule::None => 0,
        Rule::ArgMax => 1,
        Rule::Positive => 2,
        Rule::OneVersusRest { normalised: false } => 3,
        Rule::OneVersusRest { normalised: true } => 4,
        Rule::Probability => 5,
        Rule::Probabilities => 6,
    };
    let first = &network.decision.first;
    put(&[rule(first.rule)]);
    put(&count(network.decision.tests.len()).to_le_bytes());
    for test in &network.decision.tests {
        let (kind, class) = match *test {
            RuleTest::Label { class, .. } => (0, class),
            RuleTest::Margin { class, .. } => (1, class),
            RuleTest::Softmax { class, .. } => (2, class),
        };
        put(&[kind]);
        put(&class.to_le_bytes());
    }
    put_texts(&mut put, &first.labels);
    // A single output has no scale beside the common one, and its name changes nothing.
    if !network.decision.further.is_empty() {
        put(b"outputs");
        for output in network.decision.outputs() {
            put_texts(&mut put, std::slice::from_ref(&output.name));
            put(&count(output.start).to_le_bytes());
            put(&[output.finer, rule(output.rule)]);
            put_texts(&mut put, &output.labels);
        }
        for test in &network.decision.tests {
            put(&test.output().to_le_bytes());
        }
    }
    plan.finalize().into()
}

/// Their width tells how many lanes divide 64 bits evenly; others are told one by one.
fn put_lanes(put: &mut impl FnMut(&[u8]), lanes: Lanes) {
    if lanes.even_share() {
        put(&lanes.widest().to_le_bytes());
        return;
    }
    put(&(count(lanes.count()) << 16).to_le_bytes());
    lanes.widths().for_each(|bits| put(&bits.to_le_bytes()));
}

fn put_texts(put: &mut impl FnMut(&[u8]), texts: &[String]) {
    put(&count(texts.len()).to_le_bytes());
    for text in texts {
        put(&count(text.len()).to_le_bytes());
        put(text.as_bytes());
    }
}
