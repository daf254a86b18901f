//! A classification tree (CART, Breiman et al. 1984) with the Gini impurity, and the importance that it gives to
//! features: the mean decrease of impurity, each split weighted by its rows.
//!
//! `docs/decisions/0011-own-tree.md` says why it is our own. Rows are sorted once for each feature; a split
//! partitions every order, so that training takes rows times features for each level.

/// When growing stops.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Splits from the root to a leaf.
    pub depth: u32,
    /// Rows that a leaf has at least.
    pub leaf: usize,
}

/// Labelled rows: a column of values for each feature, and each row's class.
#[derive(Debug, Clone, Copy)]
pub struct Data<'a> {
    pub columns: &'a [Vec<i64>],
    pub classes: &'a [usize],
    /// Number of classes.
    pub count: usize,
}

/// A grown tree.
#[derive(Debug, Clone)]
pub struct Tree {
    nodes: Vec<Node>,
    /// One per feature; they sum up to 1 unless there is no split.
    pub importance: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Node {
    Leaf {
        class: usize,
    },
    /// Values up to the threshold go left.
    Split {
        feature: usize,
        threshold: i64,
        left: usize,
        right: usize,
    },
}

/// A node that is still to be split, and its rows: the same range of every order.
struct Open {
    node: usize,
    start: usize,
    end: usize,
    depth: u32,
}

/// The best split of a node so far.
struct Best {
    feature: usize,
    threshold: i64,
    /// Rows that go left.
    left: usize,
    /// Sum over both sides of the squared class counts divided by the rows: impurity without its constant.
    purity: f64,
}

impl Tree {
    /// Grows a tree on some of the rows.
    #[must_use]
    pub fn grow(data: Data<'_>, rows: &[usize], limits: Limits) -> Self {
        let mut orders: Vec<Vec<usize>> = data
            .columns
            .iter()
            .map(|column| {
                let mut order = rows.to_vec();
                // Stable, so that equal values keep the order of the rows.
                order.sort_by_key(|row| column.get(*row));
                order
            })
            .collect();
        let mut tree = Self { nodes: Vec::new(), importance: vec![0.0; data.columns.len()] };
        let mut goes_left = vec![false; data.classes.len()];
        let root = tree.leaf(&data, rows);
        let mut open = vec![Open { node: root, start: 0, end: rows.len(), depth: 0 }];
        while let Some(Open { node, start, end, depth }) = open.pop() {
            if depth >= limits.depth {
                continue;
            }
            let Some(best) = best_split(&data, &orders, start..end, limits.leaf) else { continue };
            let (Some(order), Some(column)) = (orders.get(best.feature), data.columns.get(best.feature))
            else {
                continue;
            };
            for row in order.get(start..end).unwrap_or_default() {
                if let (Some(left), Some(value)) = (goes_left.get_mut(*row), column.get(*row)) {
                    *left = *value <= best.threshold;
                }
            }
            let before = purity(&counts(&data, order.get(start..end).unwrap_or_default()));
            for order in &mut orders {
                partition(order.get_mut(start..end).unwrap_or_default(), &goes_left);
            }
            let middle = start + best.left;
            let some = orders.first().map_or(&[] as &[usize], Vec::as_slice);
            let left = tree.leaf(&data, some.get(start..middle).unwrap_or_default());
            let right = tree.leaf(&data, some.get(middle..end).unwrap_or_default());
            if let Some(place) = tree.nodes.get_mut(node) {
                *place = Node::Split { feature: best.feature, threshold: best.threshold, left, right };
            }
            if let Some(importance) = tree.importance.get_mut(best.feature) {
                *importance += best.purity - before;
            }
            open.push(Open { node: right, start: middle, end, depth: depth + 1 });
            open.push(Open { node: left, start, end: middle, depth: depth + 1 });
        }
        let total: f64 = tree.importance.iter().sum();
        if total > 0.0 {
            tree.importance.iter_mut().for_each(|importance| *importance /= total);
        }
        tree
    }

    /// The class of a row, given its values by feature.
    #[must_use]
    pub fn class(&self, value: impl Fn(usize) -> i64) -> usize {
        let mut at = 0;
        loop {
            match self.nodes.get(at) {
                Some(Node::Split { feature, threshold, left, right }) => {
                    at = if value(*feature) <= *threshold { *left } else { *right };
                }
                Some(Node::Leaf { class }) => return *class,
                None => return 0,
            }
        }
    }

