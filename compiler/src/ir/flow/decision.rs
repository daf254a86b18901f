//! Which packets a condition holds for, as a decision diagram.
//!
//! A diagram asks for one property of the packet after the other, each at most once and in a fixed order, and
//! goes on by the interval that the value lies in. Neighbouring intervals lead to different places, no two nodes
//! are alike, and nodes are numbered in the order in which they are completed. Two conditions that hold for the
//! same packets, whatever their words, therefore have equal diagrams.

use std::collections::HashMap;

use crate::spec::typed::{Direction, Field, Filter};

/// What a node asks for, in the order in which diagrams ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variable {
    /// 1 when the packet goes backwards.
    Backward,
    /// 1 when this bit of the TCP flags is set.
    Flag(u8),
    Field(Field),
}

/// Where a decision goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    Answer(bool),
    /// A position in [`Diagram::nodes`].
    Node(usize),
}

/// Values of a variable above those of the edge before, up to and with this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edge {
    pub upto: u64,
    pub target: Target,
}

/// One question. There are at least two edges; a value above all of them takes the last one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    pub variable: Variable,
    pub edges: Vec<Edge>,
}

/// A condition. Equal conditions have equal diagrams.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Diagram {
    /// Edges lead to earlier nodes only; the last one is where a decision begins.
    nodes: Vec<Node>,
    start: Target,
}

impl Default for Diagram {
    /// Holds for every packet.
    fn default() -> Self {
        Self::ALWAYS
    }
}

/// The condition needs more than [`Diagram::MAX_EDGES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge;

impl Diagram {
    /// Holds for every packet.
    pub const ALWAYS: Self = Self { nodes: Vec::new(), start: Target::Answer(true) };
    /// Holds for no packet.
    pub const NEVER: Self = Self { nodes: Vec::new(), start: Target::Answer(false) };

    /// Most edges of a diagram: a condition may need many more than it has words.
    pub const MAX_EDGES: usize = 512;

    /// Whether a variable has one of the values for which `holds`. The answer changes after `ends` only, of
    /// which the last is the greatest value that the variable can have.
    #[must_use]
    pub fn ask(variable: Variable, ends: &[u64], holds: impl Fn(u64) -> bool) -> Self {
        let mut maker = Maker::default();
        let edges = ends.iter().map(|&upto| Edge { upto, target: Target::Answer(holds(upto)) });
        let start = maker.node(variable, edges.collect());
        maker.finish(start)
    }

    /// Whether the packet goes this way.
    #[must_use]
    pub fn direction(direction: Direction) -> Self {
        let backward = u64::from(direction == Direction::Backward);
        Self::ask(Variable::Backward, &[0, 1], |value| value == backward)
    }

    /// Whether the packet has this TCP flag, or has not.
    #[must_use]
    pub fn flag(bit: u8, wanted: bool) -> Self {
        Self::ask(Variable::Flag(bit), &[0, 1], |value| (value == 1) == wanted)
    }

    /// Whether the TCP flags, as a number, are one of those that `holds`.
    #[must_use]
    pub fn byte(holds: &dyn Fn(u8) -> bool) -> Self {
        // From the last question to the first: what the answers so far leave open.
        let mut maker = Maker::default();
        let mut open: Vec<Target> =
            (0..=u8::MAX).map(|flags| Target::Answer(holds(flags.reverse_bits()))).collect();
        for bit in (0..u8::BITS).rev().map(|shift| 1_u8 << shift) {
            let pair = |pair: &[Target]| {
                let edges = [0, 1].into_iter().zip(pair).map(|(upto, &target)| Edge { upto, target });
                maker.node(Variable::Flag(bit), edges.collect())
            };
            open = open.chunks(2).map(pair).collect();
        }
        let start = open.first().copied().unwrap_or(Target::Answer(false));
        let wide = maker.finish(start);
        wide.and(&Self::ALWAYS).unwrap_or(wide)
    }

    /// Each node after those that lead to it is the one before it: the decision begins at the last one.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where the decision begins.
    #[must_use]
    pub fn start(&self) -> Target {
        self.start
    }

    /// Whether every packet fulfils the condition.
    #[must_use]
    pub fn is_always(&self) -> bool {
        self.start == Target::Answer(true)
    }

    /// Whether no packet does.
    #[must_use]
    pub fn is_never(&self) -> bool {
        self.start == Target::Answer(false)
    }

