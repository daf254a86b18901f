//! `let NAME = EXPRESSION;`: expressions by name, put in the place of their names before anything is resolved.
//!
//! The expression of a name may use names that were defined before it, so that nothing uses itself. What is put
//! in keeps its own spans: mistakes in it are shown where it is written.

use std::collections::{BTreeMap, BTreeSet};

use super::ast::{Expr, ExprKind, File, Item, Qualifier};
use super::lexer::MAX_NESTING;
use super::report::Reporter;
use crate::diag::Span;
use crate::diag::codes::spec as codes;

/// Most parts that names stand for, in the whole specification.
const MAX_PARTS: usize = 1 << 16;

/// Words that mean something by themselves in an expression, or join its parts.
const TAKEN: [&str; 28] = [
    "fwd", "bwd", "tcp", "udp", "icmp", "sctp", "gap", "time", "payload", "p", "end", "never", "packet",
    "and", "or", "not", "where", "when", "in", "clip", "over", "per", "as", "at", "on", "for", "every",
    "after",
];

/// What a name stands for.
struct Known {
    value: Expr,
    span: Span,
    size: Size,
}

/// How large an expression is.
#[derive(Debug, Clone, Copy, Default)]
struct Size {
    parts: usize,
    /// How deep its brackets nest.
    depth: usize,
}

/// Replaces every name by its expression. `None` when something could not be put in, which was reported: what
/// resolution would say about it misleads.
pub(super) fn expand(file: &mut File, reporter: &mut Reporter<'_>) -> Option<()> {
    let defined =
        file.items.iter().filter_map(|item| if let Item::Let(own) = item { Some(own) } else { None });
    let later: BTreeSet<String> = defined.map(|own| own.name.text.clone()).collect();
    reporter.suggest_too(&later);
    let mut names = Names { known: BTreeMap::new(), later, parts: 0, exhausted: false, sound: true };
    for item in &mut file.items {
        let Item::Let(definition) = item else { continue };
        names.expand(&mut definition.value, 0, reporter);
        let name = &definition.name;
        if let Some(first) = names.known.get(&name.text) {
            repeated(&name.text, first.span.clone(), name.span.clone(), reporter);
        } else if is_taken(&name.text) {
            taken(&name.text, name.span.clone(), reporter);
        } else {
            let known = Known {
                value: definition.value.clone(),
                span: name.span.clone(),
                size: size(&definition.value),
            };
            names.known.insert(name.text.clone(), known);
        }
    }
    for item in &mut file.items {
        match item {
            Item::Features(block) => {
                for feature in &mut block.features {
                    names.expand(&mut feature.value, 0, reporter);
                }
            }
            Item::Rule(rule) => {
                if let Some(condition) = &mut rule.condition {
                    names.expand(condition, 0, reporter);
                }
            }
            Item::Packets(packets) => {
                if let Some(condition) = &mut packets.condition {
                    names.expand(condition, 0, reporter);
                }
            }
            Item::Header(_)
            | Item::Attach(_)
            | Item::Clock(_)
            | Item::Flow(_)
            | Item::Model(_)
            | Item::Classify(_)
            | Item::Use(_)
            | Item::Let(_)
            | Item::Param(_)
            | Item::Broken => {}
        }
    }
    (names.sound && !names.exhausted).then_some(())
}

struct Names {
    known: BTreeMap<String, Known>,
    /// All names, those included that are defined further down.
    later: BTreeSet<String>,
    /// Parts that were put in so far.
    parts: usize,
    /// Whether that was too much, which is said once.
    exhausted: bool,
    /// Whether every name was known where it was used.
    sound: bool,
}

