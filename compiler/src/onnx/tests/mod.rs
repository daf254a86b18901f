//! Tests of ONNX import.

mod build;
mod npz;
mod corpus;
mod committed;
mod decoders;
mod graphs;
mod pieces;
mod linear;
mod refusals;
