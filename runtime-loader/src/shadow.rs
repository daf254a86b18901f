//! A second model in the idle slot, which runs on the same features and decides nothing.
//!
//! `.data.nn_active` says in one word which slot is active, whether the other one is a shadow, and the
//! generation; a verdict loads it once. So the counts belong to one pair of models as long as they are reset
//! while no shadow runs: the word says that there is none, a grace period passes, slot and counts are written,
//! and only then the word says that there is one. Whoever is killed in between leaves no shadow, and the
//! active model as it was.

use nnbpf_compiler::lower::network::shadow;
use nnbpf_compiler::params::layout::SHADOW_BIT;

use crate::grace;
use crate::hot_update::{Active, UpdateError};
use crate::maps::{Map, MapError, Update};

/// Map of the counts.
pub const COUNTS: &str = shadow::MAP;

/// How often active model and shadow agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counts {
    /// Verdicts by the active model's class (rows) and the shadow's (columns).
    Pairs(Vec<Vec<u64>>),
    /// Verdicts with equal and with different answers: raw outputs of models without labels, labels of those
    /// with more than [`shadow::TABLE_CLASSES`].
    Answers { equal: u64, different: u64 },
}

impl Counts {
    /// Reads the map: sums over all processors.
    ///
    /// # Errors
    /// The map is not readable.
    pub fn read(counts: &Map) -> Result<Self, MapError> {
        let copies = counts.lookup_per_cpu(&0_u32.to_ne_bytes())?.unwrap_or_default();
        let mut sums = vec![0_u64; counts.shape().value_size / 8];
        for copy in &copies {
            for (sum, word) in sums.iter_mut().zip(copy.as_chunks().0) {
                *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
            }
        }
        Ok(match *sums.as_slice() {
            [equal, different] => Self::Answers { equal, different },
            _ => Self::Pairs(sums.chunks(sums.len().isqrt().max(1)).map(<[u64]>::to_vec).collect()),
        })
    }

    /// Verdicts that were compared.
    #[must_use]
    pub fn verdicts(&self) -> u64 {
        match self {
            Self::Pairs(rows) => rows.iter().flatten().sum(),
            Self::Answers { equal, different } => equal + different,
        }
    }

    /// Verdicts on which the two models disagreed.
    #[must_use]
    pub fn disagreements(&self) -> u64 {
        match self {
            Self::Pairs(rows) => {
                let apart = |(row, counts): (usize, &Vec<u64>)| -> u64 {
                    counts
                        .iter()
                        .enumerate()
                        .filter(|(column, _)| *column != row)
                        .map(|(_, count)| count)
                        .sum()
                };
                rows.iter().enumerate().map(apart).sum()
            }
            Self::Answers { different, .. } => *different,
        }
    }
}

/// Whether a shadow runs.
///
/// # Errors
/// The section is not readable.
pub fn runs(active: &Map) -> Result<bool, MapError> {
    let value = active.read_value()?;
    let index = value.first_chunk().copied().map_or(0, u32::from_ne_bytes);
    Ok(index & SHADOW_BIT != 0)
}

/// Ends the shadow, if there is one, and returns when no verdict runs or counts it any more. The counts stay.
///
/// # Errors
/// The kernel refuses a write, or there is no grace period; then the shadow may be over already.
pub fn stop(active: &Map) -> Result<Active, UpdateError> {
    let now = Active::read(active)?;
    if runs(active)? {
        active.write_value(&now.bytes())?;
        grace::wait().map_err(UpdateError::Grace)?;
    }
    Ok(now)
}

/// Writes the idle slot, sets the counts to zero and lets the slot run as shadow. Another one ends first.
///
/// # Errors
/// The slot has another size than the object's, or the kernel refuses a write. No shadow runs then, and the
/// active model is the same.
pub fn start(params: &Map, active: &Map, counts: &Map, slot: &[u8]) -> Result<Active, UpdateError> {
    let mut value = params.read_value()?;
    let expected = value.len() / 2;
    if slot.len() != expected || value.len() % 2 != 0 {
        return Err(UpdateError::Size { expected, bytes: slot.len() });
    }
    let now = stop(active)?;
    // An update before this may have ended between its flip and its wait.
    grace::wait().map_err(UpdateError::Grace)?;
    let (first, second) = value.split_at_mut(expected);
    if now.index == 0 { second } else { first }.copy_from_slice(slot);
    params.write_value(&value)?;
    let key = 0_u32.to_ne_bytes();
    let mut zeros = counts.lookup_per_cpu(&key)?.unwrap_or_default();
    zeros.iter_mut().for_each(|copy| copy.fill(0));
    counts.update_per_cpu(&key, &zeros, Update::Any)?;
    let marked = Active { index: now.index | SHADOW_BIT, ..now };
    active.write_value(&marked.bytes())?;
    Ok(now)
}

/// Makes the shadow the active model, with the next generation, and returns when every verdict is its own. The
/// model that was active stays in the idle slot, and the counts stay. `None` when there is no shadow.
///
/// # Errors
/// The kernel refuses the write, or there is no grace period; then the shadow may be active already.
pub fn promote(active: &Map) -> Result<Option<Active>, UpdateError> {
    let before = Active::read(active)?;
    if !runs(active)? {
        return Ok(None);
    }
    let after = Active { index: 1 - before.index, generation: before.generation.wrapping_add(1) };
    active.write_value(&after.bytes())?;
    grace::wait().map_err(UpdateError::Grace)?;
    Ok(Some(after))
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn disagreements_are_off_the_diagonal() {
        let pairs = Counts::Pairs(vec![vec![5, 2, 0], vec![1, 7, 0], vec![0, 4, 9]]);
        assert_eq!((pairs.verdicts(), pairs.disagreements()), (28, 7));
        let answers = Counts::Answers { equal: 3, different: 2 };
        assert_eq!((answers.verdicts(), answers.disagreements()), (5, 2));
    }
}
