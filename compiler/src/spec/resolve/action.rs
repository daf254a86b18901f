//! What rules do: the actions between the braces.

use super::FlowFacts;
use super::number;
use super::structure::{repeated, unknown, unsupported};
use super::units::duration;
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::ir::flow::key::KeyPart;
use crate::spec::ast;
use crate::spec::report::Reporter;
use crate::spec::typed::{Action, Hook, Nanos};

/// All actions that there are.
const KNOWN: [&str; 5] = ["drop", "block", "mark", "report", "pass"];

/// The actions of a rule, each kind once. `None` when one of them was refused.
pub(super) fn actions(
    rule: &ast::Rule,
    hook: Option<Hook>,
    facts: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Vec<Action>> {
    let mut actions: Vec<(Action, &Span)> = Vec::new();
    let mut sound = true;
    for entry in &rule.actions {
        let Some(action) = action(entry, hook, facts, reporter) else {
            sound = false;
            continue;
        };
        match actions.iter().find(|(other, _)| kind(*other) == kind(action)) {
            None => actions.push((action, &entry.span)),
            Some((_, first)) => repeated(&entry.verb.text, (*first).clone(), entry.span.clone(), reporter),
        }
    }
    if rule.actions.is_empty() && reporter.is_clean() {
        reporter.error(
            &codes::ACTION,
            rule.head.clone(),
            "the rule does nothing",
            "write at least one of `drop;`, `block ip.src for 10 min;`, `report;`, `pass;`",
        );
    }
    contradiction(&actions, reporter);
    sound.then(|| actions.into_iter().map(|(action, _)| action).collect())
}

/// Actions of one kind stand once in a rule.
const fn kind(action: Action) -> u8 {
    match action {
        Action::Drop => 0,
        Action::BlockSource(_) => 1,
        Action::BlockDestination(_) => 2,
        Action::Mark(_) => 3,
        Action::Report | Action::ReportOneIn(_) => 4,
        Action::Pass => 5,
    }
}

/// A rule that lets pass does not act against the flow.
fn contradiction(actions: &[(Action, &Span)], reporter: &mut Reporter<'_>) {
    let Some((_, pass)) = actions.iter().find(|(action, _)| *action == Action::Pass) else { return };
    for (action, span) in actions {
        let word = match action {
            Action::Drop => "drop",
            Action::BlockSource(_) | Action::BlockDestination(_) => "block",
            Action::Mark(_) | Action::Report | Action::ReportOneIn(_) | Action::Pass => continue,
        };
        reporter
            .error(
                &codes::ACTION,
                (*span).clone(),
                format!("`{word}` and `pass` in one rule contradict each other"),
                format!("remove `pass;` or `{word}`"),
            )
            .label((*pass).clone(), "lets the flow pass");
    }
}

fn action(
    entry: &ast::Action,
    hook: Option<Hook>,
    facts: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Action> {
    match entry.verb.text.as_str() {
        "drop" => alone(entry, Action::Drop, reporter),
        "pass" => alone(entry, Action::Pass, reporter),
        "report" => report(entry, reporter),
        "mark" => mark(entry, hook, reporter),
        "block" => block(entry, facts, reporter),
        other @ ("redirect" | "limit") => {
            unsupported(
                entry.verb.span.clone(),
                format!("the action `{other}` is not supported yet"),
                "use `drop`, `block ip.src for TIME`, `mark N`, `report` and `pass`",
                reporter,
            );
            None
        }
        other => {
            unknown(&codes::ACTION, "action", other, entry.verb.span.clone(), &KNOWN, reporter);
            None
        }
    }
}

/// An action that is a word and nothing else.
fn alone(entry: &ast::Action, action: Action, reporter: &mut Reporter<'_>) -> Option<Action> {
    if entry.subject.is_none() && entry.amount.is_none() && entry.time.is_none() {
        return Some(action);
    }
    let name = &entry.verb.text;
    refuse(entry, format!("`{name}` stands alone"), format!("write `{name};`"), reporter)
}

/// `report;`, `report 1 in 100;`
fn report(entry: &ast::Action, reporter: &mut Reporter<'_>) -> Option<Action> {
    let help = "write `report;`, or `report 1 in 100;` for one verdict of a hundred";
    let (None, None) = (&entry.subject, &entry.time) else {
        return refuse(entry, "`report` says neither whom nor for how long", help, reporter);
    };
    let Some(amount) = &entry.amount else { return Some(Action::Report) };
    let of = amount.of.as_ref().and_then(|of| u32::try_from(number::whole(of).ok()?).ok());
    match (number::whole(&amount.number), of) {
        (Ok(1), Some(1)) => Some(Action::Report),
        (Ok(1), Some(of)) if of > 1 => Some(Action::ReportOneIn(of)),
        (Ok(_) | Err(_), _) => {
            refuse(entry, "a sample is `1 in` a whole number from 1 to 4294967295", help, reporter)
        }
    }
}

/// `mark 7;`
fn mark(entry: &ast::Action, hook: Option<Hook>, reporter: &mut Reporter<'_>) -> Option<Action> {
    let help = "write `mark 7;`, with a whole number from 0 to 4294967295";
    let value = match &entry.amount {
        Some(ast::Amount { number, of: None, .. }) if entry.subject.is_none() && entry.time.is_none() => {
            number::whole(number).ok().and_then(|value| u32::try_from(value).ok())
        }
        Some(_) | None => None,
    };
    let Some(value) = value else {
        return refuse(entry, "`mark` needs one number", help, reporter);
    };
    match hook {
        Some(Hook::Xdp) => refuse(
            entry,
            "packets have no mark at XDP, before they have a socket buffer",
            "write `attach tc ingress;`, or remove `mark`",
            reporter,
        ),
        Some(Hook::TcIngress | Hook::TcEgress) | None => Some(Action::Mark(value)),
    }
}

fn block(entry: &ast::Action, facts: Option<&FlowFacts>, reporter: &mut Reporter<'_>) -> Option<Action> {
    let example = "write `block ip.src for 10 min;`";
    let subject = entry.subject.as_ref().map(|subject| (subject, subject.text()));
    let (of, part, whom): (fn(Nanos) -> Action, _, _) = match &subject {
        Some((_, text)) if text == "ip.src" => (Action::BlockSource, KeyPart::Src, "senders"),
        Some((_, text)) if text == "ip.dst" => (Action::BlockDestination, KeyPart::Dst, "receivers"),
        Some((subject, text)) if matches!(text.as_str(), "flow" | "five_tuple" | "eth.src") => {
            let message = format!("blocking `{text}` is not supported yet");
            unsupported(subject.span.clone(), message, example, reporter);
            return None;
        }
        Some((subject, text)) => {
            let known = ["ip.src", "ip.dst"];
            unknown(&codes::ACTION, "address", text, subject.span.clone(), &known, reporter);
            return None;
        }
        None => return refuse(entry, "`block` does not say whom", example, reporter),
    };
    if let Some((subject, text)) = &subject
        && facts.is_some_and(|facts| !facts.key.has(part))
    {
        reporter
            .error(
                &codes::ACTION,
                subject.span.clone(),
                format!("a record of this flow holds packets of many {whom}, and none of them is to blame"),
                format!("add `{text}` to the flow's key, or use `drop` and `report`"),
            )
            .primary("not part of the key");
        return None;
    }
    match &entry.time {
        None => refuse(entry, "`block` does not say for how long", example, reporter),
        Some(time) => duration(time, reporter).map(of),
    }
}

fn refuse(
    entry: &ast::Action,
    message: impl Into<String>,
    help: impl Into<String>,
    reporter: &mut Reporter<'_>,
) -> Option<Action> {
    reporter.error(&codes::ACTION, entry.span.clone(), message, help);
    None
}
