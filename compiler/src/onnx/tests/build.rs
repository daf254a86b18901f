//! Builds small models for tests and for `testdata/cases`, with the schema's own encoder.

use prost::Message;

use crate::onnx::schema::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto, data_type,
};

/// A model under construction.
#[derive(Debug, Clone)]
pub(super) struct Builder(pub(super) ModelProto);

impl Builder {
    /// An empty graph of operator set 17.
    pub(super) fn new() -> Self {
        let import = |domain: &str, version| OperatorSetIdProto {
            domain: Some(domain.to_owned()),
            version: Some(version),
        };
        Self(ModelProto {
            ir_version: Some(8),
            producer_name: Some("nnbpf-tests".to_owned()),
            graph: Some(GraphProto { name: Some("test".to_owned()), ..GraphProto::default() }),
            opset_import: vec![import("", 17), import("ai.onnx.ml", 3)],
            ..ModelProto::default()
        })
    }

    pub(super) fn graph(&mut self) -> &mut GraphProto {
        self.0.graph.as_mut().unwrap()
    }

    /// A size of 0 stands for the batch.
    pub(super) fn input(mut self, name: &str, dims: &[i64]) -> Self {
        let dim = dims
            .iter()
            .map(|&size| match size {
                0 => DimensionProto { dim_value: None, dim_param: Some("batch".to_owned()) },
                _ => DimensionProto { dim_value: Some(size), dim_param: None },
            })
            .collect();
        let tensor =
            TensorTypeProto { elem_type: Some(data_type::FLOAT), shape: Some(TensorShapeProto { dim }) };
        let info = ValueInfoProto {
            name: Some(name.to_owned()),
            r#type: Some(TypeProto { tensor_type: Some(tensor) }),
        };
        self.graph().input.push(info);
        self
    }

