//! What every input must withstand: one function for each kind of bytes that comes from outside.
//!
//! The targets in `fuzz/` call these with the fuzzer's bytes, and the ordinary tests of each reader call them with
//! random and damaged ones. A function panics when the promise is broken: refusals say what to do, what was accepted
//! can be used further.

use crate::compile::Named;
use crate::diag::{Diagnostic, Outcome, render};
use crate::ir::{FractionBits, Input, Interval, packet};
use crate::model::Body;
use crate::onnx::{self, NoFiles};
use crate::params::file::ParamsFile;
use crate::params::layout::Layout;
use crate::rows::{self, Columns};
use crate::spec::sources::{Found, Fragments, Parameter, Surroundings};
use crate::spec::typed::Transports;
use crate::verify::{self, Extent};
use crate::{capture, check, elf, ir, metadata, params, spec};

/// Multiply-accumulates up to which an accepted model is also evaluated.
const SMALL_MODEL: usize = 1 << 20;

/// Every refusal has a cause and a help, and is shown.
fn refused(diagnostics: &[Diagnostic], source: &str) {
    assert!(!diagnostics.is_empty(), "refused without a reason");
    assert!(diagnostics.iter().all(|d| !d.help.is_empty() && !d.message.is_empty()));
    assert!(!render::all(diagnostics, &[("input", source)]).is_empty());
}

fn outcome<T>(outcome: Outcome<T>) -> Option<T> {
    outcome.inspect_err(|diagnostics| refused(diagnostics, "")).ok()
}

/// Files out of the pieces of one text: `use "N";` names the N-th piece, whoever uses it.
struct Pieces<'a>(Vec<&'a [u8]>);

impl Fragments for Pieces<'_> {
    fn read(&self, _user: &str, path: &str) -> Result<Found, String> {
        let piece = path.parse().ok().and_then(|index: usize| self.0.get(index)).ok_or("no such piece")?;
        Ok(Found { name: path.to_owned(), bytes: piece.to_vec() })
    }
}

/// A specification: the front end, and the flow program of what it accepts. Zeros separate the files that it uses,
/// and a first piece that begins with `=` is a value from outside for the parameter `x`.
pub fn specification(bytes: &[u8]) {
    let mut pieces: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    let mut parameters = Vec::new();
    if let Some(value) = pieces.first().and_then(|first| first.strip_prefix(b"=")) {
        let value = String::from_utf8_lossy(value).into_owned();
        parameters.push(Parameter { name: "x".to_owned(), value });
        pieces.remove(0);
    }
    let pieces = Pieces(pieces);
    let bytes = pieces.0.first().copied().unwrap_or_default();
    let surroundings = Surroundings { parameters: &parameters, fragments: &pieces };
    match spec::from_bytes_in(Named { name: "input", bytes }, &surroundings) {
        Err(diagnostics) => refused(&diagnostics, &String::from_utf8_lossy(bytes)),
        Ok(spec) => {
            let _ = outcome(ir::flow::build(&spec));
        }
    }
}

/// A model: decoding, import, and the outputs of a row of zeros.
pub fn model(bytes: &[u8]) {
    let Some(model) = outcome(onnx::import("input", bytes, &NoFiles)) else { return };
    let work: usize = match &model.body {
        Body::Mlp(layers) => layers.iter().map(|layer| layer.weights.values.len()).sum(),
        Body::Forest(forest) => forest.node_count(),
    };
    if work <= SMALL_MODEL {
        let outputs = model.outputs_f64(&vec![0.0; model.input_count()]);
        assert_eq!(outputs.len(), model.output_count());
        for (output, values) in model.parts(&outputs) {
            let _ = output.head.label(values);
        }
    }
}

/// An object, its metadata, a payload of metadata, or a parameter file: all readers of what the compiler writes.
pub fn object(bytes: &[u8]) {
    outcome(elf::read::read(bytes, "input"));
    outcome(metadata::decode(bytes, "input"));
    outcome(elf::read::module(bytes, "input"));
    outcome(verify::object(bytes, "input", Extent::Network));
    let _ = elf::read::hide_program_arrays(&mut bytes.to_vec(), "input");
    let params = params::file::read("input", bytes).inspect_err(|d| refused(std::slice::from_ref(d), ""));
    // Behind checksums that no mutation gets right.
    if let Some(metadata) = outcome(metadata::from_payload(bytes, "input")) {
        plan(&metadata, params.ok());
    }
}

/// An object with some of its bytes changed and the checksum of its metadata repaired: all of verification. Each edit
/// is five bytes, a place and what is put there; what holds in the end is read in full.
pub fn patched(object: &[u8], edits: &[u8]) {
    let mut bytes = object.to_vec();
    for edit in edits.as_chunks::<5>().0 {
        let [a, b, c, d, value] = *edit;
        let place = u32::from_le_bytes([a, b, c, d]) as usize % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(place) {
            *byte = value;
        }
    }
    elf::metadata::repair(&mut bytes);
    for extent in [Extent::Network, Extent::Whole] {
        outcome(verify::object(&bytes, "input", extent));
    }
}

/// A plan from outside with parameters: what the loader rebuilds and proves before an update.
fn plan(metadata: &metadata::Metadata, params: Option<ParamsFile>) {
    let layout = Layout::new(&metadata.plan);
    let slot = vec![1; layout.bytes().min(1 << 20) as usize];
    let fitting = ParamsFile { layout_hash: layout.hash(), model_hash: [0; 32], unit: 1.0, slot };
    let mut metadata = metadata.clone();
    metadata.layout_hash = metadata::hex(&layout.hash());
    for params in params.into_iter().chain([fitting]) {
        if let Some(network) = metadata::with_parameters(&metadata, &params) {
            outcome(check::check(network));
        }
    }
}

/// A capture, and each of its packets in the parser.
pub fn captured(bytes: &[u8]) {
    let Some(capture) = outcome(capture::read("input", bytes)) else { return };
    assert!(capture.packets.iter().all(|packet| packet.data.len() <= bytes.len()));
    for packet in &capture.packets {
        let _ = packet::parse(packet.data, Transports::ALL);
    }
    capture.damage.iter().for_each(|damage| refused(std::slice::from_ref(damage), ""));
}

/// Feature rows: by name and by position, whole numbers and fractions.
pub fn feature_rows(bytes: &[u8]) {
    let range = Interval { low: i64::MIN, high: i64::MAX };
    let input =
        |(name, bits): (&str, u8)| Input { name: name.to_owned(), fraction_bits: FractionBits(bits), range };
    let inputs = [("a", 0), ("b", 8), ("c", 40)].map(input);
    for columns in [Columns::ByName, Columns::ByPosition] {
        if let Some(rows) = outcome(rows::parse("input", bytes, &inputs, columns)) {
            assert!(!rows.is_empty() && rows.values.len().is_multiple_of(inputs.len()));
        }
    }
}
