//! Shapes of values that depend on the input: one axis may be the rows of the batch.

use std::fmt;

/// One axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dim {
    /// The batch; every row is computed on its own, however many there are.
    Rows,
    Of(usize),
}

/// Axes in order. At most one is longer than 1 (besides the rows): the axis of the features.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape(pub(crate) Vec<Dim>);

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = self
            .0
            .iter()
            .map(|dim| match dim {
                Dim::Rows => "batch".to_owned(),
                Dim::Of(size) => size.to_string(),
            })
            .collect();
        write!(formatter, "[{}]", items.join(", "))
    }
}

impl Shape {
    pub(crate) fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of values per row; `None` on overflow.
    pub(crate) fn width(&self) -> Option<usize> {
        self.0.iter().try_fold(1_usize, |product, dim| match dim {
            Dim::Rows => Some(product),
            Dim::Of(size) => product.checked_mul(*size),
        })
    }

    pub(crate) fn has_rows(&self) -> bool {
        self.0.contains(&Dim::Rows)
    }

    /// Whether the shape keeps the promise of this type.
    pub(crate) fn is_vector(&self) -> bool {
        let long = self.0.iter().filter(|dim| matches!(dim, Dim::Of(size) if *size != 1)).count();
        let rows = self.0.iter().filter(|dim| **dim == Dim::Rows).count();
        long <= 1 && rows <= 1
    }

    /// The axis of the features: the long one, else the last that is not the rows.
    pub(crate) fn feature_axis(&self) -> Option<usize> {
        let long = self.0.iter().position(|dim| matches!(dim, Dim::Of(size) if *size != 1));
        long.or_else(|| self.0.iter().rposition(|dim| *dim != Dim::Rows))
    }

    /// The axis that a possibly negative attribute names.
    pub(crate) fn axis(&self, axis: i64) -> Option<usize> {
        resolve_axis(axis, self.rank())
    }

    /// The same shape with another size of an axis.
    pub(crate) fn with(&self, axis: usize, dim: Dim) -> Self {
        let dims = self.0.iter().enumerate();
        Self(dims.map(|(index, old)| if index == axis { dim } else { *old }).collect())
    }

    /// The same shape without an axis.
    pub(crate) fn without(&self, axis: usize) -> Self {
        let dims = self.0.iter().enumerate();
        Self(dims.filter(|(index, _)| *index != axis).map(|(_, dim)| *dim).collect())
    }
}

/// Negative axes count from the end.
pub(crate) fn resolve_axis(axis: i64, rank: usize) -> Option<usize> {
    let rank_signed = i64::try_from(rank).ok()?;
    let index = if axis < 0 { axis.checked_add(rank_signed)? } else { axis };
    usize::try_from(index).ok().filter(|&index| index < rank)
}
