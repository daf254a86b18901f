//! One layout for every specification: tokens and comments stay, blanks and line ends are ours.
//!
//! Blocks are indented by four blanks, statements stand on lines of their own, `=` and the values of a flow's
//! clauses stand below one another, and at most one empty line separates statements. A block that stands on
//! one line stays there while it fits. A comment inside of a statement moves before it.

use logos::Logos as _;

use super::lexer::{self, Token};
use super::parameters::Parameters;
use super::{parser, report::Reporter};
use crate::diag::Outcome;

/// Longest line that is not broken.
const WIDTH: usize = 100;
const INDENT: usize = 4;

/// Words that an opening bracket does not turn into a call.
const NOT_CALLED: [&str; 11] = ["and", "or", "not", "where", "when", "in", "clip", "over", "per", "as", "on"];

/// The text in the one layout. Formatting it again changes nothing.
///
/// # Errors
///
/// What is no token (`E0200`), no statement (`E0201`) or too large (`E0202`); meaning is not looked at.
pub fn format(file: &str, source: &str) -> Outcome<String> {
    let mut reporter = Reporter::new(file);
    let tokens = lexer::lex(source, 0, &mut reporter);
    let sound = tokens.is_some();
    if let Some(tokens) = tokens {
        let files = [tokens];
        // What is wrong with parameters is no matter of layout.
        let own = Parameters::read(&files, &[], &mut Reporter::new(file));
        let [tokens] = files;
        let tokens = own.replaced(tokens, &mut reporter);
        parser::parses(source, &tokens, &mut reporter);
    }
    let diagnostics = reporter.into_diagnostics();
    if !sound || !diagnostics.is_empty() {
        return Err(diagnostics);
    }
    Ok(layout(lines(&pieces(source))))
}

/// What the source consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'s> {
    /// With the number of its line.
    Token(Token<'s>, usize),
    /// `alone` when nothing stands before it on its line.
    Comment { text: &'s str, alone: bool },
    /// One or more empty lines.
    Empty,
}

fn pieces(source: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut end, mut line) = (0, 1);
    for (token, span) in Token::lexer(source).spanned() {
        between(source.get(end..span.start).unwrap_or_default(), end == 0, &mut line, &mut pieces);
        // What is no token has been refused before.
        if let Ok(token) = token {
            pieces.push(Piece::Token(token, line));
        }
        end = span.end;
    }
    between(source.get(end..).unwrap_or_default(), end == 0, &mut line, &mut pieces);
    pieces
}

/// Comments and empty lines of what stands between two tokens.
fn between<'s>(text: &'s str, first: bool, line: &mut usize, pieces: &mut Vec<Piece<'s>>) {
    let last = text.matches('\n').count();
    for (index, part) in text.split('\n').enumerate() {
        let part = part.trim();
        if part.starts_with("//") {
            pieces.push(Piece::Comment { text: part, alone: index > 0 || first });
        } else if part.is_empty() && index > 0 && index < last && pieces.last() != Some(&Piece::Empty) {
            pieces.push(Piece::Empty);
        }
    }
    *line += last;
}

/// A line to be.
#[derive(Debug, Default)]
struct Line {
    depth: usize,
    /// Without indentation and comment; nothing for an empty line or a comment alone.
    text: String,
    comment: Option<String>,
    /// Byte offset at which the text may be padded to align with its neighbours: before the `=` of a feature,
    /// behind the first word of a flow's clause.
    align: Option<usize>,
}

