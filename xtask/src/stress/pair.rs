//! Two networks of one plan that any mixture of their parameters tells apart.

use nnbpf_compiler::check::{Checked, check};
use nnbpf_compiler::ir::{Network, Op, interpret};

/// Two networks, and raw features for which they and their mixtures all differ.
pub(super) struct Pair {
    /// Of odd generations first.
    pub(super) networks: [Checked<Network>; 2],
    pub(super) features: Vec<i64>,
    pub(super) outputs: [Vec<i64>; 2],
}

impl Pair {
    /// A network and the same one with the neurons of every layer in another order.
    pub(super) fn of(network: &Checked<Network>) -> Result<Self, String> {
        let other = check(turned(network.get())).map_err(|_| "the turned network is not provable")?;
        let features = network.get().inputs.iter().map(|input| {
            // A third of the way into the range: nothing saturates, and few neurons are silent.
            input.range.low + (input.range.high - input.range.low) / 3
        });
        let features: Vec<i64> = features.collect();
        let networks = [network.clone(), other];
        let outputs = networks.each_ref().map(|network| interpret::outputs(network.get(), &features));
        let pair = Self { networks, features, outputs };
        pair.tells_mixtures()?;
        Ok(pair)
    }

    /// Every cut between two operations gives other outputs than either network.
    fn tells_mixtures(&self) -> Result<(), String> {
        let [one, other] = self.networks.each_ref().map(Checked::get);
        let [first, second] = &self.outputs;
        if first == second {
            return Err("the two networks give the same outputs".to_owned());
        }
        // Operation 0 quantises; the two networks share it.
        for cut in 2..one.ops.len() {
            for (begin, end) in [(one, other), (other, one)] {
                let ops = begin.ops.iter().take(cut).chain(end.ops.iter().skip(cut));
                let mixed = Network { ops: ops.cloned().collect(), ..begin.clone() };
                if self.outputs.contains(&interpret::outputs(&mixed, &self.features)) {
                    return Err(format!("parameters mixed at operation {cut} are not noticed"));
                }
            }
        }
        Ok(())
    }
}

/// Turns the neurons of every layer by one, and the columns of the next layer with them.
fn turned(network: &Network) -> Network {
    let mut network = network.clone();
    let mut first = true;
    for op in &mut network.ops {
        let Op::Dense(dense) = op else { continue };
        if dense.columns > 0 {
            dense.weights.rotate_right(dense.columns);
            dense.bias.rotate_right(1);
            if !first {
                for row in dense.weights.chunks_mut(dense.columns) {
                    row.rotate_right(1);
                }
            }
        }
        first = false;
    }
    network
}
