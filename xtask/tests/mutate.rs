//! Mutants of emitted objects: verification lets none through that computes something else.

use xtask::mutate::Mutate;

/// A few models of every kind: dense layers, a chain, trees, tables, several outputs, single packets.
const MODELS: [&str; 6] =
    ["three-classes-5-12-3", "packet-12-12-2", "tree-6-2", "tanh-5-8-6-2", "heads-5-12-2-4-1", "cic6-6-16-2"];

#[test]
fn no_mutant_escapes() {
    let only = MODELS.map(str::to_owned).to_vec();
    let tallies = Mutate { mutants: 2_000, seed: 7, only: only.clone() }.count().unwrap();
    let total = tallies.total();
    assert_eq!(total.refused + total.equivalent + total.escaped, 2_000);
    println!("{tallies:?}");
    assert_eq!(total.escaped, 0, "{:#?}", tallies.escapes);
    assert!(total.refused > 1_500);
    // The same seed gives the same mutants, whatever processor has which object.
    let only = only.into_iter().take(1).collect::<Vec<_>>();
    let count = || Mutate { mutants: 60, seed: 9, only: only.clone() }.count().unwrap();
    assert_eq!(count(), count());
}
