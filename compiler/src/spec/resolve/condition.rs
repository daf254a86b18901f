//! Conditions behind `where`: which packets count.
//!
//! Each part becomes the [`Diagram`] of the packets that fulfil it. `not` is carried to the parts, so that a
//! part that no packet fulfils is found where it stands, and the parts of `and` are joined one after the other,
//! so that the one that excludes what stands before it is shown.

use super::FlowFacts;
use super::aggregate::unknown_field;
use super::comparison::{self, Problem};
use super::fields::{FLAGS, field, flag};
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::ir::flow::decision::{Diagram, TooLarge};
use crate::spec::ast::{Expr, ExprKind, Path};
use crate::spec::report::{Reporter, suggest};
use crate::spec::typed::{Direction, Field, Filter};

/// Most tests of the conditions of one aggregate.
const MAX_TESTS: usize = 256;

/// What conditions are made of, for messages.
const PARTS: &str = "use `fwd`, `bwd`, TCP flags such as `tcp.syn` and comparisons such as `ip.ttl < 64`, joined \
    by `and`, `or` and `not`";

/// Adds the condition to `filter`. What does not fit is reported and left out.
pub(super) fn add(
    filter: &mut Filter,
    condition: &Expr,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) {
    let mut reading = Reading { flow, reporter, tests: 0 };
    let before = filter.diagram();
    let after = before.and_then(|before| reading.narrow(before, condition, &condition.span, true));
    match after.map(|diagram| Filter::of(&diagram)) {
        Ok(Some(narrowed)) => *filter = narrowed,
        // What excludes everything was reported, and left out.
        Ok(None) => {}
        Err(TooLarge) => {
            reading.reporter.error(
                &codes::TOO_LARGE,
                condition.span.clone(),
                format!(
                    "the condition needs more than {MAX_TESTS} tests, or more than {} cases of their answers",
                    Diagram::MAX_EDGES
                ),
                "make several features of it",
            );
        }
    }
}

struct Reading<'a, 'r, 's> {
    flow: Option<&'a FlowFacts>,
    reporter: &'r mut Reporter<'s>,
    tests: usize,
}

/// A part of a condition by itself, for the message when it excludes what stands before it.
enum Part {
    Direction,
    Flag(u8, String),
    Other,
}

