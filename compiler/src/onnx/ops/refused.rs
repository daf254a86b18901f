//! What is said about operators that are not imported: the code and what to do instead.

use super::{MICROSOFT, ML};
use crate::diag::Code;
use crate::diag::codes::onnx as codes;

/// Domains of the format itself.
pub(crate) const STANDARD: &[&str] = &["", ML];

/// Whether an operator, imported or not, leaves the shape of its first input as it is: what stands behind it can then
/// still be described when it is refused.
pub(crate) fn keeps_shape(name: &str) -> bool {
    matches!(
        name,
        "Elu"
            | "Selu"
            | "Celu"
            | "Gelu"
            | "Mish"
            | "Tanh"
            | "HardSwish"
            | "Softplus"
            | "Softsign"
            | "Erf"
            | "QuickGelu"
            | "Swish"
            | "ThresholdedRelu"
            | "Shrink"
            | "Sigmoid"
            | "QLinearSigmoid"
            | "QLinearLeakyRelu"
            | "QuantizeLinear"
            | "DequantizeLinear"
            | "Quant"
            | "BipolarQuant"
            | "Trunc"
            | "LayerNormalization"
            | "InstanceNormalization"
            | "MeanVarianceNormalization"
            | "RMSNormalization"
            | "SkipLayerNormalization"
            | "BiasGelu"
            | "Normalizer"
            | "Binarizer"
            | "Imputer"
            | "BatchNormalization"
            | "Exp"
            | "Log"
            | "Sqrt"
            | "Reciprocal"
            | "Round"
            | "Floor"
            | "Ceil"
            | "Sign"
            | "Sin"
            | "Cos"
            | "Atan"
            | "IsNaN"
            | "Not"
    )
}

/// The reason to refuse an operator: code, message, help.
pub(crate) fn reason(domain: &str, name: &str) -> (&'static Code, String, &'static str) {
    let quoted = if domain.is_empty() { format!("`{name}`") } else { format!("`{domain}.{name}`") };
    let (code, what, help): (_, &str, _) = match name {
        "DynamicQuantizeLinear"
        | "DynamicQuantizeMatMul"
        | "MatMulInteger"
        | "MatMulIntegerToFloat"
        | "ConvInteger" => (
            &codes::DYNAMIC_QUANTISATION,
            "belongs to dynamic quantisation, whose result for a row depends on the rest of the batch",
            "compile the float model that was quantised, or quantise statically (`quantize_static`)",
        ),
        "Trunc" | "FloatQuant" => (
            &codes::QUANTISED,
            "is a form of quantisation that is not supported",
            "train with Quant: integers of a scale, a zero point and a bit width",
        ),
        "MatMulNBits" | "MatMulBnb4" | "MatMulFpQ4" | "GatherBlockQuantized" => (
            &codes::QUANTISED,
            "has scales for blocks of its weights",
            "quantise per tensor or per channel, or compile the float model: this compiler quantises by itself",
        ),
        _ if (domain == MICROSOFT || domain.is_empty())
            && (name.starts_with("QLinear") || name.starts_with("QOrdered") || name == "QAttention") =>
        {
            (
                &codes::QUANTISED,
                "is a quantised operator that is not imported; those of dense layers are",
                "compile the float model that was quantised; this compiler quantises by itself",
            )
        }
        "LSTM" | "GRU" | "RNN" | "Scan" | "Loop" | "If" => (
            &codes::OPERATOR,
            "is a recurrent or conditional operator; only feed-forward networks are supported",
            "feed aggregates of the flow (mean, std, ewma, gap) to a multi-layer perceptron instead",
        ),
        "Conv" | "ConvTranspose" | "MaxPool" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" => (
            &codes::OPERATOR,
            "is a convolution or pooling; only multi-layer perceptrons are supported",
            "use dense layers (`Linear`) on the vector of features instead",
        ),
        "FusedMatMul" | "SkipLayerNormalization" => (
            &codes::OPERATOR,
            "is an operator that an optimiser fused for one runtime",
            "compile the model as it was before the optimiser (onnxruntime's `optimized_model_filepath`)",
        ),
        "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "MeanVarianceNormalization"
        | "RMSNormalization" => (
            &codes::OPERATOR,
            "normalises over the values of a row, which is not linear",
            "use `BatchNorm1d` or a scaler with constants instead",
        ),
        "OneHotEncoder" | "LabelEncoder" | "CategoryMapper" | "DictVectorizer" | "StringNormalizer"
        | "TfIdfVectorizer" => (
            &codes::OPERATOR,
            "is preprocessing that is not linear and not supported",
            "compute the feature in the specification, and train on what the specification extracts",
        ),
        "RandomNormal" | "RandomUniform" | "RandomNormalLike" | "RandomUniformLike" | "Bernoulli"
        | "Multinomial" => (
            &codes::OPERATOR,
            "draws random numbers; a verdict must depend on the packet alone",
            "call `model.eval()` before the export",
        ),
        _ if domain == MICROSOFT => (
            &codes::OPERATOR,
            "is a runtime's own operator",
            "compile the model as it was before the runtime's optimiser",
        ),
        _ if !STANDARD.contains(&domain) => (
            &codes::DOMAIN,
            "comes from a domain that has no public meaning",
            "export the model without custom operators",
        ),
        _ => (
            &codes::OPERATOR,
            "is not supported",
            "export a plain multi-layer perceptron: Linear layers, ReLU, a scaler, softmax or sigmoid",
        ),
    };
    (code, format!("{quoted} {what}"), help)
}
