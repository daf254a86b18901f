//! `param NAME = VALUE;`: numbers and quantities by name, replaced before the text is parsed.
//!
//! A name stands for its value wherever a number can stand, whatever the statement. It is no parameter behind or
//! before a dot, before a bracket or `=`, and where a statement names something.

use std::collections::BTreeMap;

use logos::Logos as _;

use super::lexer::{Spanned, Token};
use super::report::{Reporter, suggest};
use super::sources::Parameter;
use crate::diag::codes::spec as codes;
use crate::diag::{Diagnostic, Origin, Span};

/// Words behind which a name is given, not used.
const NAMING: [&str; 16] = [
    "spec", "flow", "of", "classify", "on", "labels", "output", "let", "param", "as", "per", "key", "attach",
    "block", "evict", "clock",
];

/// What a name stands for.
struct Value<'s> {
    tokens: Vec<Token<'s>>,
    /// Of the statement's name.
    span: Span,
    /// Whether the value came from outside.
    given: bool,
}

/// The values of all `param` statements, those from outside in their place.
pub(super) struct Parameters<'s> {
    values: BTreeMap<&'s str, Value<'s>>,
}

impl<'s> Parameters<'s> {
    /// Reads the statements of all files; `given` are the values from outside.
    pub(super) fn read(
        files: &[Vec<Spanned<'s>>],
        given: &'s [Parameter],
        reporter: &mut Reporter<'_>,
    ) -> Self {
        let mut values = BTreeMap::new();
        for tokens in files {
            statements(tokens, &mut values, reporter);
        }
        let mut parameters = Self { values };
        for parameter in given {
            parameters.replace(parameter, reporter);
        }
        parameters
    }

    /// Puts a value from outside in the place of that of the statement.
    fn replace(&mut self, parameter: &'s Parameter, reporter: &mut Reporter<'_>) {
        let name = parameter.name.as_str();
        let refuse = |message: String, help: String, reporter: &mut Reporter<'_>| {
            let flag = format!("--param {name}={}", parameter.value);
            reporter.add(Diagnostic::new(&codes::PARAMETER, Origin::Flag { flag }, message, help));
        };
        let Some(known) = self.values.get_mut(name) else {
            let names: Vec<&str> = self.values.keys().copied().collect();
            let help = if names.is_empty() {
                format!("add `param {name} = {};` to the specification", parameter.value)
            } else {
                suggest(name, names)
            };
            refuse(format!("the specification has no parameter `{name}`"), help, reporter);
            return;
        };
        let Some(tokens) = value(&parameter.value) else {
            let example = if has_unit(&known.tokens) { "30s" } else { "64" };
            let message = format!("`{}` is no number and no number with a unit", parameter.value);
            refuse(message, format!("write for example `--param {name}={example}`"), reporter);
            return;
        };
        match (has_unit(&known.tokens), has_unit(&tokens)) {
            (true, false) => {
                let help = format!("write the unit, for example `--param {name}={}s`", parameter.value);
                refuse(format!("`{name}` is a number with a unit"), help, reporter);
            }
            (false, true) => {
                refuse(
                    format!("`{name}` is a number without a unit"),
                    "leave the unit out".to_owned(),
                    reporter,
                );
            }
            (true, true) | (false, false) => {
                known.tokens = tokens;
                known.given = true;
            }
        }
    }

