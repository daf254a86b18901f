//! Feature-spec source to a checked [`typed::FeatureSpec`]: lexer, parser, AST, resolution.

pub mod typed;
