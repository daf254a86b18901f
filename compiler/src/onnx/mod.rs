//! ONNX bytes to [`crate::model::Model`]: decoding with our own schema, then import of the graph.
