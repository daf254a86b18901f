//! The parameter slot: layout, bytes, and the file of a retrained model.
