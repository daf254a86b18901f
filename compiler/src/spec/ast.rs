//! What a specification says, before anyone asked what it means: names are text, numbers are text.
//!
//! The tree covers the full scope of the language, so that parts which are not supported yet are refused by
//! name and not as syntax. Chains (`a and b and c`, `a + b - c`) are lists: only brackets nest, and the lexer
//! limits their depth.

use crate::diag::Span;

/// A word and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub text: String,
    pub span: Span,
}

/// Words joined by dots: `tcp.syn`, `l4.payload_len`, `fwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    pub parts: Vec<Name>,
    pub span: Span,
}

impl Path {
    /// The path as it is written, without blanks.
    #[must_use]
    pub fn text(&self) -> String {
        self.parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join(".")
    }
}

/// A decimal number as written, without underscores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    pub text: String,
    pub negative: bool,
    pub span: Span,
}

/// A number with a unit: `10 min`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    pub number: Number,
    pub unit: Option<Name>,
    pub span: Span,
}

/// `LOW..HIGH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub low: Number,
    pub high: Number,
    pub span: Span,
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct File {
    pub items: Vec<Item>,
}

/// A statement at the top level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    Header(Header),
    Attach(Attach),
    Clock(Clock),
    Flow(Flow),
    Packets(Packets),
    Features(Features),
    Model(Model),
    Classify(Classify),
    Rule(Rule),
    Use(Use),
    Let(Let),
    Param(Param),
    /// Already reported.
    Broken,
}

/// `spec NAME v1;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: Name,
    pub version: Name,
    pub span: Span,
}

/// `attach xdp;`, `attach tc ingress;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    pub hook: Vec<Name>,
    pub span: Span,
}

/// `clock coarse;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    pub kind: Name,
    pub span: Span,
}

/// `flow NAME on PROTOCOLS { … }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    pub name: Name,
    pub protocols: Vec<Name>,
    pub clauses: Vec<FlowClause>,
    /// Up to the opening brace.
    pub head: Span,
}

/// `packets on PROTOCOLS [where CONDITION];`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packets {
    pub protocols: Vec<Name>,
    pub condition: Option<Expr>,
    pub span: Span,
}

/// A statement inside of a flow block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlowClause {
    Key { fields: Vec<Path>, directions: Option<Name>, span: Span },
    Capacity { records: Number, evict: Option<Name>, span: Span },
    Idle { time: Option<Quantity>, sweep: bool, span: Span },
    Active { time: Quantity, span: Span },
    End { causes: Causes, span: Span },
    Broken,
}

/// What follows `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Causes {
    Never,
    Any(Vec<Path>),
}

/// `features of FLOW { … }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Features {
    pub flow: Option<Name>,
    pub features: Vec<Feature>,
    pub head: Span,
}

/// `NAME = EXPRESSION [in LOW..HIGH] [clip LOW..HIGH];`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    pub name: Name,
    pub value: Expr,
    pub limits: Vec<Limit>,
    pub span: Span,
}

/// Bounds behind a feature's expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    In(Range),
    Clip(Range),
}

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

impl Expr {
    /// How many values it names outside of the conditions behind `where`.
    #[must_use]
    pub fn operands(&self) -> usize {
        let pairs = |members: &[(Name, Self)]| members.iter().map(|(_, member)| member.operands()).sum();
        match &self.kind {
            ExprKind::Number(_) | ExprKind::Path(_) | ExprKind::Slice { .. } => 1,
            ExprKind::Call(call) => call.arguments.iter().map(Self::operands).sum::<usize>().max(1),
            ExprKind::Group(inner) | ExprKind::Not(inner) | ExprKind::Negate(inner) => inner.operands(),
            ExprKind::Or(members) | ExprKind::And(members) => members.iter().map(Self::operands).sum(),
            ExprKind::Compare { left, right, .. } => left.operands() + right.operands(),
            ExprKind::Sum(members) | ExprKind::Product(members) => pairs(members),
            ExprKind::Qualified { value, .. } => value.operands(),
        }
    }
}

/// Kinds of expressions. `Or`, `And`, `Sum` and `Product` have at least two members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExprKind {
    Number(Number),
    Path(Path),
    /// `payload[0..64]`, or `payload[3]`: then `single`, and both ends of the range are this number.
    Slice {
        base: Path,
        range: Range,
        single: bool,
    },
    Call(Call),
    /// `( … )`
    Group(Box<Expr>),
    /// Odd numbers of `not` only: an even number of them says nothing.
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Or(Vec<Expr>),
    And(Vec<Expr>),
    Compare {
        left: Box<Expr>,
        operator: Name,
        right: Box<Expr>,
    },
    /// The first operator is `+`.
    Sum(Vec<(Name, Expr)>),
    /// The first operator is `*`.
    Product(Vec<(Name, Expr)>),
    /// A value with what follows it: `sum(ip.len) where fwd`.
    Qualified {
        value: Box<Expr>,
        qualifiers: Vec<Qualifier>,
    },
}

/// `FUNCTION(ARGUMENTS)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub function: Name,
    pub arguments: Vec<Expr>,
}

/// What may follow a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Qualifier {
    Where(Expr),
    As(Name),
    Per(Path),
    Over(Quantity),
}

/// `model { labels A, B; [reconstruction l1 > N;] }`, `model { output NAME { labels A, B; } … }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    pub labels: Vec<Labels>,
    pub reconstructions: Vec<Reconstruction>,
    pub outputs: Vec<Output>,
    pub head: Span,
}

/// `output NAME { labels A, B; }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    pub name: Name,
    pub labels: Vec<Labels>,
    pub head: Span,
}

/// `reconstruction l1 > N;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconstruction {
    pub error: Name,
    pub threshold: Number,
    pub span: Span,
}

/// `labels A, B;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    pub names: Vec<Name>,
    pub span: Span,
}

/// `classify FLOW at TRIGGERS;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classify {
    pub flow: Name,
    pub triggers: Vec<Trigger>,
    pub span: Span,
}

/// When to classify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    End {
        span: Span,
    },
    /// `every 16 packets`; `every packet` has no number.
    EveryPackets {
        count: Option<Number>,
        span: Span,
    },
    Every {
        time: Quantity,
        span: Span,
    },
    After {
        time: Quantity,
        packets: bool,
        span: Span,
    },
}

/// `on [OUTPUT.]LABEL [when CONDITION] { ACTIONS }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub output: Option<Name>,
    pub label: Name,
    pub condition: Option<Expr>,
    pub actions: Vec<Action>,
    pub head: Span,
}

/// `WORD [SUBJECT | NUMBER [in NUMBER]] [for TIME];`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    pub verb: Name,
    pub subject: Option<Path>,
    pub amount: Option<Amount>,
    pub time: Option<Quantity>,
    pub span: Span,
}

/// `NUMBER [in NUMBER]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Amount {
    pub number: Number,
    pub of: Option<Number>,
    pub span: Span,
}

/// `use "FILE";`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub span: Span,
}

/// `param NAME = [-] NUMBER [UNIT];`. Values are replaced before the text is parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    pub name: Name,
    pub value: Quantity,
    pub span: Span,
}

/// `let NAME = EXPRESSION;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Let {
    pub name: Name,
    pub value: Expr,
    pub span: Span,
}
