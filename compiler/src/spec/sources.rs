//! The texts that a specification consists of: the file itself and those that `use` inserts.
//!
//! All texts stand one after the other in one space of positions, the specification first, so that a span needs
//! no word about its file. The library reads no files: [`Fragments`] does, for whoever compiles.

use std::collections::BTreeMap;

use logos::Logos as _;

use super::lexer::{MAX_SOURCE_BYTES, Token};
use super::report::Reporter;
use super::typed::Fragment;
use crate::diag::Span;
use crate::diag::codes::spec as codes;

/// Most files that a specification uses.
const MAX_FILES: usize = 64;

/// How deep files use files.
const MAX_DEPTH: usize = 16;

/// What a specification is compiled with.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Values from outside that replace those of `param` statements.
    pub parameters: &'a [Parameter],
    /// Files that it uses.
    pub fragments: &'a dyn Fragments,
}

impl Default for Surroundings<'_> {
    /// No files and no values.
    fn default() -> Self {
        Self { parameters: &[], fragments: &NoFragments }
    }
}

/// A value from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// As a specification would say it: `64`, `30 s`, `-0.5`.
    pub value: String,
}

/// Reads files that a specification uses.
pub trait Fragments {
    /// The file that `path` means in the file that `user` names; the error says why there is none.
    ///
    /// # Errors
    ///
    /// When there is no such file or it cannot be read.
    fn read(&self, user: &str, path: &str) -> Result<Found, String>;
}

/// A file that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The same for the same file, whatever the words that led to it; diagnostics show it.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// No files.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFragments;

impl Fragments for NoFragments {
    fn read(&self, _user: &str, _path: &str) -> Result<Found, String> {
        Err("no other files are available".to_owned())
    }
}

/// All texts of a specification.
pub(super) struct Texts {
    /// One after the other, line ends between them.
    pub(super) joined: String,
    /// Where the specification itself ends.
    pub(super) end: usize,
    pub(super) fragments: Vec<Fragment>,
    /// Which fragment a `use` statement inserts, by where it begins. One that names a file again inserts nothing.
    pub(super) inserts: BTreeMap<usize, usize>,
}

impl Texts {
    /// Where each text lies, the specification first.
    pub(super) fn spans(&self) -> Vec<Span> {
        let others =
            self.fragments.iter().map(|fragment| fragment.start..fragment.start + fragment.source.len());
        std::iter::once(0..self.end).chain(others).collect()
    }
}

/// Reads every file that the specification uses, those that these use, and so on.
pub(super) fn gather(
    file: &str,
    source: &str,
    fragments: &dyn Fragments,
    reporter: &mut Reporter<'_>,
) -> Texts {
    let mut texts = Texts {
        joined: source.to_owned(),
        end: source.len(),
        fragments: Vec::new(),
        inserts: BTreeMap::new(),
    };
    // Who uses each file: 0 is the specification, fragments count from 1.
    let mut users = vec![None];
    let mut next = 0;
    while next < users.len() {
        let span = match next.checked_sub(1).and_then(|index| texts.fragments.get(index)) {
            None => 0..texts.end,
            Some(fragment) => fragment.start..fragment.start + fragment.source.len(),
        };
        for (start, place, path) in uses(&texts.joined, span) {
            let user = match next.checked_sub(1).and_then(|index| texts.fragments.get(index)) {
                None => file,
                Some(fragment) => &fragment.name,
            };
            let found = fragments.read(user, &path).and_then(text);
            let (name, text) = match found {
                Ok(found) => found,
                Err(reason) => {
                    refused(&place, &format!("`{path}` cannot be used: {reason}"), reporter);
                    continue;
                }
            };
            let known = if name == file {
                Some(0)
            } else {
                texts.fragments.iter().position(|fragment| fragment.name == name).map(|index| index + 1)
            };
            let chain: Vec<usize> =
                std::iter::successors(Some(next), |at| users.get(*at).copied().flatten()).collect();
            match known {
                Some(known) if chain.contains(&known) => {
                    refused(
                        &place,
                        &format!("`{path}` uses itself, here or through the files that it uses"),
                        reporter,
                    );
                }
                Some(0) => {}
                Some(known) => {
                    if let Some(fragment) = texts.fragments.get_mut(known - 1) {
                        fragment.uses.push((next, path));
                    }
                }
                None if chain.len() > MAX_DEPTH || texts.fragments.len() >= MAX_FILES => {
                    too_large(
                        &place,
                        &format!("at most {MAX_FILES} files are used, at most {MAX_DEPTH} deep"),
                        reporter,
                    );
                }
                None if texts.joined.len() + text.len() >= MAX_SOURCE_BYTES => {
                    too_large(
                        &place,
                        &format!("the files together have more than {MAX_SOURCE_BYTES} bytes"),
                        reporter,
                    );
                }
                None => {
                    texts.joined.push('\n');
                    let begin = texts.joined.len();
                    texts.joined.push_str(&text);
                    texts.inserts.insert(start, texts.fragments.len());
                    reporter.add_file(&name, begin, &text);
                    texts.fragments.push(Fragment {
                        name,
                        uses: vec![(next, path)],
                        source: text,
                        start: begin,
                    });
                    users.push(Some(next));
                }
            }
        }
        next += 1;
    }
    texts
}

/// The `use` statements of a text: where each begins, where its path stands, and the path.
fn uses(joined: &str, span: Span) -> Vec<(usize, Span, String)> {
    let text = joined.get(span.clone()).unwrap_or_default();
    let mut found = Vec::new();
    let mut depth = 0_usize;
    // Where `use` stands, when it was the last word of all and began a statement.
    let (mut begins, mut word): (bool, Option<usize>) = (true, None);
    for (token, place) in Token::lexer(text).spanned() {
        let Ok(token) = token else { continue };
        if let (Some(start), Token::Text(path)) = (word, token) {
            let place = span.start + place.start..span.start + place.end;
            found.push((start, place, path.trim_matches('"').to_owned()));
        }
        word = (begins && depth == 0 && token == Token::Word("use")).then_some(span.start + place.start);
        depth = self::depth(depth, token);
        begins = matches!(token, Token::Semicolon | Token::RightBrace);
    }
    found
}

/// How many braces are open behind a token.
pub(super) fn depth(depth: usize, token: Token<'_>) -> usize {
    if token == Token::LeftBrace {
        depth.saturating_add(1)
    } else if token == Token::RightBrace {
        depth.saturating_sub(1)
    } else {
        depth
    }
}

fn text(found: Found) -> Result<(String, String), String> {
    match String::from_utf8(found.bytes) {
        Ok(text) => Ok((found.name, text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))),
        Err(error) => Err(format!("it is not UTF-8 text (byte {})", error.utf8_error().valid_up_to())),
    }
}

fn refused(place: &Span, message: &str, reporter: &mut Reporter<'_>) {
    reporter
        .error(
            &codes::USE,
            place.clone(),
            message,
            "name a file beside this one, or give its folder with `-I DIR`; a file does not use itself",
        )
        .primary("this file");
}

fn too_large(place: &Span, message: &str, reporter: &mut Reporter<'_>) {
    reporter.error(&codes::TOO_LARGE, place.clone(), message, "put what is needed into fewer files");
}
