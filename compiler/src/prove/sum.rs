//! Sums modulo 2^64: what additions, subtractions, multiplications and shifts to the left by constants make of terms.

use super::term::Id;

/// The product of one or two terms, the first of them [`Id::ONE`] when it is one, and the lesser first.
pub(super) type Factors = (Id, Id);

/// `coefficient * factors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Term {
    pub(super) factors: Factors,
    pub(super) coefficient: u64,
}

/// Terms up to which a sum is always in order.
const SMALL: usize = 8;

/// `constant + Σ coefficient * factors` modulo 2^64.
///
/// Accumulators grow by one term at a time, so that terms of long sums are put into order now and then only.
#[derive(Debug, Clone, Default)]
pub(super) struct Sum {
    pub(super) constant: u64,
    terms: Vec<Term>,
    /// Number of terms when they were last put into order.
    tidy: usize,
    ordered: bool,
}

impl Sum {
    pub(super) const fn constant(constant: u64) -> Self {
        Self { constant, terms: Vec::new(), tidy: 0, ordered: true }
    }

    /// A single term.
    pub(super) fn of(id: Id) -> Self {
        Self::scaled((Id::ONE, id), 1)
    }

    pub(super) fn product(one: Id, other: Id) -> Self {
        Self::scaled((one.min(other), one.max(other)), 1)
    }

    fn scaled(factors: Factors, coefficient: u64) -> Self {
        Self { constant: 0, terms: vec![Term { factors, coefficient }], tidy: 1, ordered: true }
    }

    /// Of terms in order.
    pub(super) fn from_parts(constant: u64, terms: &[Term]) -> Self {
        Self { constant, terms: terms.to_vec(), tidy: terms.len(), ordered: true }
    }

    /// The number that it is, when nothing else is in it. Long sums are to be put into order first.
    pub(super) fn as_constant(&self) -> Option<u64> {
        self.terms.is_empty().then_some(self.constant)
    }

    /// Terms, in order after [`Sum::settle`].
    pub(super) fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// `self += factor * other`.
    pub(super) fn add(&mut self, other: &Self, factor: u64) {
        self.constant = self.constant.wrapping_add(other.constant.wrapping_mul(factor));
        if other.terms.is_empty() || factor == 0 {
            return;
        }
        self.terms.extend(
            other
                .terms
                .iter()
                .map(|term| Term { coefficient: term.coefficient.wrapping_mul(factor), ..*term }),
        );
        self.ordered = false;
        if self.terms.len() <= SMALL || self.terms.len() > 2 * self.tidy + SMALL {
            self.settle();
        }
    }

    pub(super) fn add_constant(&mut self, value: u64) {
        self.constant = self.constant.wrapping_add(value);
    }

    /// `self += coefficient * id`.
    pub(super) fn add_term(&mut self, id: Id, coefficient: u64) {
        self.terms.push(Term { factors: (Id::ONE, id), coefficient });
        self.ordered = false;
        if self.terms.len() <= SMALL || self.terms.len() > 2 * self.tidy + SMALL {
            self.settle();
        }
    }

    /// `self += one * other`.
    pub(super) fn add_product(&mut self, one: Id, other: Id) {
        self.terms.push(Term { factors: (one.min(other), one.max(other)), coefficient: 1 });
        self.ordered = false;
        if self.terms.len() <= SMALL || self.terms.len() > 2 * self.tidy + SMALL {
            self.settle();
        }
    }

    /// `self *= factor`.
    pub(super) fn scale(&mut self, factor: u64) {
        self.constant = self.constant.wrapping_mul(factor);
        for term in &mut self.terms {
            term.coefficient = term.coefficient.wrapping_mul(factor);
        }
        self.terms.retain(|term| term.coefficient != 0);
    }

    /// Puts terms into order; each product occurs once afterwards, and none with a coefficient of zero.
    pub(super) fn settle(&mut self) {
        if !self.ordered {
            self.terms.sort_unstable_by_key(|term| term.factors);
            self.terms.dedup_by(|next, kept| {
                let same = next.factors == kept.factors;
                if same {
                    kept.coefficient = kept.coefficient.wrapping_add(next.coefficient);
                }
                same
            });
            self.terms.retain(|term| term.coefficient != 0);
            self.ordered = true;
        }
        self.tidy = self.terms.len();
    }

    pub(super) const fn is_settled(&self) -> bool {
        self.ordered
    }
}
