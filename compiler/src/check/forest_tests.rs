//! Bounds of sums of leaves, and tables that no walk may enter.

use super::super::{check, holds};
use crate::ir::forest::Node;
use crate::ir::{Forest, Network, Op, Rule, interpret};
use crate::lower::testing::{Trees, forest, rows};

fn trees() -> Network {
    let shape = Trees { inputs: 3, trees: 5, depth: 4, outputs: 2, single: false, clamped: false };
    forest(11, shape, Rule::ArgMax)
}

fn table(network: &mut Network) -> &mut Forest {
    match network.ops.last_mut() {
        Some(Op::Forest(forest)) => forest,
        _ => unreachable!(),
    }
}

/// Sums lie in the proved intervals, and somewhere touch them.
#[test]
fn sums_of_leaves_are_bounded() {
    for single in [false, true] {
        let shape = Trees { inputs: 2, trees: 9, depth: 3, outputs: 3, single, clamped: false };
        let proved = check(forest(5, shape, Rule::ArgMax)).unwrap();
        assert!(holds(proved.get(), proved.certificate()));
        let bounds = proved.certificate().ops[0].values.clone();
        for row in rows(proved.get(), 3, 500) {
            for (sum, bound) in interpret::outputs(proved.get(), &row).iter().zip(&bounds) {
                assert!(bound.low <= *sum && *sum <= bound.high);
            }
        }
    }
}

#[test]
fn tables_that_cannot_be_walked_are_refused_e0407() {
    type Change = fn(&mut Network);
    let changes: [(Change, &str); 9] = [
        (|n| inner_node(n).pair = 0, "behind it"),
        (|n| inner_node(n).pair = 1 << 20, "not there"),
        (|n| inner_node(n).feature = 3, "a feature that is not there"),
        (|n| inner_node(n).threshold = i64::MAX, "a threshold beyond"),
        (|n| inner_node(n).threshold = -(1 << 62), "a threshold beyond"),
        (|n| table(n).nodes.iter_mut().for_each(|node| node.row = 999), "a row of leaves"),
        (|n| table(n).depth = 1, "deep, and the code walks 1"),
        (|n| table(n).base = vec![i64::MAX, i64::MIN], "leave 64 bits"),
        (|n| n.inputs[0].range.high = i64::MAX, "values beyond 62 bits"),
    ];
    for (change, said) in changes {
        let mut network = trees();
        change(&mut network);
        let errors = check(network).unwrap_err();
        assert_eq!(errors[0].code.id, "E0407", "{errors:?}");
        assert!(errors[0].message.contains(said), "{}", errors[0].message);
    }
    let shapes: [Change; 6] = [
        |n| table(n).pairs = 3,
        |n| table(n).rows = 0,
        |n| table(n).targets = vec![1, 0, 0, 0, 0],
        |n| table(n).trees = 0,
        |n| table(n).depth = 65,
        |n| n.ops.push(n.ops[0].clone()),
    ];
    for change in shapes {
        let mut network = trees();
        change(&mut network);
        let errors = check(network).unwrap_err();
        assert!(errors.iter().any(|error| ["E0401", "E0402"].contains(&error.code.id)), "{errors:?}");
    }
}

/// The first node that is no leaf.
fn inner_node(network: &mut Network) -> &mut Node {
    let nodes = &mut table(network).nodes;
    let at = (0..nodes.len()).find(|&at| !nodes[at].is_leaf(at)).unwrap();
    &mut nodes[at]
}