fn lines(pieces: &[Piece<'_>]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut statement: Vec<Token<'_>> = Vec::new();
    // The first words of the blocks that are open.
    let mut blocks: Vec<&str> = Vec::new();
    let mut rest = pieces.iter().enumerate();
    while let Some((index, piece)) = rest.next() {
        match *piece {
            Piece::Empty if statement.is_empty() => lines.push(Line::default()),
            Piece::Empty => {}
            Piece::Comment { text, alone } => {
                let trails = !alone && statement.is_empty();
                match lines.last_mut().filter(|line| trails && line.comment.is_none()) {
                    Some(line) => line.comment = Some(text.to_owned()),
                    None => lines.push(Line {
                        depth: blocks.len(),
                        comment: Some(text.to_owned()),
                        ..Line::default()
                    }),
                }
            }
            Piece::Token(Token::LeftBrace, at) => {
                let head = std::mem::take(&mut statement);
                if let Some((text, length)) = on_one_line(&head, pieces.get(index..).unwrap_or_default(), at)
                    .filter(|(text, _)| text.len() + blocks.len() * INDENT <= WIDTH)
                {
                    lines.push(Line { depth: blocks.len(), text, ..Line::default() });
                    for _ in 1..length {
                        rest.next();
                    }
                } else {
                    let mut text = joined(&head);
                    text.push_str(if text.is_empty() { "{" } else { " {" });
                    lines.push(Line { depth: blocks.len(), text, ..Line::default() });
                    blocks.push(match head.first() {
                        Some(Token::Word(word)) => word,
                        Some(_) | None => "",
                    });
                }
            }
            Piece::Token(Token::RightBrace, _) => {
                blocks.pop();
                lines.push(Line { depth: blocks.len(), text: "}".to_owned(), ..Line::default() });
            }
            Piece::Token(token, _) => {
                statement.push(token);
                if token == Token::Semicolon {
                    let align = alignment(&statement, blocks.last().copied());
                    let text = joined(&std::mem::take(&mut statement));
                    lines.push(Line { depth: blocks.len(), text, comment: None, align });
                }
            }
        }
    }
    lines
}

/// A block that the source has on one line, as text, and the number of its pieces from its brace on.
fn on_one_line(head: &[Token<'_>], pieces: &[Piece<'_>], line: usize) -> Option<(String, usize)> {
    let mut text = joined(head);
    let mut statement = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        match *piece {
            Piece::Token(_, at) if at != line => return None,
            Piece::Token(Token::LeftBrace, _) if index == 0 => text.push_str(" {"),
            Piece::Token(Token::LeftBrace, _) | Piece::Comment { .. } | Piece::Empty => return None,
            Piece::Token(Token::RightBrace, _) => {
                text.push_str(" }");
                return Some((text, index + 1));
            }
            Piece::Token(token, _) => {
                statement.push(token);
                if token == Token::Semicolon {
                    text.push(' ');
                    text.push_str(&joined(&std::mem::take(&mut statement)));
                }
            }
        }
    }
    None
}