impl Names {
    /// Nests as deep as the expression, whose brackets the lexer counted.
    fn expand(&mut self, expr: &mut Expr, depth: usize, reporter: &mut Reporter<'_>) {
        match &mut expr.kind {
            ExprKind::Path(path) => {
                let [name] = path.parts.as_slice() else { return };
                let Some(known) = self.known.get(&name.text) else {
                    if self.later.contains(&name.text) && !is_taken(&name.text) {
                        below(&name.text, expr.span.clone(), reporter);
                        self.sound = false;
                    }
                    return;
                };
                let size = known.size;
                self.parts += size.parts;
                if self.parts > MAX_PARTS || depth + 1 + size.depth > MAX_NESTING {
                    if !std::mem::replace(&mut self.exhausted, true) {
                        reporter
                            .error(
                                &codes::TOO_LARGE,
                                expr.span.clone(),
                                format!(
                                    "names stand for more than {MAX_PARTS} parts of expressions, or nest them more \
                                     than {MAX_NESTING} deep"
                                ),
                                "use fewer names inside of names",
                            )
                            .label(known.span.clone(), "this name");
                    }
                    return;
                }
                expr.kind = ExprKind::Group(Box::new(known.value.clone()));
            }
            ExprKind::Number(_) | ExprKind::Slice { .. } => {}
            ExprKind::Call(call) => {
                for argument in &mut call.arguments {
                    self.expand(argument, depth + 1, reporter);
                }
            }
            ExprKind::Group(inner) => self.expand(inner, depth + 1, reporter),
            ExprKind::Not(inner) | ExprKind::Negate(inner) => self.expand(inner, depth, reporter),
            ExprKind::Or(members) | ExprKind::And(members) => {
                for member in members {
                    self.expand(member, depth, reporter);
                }
            }
            ExprKind::Compare { left, right, .. } => {
                self.expand(left, depth, reporter);
                self.expand(right, depth, reporter);
            }
            ExprKind::Sum(members) | ExprKind::Product(members) => {
                for (_, member) in members {
                    self.expand(member, depth, reporter);
                }
            }
            ExprKind::Qualified { value, qualifiers } => {
                self.expand(value, depth, reporter);
                for qualifier in qualifiers {
                    match qualifier {
                        Qualifier::Where(condition) => self.expand(condition, depth, reporter),
                        Qualifier::As(_) | Qualifier::Per(_) | Qualifier::Over(_) => {}
                    }
                }
            }
        }
    }
}

fn size(expr: &Expr) -> Size {
    let all = |sizes: &mut dyn Iterator<Item = Size>| {
        sizes.fold(Size { parts: 1, depth: 0 }, |sum, one| Size {
            parts: sum.parts + one.parts,
            depth: sum.depth.max(one.depth),
        })
    };
    let deeper = |size: Size| Size { depth: size.depth + 1, ..size };
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Path(_) | ExprKind::Slice { .. } => Size { parts: 1, depth: 0 },
        ExprKind::Call(call) => deeper(all(&mut call.arguments.iter().map(size))),
        ExprKind::Group(inner) => deeper(all(&mut std::iter::once(size(inner)))),
        ExprKind::Not(inner) | ExprKind::Negate(inner) => all(&mut std::iter::once(size(inner))),
        ExprKind::Or(members) | ExprKind::And(members) => all(&mut members.iter().map(size)),
        ExprKind::Compare { left, right, .. } => all(&mut [left, right].into_iter().map(|side| size(side))),
        ExprKind::Sum(members) | ExprKind::Product(members) => {
            all(&mut members.iter().map(|(_, member)| size(member)))
        }
        ExprKind::Qualified { value, qualifiers } => {
            let conditions = qualifiers.iter().filter_map(|qualifier| match qualifier {
                Qualifier::Where(condition) => Some(size(condition)),
                Qualifier::As(_) | Qualifier::Per(_) | Qualifier::Over(_) => None,
            });
            all(&mut std::iter::once(size(value)).chain(conditions))
        }
    }
}

/// Whether a word means something by itself.
pub(super) fn is_taken(name: &str) -> bool {
    TAKEN.contains(&name)
}

/// Reports a name that means something already.
pub(super) fn taken(name: &str, span: Span, reporter: &mut Reporter<'_>) {
    reporter
        .error(
            &codes::NAME,
            span,
            format!("`{name}` means something in the language already"),
            format!("choose another name, for example `my_{name}`"),
        )
        .primary("already taken");
}

/// Reports a name that uses itself or one that is defined after it.
fn below(name: &str, span: Span, reporter: &mut Reporter<'_>) {
    reporter
        .error(
            &codes::NAME,
            span,
            format!("`{name}` is not defined before it is used here"),
            format!("put `let {name} = …;` above this statement; no expression uses itself"),
        )
        .primary("not yet defined");
}

/// Reports a name that is given twice.
pub(super) fn repeated(name: &str, first: Span, second: Span, reporter: &mut Reporter<'_>) {
    reporter
        .error(
            &codes::NAME,
            second,
            format!("two statements define `{name}`"),
            "give one of them another name",
        )
        .primary("second")
        .label(first, "first");
}