    /// Number of leaves.
    #[must_use]
    pub fn leaves(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node, Node::Leaf { .. })).count()
    }

    /// Adds a leaf with the class that most of the rows have, the first one of equals.
    fn leaf(&mut self, data: &Data<'_>, rows: &[usize]) -> usize {
        let mut class = 0;
        let mut most = 0;
        for (index, count) in counts(data, rows).into_iter().enumerate() {
            if count > most {
                (class, most) = (index, count);
            }
        }
        self.nodes.push(Node::Leaf { class });
        self.nodes.len() - 1
    }
}

/// Rows of each class.
fn counts(data: &Data<'_>, rows: &[usize]) -> Vec<u64> {
    let mut counts = vec![0; data.count];
    for row in rows {
        if let Some(count) = data.classes.get(*row).and_then(|class| counts.get_mut(*class)) {
            *count += 1;
        }
    }
    counts
}

/// Rows times (1 - Gini impurity).
fn purity(counts: &[u64]) -> f64 {
    let (rows, squares) = counts.iter().fold((0, 0), |(n, s), c| (n + c, s + c * c));
    ratio(squares, rows)
}

/// Both stay far below 2^53 for files that fit memory.
fn ratio(squares: u64, rows: u64) -> f64 {
    if rows == 0 { 0.0 } else { squares as f64 / rows as f64 }
}

/// The split with the least impurity; the first feature and the lowest threshold of equals.
fn best_split(
    data: &Data<'_>,
    orders: &[Vec<usize>],
    range: std::ops::Range<usize>,
    leaf: usize,
) -> Option<Best> {
    let all = counts(data, orders.first()?.get(range.clone())?);
    let rows: u64 = all.iter().sum();
    let squares: u64 = all.iter().map(|count| count * count).sum();
    let least = leaf.max(1) as u64;
    let mut best: Option<Best> = None;
    // What is gained less than this is rounding.
    let mut beaten = ratio(squares, rows) + rows as f64 * 1e-12;
    for (feature, (order, column)) in orders.iter().zip(data.columns).enumerate() {
        let (mut left, mut right) = (vec![0_u64; data.count], all.clone());
        let (mut left_rows, mut left_squares, mut right_squares) = (0, 0, squares);
        let mut rows_in_order = order.get(range.clone())?.iter().peekable();
        while let Some(row) = rows_in_order.next() {
            let class = *data.classes.get(*row)?;
            let (to, from) = (left.get_mut(class)?, right.get_mut(class)?);
            left_squares += 2 * *to + 1;
            right_squares -= 2 * *from - 1;
            *to += 1;
            *from -= 1;
            left_rows += 1;
            let Some(next) = rows_in_order.peek() else { break };
            let (here, there) = (*column.get(*row)?, *column.get(**next)?);
            if here == there || left_rows < least || rows - left_rows < least {
                continue;
            }
            let purity = ratio(left_squares, left_rows) + ratio(right_squares, rows - left_rows);
            if purity > beaten {
                beaten = purity;
                let left = usize::try_from(left_rows).ok()?;
                best = Some(Best { feature, threshold: midpoint(here, there), left, purity });
            }
        }
    }
    best
}

/// Half way between two values, rounded down, so that the lower one goes left.
fn midpoint(low: i64, high: i64) -> i64 {
    // The mean of two numbers of 64 bits has 64 bits.
    i64::try_from((i128::from(low) + i128::from(high)).div_euclid(2)).unwrap_or(low)
}

