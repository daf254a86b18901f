//! Compiles an ONNX classifier and a feature specification to an eBPF object.
//!
//! The library has no I/O: bytes come in, bytes and diagnostics go out, and the output is a pure function of
//! the input. Files, clocks, processes and the kernel belong to the `nnbpfc` and `nnbpf` packages.
//!
//! Modules stand in pipeline order:
//!
//! ```text
//! model.onnx ─onnx─▶ model::Model          features.spec ─spec─▶ spec::FeatureSpec
//!                        └───────────┬──────────┘
//!                           quant (last floats)
//!                                    ▼
//!                 ir::Network and ir::FlowProgram      every value has a proved interval
//!                                    ▼
//!                 check ─▶ check::Checked<Program>     lowering accepts nothing else
//!                                    ▼
//!                 lower ─▶ bpf::Module ─elf─▶ bytes
//! ```
//!
//! # What the IR means
//!
//! See [`ir`]: integer semantics are stated there and in `docs/numerics.md`, executed by the reference
//! interpreters in that module, and matched bit for bit by the bytecode.

pub mod diag;
pub mod model;
pub mod onnx;
pub mod spec;
pub mod rows;
pub mod capture;
pub mod random;
pub mod ir;
pub mod quant;
pub mod check;
pub mod bounds;
pub mod bpf;
pub mod cost;
pub mod params;
pub mod lower;
pub mod prove;
pub mod elf;
pub mod vm;
pub mod metadata;
pub mod verify;
pub mod kernel;
pub mod compile;
pub mod explore;
pub mod flips;
pub mod reference;
pub mod planned;
pub mod budget;
pub mod explain;
#[doc(hidden)]
pub mod withstand;