impl Reading<'_, '_, '_> {
    /// The packets of `before` that fulfil the condition, or do not. `place` is where reports point.
    fn narrow(
        &mut self,
        before: Diagram,
        condition: &Expr,
        place: &Span,
        wanted: bool,
    ) -> Result<Diagram, TooLarge> {
        match &condition.kind {
            ExprKind::Group(inner) if wanted => self.narrow(before, inner, &inner.span, wanted),
            ExprKind::Group(inner) => self.narrow(before, inner, place, wanted),
            ExprKind::Not(inner) => {
                let place = if wanted { place } else { &inner.span };
                self.narrow(before, inner, place, !wanted)
            }
            // Not both is at least one not.
            ExprKind::And(members) | ExprKind::Or(members)
                if wanted == matches!(condition.kind, ExprKind::And(_)) =>
            {
                let each = |all, member: &Expr| self.narrow(all, member, &member.span, wanted);
                members.iter().try_fold(before, each)
            }
            ExprKind::And(members) | ExprKind::Or(members) => {
                let each = |some: Diagram, member: &Expr| {
                    let one = self.narrow(Diagram::ALWAYS, member, &member.span, wanted)?;
                    some.or(&one)
                };
                let some = members.iter().try_fold(Diagram::NEVER, each)?;
                self.joined(before, &some, &Part::Other, place)
            }
            ExprKind::Path(path) => self.name(before, path, place, wanted),
            ExprKind::Compare { left, operator, right } => {
                self.tests()?;
                match comparison::diagram(left, operator, right, self.flow, self.reporter) {
                    // Reported.
                    Ok(None) => Ok(before),
                    Ok(Some((name, field, diagram))) => {
                        let diagram = if wanted { diagram } else { diagram.not() };
                        if diagram.is_never() {
                            let help = format!(
                                "remove the condition, or compare with another value: `{}` is {}",
                                name,
                                comparison::values(field, self.flow)
                            );
                            let message = if self.single() {
                                "no packet fulfils this"
                            } else {
                                "no packet of the flow fulfils this"
                            };
                            self.never(place, message, &help);
                            return Ok(before);
                        }
                        self.joined(before, &diagram, &Part::Other, place)
                    }
                    Err(Problem::Field(path)) => {
                        unknown_field(&path, self.reporter);
                        Ok(before)
                    }
                    Err(Problem::Other { span, message, help }) => {
                        self.reporter.error(&codes::CONDITION, span, message, help);
                        Ok(before)
                    }
                }
            }
            ExprKind::Number(_)
            | ExprKind::Slice { .. }
            | ExprKind::Call(_)
            | ExprKind::Negate(_)
            | ExprKind::Sum(_)
            | ExprKind::Product(_)
            | ExprKind::Qualified { .. } => {
                self.reporter.error(
                    &codes::CONDITION,
                    condition.span.clone(),
                    "this is no condition that a packet fulfils or not",
                    PARTS,
                );
                Ok(before)
            }
        }
    }

    fn single(&self) -> bool {
        self.flow.is_some_and(FlowFacts::single)
    }

    /// Who has the packets.
    fn subject(&self) -> &'static str {
        if self.single() { "the specification has" } else { "the flow has" }
    }

    /// Whose protocols say which packets those are.
    fn whose(&self) -> &'static str {
        if self.single() { "specification's" } else { "flow's" }
    }

    /// Counts one test.
    fn tests(&mut self) -> Result<(), TooLarge> {
        self.tests += 1;
        if self.tests > MAX_TESTS { Err(TooLarge) } else { Ok(()) }
    }

    /// One name, which must be true or false.
    fn name(
        &mut self,
        before: Diagram,
        path: &Path,
        place: &Span,
        wanted: bool,
    ) -> Result<Diagram, TooLarge> {
        self.tests()?;
        let text = path.text();
        match text.as_str() {
            "fwd" => self.direction(before, place, wanted),
            "bwd" => self.direction(before, place, !wanted),
            "tcp" | "udp" | "icmp" | "sctp" => self.protocol(before, &text, place, wanted),
            // Later fragments belong to no flow.
            "ip.fragment" => {
                let first = comparison::is(Field::IpMf, u64::from(wanted), self.flow);
                self.joined(before, &first, &Part::Other, place)
            }
            other => match flag(other) {
                Some(bit) => self.flag(before, bit, other, place, wanted),
                None => {
                    unknown_condition(other, path, self.reporter);
                    Ok(before)
                }
            },
        }
    }

    fn direction(&mut self, before: Diagram, place: &Span, forward: bool) -> Result<Diagram, TooLarge> {
        if self.flow.is_some_and(FlowFacts::single) {
            self.reporter
                .error(
                    &codes::CONDITION,
                    place.clone(),
                    "a direction is one in a flow, and single packets have none",
                    "remove the condition, or compare ports: `l4.dst_port < 1024`",
                )
                .primary("of a flow");
            return Ok(before);
        }
        if self.flow.is_some_and(|flow| flow.directional) {
            // Every packet is forward: the condition says nothing or excludes everything.
            if !forward {
                self.never(
                    place,
                    "a directional flow has no backward packets",
                    "remove the condition, or write `key five_tuple bidirectional;`",
                );
                return Ok(before);
            }
            return Ok(before);
        }
        let direction = if forward { Direction::Forward } else { Direction::Backward };
        self.joined(before, &Diagram::direction(direction), &Part::Direction, place)
    }

    /// `tcp`, `udp`, `icmp`, `sctp`: packets of this transport.
    fn protocol(
        &mut self,
        before: Diagram,
        name: &str,
        place: &Span,
        wanted: bool,
    ) -> Result<Diagram, TooLarge> {
        let diagram = comparison::protocol(name, self.flow);
        let diagram = if wanted { diagram } else { diagram.not() };
        if diagram.is_never() {
            let kind = if wanted { "no" } else { "only" };
            self.never(
                place,
                &format!("{} {kind} {} packets", self.subject(), name.to_ascii_uppercase()),
                &format!("remove the condition, or change the {} protocols", self.whose()),
            );
            return Ok(before);
        }
        self.joined(before, &diagram, &Part::Other, place)
    }

    fn flag(
        &mut self,
        before: Diagram,
        bit: u8,
        name: &str,
        place: &Span,
        wanted: bool,
    ) -> Result<Diagram, TooLarge> {
        if self.flow.is_some_and(FlowFacts::without_tcp) {
            if wanted {
                self.never(
                    place,
                    &format!("{} no TCP packets, so `{name}` never holds", self.subject()),
                    &format!("remove the condition, or add `tcp` to the {} protocols", self.whose()),
                );
            }
            return Ok(before);
        }
        self.joined(before, &Diagram::flag(bit, wanted), &Part::Flag(bit, name.to_owned()), place)
    }

    /// Both conditions; the second is left out where it excludes the first.
    fn joined(
        &mut self,
        before: Diagram,
        diagram: &Diagram,
        part: &Part,
        place: &Span,
    ) -> Result<Diagram, TooLarge> {
        let both = before.and(diagram)?;
        if !both.is_never() || before.is_never() || diagram.is_never() {
            return Ok(both);
        }
        let common = Filter::of(&before).unwrap_or_default();
        let message = match part {
            Part::Direction if common.direction.is_some() => "no packet is forward and backward".to_owned(),
            Part::Flag(bit, name) if (common.flags_set | common.flags_clear) & bit != 0 => {
                format!("no packet has `{name}` set and clear")
            }
            Part::Direction | Part::Flag(..) | Part::Other => {
                "no packet fulfils this and what stands before it".to_owned()
            }
        };
        self.reporter
            .error(&codes::NEVER_TRUE, place.clone(), message, "remove one of the two conditions")
            .primary("excludes the condition before it");
        Ok(before)
    }

    fn never(&mut self, place: &Span, message: &str, help: &str) {
        self.reporter.error(&codes::NEVER_TRUE, place.clone(), message, help).primary("never true");
    }
}

fn unknown_condition(text: &str, path: &Path, reporter: &mut Reporter<'_>) {
    let span = path.span.clone();
    if field(text).is_some() {
        reporter
            .error(
                &codes::CONDITION,
                span,
                format!("`{text}` is a number, not a condition"),
                format!("compare it with a constant, for example `{text} > 0`"),
            )
            .primary("a number");
        return;
    }
    let known = ["fwd", "bwd", "tcp", "udp", "icmp", "sctp", "ip.fragment"]
        .into_iter()
        .chain(FLAGS.iter().map(|(name, _)| *name));
    // A word without its prefix is the commonest slip.
    let prefixed = format!("tcp.{text}");
    let help = if flag(&prefixed).is_some() {
        format!("did you mean `{prefixed}`?")
    } else {
        match text {
            "forward" => "did you mean `fwd`?".to_owned(),
            "backward" | "reverse" => "did you mean `bwd`?".to_owned(),
            _ => match reporter.own_name(text) {
                Some(name) => format!("did you mean `{name}`?"),
                None => suggest(text, known),
            },
        }
    };
    reporter
        .error(&codes::CONDITION, span, format!("there is no condition `{text}`"), help)
        .primary("not known");
}
