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

/// Most `use` statements in all files.
const MAX_USES: usize = 256;

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

/// Reads every file that the specification uses, those that these use, and so on, each where it is used first.
pub(super) fn gather(
    file: &str,
    source: &str,
    fragments: &dyn Fragments,
    reporter: &mut Reporter<'_>,
) -> Texts {
    let texts = Texts {
        joined: source.to_owned(),
        end: source.len(),
        fragments: Vec::new(),
        inserts: BTreeMap::new(),
    };
    let mut gathering = Gathering { file, resolver: fragments, texts, chain: vec![0], uses: 0, reporter };
    gathering.visit(0..source.len());
    gathering.texts
}

struct Gathering<'a, 'r> {
    file: &'a str,
    resolver: &'a dyn Fragments,
    texts: Texts,
    /// Who uses whom, down to the text that is read: 0 is the specification, fragments count from 1.
    chain: Vec<usize>,
    /// Statements that were followed.
    uses: usize,
    reporter: &'a mut Reporter<'r>,
}

impl Gathering<'_, '_> {
    /// Follows what a text uses; nests as deep as files use files.
    fn visit(&mut self, span: Span) {
        for (start, place, path) in uses(&self.texts.joined, span) {
            self.uses += 1;
            if self.uses > MAX_USES {
                // Said once; those further up find it exceeded too.
                if self.uses == MAX_USES + 1 {
                    too_large(
                        &place,
                        &format!("there are more than {MAX_USES} `use` statements"),
                        self.reporter,
                    );
                }
                return;
            }
            if let Some(index) = self.file(start, &place, path) {
                let span = self.texts.spans().get(index).cloned().unwrap_or_default();
                self.chain.push(index);
                self.visit(span);
                self.chain.pop();
            }
        }
    }

    /// What one `use` statement names; gives the number of a file that is new.
    fn file(&mut self, start: usize, place: &Span, path: String) -> Option<usize> {
        let user = self.chain.last().copied().unwrap_or(0);
        let by = user.checked_sub(1).and_then(|index| self.texts.fragments.get(index));
        let by = by.map_or(self.file, |fragment| &fragment.name);
        let (name, text) = match self.resolver.read(by, &path).and_then(text) {
            Ok(found) => found,
            Err(reason) => {
                refused(place, &format!("`{path}` cannot be used: {reason}"), self.reporter);
                return None;
            }
        };
        let same = |fragment: &Fragment| fragment.name == name;
        let known = if name == self.file {
            Some(0)
        } else {
            self.texts.fragments.iter().position(same).map(|index| index + 1)
        };
        if let Some(known) = known {
            if self.chain.contains(&known) {
                let message = format!("`{path}` uses itself, here or through the files that it uses");
                refused(place, &message, self.reporter);
            } else if let Some(fragment) =
                known.checked_sub(1).and_then(|at| self.texts.fragments.get_mut(at))
            {
                fragment.uses.push((user, path));
            }
            return None;
        }
        if self.chain.len() > MAX_DEPTH || self.texts.fragments.len() >= MAX_FILES {
            let message = format!("at most {MAX_FILES} files are used, at most {MAX_DEPTH} deep");
            too_large(place, &message, self.reporter);
            return None;
        }
        if self.texts.joined.len() + text.len() >= MAX_SOURCE_BYTES {
            let message = format!("the files together have more than {MAX_SOURCE_BYTES} bytes");
            too_large(place, &message, self.reporter);
            return None;
        }
        self.texts.joined.push('\n');
        let begin = self.texts.joined.len();
        self.texts.joined.push_str(&text);
        self.texts.inserts.insert(start, self.texts.fragments.len());
        self.reporter.add_file(&name, begin, &text);
        self.texts.fragments.push(Fragment { name, uses: vec![(user, path)], source: text, start: begin });
        Some(self.texts.fragments.len())
    }
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
