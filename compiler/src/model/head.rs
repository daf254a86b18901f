//! From outputs to a label and its probability.

use super::Head;

fn logistic(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

impl Head {
    /// The class index; `None` for a regressor. Ties go to the lowest index.
    #[must_use]
    pub fn label(self, outputs: &[f64]) -> Option<usize> {
        match self {
            Self::Scores => None,
            Self::Logits | Self::OneVersusRest { .. } | Self::Probabilities => {
                let mut best: Option<(usize, f64)> = None;
                for (index, &value) in outputs.iter().enumerate() {
                    if best.is_none_or(|(_, highest)| value > highest) {
                        best = Some((index, value));
                    }
                }
                best.map(|(index, _)| index)
            }
            Self::Logistic | Self::Probability => outputs.first().map(|&value| usize::from(value > 0.0)),
        }
    }

    /// Probability of the label: softmax for logits, the logistic function for one output or for each of several, or
    /// the value itself.
    #[must_use]
    pub fn score(self, outputs: &[f64]) -> Option<f64> {
        match self {
            Self::Scores => None,
            Self::Logits => {
                let label = self.label(outputs)?;
                let highest = *outputs.get(label)?;
                let sum: f64 = outputs.iter().map(|value| (value - highest).exp()).sum();
                Some(1.0 / sum)
            }
            Self::Logistic => outputs.first().map(|value| 1.0 / (1.0 + (-value.abs()).exp())),
            Self::OneVersusRest { normalised } => {
                let own = logistic(*outputs.get(self.label(outputs)?)?);
                let sum: f64 = outputs.iter().map(|&value| logistic(value)).sum();
                Some(if normalised && sum > 0.0 { own / sum } else { own })
            }
            Self::Probability => outputs.first().map(|value| 0.5 + value.abs()),
            Self::Probabilities => outputs.get(self.label(outputs)?).copied(),
        }
    }
}
