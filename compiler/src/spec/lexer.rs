//! Specification text to tokens.
//!
//! No word is reserved: the parser decides by position whether `end` is a clause or a feature's name, so a
//! later version of the language can add words without breaking a specification that uses them as names.
//! Meaning of numbers and units belongs to resolution.

use std::fmt;

use logos::Logos;

use super::report::Reporter;
use crate::diag::Span;
use crate::diag::codes::spec as codes;

/// Longest accepted source. Specifications are written by hand; the largest shipped one has a few kilobytes.
pub const MAX_SOURCE_BYTES: usize = 1 << 20;

/// Deepest accepted nesting of brackets, which bounds the recursion of the parser and of everything after it.
pub const MAX_NESTING: usize = 64;

/// One token.
#[derive(Logos, Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[logos(skip r"[ \t\r\n\f]+", skip(r"//[^\n]*", allow_greedy = true))]
pub enum Token<'s> {
    #[regex(r"[A-Za-z_][A-Za-z0-9_]*")]
    Word(&'s str),
    /// Decimal, with `_` between digits as one likes.
    #[regex(r"[0-9][0-9_]*(\.[0-9][0-9_]*)?")]
    Number(&'s str),
    /// With its quotes; there are no escapes.
    #[regex(r#""[^"\n]*""#)]
    Text(&'s str),
    /// Text whose closing quote is missing; the lexer reports it and hands on a [`Token::Text`].
    #[regex(r#""[^"\n;}]*"#)]
    OpenText(&'s str),
    #[token("{")]
    LeftBrace,
    #[token("}")]
    RightBrace,
    #[token("(")]
    LeftParen,
    #[token(")")]
    RightParen,
    #[token("[")]
    LeftBracket,
    #[token("]")]
    RightBracket,
    #[token(";")]
    Semicolon,
    #[token(",")]
    Comma,
    #[token(".")]
    Dot,
    #[token("..")]
    DotDot,
    #[token("=")]
    Assign,
    #[token("==")]
    Equal,
    #[token("!=")]
    NotEqual,
    #[token("<")]
    Less,
    #[token("<=")]
    LessEqual,
    #[token(">")]
    Greater,
    #[token(">=")]
    GreaterEqual,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("*")]
    Star,
    #[token("/")]
    Slash,
    #[token("%")]
    Percent,
}

/// A token and where it stands.
pub(super) type Spanned<'s> = (Token<'s>, chumsky::span::SimpleSpan);

/// Splits `source` into tokens; what is no token is reported and left out.
/// Spans begin at `start`.
/// `None` when the text exceeds a limit, in which case nothing else about it is worth saying.
pub(super) fn lex<'s>(
    source: &'s str,
    start: usize,
    reporter: &mut Reporter<'_>,
) -> Option<Vec<Spanned<'s>>> {
    if source.len() > MAX_SOURCE_BYTES {
        reporter.error(
            &codes::TOO_LARGE,
            start..start,
            format!("the specification has {} bytes, the limit is {MAX_SOURCE_BYTES}", source.len()),
            "split the work over several specifications",
        );
        return None;
    }
    let mut tokens = Vec::new();
    let mut garbage: Option<Span> = None;
    let mut depth = 0_usize;
    for (token, span) in Token::lexer(source).spanned() {
        let shifted = start + span.start..start + span.end;
        match token {
            Ok(token) => {
                if let Some(range) = garbage.take() {
                    report_garbage(source, range, start, reporter);
                }
                match token {
                    Token::LeftBrace | Token::LeftParen | Token::LeftBracket => {
                        depth = depth.saturating_add(1)
                    }
                    Token::RightBrace | Token::RightParen | Token::RightBracket => {
                        depth = depth.saturating_sub(1);
                    }
                    Token::Word(_)
                    | Token::Number(_)
                    | Token::Text(_)
                    | Token::OpenText(_)
                    | Token::Semicolon
                    | Token::Comma
                    | Token::Dot
                    | Token::DotDot
                    | Token::Assign
                    | Token::Equal
                    | Token::NotEqual
                    | Token::Less
                    | Token::LessEqual
                    | Token::Greater
                    | Token::GreaterEqual
                    | Token::Plus
                    | Token::Minus
                    | Token::Star
                    | Token::Slash
                    | Token::Percent => {}
                }
                if depth > MAX_NESTING {
                    reporter.error(
                        &codes::TOO_LARGE,
                        shifted,
                        format!("brackets are nested more than {MAX_NESTING} deep"),
                        "close brackets, or give a part of the expression a feature of its own",
                    );
                    return None;
                }
                let token = match unclosed(token) {
                    None => token,
                    Some(text) => {
                        report_unclosed(shifted.clone(), reporter);
                        Token::Text(text)
                    }
                };
                tokens.push((token, shifted.into()));
            }
            // Neighbouring characters that are no token make one mistake, not many.
            Err(()) => {
                garbage = Some(match garbage {
                    Some(range) if range.end == span.start => range.start..span.end,
                    Some(range) => {
                        report_garbage(source, range, start, reporter);
                        span
                    }
                    None => span,
                });
            }
        }
    }
    if let Some(range) = garbage {
        report_garbage(source, range, start, reporter);
    }
    Some(tokens)
}

/// The text of a token that lacks its closing quote.
fn unclosed(token: Token<'_>) -> Option<&str> {
    if let Token::OpenText(text) = token { Some(text) } else { None }
}

fn report_unclosed(span: Span, reporter: &mut Reporter<'_>) {
    reporter
        .error(
            &codes::UNKNOWN_CHARACTER,
            span,
            "the quoted text does not end on its line",
            "close it with a second `\"` on the same line",
        )
        .primary("begins here");
}

fn report_garbage(source: &str, span: Span, start: usize, reporter: &mut Reporter<'_>) {
    let text = source.get(span.clone()).unwrap_or_default();
    let shown: String = text
        .chars()
        .take(20)
        .map(|c| if c.is_control() || c == '\u{feff}' { '\u{fffd}' } else { c })
        .collect();
    let help = match text {
        "&" | "&&" => "write `and`",
        "|" | "||" => "write `or`",
        "!" => "write `not`",
        "#" => "comments begin with `//`",
        "'" => "quote text with `\"`",
        _ if text.starts_with('\u{feff}') => {
            "save the text without a byte order mark, or with one at its beginning only"
        }
        _ if text.chars().next().is_some_and(char::is_alphabetic) => {
            "names are written in the letters a to z, digits and `_`; any text can stand in `\"`, as labels do"
        }
        _ => "remove it; comments begin with `//`, text stands in `\"`",
    };
    let span = start + span.start..start + span.end;
    reporter.error(&codes::UNKNOWN_CHARACTER, span, format!("`{shown}` is not part of the language"), help);
}

impl fmt::Display for Token<'_> {
    /// The token as it is written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Word(text) | Self::Number(text) | Self::Text(text) | Self::OpenText(text) => text,
            Self::LeftBrace => "{",
            Self::RightBrace => "}",
            Self::LeftParen => "(",
            Self::RightParen => ")",
            Self::LeftBracket => "[",
            Self::RightBracket => "]",
            Self::Semicolon => ";",
            Self::Comma => ",",
            Self::Dot => ".",
            Self::DotDot => "..",
            Self::Assign => "=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Plus => "+",
            Self::Minus => "-",
            Self::Star => "*",
            Self::Slash => "/",
            Self::Percent => "%",
        })
    }
}
