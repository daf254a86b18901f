//! Tensors whose bytes are in another file: which file, which part, and what may not be read.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Resolver;
use super::limits::MAX_EXTERNAL_BYTES;
use super::schema::TensorProto;
use super::tensor::{Defect, checked_dims, element_count, stored_bytes};
use crate::diag::codes::onnx as codes;

/// `TensorProto.DataLocation.EXTERNAL`.
const EXTERNAL: i32 = 1;

type Contents = Rc<Result<Vec<u8>, String>>;

/// Reads each external file once.
pub(crate) struct ExternalFiles<'a> {
    resolver: &'a dyn Resolver,
    files: BTreeMap<String, Contents>,
}

/// Where a tensor's bytes are.
struct Place<'a> {
    location: &'a str,
    offset: usize,
    length: usize,
}

impl<'a> ExternalFiles<'a> {
    pub(crate) fn new(resolver: &'a dyn Resolver) -> Self {
        Self { resolver, files: BTreeMap::new() }
    }

    /// The bytes of a tensor that is stored outside; `None` for one that is stored inside.
    pub(crate) fn bytes(&mut self, proto: &TensorProto) -> Result<Option<Vec<u8>>, Defect> {
        if proto.data_location() != EXTERNAL {
            return Ok(None);
        }
        let place = place(proto)?;
        let contents = self.contents(place.location);
        let bytes = contents.as_ref().as_ref().map_err(|reason| {
            Defect::new(
                &codes::EXTERNAL_MISSING,
                format!(
                    "constant `{}` is in `{}`, which cannot be read: {reason}",
                    proto.name(),
                    place.location
                ),
                format!("put `{}` beside the model, or export with `external_data=False`", place.location),
            )
        })?;
        let end = place.offset.checked_add(place.length);
        let part = end.and_then(|end| bytes.get(place.offset..end)).ok_or_else(|| {
            range_defect(
                proto,
                format!("{} bytes at {} of a file of {}", place.length, place.offset, bytes.len()),
            )
        })?;
        Ok(Some(part.to_vec()))
    }

    fn contents(&mut self, location: &str) -> Contents {
        let resolver = self.resolver;
        let read = || {
            let bytes = resolver.read(location)?;
            if bytes.len() > MAX_EXTERNAL_BYTES {
                return Err(format!("it has more than {MAX_EXTERNAL_BYTES} bytes"));
            }
            Ok(bytes)
        };
        Rc::clone(self.files.entry(location.to_owned()).or_insert_with(|| Rc::new(read())))
    }
}

fn range_defect(proto: &TensorProto, what: impl std::fmt::Display) -> Defect {
    Defect::new(
        &codes::EXTERNAL_RANGE,
        format!("external data of constant `{}` does not fit: {what}", proto.name()),
        "export the model again: the weights file does not belong to this model or was cut off",
    )
}

fn place(proto: &TensorProto) -> Result<Place<'_>, Defect> {
    let entry =
        |key: &str| proto.external_data.iter().find(|entry| entry.key() == key).map(|entry| entry.value());
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<usize>()
            .map(Some)
            .map_err(|_| range_defect(proto, format!("its {key} is `{text}`, not a byte count"))),
    };
    let location = entry("location").unwrap_or_default();
    if !is_inside(location) {
        return Err(Defect::new(
            &codes::EXTERNAL_PATH,
            format!("constant `{}` refers to `{location}`", proto.name()),
            "save the model again with its weights in a file beside it, or inside it",
        ));
    }
    let dims = checked_dims(proto)?;
    let expected = element_count(&dims)
        .and_then(|count| stored_bytes(proto.data_type(), count))
        .ok_or_else(|| range_defect(proto, "its element type cannot be stored outside"))?;
    let length = number("length")?.unwrap_or(expected);
    if length != expected {
        return Err(range_defect(proto, format!("its length is {length} bytes, its shape needs {expected}")));
    }
    Ok(Place { location, offset: number("offset")?.unwrap_or(0), length })
}

/// Whether a location names a file in the model's own folder or below.
fn is_inside(location: &str) -> bool {
    let drive = location.get(1..2) == Some(":");
    let odd = location.contains(['\\', '\0']);
    !location.is_empty() && !odd && !drive && location.split('/').all(|part| !part.is_empty() && part != "..")
}
