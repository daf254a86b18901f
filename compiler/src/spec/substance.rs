//! What a specification says apart from the probabilities of its rules, which are parameters of an object.

use super::lexer::{self, Spanned, Token};
use super::parameters::Parameters;
use super::report::Reporter;
use super::{Surroundings, sources, text};
use crate::compile::Named;
use crate::diag::Outcome;

/// The words and signs of a specification and of the files that it uses, values in the place of their names,
/// without comments, its name and version, and the probabilities of rules. Objects of two specifications that
/// agree in this, and of one network plan, differ in parameters only.
///
/// # Errors
///
/// Files and values that cannot be had (`E0251`, `E0252`), and what is no word of the language (`E0200`).
pub fn substance(file: Named<'_>, surroundings: &Surroundings<'_>) -> Outcome<Vec<String>> {
    let source = text(file)?;
    let mut reporter = Reporter::new(file.name);
    let texts = sources::gather(file.name, source, surroundings.fragments, &mut reporter);
    let mut files = Vec::new();
    for span in texts.spans() {
        let part = texts.joined.get(span.clone()).unwrap_or_default();
        files.extend(lexer::lex(part, span.start, &mut reporter));
    }
    let parameters = Parameters::read(&files, surroundings.parameters, &mut reporter);
    let said =
        files.into_iter().flat_map(|tokens| said(&parameters.replaced(tokens, &mut reporter))).collect();
    let diagnostics = reporter.into_diagnostics();
    if diagnostics.is_empty() { Ok(said) } else { Err(diagnostics) }
}

/// Statements that say something, without probabilities.
fn said(tokens: &[Spanned<'_>]) -> Vec<String> {
    let mut said = Vec::new();
    let (mut depth, mut begins, mut skipped) = (0, true, false);
    let mut before = [None, None];
    for (token, _) in tokens {
        if begins && depth == 0 {
            skipped = matches!(token, Token::Word("spec" | "param" | "use"));
        }
        depth = sources::depth(depth, *token);
        begins = matches!(token, Token::Semicolon | Token::RightBrace);
        let probability = matches!(token, Token::Number(_))
            && matches!(before, [Some(Token::Word("p")), Some(Token::Greater | Token::GreaterEqual)]);
        if !skipped && !probability {
            said.push(token.to_string());
        }
        before = [before[1], Some(*token)];
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Parameter;

    fn of(source: &str, given: &[(&str, &str)]) -> Vec<String> {
        let parameter =
            |(name, value): &(&str, &str)| Parameter { name: (*name).to_owned(), value: (*value).to_owned() };
        let parameters: Vec<_> = given.iter().map(parameter).collect();
        let surroundings = Surroundings { parameters: &parameters, ..Surroundings::default() };
        substance(Named { name: "a.spec", bytes: source.as_bytes() }, &surroundings).unwrap()
    }

    #[test]
    fn only_probabilities_and_words_about_the_file_are_left_out() {
        let source = "spec a v1; param limit = 0.9; param quiet = 5 s; // one\n\
            flow conn on tcp { idle quiet; } features of conn { a = max(l4.len); } \
            on attack when p >= limit { drop; }";
        let own = of(source, &[]);
        assert_eq!(own, of(source, &[("limit", "0.8")]));
        assert_eq!(own, of(&source.replace("a v1", "b v2").replace("// one", "/\u{2f} two"), &[]));
        assert_eq!(own, of(&source.replace("idle quiet", "idle 5 s"), &[("quiet", "7 s")]));
        assert_ne!(own, of(source, &[("quiet", "7 s")]));
        assert_ne!(own, of(&source.replace("max", "min"), &[]));
        assert_ne!(own, of(&source.replace("drop", "report"), &[]));
    }
}