    /// The decision about a packet with these values.
    pub fn holds(&self, value: impl Fn(Variable) -> u64) -> bool {
        let mut at = self.start;
        loop {
            match at {
                Target::Answer(answer) => return answer,
                Target::Node(index) => {
                    let Some(node) = self.nodes.get(index) else { return false };
                    let value = value(node.variable);
                    let edge = node.edges.iter().find(|edge| value <= edge.upto).or(node.edges.last());
                    match edge.map(|edge| edge.target) {
                        None => return false,
                        // Always so: a diagram that came from elsewhere must not keep the loop going.
                        Some(Target::Node(next)) if next >= index => return false,
                        Some(target) => at = target,
                    }
                }
            }
        }
    }

    /// Holds for the other packets.
    #[must_use]
    pub fn not(&self) -> Self {
        let turned = |target| match target {
            Target::Answer(answer) => Target::Answer(!answer),
            Target::Node(index) => Target::Node(index),
        };
        let node = |node: &Node| Node {
            variable: node.variable,
            edges: node.edges.iter().map(|e| Edge { upto: e.upto, target: turned(e.target) }).collect(),
        };
        Self { nodes: self.nodes.iter().map(node).collect(), start: turned(self.start) }
    }

    /// Holds where both do.
    ///
    /// # Errors
    ///
    /// When the diagram has too many edges.
    pub fn and(&self, other: &Self) -> Result<Self, TooLarge> {
        let mut both = Both { left: self, right: other, maker: Maker::default(), known: HashMap::new() };
        let start = both.of(self.start, other.start)?;
        Ok(both.maker.finish(start))
    }

    /// Holds where at least one does.
    ///
    /// # Errors
    ///
    /// When the diagram has too many edges.
    pub fn or(&self, other: &Self) -> Result<Self, TooLarge> {
        Ok(self.not().and(&other.not())?.not())
    }

    /// The smallest and the greatest value of a variable, up to a limit, among packets that fulfil the condition;
    /// none where there are no such packets.
    #[must_use]
    pub fn values(&self, variable: Variable, limit: u64) -> Option<(u64, u64)> {
        let join = |a: Option<(u64, u64)>, b: Option<(u64, u64)>| match (a, b) {
            (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
            (one, other) => one.or(other),
        };
        // Of each node; edges lead to earlier ones.
        let mut known: Vec<Option<(u64, u64)>> = Vec::new();
        let of = |known: &[Option<(u64, u64)>], target| match target {
            Target::Answer(holds) => holds.then_some((0, limit)),
            Target::Node(index) => known.get(index).copied().flatten(),
        };
        for node in &self.nodes {
            let mut from = 0;
            let mut values = None;
            for edge in &node.edges {
                let below = of(&known, edge.target);
                let own = if node.variable == variable {
                    below.filter(|_| from <= limit).map(|_| (from, edge.upto.min(limit)))
                } else {
                    below
                };
                values = join(values, own);
                from = edge.upto.saturating_add(1);
            }
            known.push(values);
        }
        of(&known, self.start)
    }

    /// The condition for packets of which this value is known.
    #[must_use]
    pub fn given(&self, variable: Variable, value: u64) -> Self {
        let mut maker = Maker::default();
        // What each node has become; those that nothing leads to any more are left out below.
        let mut became: Vec<Target> = Vec::new();
        let now = |became: &[Target], target| match target {
            Target::Answer(_) => target,
            Target::Node(index) => became.get(index).copied().unwrap_or(Target::Answer(false)),
        };
        for node in &self.nodes {
            let target = if node.variable == variable {
                let edge = node.edges.iter().find(|edge| value <= edge.upto).or(node.edges.last());
                edge.map_or(Target::Answer(false), |edge| now(&became, edge.target))
            } else {
                let edges = node.edges.iter();
                let edges = edges.map(|e| Edge { upto: e.upto, target: now(&became, e.target) }).collect();
                maker.node(node.variable, edges)
            };
            became.push(target);
        }
        let start = now(&became, self.start);
        let wide = maker.finish(start);
        // Numbers anew, without what is left over; it has no more edges than before.
        wide.and(&Self::ALWAYS).unwrap_or(wide)
    }
}

/// Makes nodes, each kind once.
#[derive(Default)]
struct Maker {
    nodes: Vec<Node>,
    known: HashMap<Node, usize>,
    edges: usize,
}

impl Maker {
    /// The node with these edges, or where all of them lead.
    fn node(&mut self, variable: Variable, mut edges: Vec<Edge>) -> Target {
        // The last of neighbours that lead to the same place says how far.
        let mut at = 0;
        while let Some([this, next]) = edges.get(at..at + 2) {
            if this.target == next.target {
                edges.remove(at);
            } else {
                at += 1;
            }
        }
        match edges.as_slice() {
            [] => return Target::Answer(false),
            [only] => return only.target,
            [_, _, ..] => {}
        }
        let node = Node { variable, edges };
        if let Some(index) = self.known.get(&node) {
            return Target::Node(*index);
        }
        let index = self.nodes.len();
        self.edges += node.edges.len();
        self.nodes.push(node.clone());
        self.known.insert(node, index);
        Target::Node(index)
    }

