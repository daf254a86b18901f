//! Tests of ONNX import.

mod corpus;
mod npz;
