//! Affine forms: numbers with named and unnamed errors, which account for every rounding of their own arithmetic.
//!
//! A form is `centre + Σ values[k] v_k + Σ errors[k] e_k ± rest` with all symbols `v_k` and `e_k` within ±1 (de
//! Figueiredo and Stolfi, *Affine arithmetic: concepts and applications*, Numerical Algorithms 37, 2004). Symbols are
//! shared, so that what two numbers have in common cancels in their difference.
//!
//! Everything is computed in binary64, rounded to nearest. A sum of `n` products computed in any order is within
//! `γ_n Σ |a_i b_i|` of the exact one, with `γ_n = n u / (1 - n u)` and `u = 2^-53` (Higham, *Accuracy and Stability of
//! Numerical Algorithms*, section 3.1). [`slack`] is more than twice `γ_(n + 12)`, so that it also covers a few
//! roundings of each factor, and those of the sum of magnitudes that it is multiplied by.

/// `(n + 16) 2^-52`.
pub(super) fn slack(terms: usize) -> f64 {
    (terms as f64 + 16.0) * f64::EPSILON
}

/// Far below what any number here means; covers products that underflow.
const TINY: f64 = 1e-290;

/// An interval of real numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    pub low: f64,
    pub high: f64,
}

impl Span {
    pub(super) const ZERO: Self = Self { low: 0.0, high: 0.0 };

    /// The numbers within `radius` of `centre`.
    pub(super) fn around(centre: f64, radius: f64) -> Self {
        let radius = radius + slack(0) * (centre.abs() + radius) + TINY;
        Self { low: centre - radius, high: centre + radius }
    }

    /// The largest magnitude.
    #[must_use]
    pub fn magnitude(self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    /// What lies in both; either encloses the truth, so that their ends are in order.
    pub(super) fn and(self, other: Self) -> Self {
        let (low, high) = (self.low.max(other.low), self.high.min(other.high));
        // Roundings may turn a single number around.
        Self { low: low.min(high), high: high.max(low) }
    }

    /// The smallest interval with both.
    pub(super) fn hull(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// Sums of one number of each.
    pub(super) fn plus(self, other: Self) -> Self {
        let more = slack(0) * (self.magnitude() + other.magnitude()) + TINY;
        Self { low: self.low + other.low - more, high: self.high + other.high + more }
    }

    /// Middle and radius of an interval around it.
    pub(super) fn ball(self) -> (f64, f64) {
        let centre = f64::midpoint(self.low, self.high);
        let radius = (self.high - centre).max(centre - self.low);
        (centre, radius + slack(0) * (radius + centre.abs()) + TINY)
    }
}

/// An affine form; symbols beyond the end of a list have the factor 0.
#[derive(Debug, Clone, Default)]
pub(super) struct Form {
    pub(super) centre: f64,
    pub(super) values: Vec<f64>,
    pub(super) errors: Vec<f64>,
    pub(super) rest: f64,
}

/// How many symbols there are, and room for more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbols {
    values: usize,
    errors: usize,
}

/// Errors beyond so many symbols of a kind have no name.
const MOST_SYMBOLS: usize = 4096;

impl Symbols {
    pub(super) const NONE: Self = Self { values: 0, errors: 0 };

    /// Adds an error of the float model's values.
    pub(super) fn value(&mut self, form: &mut Form, radius: f64) {
        named(&mut self.values, &mut form.values, &mut form.rest, radius);
    }

    /// Adds an error of the integers.
    pub(super) fn error(&mut self, form: &mut Form, radius: f64) {
        named(&mut self.errors, &mut form.errors, &mut form.rest, radius);
    }
}

fn named(count: &mut usize, terms: &mut Vec<f64>, rest: &mut f64, radius: f64) {
    if *count < MOST_SYMBOLS && radius > 0.0 {
        terms.resize(*count, 0.0);
        terms.push(radius);
        *count += 1;
    } else {
        *rest += radius + slack(0) * *rest;
    }
}

impl Form {
    /// A single number.
    pub(super) fn constant(centre: f64) -> Self {
        Self { centre, ..Self::default() }
    }

    /// The largest distance from the centre, rounded up.
    pub(super) fn radius(&self) -> f64 {
        let sum: f64 = self.values.iter().chain(&self.errors).map(|term| term.abs()).sum();
        (sum + self.rest) * (1.0 + slack(self.values.len() + self.errors.len()))
    }

    /// The largest magnitude, rounded up.
    pub(super) fn magnitude(&self) -> f64 {
        (self.centre.abs() + self.radius()) * (1.0 + slack(0))
    }

    pub(super) fn span(&self) -> Span {
        Span::around(self.centre, self.radius())
    }

    /// Adds `factor` times another form; the caller accounts for roundings.
    pub(super) fn add(&mut self, factor: f64, other: &Self) {
        self.centre += factor * other.centre;
        accumulate(&mut self.values, factor, &other.values);
        accumulate(&mut self.errors, factor, &other.errors);
        self.rest += factor.abs() * other.rest;
    }

    /// `factor * self + offset`.
    pub(super) fn line(&self, factor: f64, offset: f64) -> Self {
        let mut line = Self::constant(offset);
        line.add(factor, self);
        line.rest += slack(1) * (factor.abs() * self.magnitude() + offset.abs());
        line
    }

    /// The sum of `factor` times each form.
    pub(super) fn sum(terms: &[(f64, &Self)]) -> Self {
        let (mut sum, mut magnitude) = (Self::default(), 0.0);
        for (factor, form) in terms {
            sum.add(*factor, form);
            magnitude += factor.abs() * form.magnitude();
        }
        sum.rest += slack(terms.len()) * magnitude;
        sum
    }
}

fn accumulate(terms: &mut Vec<f64>, factor: f64, other: &[f64]) {
    if terms.len() < other.len() {
        terms.resize(other.len(), 0.0);
    }
    for (term, other) in terms.iter_mut().zip(other) {
        *term += factor * other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_numbers_share_cancels() {
        let mut symbols = Symbols::NONE;
        let mut x = Form::constant(3.0);
        symbols.value(&mut x, 2.0);
        let mut y = x.line(1.0, -1.0);
        symbols.error(&mut y, 0.25);
        let difference = Form::sum(&[(1.0, &y), (-1.0, &x)]);
        let span = difference.span();
        assert!(span.low <= -1.25 && span.high >= -0.75, "{span:?}");
        assert!(span.high - span.low < 0.5 + 1e-12, "{span:?}");
        assert!((x.span().high - 5.0).abs() < 1e-12);
    }

    #[test]
    fn roundings_are_part_of_the_form() {
        // 0.1 added up ten times is not 1 in binary64; the form knows by how much at most.
        let tenth = Form::constant(0.1);
        let sum = Form::sum(&[(1.0, &tenth); 10]);
        let exact = 10.0 * 0.1;
        assert!(sum.span().low <= exact && exact <= sum.span().high);
        assert!(sum.rest > 0.0 && sum.rest < 1e-13);
    }
}
