//! Tests of translation validation.

mod diagrams;
mod identities;
mod networks;
mod cases;
mod mutants;
mod hostile;