    fn finish(self, start: Target) -> Diagram {
        match start {
            Target::Answer(_) => Diagram { nodes: Vec::new(), start },
            Target::Node(_) => Diagram { nodes: self.nodes, start },
        }
    }
}

/// The conjunction of two diagrams under construction.
struct Both<'a> {
    left: &'a Diagram,
    right: &'a Diagram,
    maker: Maker,
    known: HashMap<(Target, Target), Target>,
}

impl Both<'_> {
    /// Nests no deeper than there are variables.
    fn of(&mut self, left: Target, right: Target) -> Result<Target, TooLarge> {
        if left == Target::Answer(false) || right == Target::Answer(false) {
            return Ok(Target::Answer(false));
        }
        let node = |diagram: &Diagram, target| match target {
            Target::Answer(_) => None,
            Target::Node(index) => diagram.nodes.get(index).cloned(),
        };
        let (of_left, of_right) = (node(self.left, left), node(self.right, right));
        let variable = match (&of_left, &of_right) {
            (None, None) => return Ok(Target::Answer(true)),
            (Some(node), None) | (None, Some(node)) => node.variable,
            (Some(one), Some(other)) => one.variable.min(other.variable),
        };
        if let Some(known) = self.known.get(&(left, right)) {
            return Ok(*known);
        }
        let whole = |target| vec![Edge { upto: u64::MAX, target }];
        let edges = |node: Option<Node>, target| match node {
            Some(node) if node.variable == variable => node.edges,
            Some(_) | None => whole(target),
        };
        let (lefts, rights) = (edges(of_left, left), edges(of_right, right));
        let mut joined = Vec::new();
        let (mut l, mut r) = (0, 0);
        while let (Some(one), Some(other)) = (lefts.get(l), rights.get(r)) {
            let upto = one.upto.min(other.upto);
            joined.push(Edge { upto, target: self.of(one.target, other.target)? });
            l += usize::from(one.upto == upto);
            r += usize::from(other.upto == upto);
        }
        let target = self.maker.node(variable, joined);
        if self.maker.edges > Diagram::MAX_EDGES {
            return Err(TooLarge);
        }
        self.known.insert((left, right), target);
        Ok(target)
    }
}

impl Filter {
    /// The packets that a condition holds for; `None` when it holds for none.
    /// Direction and flags that all of them have in common stand by themselves, the rest asks for nothing else.
    #[must_use]
    pub fn of(diagram: &Diagram) -> Option<Self> {
        if diagram.is_never() {
            return None;
        }
        let mut rest = diagram.clone();
        // The value that a variable must have, which the rest then need not ask for.
        let mut must = |variable| {
            let [zero, one] = [0, 1].map(|value| rest.given(variable, value));
            let (value, given) = match (zero.is_never(), one.is_never()) {
                (true, false) => (true, one),
                (false, true) => (false, zero),
                (true, true) | (false, false) => return None,
            };
            rest = given;
            Some(value)
        };
        let direction = must(Variable::Backward)
            .map(|backward| if backward { Direction::Backward } else { Direction::Forward });
        let (mut flags_set, mut flags_clear) = (0, 0);
        for bit in (0..u8::BITS).map(|shift| 1_u8 << shift) {
            match must(Variable::Flag(bit)) {
                Some(true) => flags_set |= bit,
                Some(false) => flags_clear |= bit,
                None => {}
            }
        }
        Some(Self { direction, flags_set, flags_clear, rest })
    }

    /// The whole condition.
    ///
    /// # Errors
    ///
    /// When the diagram has too many edges.
    pub fn diagram(&self) -> Result<Diagram, TooLarge> {
        let mut whole = self.rest.clone();
        if let Some(direction) = self.direction {
            whole = whole.and(&Diagram::direction(direction))?;
        }
        for bit in (0..u8::BITS).map(|shift| 1_u8 << shift) {
            for (bits, wanted) in [(self.flags_set, true), (self.flags_clear, false)] {
                if bits & bit != 0 {
                    whole = whole.and(&Diagram::flag(bit, wanted))?;
                }
            }
        }
        Ok(whole)
    }
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
