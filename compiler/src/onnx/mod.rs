//! ONNX bytes to [`crate::model::Model`]: decoding with our own schema, then import of the graph.
//!
//! The importer walks the graph once and tracks for every value what it is: a constant, an affine map of the
//! inputs or of a layer's outputs, or a probability or label made from the last layer (module `value`).
//! Node order and the exporter's habits therefore do not matter. What is refused is refused whole, with every
//! reason in one report.
//!
//! Models with quantisation of their own become float models with stages that round.

mod limits;
mod report;
mod schema;
mod sniff;
mod wire;
mod tensor;
mod external;
mod shape;
mod affine;
mod value;
mod align;
mod holdings;
mod forests;
mod replaced;
mod cases;
mod node;
mod hidden;
mod ops;
mod functions;
mod structure;
mod inputs;
mod evaluate;
mod finish;

#[cfg(test)]
mod tests;

use prost::Message;
use sha2::{Digest, Sha256};

use crate::diag::Outcome;
use crate::diag::codes::onnx as codes;
use crate::model::Model;
use limits::{MAX_FILE_BYTES, MAX_PARTS};
use report::Report;
use schema::ModelProto;

/// Reads files that a model refers to, relative to the model's own folder.
pub trait Resolver {
    /// The whole file; the error says why it cannot be read.
    ///
    /// # Errors
    ///
    /// When there is no such file or it cannot be read.
    fn read(&self, relative: &str) -> Result<Vec<u8>, String>;
}

/// A resolver without files.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFiles;

impl Resolver for NoFiles {
    fn read(&self, _relative: &str) -> Result<Vec<u8>, String> {
        Err("no other files are available".to_owned())
    }
}

/// Imports a model. `file_name` is what diagnostics show.
///
/// # Errors
///
/// Every reason to refuse the model, none of them twice.
pub fn import(file_name: &str, bytes: &[u8], resolver: &dyn Resolver) -> Outcome<Model> {
    let mut report = Report::new(file_name);
    let model = decode(&mut report, bytes).and_then(|proto| {
        let hash = Sha256::digest(bytes).into();
        evaluate::model(&mut report, &proto, resolver, hash)
    });
    match model {
        Some(model) if report.is_empty() => Ok(model),
        _ => Err(report.into_diagnostics()),
    }
}

fn decode(report: &mut Report, bytes: &[u8]) -> Option<ModelProto> {
    if bytes.is_empty() {
        report.at_file(
            &codes::EMPTY_FILE,
            "the file has no bytes",
            "export the model again, or copy it again",
        );
        return None;
    }
    if let Some((what, help)) = sniff::not_a_model(bytes) {
        report.at_file(&codes::NOT_ONNX, format!("the file is {what}"), help);
        return None;
    }
    if bytes.len() > MAX_FILE_BYTES {
        report.at_file(
            &codes::TOO_LARGE,
            format!("the file has {} bytes, at most {MAX_FILE_BYTES} are read", bytes.len()),
            "use a smaller network: the weights must fit a kernel map anyway",
        );
        return None;
    }
    if wire::parts(bytes, MAX_PARTS) > MAX_PARTS {
        report.at_file(
            &codes::TOO_LARGE,
            format!("the file has more than {MAX_PARTS} nodes, attributes and names"),
            "export a plain multi-layer perceptron; a layer is one or two nodes",
        );
        return None;
    }
    match ModelProto::decode(bytes) {
        Ok(proto) if proto.graph.is_some() => Some(proto),
        // A message of which nothing is known decodes to an empty model.
        Ok(proto) if proto.ir_version.is_none() => {
            report.at_file(
                &codes::NOT_ONNX,
                "the file holds neither a version nor a graph",
                "pass the `.onnx` file that the exporter wrote",
            );
            None
        }
        Ok(_) => {
            report.at_file(
                &codes::DAMAGED,
                "the file holds no graph",
                "export the model again, or copy it again",
            );
            None
        }
        // The first field of every model is its version: tag 8 and a small number.
        Err(error) if bytes.first() == Some(&8) => {
            report.at_file(
                &codes::DAMAGED,
                format!("the file does not decode to its end: {error}"),
                "copy or export the model again; the file was cut off or altered",
            );
            None
        }
        Err(_) => {
            report.at_file(
                &codes::NOT_ONNX,
                "the content is not that of an ONNX file",
                "pass the `.onnx` file that the exporter wrote",
            );
            None
        }
    }
}