    /// The same tokens, values in the place of names.
    pub(super) fn replaced(&self, tokens: Vec<Spanned<'s>>, reporter: &mut Reporter<'_>) -> Vec<Spanned<'s>> {
        if self.values.is_empty() {
            return tokens;
        }
        let mut replaced = Vec::with_capacity(tokens.len());
        let mut brackets = 0_usize;
        // Behind a value stands its unit, as behind a number.
        let mut behind_value = false;
        for (index, (token, span)) in tokens.iter().enumerate() {
            if matches!(token, Token::LeftParen | Token::LeftBracket) {
                brackets = brackets.saturating_add(1);
            } else if matches!(token, Token::RightParen | Token::RightBracket) {
                brackets = brackets.saturating_sub(1);
            } else if ends_statement(*token) {
                brackets = 0;
            }
            let before = index.checked_sub(1).and_then(|index| tokens.get(index)).map(|(token, _)| *token);
            let after = tokens.get(index + 1).map(|(token, _)| *token);
            let value = if let Token::Word(word) = token
                && !behind_value
                && is_value(before, after, brackets > 0)
            {
                self.values.get(word)
            } else {
                None
            };
            behind_value = value.is_some();
            match value {
                None => replaced.push((*token, *span)),
                Some(value) => {
                    let shown: Vec<String> = value.tokens.iter().map(Token::to_string).collect();
                    let shown = shown.join(" ").replacen("- ", "-", 1);
                    let source = if value.given { "the command line" } else { "its `param` statement" };
                    reporter.explain(span.start..span.end, format!("`{token}` is {shown} here, by {source}"));
                    replaced.extend(value.tokens.iter().map(|token| (*token, *span)));
                }
            }
        }
        replaced
    }
}

/// Whether a word can be a value between these.
fn is_value(before: Option<Token<'_>>, after: Option<Token<'_>>, in_brackets: bool) -> bool {
    let named = before.is_none_or(|before| {
        // Behind a number stands its unit.
        matches!(before, Token::Dot | Token::Number(_))
            || ends_statement(before)
            || before == Token::Comma && !in_brackets
            || matches!(before, Token::Word(word) if NAMING.contains(&word))
    });
    !named && !matches!(after, Some(Token::Dot | Token::LeftParen | Token::Assign))
}

fn ends_statement(token: Token<'_>) -> bool {
    matches!(token, Token::Semicolon | Token::LeftBrace | Token::RightBrace)
}

/// Collects `param NAME = VALUE;` where statements of the top level begin.
fn statements<'s>(
    tokens: &[Spanned<'s>],
    values: &mut BTreeMap<&'s str, Value<'s>>,
    reporter: &mut Reporter<'_>,
) {
    let mut depth = 0_usize;
    let mut begins = true;
    for (index, (token, _)) in tokens.iter().enumerate() {
        let rest = tokens.get(index..).unwrap_or_default();
        if begins
            && depth == 0
            && let [(Token::Word("param"), _), (Token::Word(name), span), (Token::Assign, _), rest @ ..] =
                rest
        {
            let value = rest.iter().map(|(token, _)| *token).take_while(|token| *token != Token::Semicolon);
            // What is no value is left to the parser.
            let value: Vec<Token<'s>> = value.take(4).collect();
            if is_sound(&value) {
                define(
                    name,
                    Value { tokens: value, span: span.start..span.end, given: false },
                    values,
                    reporter,
                );
            }
        }
        depth = super::sources::depth(depth, *token);
        begins = matches!(token, Token::Semicolon | Token::RightBrace);
    }
}

fn define<'s>(
    name: &'s str,
    value: Value<'s>,
    values: &mut BTreeMap<&'s str, Value<'s>>,
    reporter: &mut Reporter<'_>,
) {
    if let Some(first) = values.get(name) {
        super::names::repeated(name, first.span.clone(), value.span, reporter);
    } else if super::names::is_taken(name) {
        super::names::taken(name, value.span, reporter);
    } else {
        values.insert(name, value);
    }
}

/// `[-] NUMBER [UNIT]`.
fn is_sound(tokens: &[Token<'_>]) -> bool {
    let tokens = tokens.strip_prefix(&[Token::Minus]).unwrap_or(tokens);
    matches!(tokens, [Token::Number(_)] | [Token::Number(_), Token::Word(_)])
}

fn has_unit(tokens: &[Token<'_>]) -> bool {
    matches!(tokens.last(), Some(Token::Word(_)))
}

/// The tokens of a value from outside.
fn value(text: &str) -> Option<Vec<Token<'_>>> {
    let tokens: Result<Vec<Token<'_>>, ()> = Token::lexer(text).take(4).collect();
    tokens.ok().filter(|tokens| is_sound(tokens))
}