    pub(super) fn output(mut self, name: &str) -> Self {
        self.graph().output.push(ValueInfoProto { name: Some(name.to_owned()), r#type: None });
        self
    }

    pub(super) fn weight(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        let tensor = TensorProto {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(data_type::FLOAT),
            raw_data: Some(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
            ..TensorProto::default()
        };
        self.graph().initializer.push(tensor);
        self
    }

    pub(super) fn integers(mut self, name: &str, values: &[i64]) -> Self {
        let tensor = TensorProto {
            name: Some(name.to_owned()),
            dims: vec![i64::try_from(values.len()).unwrap()],
            data_type: Some(data_type::INT64),
            int64_data: values.to_vec(),
            ..TensorProto::default()
        };
        self.graph().initializer.push(tensor);
        self
    }

    /// An initializer of integers of few bits.
    pub(super) fn typed(mut self, name: &str, kind: i32, dims: &[i64], values: &[i32]) -> Self {
        let per_byte = match kind {
            data_type::INT4 | data_type::UINT4 => 2,
            data_type::INT2 | data_type::UINT2 => 4,
            _ => 1,
        };
        let packed = |chunk: &[i32]| {
            let bits = 8 / per_byte;
            let mask = if per_byte == 1 { -1 } else { (1 << bits) - 1 };
            chunk
                .iter()
                .enumerate()
                .fold(0, |sum, (place, value)| sum | ((value & mask) << (place as i32 * bits)))
        };
        let tensor = TensorProto {
            name: Some(name.to_owned()),
            dims: dims.to_vec(),
            data_type: Some(kind),
            int32_data: values.chunks(per_byte as usize).map(packed).collect(),
            ..TensorProto::default()
        };
        self.graph().initializer.push(tensor);
        self
    }

    /// A node called after its output.
    pub(super) fn node(mut self, operator: &str, inputs: &[&str], output: &str) -> Self {
        let (domain, name) = operator.rsplit_once('.').unwrap_or(("", operator));
        self.graph().node.push(NodeProto {
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.to_owned()],
            name: Some(format!("node_{output}")),
            op_type: Some(name.to_owned()),
            attribute: Vec::new(),
            domain: Some(domain.to_owned()),
        });
        self
    }

    /// Adds to the attributes of the node that makes this value.
    pub(super) fn on(mut self, output: &str, change: impl FnOnce(Self) -> Self) -> Self {
        let nodes = &mut self.graph().node;
        let place = nodes.iter().position(|node| node.output.iter().any(|name| name == output)).unwrap();
        let last = nodes.len() - 1;
        nodes.swap(place, last);
        let mut changed = change(self);
        changed.graph().node.swap(place, last);
        changed
    }

    fn attribute(mut self, attribute: AttributeProto) -> Self {
        self.graph().node.last_mut().unwrap().attribute.push(attribute);
        self
    }

    /// An attribute of the node before.
    pub(super) fn int(self, name: &str, value: i64) -> Self {
        let attribute = AttributeProto {
            name: Some(name.to_owned()),
            i: Some(value),
            r#type: Some(2),
            ..AttributeProto::default()
        };
        self.attribute(attribute)
    }

    pub(super) fn float(self, name: &str, value: f32) -> Self {
        let attribute = AttributeProto {
            name: Some(name.to_owned()),
            f: Some(value),
            r#type: Some(1),
            ..AttributeProto::default()
        };
        self.attribute(attribute)
    }

    pub(super) fn floats(self, name: &str, values: &[f32]) -> Self {
        let attribute = AttributeProto {
            name: Some(name.to_owned()),
            floats: values.to_vec(),
            r#type: Some(6),
            ..AttributeProto::default()
        };
        self.attribute(attribute)
    }

    pub(super) fn ints(self, name: &str, values: &[i64]) -> Self {
        let attribute = AttributeProto {
            name: Some(name.to_owned()),
            ints: values.to_vec(),
            r#type: Some(7),
            ..AttributeProto::default()
        };
        self.attribute(attribute)
    }

    /// A tensor as attribute of the node before: numbers of single precision, of double precision, or bytes.
    pub(super) fn tensor(self, name: &str, kind: i32, values: &[f64]) -> Self {
        let each = |value: &f64| match kind {
            data_type::DOUBLE => value.to_le_bytes().to_vec(),
            data_type::UINT8 => vec![*value as u8],
            _ => (*value as f32).to_le_bytes().to_vec(),
        };
        let tensor = TensorProto {
            dims: vec![i64::try_from(values.len()).unwrap()],
            data_type: Some(kind),
            raw_data: Some(values.iter().flat_map(each).collect()),
            ..TensorProto::default()
        };
        let attribute = AttributeProto {
            name: Some(name.to_owned()),
            t: Some(tensor),
            r#type: Some(4),
            ..AttributeProto::default()
        };
        self.attribute(attribute)
    }

    pub(super) fn text(self, name: &str, value: &str) -> Self {
        let attribute = AttributeProto {
            name: Some(name.to_owned()),
            s: Some(value.as_bytes().to_vec()),
            r#type: Some(3),
            ..AttributeProto::default()
        };
        self.attribute(attribute)
    }

    pub(super) fn texts(self, name: &str, values: &[&str]) -> Self {
        let attribute = AttributeProto {
            name: Some(name.to_owned()),
            strings: values.iter().map(|value| value.as_bytes().to_vec()).collect(),
            r#type: Some(8),
            ..AttributeProto::default()
        };
        self.attribute(attribute)
    }

    /// An attribute of the node before that stands for one of the function's caller.
    pub(super) fn refers(self, name: &str, to: &str) -> Self {
        let attribute = AttributeProto {
            name: Some(name.to_owned()),
            ref_attr_name: Some(to.to_owned()),
            r#type: Some(1),
            ..AttributeProto::default()
        };
        self.attribute(attribute)
    }

    /// Turns all nodes so far into a function of the domain `local`.
    pub(super) fn function(mut self, name: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let function = FunctionProto {
            name: Some(name.to_owned()),
            domain: Some("local".to_owned()),
            input: names(inputs),
            output: names(outputs),
            node: std::mem::take(&mut self.graph().node),
            ..FunctionProto::default()
        };
        self.0.functions.push(function);
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.encode_to_vec()
    }
}

/// 2 features, 3 hidden neurons, 2 logits.
pub(super) fn tiny() -> Builder {
    Builder::new()
        .input("x", &[0, 2])
        .weight("w0", &[3, 2], &[1.0, 2.0, -1.0, 0.5, 0.25, -3.0])
        .weight("b0", &[3], &[0.5, -1.0, 2.0])
        .weight("w1", &[2, 3], &[1.0, -2.0, 0.5, -1.0, 1.5, 2.0])
        .weight("b1", &[2], &[0.125, -0.25])
        .node("Gemm", &["x", "w0", "b0"], "h0")
        .int("transB", 1)
        .node("Relu", &["h0"], "a0")
        .node("Gemm", &["a0", "w1", "b1"], "y")
        .int("transB", 1)
        .output("y")
}

/// Scaler, 6-32-32-2, softmax: the shape of the models, with reproducible weights.
pub(super) fn scaled_6_32_32_2() -> Builder {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut uniform = |count: usize, bound: f32| -> Vec<f32> {
        (0..count)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let unit = (state >> 40) as f32 / (1_u64 << 24) as f32;
                (2.0 * unit - 1.0) * bound
            })
            .collect()
    };
    Builder::new()
        .input("input", &[0, 6])
        .weight("mean", &[6], &[20.0, 540.0, 120.0, 8000.0, 1.0e6, 0.5])
        .weight("scale", &[6], &[28.0, 240.0, 63.0, 22000.0, 2.0e6, 0.25])
        .weight("w0", &[32, 6], &uniform(192, 0.7))
        .weight("b0", &[32], &uniform(32, 0.3))
        .weight("w1", &[32, 32], &uniform(1024, 0.4))
        .weight("b1", &[32], &uniform(32, 0.3))
        .weight("w2", &[2, 32], &uniform(64, 0.4))
        .weight("b2", &[2], &uniform(2, 0.1))
        .node("Sub", &["input", "mean"], "centred")
        .node("Div", &["centred", "scale"], "scaled")
        .node("Gemm", &["scaled", "w0", "b0"], "h0")
        .int("transB", 1)
        .node("Relu", &["h0"], "a0")
        .node("Gemm", &["a0", "w1", "b1"], "h1")
        .int("transB", 1)
        .node("Relu", &["h1"], "a1")
        .node("Gemm", &["a1", "w2", "b2"], "logits")
        .int("transB", 1)
        .node("Softmax", &["logits"], "probabilities")
        .output("probabilities")
}
