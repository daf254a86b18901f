//! Tests of ONNX import.

mod build;
mod npz;
mod corpus;
mod agreement;
mod scaling;
mod unsupported;
mod official;
mod official_cases;
mod committed;
mod decoders;
mod ensembles;
mod graphs;
mod pieces;
mod curves;
mod steps;
mod imputer;
mod skips;
mod quantised;
mod operators;
mod reconstruction;
mod leaves;
mod linear;
mod refusals;
mod trees;
