//! What features are worth: how much a decision tree rests on each, and how much it loses without what each says.
//!
//! 30 of 100 rows of every class are held out. A tree grows on the others; its decrease of impurity is one measure.
//! The other is permutation importance (Breiman 2001): the mean loss of balanced accuracy on the held-out rows when
//! one column is shuffled. Everything is a function of the rows: the seed is fixed.

mod tree;

use nnbpf_compiler::random::SplitMix;
use tree::{Data, Limits, Tree};

/// The seed of every shuffle.
pub const SEED: u64 = 1;
/// Shuffles of each column.
pub const SHUFFLES: u32 = 5;
/// Rows that every class has at least.
pub const LEAST_ROWS: usize = 5;
/// Depth of the tree, and rows of a leaf.
pub const DEPTH: u32 = 12;
pub const LEAF: usize = 5;
/// Of 100 rows of a class, those that are held out.
const HELD_OUT: usize = 30;

/// What features are worth.
#[derive(Debug, Clone)]
pub struct Worth {
    pub training_rows: usize,
    pub held_out_rows: usize,
    /// Balanced accuracy (mean recall of the classes) on the held-out rows, with all features.
    pub accuracy: f64,
    pub leaves: usize,
    /// Share of each feature in the tree's decrease of Gini impurity.
    pub gini: Vec<f64>,
    /// Mean loss of balanced accuracy when the feature's column is shuffled.
    pub permutation: Vec<f64>,
}

/// Labelled rows, split in two.
pub struct Bench {
    columns: Vec<Vec<i64>>,
    classes: Vec<usize>,
    count: usize,
    training: Vec<usize>,
    held_out: Vec<usize>,
}

impl Bench {
    /// From rows of `width` values and their classes.
    pub fn new(values: &[i64], width: usize, classes: Vec<usize>, count: usize) -> Self {
        let column = |feature| values.iter().skip(feature).step_by(width.max(1)).copied().collect();
        let columns = (0..width).map(column).collect();
        let mut order: Vec<usize> = (0..classes.len()).collect();
        SplitMix(SEED).shuffle(&mut order);
        let (mut training, mut held_out) = (Vec::new(), Vec::new());
        for class in 0..count {
            let of_class = |row: &usize| classes.get(*row) == Some(&class);
            let rows: Vec<usize> = order.iter().copied().filter(of_class).collect();
            let (out, rest) = rows.split_at(rows.len() * HELD_OUT / 100);
            held_out.extend(out);
            training.extend(rest);
        }
        training.sort_unstable();
        held_out.sort_unstable();
        Self { columns, classes, count, training, held_out }
    }

    /// Ranks all features.
    pub fn worth(&self) -> Worth {
        let data = Data { columns: &self.columns, classes: &self.classes, count: self.count };
        let tree = Tree::grow(data, &self.training, LIMITS);
        let accuracy = self.accuracy(&tree, &self.columns, None);
        let mut random = SplitMix(SEED);
        let permutation = tree
            .importance
            .iter()
            .enumerate()
            .map(|(feature, importance)| {
                // What no split asks for loses nothing.
                if *importance == 0.0 {
                    return 0.0;
                }
                let mut shuffled = self.held_out.clone();
                let mut lost = 0.0;
                for _ in 0..SHUFFLES {
                    random.shuffle(&mut shuffled);
                    lost += accuracy - self.accuracy(&tree, &self.columns, Some((feature, &shuffled)));
                }
                lost / f64::from(SHUFFLES)
            })
            .collect();
        Worth {
            training_rows: self.training.len(),
            held_out_rows: self.held_out.len(),
            accuracy,
            leaves: tree.leaves(),
            gini: tree.importance,
            permutation,
        }
    }

    /// Balanced accuracy on the held-out rows of a tree that knows these features only.
    pub fn accuracy_with(&self, features: &[usize]) -> f64 {
        let columns: Vec<Vec<i64>> =
            features.iter().filter_map(|feature| self.columns.get(*feature).cloned()).collect();
        let data = Data { columns: &columns, classes: &self.classes, count: self.count };
        self.accuracy(&Tree::grow(data, &self.training, LIMITS), &columns, None)
    }

    /// Mean recall of the classes on the held-out rows. `shuffled`: this feature has the value that another row has.
    fn accuracy(&self, tree: &Tree, columns: &[Vec<i64>], shuffled: Option<(usize, &[usize])>) -> f64 {
        let mut right = vec![0_u32; self.count];
        let mut rows = vec![0_u32; self.count];
        for (position, row) in self.held_out.iter().enumerate() {
            let value = |feature: usize| {
                let from = match shuffled {
                    Some((other, order)) if other == feature => order.get(position).unwrap_or(row),
                    Some(_) | None => row,
                };
                columns.get(feature).and_then(|column| column.get(*from)).copied().unwrap_or(0)
            };
            let class = self.classes.get(*row).copied().unwrap_or(0);
            if let Some(rows) = rows.get_mut(class) {
                *rows += 1;
            }
            if let (true, Some(right)) = (tree.class(value) == class, right.get_mut(class)) {
                *right += 1;
            }
        }
        let recalls: Vec<f64> = right
            .iter()
            .zip(&rows)
            .filter(|(_, rows)| **rows > 0)
            .map(|(right, rows)| f64::from(*right) / f64::from(*rows))
            .collect();
        // Counts of classes are far below 2^53.
        recalls.iter().sum::<f64>() / (recalls.len().max(1) as f64)
    }
}

const LIMITS: Limits = Limits { depth: DEPTH, leaf: LEAF };

/// Which of (worth, cost) no other beats: worth something, and no other is worth at least as much for less, or more
/// for at most as much.
pub fn front(values: &[(f64, f64)]) -> Vec<bool> {
    let beats = |a: &(f64, f64), b: &(f64, f64)| a.0 >= b.0 && a.1 <= b.1 && (a.0 > b.0 || a.1 < b.1);
    values.iter().map(|value| value.0 > 0.0 && !values.iter().any(|other| beats(other, value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feature 0 decides, feature 1 is noise, feature 2 never changes.
    fn bench() -> Bench {
        let rows: Vec<[i64; 3]> = (0..400).map(|i| [i % 20, i * 7919 % 31, 5]).collect();
        let classes = rows.iter().map(|row| usize::from(row[0] >= 12)).collect();
        Bench::new(&rows.concat(), 3, classes, 2)
    }

    #[test]
    fn what_decides_is_worth_all() {
        let worth = bench().worth();
        assert_eq!((worth.training_rows, worth.held_out_rows, worth.leaves), (280, 120, 2));
        assert_eq!((worth.accuracy, worth.gini.clone()), (1.0, vec![1.0, 0.0, 0.0]));
        // Shuffled, a row gets the class of another: right with 0.6 for class 0 and 0.4 for class 1.
        assert!((worth.permutation[0] - 0.5).abs() < 0.1, "{:?}", worth.permutation);
        assert_eq!(worth.permutation[1..], [0.0, 0.0]);
        assert_eq!(bench().accuracy_with(&[0]), 1.0);
        assert_eq!(bench().accuracy_with(&[2]), 0.5);
    }

    #[test]
    fn the_same_rows_give_the_same_answer() {
        let (one, two) = (bench().worth(), bench().worth());
        assert_eq!((one.gini, one.permutation), (two.gini, two.permutation));
    }

    #[test]
    fn the_front_holds_what_nothing_beats() {
        let values = [(0.5, 2.0), (0.5, 3.0), (0.2, 1.0), (0.1, 1.5), (0.0, 0.0), (0.5, 2.0)];
        assert_eq!(front(&values), [true, false, true, false, false, true]);
    }
}