/// Where a statement may be padded: its byte offset.
fn alignment(statement: &[Token<'_>], block: Option<&str>) -> Option<usize> {
    let (Some(Token::Word(word)), Some(second)) = (statement.first(), statement.get(1)) else { return None };
    let aligned = *second == Token::Assign || block == Some("flow") && *second != Token::Semicolon;
    aligned.then_some(word.len())
}

/// Tokens with blanks where they belong.
fn joined(tokens: &[Token<'_>]) -> String {
    let mut text = String::new();
    let (mut before, mut previous): (Option<Token<'_>>, Option<Token<'_>>) = (None, None);
    for &token in tokens {
        if previous.is_some_and(|previous| apart(before, previous, token)) {
            text.push(' ');
        }
        text.push_str(&token.to_string());
        (before, previous) = (previous, Some(token));
    }
    text
}

/// Whether a blank stands between two tokens; `before` is the one before both.
fn apart(before: Option<Token<'_>>, previous: Token<'_>, next: Token<'_>) -> bool {
    let called = |word: &str| !NOT_CALLED.contains(&word);
    if matches!(previous, Token::LeftParen | Token::LeftBracket | Token::Dot | Token::DotDot)
        || previous == Token::Minus && is_sign(before)
    {
        return false;
    }
    match next {
        Token::Semicolon
        | Token::Comma
        | Token::RightParen
        | Token::RightBracket
        | Token::LeftBracket
        | Token::Dot
        | Token::DotDot => false,
        Token::LeftParen => !matches!(previous, Token::Word(word) if called(word)),
        Token::Word(_)
        | Token::Number(_)
        | Token::Text(_)
        | Token::OpenText(_)
        | Token::LeftBrace
        | Token::RightBrace
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
        | Token::Percent => true,
    }
}

/// Whether a `-` behind this token is a sign, not a difference.
fn is_sign(before: Option<Token<'_>>) -> bool {
    match before {
        None => true,
        Some(Token::Word(word)) => NOT_CALLED.contains(&word),
        Some(Token::Number(_) | Token::RightParen | Token::RightBracket) => false,
        Some(_) => true,
    }
}

fn layout(mut lines: Vec<Line>) -> String {
    tidy(&mut lines);
    // One column until an empty line or the end of the block.
    let mut column = 0;
    for index in 0..lines.len() {
        let Some(offset) = lines.get(index).and_then(|line| line.align) else { continue };
        let neighbours = |line: &&Line| !(is_empty(line) || line.text.ends_with(['{', '}']));
        let starts = index == 0 || lines.get(index - 1).is_none_or(|line| !neighbours(&line));
        if starts {
            let run = lines.iter().skip(index).take_while(neighbours);
            column = run.filter_map(|line| line.align).max().unwrap_or(offset);
        }
        if let Some(line) = lines.get_mut(index) {
            line.text.insert_str(offset, &" ".repeat(column.saturating_sub(offset)));
        }
    }
    let mut text = String::new();
    let mut comments = 0;
    for index in 0..lines.len() {
        let Some(line) = lines.get(index) else { continue };
        let trails = |line: &&Line| !line.text.is_empty() && line.comment.is_some();
        let follows = index > 0 && lines.get(index - 1).is_some_and(|line| trails(&line));
        if trails(&line) && !follows {
            let run = lines.iter().skip(index).take_while(trails);
            comments = run.map(|line| line.depth * INDENT + line.text.len() + 2).max().unwrap_or(0);
        }
        write(line, comments, &mut text);
    }
    text
}

fn is_empty(line: &Line) -> bool {
    line.text.is_empty() && line.comment.is_none()
}

/// Removes empty lines at the ends of the file and of blocks, and the second of two.
fn tidy(lines: &mut Vec<Line>) {
    let mut kept: Vec<Line> = Vec::new();
    for line in lines.drain(..) {
        let opens = kept.last().is_none_or(|before| is_empty(before) || before.text.ends_with('{'));
        if is_empty(&line) && opens {
            continue;
        }
        if line.text == "}" && kept.last().is_some_and(is_empty) {
            kept.pop();
        }
        kept.push(line);
    }
    while kept.last().is_some_and(is_empty) {
        kept.pop();
    }
    *lines = kept;
}

/// A line with its comment at a column, broken at blanks where it is too long.
fn write(line: &Line, comments: usize, text: &mut String) {
    let indent = " ".repeat(line.depth * INDENT);
    let start = text.len();
    if !is_empty(line) {
        text.push_str(&indent);
    }
    let mut begin = start;
    // Quoted text cannot be continued on another line.
    let breakable = !line.text.contains('"');
    for (index, word) in line.text.split_inclusive(' ').enumerate() {
        let length = text.len() - begin + word.trim_end().len();
        if breakable && index > 0 && length > WIDTH && !word.trim().is_empty() {
            text.truncate(text.trim_end().len());
            text.push('\n');
            begin = text.len();
            text.push_str(&indent);
            text.push_str(&" ".repeat(2 * INDENT));
        }
        text.push_str(word);
    }
    if let Some(comment) = &line.comment {
        if !line.text.is_empty() {
            let used = text.len() - begin;
            let column = if begin == start { comments.max(used + 2) } else { used + 2 };
            text.push_str(&" ".repeat(column - used));
        }
        text.push_str(comment);
    }
    text.push('\n');
}