/// Rows that go left first, each side in its order.
fn partition(rows: &mut [usize], goes_left: &[bool]) {
    let left = |row: &usize| goes_left.get(*row).copied().unwrap_or_default();
    let right: Vec<usize> = rows.iter().copied().filter(|row| !left(row)).collect();
    let lefts: Vec<usize> = rows.iter().copied().filter(left).collect();
    for (place, row) in rows.iter_mut().zip(lefts.into_iter().chain(right)) {
        *place = row;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Limits = Limits { depth: 32, leaf: 1 };

    fn grow(columns: &[Vec<i64>], classes: &[usize], limits: Limits) -> Tree {
        let rows: Vec<usize> = (0..classes.len()).collect();
        let count = classes.iter().max().unwrap() + 1;
        Tree::grow(Data { columns, classes, count }, &rows, limits)
    }

    #[test]
    fn one_split_halfway_between_the_classes() {
        let tree = grow(&[vec![1, 2, 8, 9]], &[0, 0, 1, 1], FREE);
        assert_eq!(
            tree.nodes,
            [
                Node::Split { feature: 0, threshold: 5, left: 1, right: 2 },
                Node::Leaf { class: 0 },
                Node::Leaf { class: 1 }
            ]
        );
        assert_eq!(tree.importance, [1.0]);
    }

    #[test]
    fn equal_values_stay_together_in_any_order_of_the_rows() {
        // Nine of ten rows with value 0 are of class 0, nine of ten with value 1 of class 1.
        // Gini: 0.5 at the root, 0.18 on both sides.
        for rotation in 0..20 {
            let mut rows: Vec<(i64, usize)> =
                (0..20).map(|i| (i / 10, usize::from((i % 10 == 0) != (i / 10 == 1)))).collect();
            rows.rotate_left(rotation);
            let (values, classes): (Vec<i64>, Vec<usize>) = rows.into_iter().unzip();
            let tree = grow(&[values], &classes, FREE);
            assert_eq!(tree.leaves(), 2, "{rotation}");
            assert_eq!(tree.nodes[0], Node::Split { feature: 0, threshold: 0, left: 1, right: 2 });
        }
    }

    #[test]
    fn importance_is_the_decrease_of_impurity_weighted_by_rows() {
        // Purity (rows less rows times impurity) is 34/8 = 4.25 at the root, so there are 3.75 to gain. Feature 0
        // gives 9/3 + 13/5 = 5.6, feature 1 gives 18/6 + 4/2 = 5.0: feature 0 goes first and gains 1.35. Feature 1
        // then separates the five rows on its right: 5 - 13/5 = 2.4.
        let columns = [vec![0, 0, 0, 1, 1, 1, 1, 1], vec![5, 5, 5, 5, 5, 5, 9, 9]];
        let tree = grow(&columns, &[0, 0, 0, 1, 1, 1, 0, 0], FREE);
        assert_eq!(tree.leaves(), 3);
        assert!((tree.importance[0] - 1.35 / 3.75).abs() < 1e-12, "{:?}", tree.importance);
        assert!((tree.importance[1] - 2.4 / 3.75).abs() < 1e-12, "{:?}", tree.importance);
    }

    #[test]
    fn limits_hold() {
        let values: Vec<i64> = (0..64).collect();
        let classes: Vec<usize> = (0..64).map(|i| i % 2).collect();
        let leaves =
            |depth, leaf| grow(std::slice::from_ref(&values), &classes, Limits { depth, leaf }).leaves();
        // Where classes alternate, the best split takes one row off an end.
        assert_eq!((leaves(63, 1), leaves(62, 1), leaves(3, 1), leaves(0, 1)), (64, 63, 4, 1));
        // Halves of 32 gain nothing; 31 and 33 do, and neither can be split again.
        assert_eq!((leaves(63, 31), leaves(63, 32)), (2, 1));
    }

    #[test]
    fn a_grown_tree_knows_its_rows() {
        let columns = [vec![3, 1, 2, 3, 1, 2], vec![0, 0, 0, 7, 7, 7]];
        let classes = [0, 1, 2, 2, 0, 1];
        let tree = grow(&columns, &classes, FREE);
        for (row, class) in classes.iter().enumerate() {
            assert_eq!(tree.class(|feature| columns[feature][row]), *class);
        }
    }

    #[test]
    fn values_at_the_ends_of_64_bits() {
        let tree = grow(&[vec![i64::MIN, i64::MAX]], &[0, 1], FREE);
        assert_eq!((tree.class(|_| i64::MIN), tree.class(|_| i64::MAX)), (0, 1));
        assert_eq!(tree.nodes[0], Node::Split { feature: 0, threshold: -1, left: 1, right: 2 });
    }

    #[test]
    fn without_a_difference_there_is_no_split() {
        let tree = grow(&[vec![4; 6]], &[0, 1, 1, 0, 1, 1], FREE);
        assert_eq!((tree.leaves(), tree.importance[0], tree.class(|_| 4)), (1, 0.0, 1));
    }
}
