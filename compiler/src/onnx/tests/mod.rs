//! Tests of ONNX import.

mod build;
mod npz;
mod corpus;
mod agreement;
mod scaling;
mod unsupported;
mod official;
mod committed;
mod decoders;
mod ensembles;
mod graphs;
mod pieces;
mod curves;
mod steps;
mod imputer;
mod quantised;
mod operators;
mod reconstruction;
mod leaves;
mod linear;
mod refusals;
mod trees;
