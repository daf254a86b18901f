//! The little linear algebra that rounding needs: Cholesky factors of small dense matrices.

/// Lower Cholesky factor of a symmetric positive definite `n` by `n` matrix, row-major; `None` when it is not
/// positive definite.
fn cholesky(matrix: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut factor = vec![0.0; n * n];
    for i in 0..n {
        let (done, rest) = factor.split_at_mut(i * n);
        let row = rest.get_mut(..n)?;
        for j in 0..=i {
            let value = *matrix.get(i * n + j)?;
            if i == j {
                let (head, tail) = row.split_at_mut(j);
                let pivot = value - dot(head, head);
                if !(pivot > 0.0 && pivot.is_finite()) {
                    return None;
                }
                *tail.first_mut()? = pivot.sqrt();
            } else {
                let other = done.get(j * n..j * n + j + 1)?;
                let (other, diagonal) = other.split_at(j);
                let (head, tail) = row.split_at_mut(j);
                *tail.first_mut()? = (value - dot(head, other)) / diagonal.first()?;
            }
        }
    }
    Some(factor)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Rows of the upper factor `U` with `UᵀU = matrix⁻¹`: what sequential rounding propagates its errors with.
/// Row `i` starts at its diagonal.
pub(super) fn inverse_upper(matrix: &[f64], n: usize) -> Option<Vec<Vec<f64>>> {
    let lower = cholesky(matrix, n)?;
    // Inverse of the lower factor, column by column, stored as rows of its transpose.
    let mut inverse = vec![0.0; n * n];
    for column in 0..n {
        let target = inverse.get_mut(column * n..(column + 1) * n)?;
        for i in column..n {
            let row = lower.get(i * n..i * n + i + 1)?;
            let (head, diagonal) = row.split_at(i);
            let known = target.get(column..i)?;
            let sum = dot(head.get(column..)?, known);
            let unit = if i == column { 1.0 } else { 0.0 };
            *target.get_mut(i)? = (unit - sum) / diagonal.first()?;
        }
    }
    // matrix⁻¹ = L⁻ᵀ L⁻¹; rows of `inverse` are columns of L⁻¹.
    let mut full = vec![0.0; n * n];
    for i in 0..n {
        let left = inverse.get(i * n..(i + 1) * n)?;
        for j in 0..=i {
            let right = inverse.get(j * n..(j + 1) * n)?;
            let value = dot(left.get(i..)?, right.get(i..)?);
            *full.get_mut(i * n + j)? = value;
            *full.get_mut(j * n + i)? = value;
        }
    }
    let lower = cholesky(&full, n)?;
    (0..n).map(|i| (i..n).map(|j| lower.get(j * n + i).copied()).collect::<Option<Vec<f64>>>()).collect()
}
