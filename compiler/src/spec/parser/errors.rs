//! Puts parse failures in words: what was expected, what stands there, which word was probably meant.

use chumsky::error::RichPattern;

use super::{Failure, Spanned, Token};
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::spec::report::{Reporter, nearest};

/// Reports each failure once per place: what a skipped statement drags along says nothing new.
pub(super) fn report(
    source: &str,
    tokens: &[Spanned<'_>],
    failures: &[Failure<'_>],
    reporter: &mut Reporter<'_>,
) {
    let mut last: Option<usize> = None;
    let lexed: Vec<usize> = reporter.starts().collect();
    for failure in failures {
        let span = super::basic::range(*failure.span());
        if last == Some(span.start) {
            continue;
        }
        last = Some(span.start);
        // What the lexer left out on a line explains what is missing there.
        if lexed.iter().any(|&start| {
            start <= span.start
                && source.get(start..span.start).is_some_and(|between| !between.contains('\n'))
        }) {
            continue;
        }
        let expected = Expected::of(failure);
        match failure.found() {
            None => at_end(source, tokens, &expected, reporter),
            Some(found) => match missing_semicolon(source, tokens, &expected, span.start) {
                Some(end) => {
                    reporter
                        .error(&codes::SYNTAX, end..end, "a `;` is missing", "end the statement with `;`")
                        .primary("expected `;` here");
                }
                None => unexpected(tokens, *found, span, &expected, reporter),
            },
        }
    }
}

/// What could have stood at the place of a failure.
struct Expected {
    words: Vec<String>,
    signs: Vec<String>,
    labels: Vec<String>,
}

impl Expected {
    fn of(failure: &Failure<'_>) -> Self {
        let mut expected = Self { words: Vec::new(), signs: Vec::new(), labels: Vec::new() };
        for pattern in failure.expected() {
            match pattern {
                RichPattern::Token(token) => {
                    if let Token::Word(text) = **token {
                        expected.words.push(text.to_owned());
                    } else {
                        expected.signs.push(token.to_string());
                    }
                }
                RichPattern::Label(label) => expected.labels.push(label.to_string()),
                RichPattern::Identifier(name) => expected.words.push(name.clone()),
                RichPattern::EndOfInput => expected.labels.push("the end of the file".to_owned()),
                RichPattern::Any | RichPattern::SomethingElse => {}
                // The enum is not exhaustive outside of its crate.
                _ => {}
            }
        }
        // Behind a value a great deal may follow: the common continuations say enough.
        if expected.labels.iter().any(|label| label == super::expression::OPERATOR) {
            expected.words.retain(|word| word == "where" || word == "in");
            expected.signs.retain(|sign| !matches!(sign.as_str(), "." | "(" | "["));
        }
        expected.words.sort();
        expected.words.dedup();
        expected.signs.sort();
        expected.labels.sort();
        expected.labels.dedup();
        expected
    }

    fn wants(&self, sign: &str) -> bool {
        self.signs.iter().any(|candidate| candidate == sign)
    }

    /// All of it as `a`, `b` or c.
    fn list(&self) -> String {
        let mut parts = self.labels.clone();
        parts.extend(self.words.iter().chain(&self.signs).map(|text| format!("`{text}`")));
        match parts.split_last() {
            None => "something else".to_owned(),
            Some((last, [])) => last.clone(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        }
    }
}

fn unexpected(
    tokens: &[Spanned<'_>],
    found: Token<'_>,
    span: Span,
    expected: &Expected,
    reporter: &mut Reporter<'_>,
) {
    let meant = if let Token::Word(text) = found {
        nearest(text, expected.words.iter().map(String::as_str))
    } else {
        None
    };
    let outside =
        expected.wants("}") && super::basic::TOP_LEVEL.iter().any(|word| found == Token::Word(word));
    let help = if outside {
        "close the block with `}`".to_owned()
    } else if let Some(word) = meant {
        format!("did you mean `{word}`?")
    } else if found == Token::Equal && expected.wants("=") {
        "a feature is defined with a single `=`".to_owned()
    } else if found == Token::RightBrace && expected.wants(";") {
        "end the statement with `;`".to_owned()
    } else {
        format!("write {}", expected.list())
    };
    let before = tokens.partition_point(|(_, token)| token.start < span.start);
    let details = reporter
        .error(&codes::SYNTAX, span, format!("expected {}, found `{found}`", expected.list()), help)
        .primary("not expected here");
    if outside && let Some(open) = unclosed(tokens.get(..before).unwrap_or_default()) {
        details.label(open, "this is not closed");
    }
}

/// The end of the previous token, when a semicolon could follow it and the failing token stands on a later
/// line: then the semicolon was forgotten.
fn missing_semicolon(
    source: &str,
    tokens: &[Spanned<'_>],
    expected: &Expected,
    start: usize,
) -> Option<usize> {
    if !expected.wants(";") {
        return None;
    }
    let index = tokens.partition_point(|(_, span)| span.start < start);
    let end = tokens.get(index.checked_sub(1)?)?.1.end;
    source.get(end..start)?.contains('\n').then_some(end)
}

fn at_end(source: &str, tokens: &[Spanned<'_>], expected: &Expected, reporter: &mut Reporter<'_>) {
    let end = tokens.last().map_or(source.len(), |(_, span)| span.end);
    let help = match (expected.wants("}"), expected.wants(";")) {
        (true, _) => "close the block with `}`".to_owned(),
        (false, true) => "end the statement with `;`".to_owned(),
        (false, false) => format!("write {}", expected.list()),
    };
    let details = reporter
        .error(&codes::SYNTAX, end..end, format!("the file ends where {} is expected", expected.list()), help)
        .primary("the file ends here");
    if let Some(open) = unclosed(tokens) {
        details.label(open, "this is not closed");
    }
}

/// The innermost bracket that nothing closes.
fn unclosed(tokens: &[Spanned<'_>]) -> Option<Span> {
    let mut open: Vec<Span> = Vec::new();
    for (token, span) in tokens {
        if matches!(token, Token::LeftBrace | Token::LeftParen | Token::LeftBracket) {
            open.push(span.start..span.end);
        } else if matches!(token, Token::RightBrace | Token::RightParen | Token::RightBracket) {
            open.pop();
        }
    }
    open.pop()
}
