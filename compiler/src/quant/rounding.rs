//! Real weights of one neuron to integers, each rounding error passed on to the weights not yet rounded.
//!
//! With the second moments of the inputs, an error in one weight is mostly made good by its correlated
//! neighbours and by the bias (the method of Frantar et al., GPTQ, arXiv 2210.17323, for which the bias is one
//! more input that is always 1). Without moments, weights are rounded to nearest.

/// Weights stay below this magnitude, so that any code generator can hold them as 32-bit immediates.
pub(super) const MOST: f64 = 2_147_483_647.0;

/// What error propagation needs about a layer's inputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments<'a> {
    /// Of each input and the constant, in steps of the integer that the layer reads.
    pub(super) spread: &'a [f64],
    pub(super) propagation: Option<&'a [Vec<f64>]>,
}

/// Rounds `targets` (one per input, then the bias) to integers.
pub(super) fn round_row(targets: &[f64], moments: Moments<'_>) -> Vec<i64> {
    let Some(propagation) = moments.propagation else {
        return targets.iter().map(|&target| nearest(target)).collect();
    };
    let mut rounded = Vec::with_capacity(targets.len());
    // What each target gets from errors before it, times its spread: the innermost loop divides nothing.
    let mut passed_on = vec![0.0; targets.len()];
    let mut rest: &mut [f64] = &mut passed_on;
    for ((&target, &spread), factors) in targets.iter().zip(moments.spread).zip(propagation) {
        let Some((&mut own, later)) = rest.split_first_mut() else { break };
        let target = if spread > 0.0 { target - own / spread } else { target };
        let value = nearest(target);
        rounded.push(value);
        if let Some((&diagonal, factors)) = factors.split_first() {
            let error = (target - value as f64) * spread / diagonal;
            for (passed_on, &factor) in later.iter_mut().zip(factors) {
                *passed_on += error * factor;
            }
        }
        rest = later;
    }
    rounded
}

fn nearest(target: f64) -> i64 {
    // Biases may be larger than weights; the conversion saturates and the bound check refuses what does not fit.
    target.round() as i64
}
