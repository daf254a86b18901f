//! The code table: one file per family, joined here.
//!
//! | family | stage |
//! |---|---|
//! | `E01xx` | ONNX import |
//! | `E02xx` | feature specification |
//! | `E03xx` | contract between model and specification, quantisation |
//! | `E04xx` | checks and budgets |
//! | `E05xx` | feature rows (CSV) |
//! | `E06xx` | captures |
//! | `E07xx` | objects and parameter files |
//! | `E08xx` | kernel and loader |
//! | `E09xx` | files and command line |

use super::Code;

pub mod onnx;
pub mod spec;
pub mod quant;
pub mod check;
pub mod rows;
pub mod capture;
pub mod object;
pub mod kernel;
pub mod files;

/// Every code, in order of its identifier.
pub fn all() -> impl Iterator<Item = &'static Code> {
    [
        onnx::TABLE,
        spec::TABLE,
        quant::TABLE,
        check::TABLE,
        rows::TABLE,
        capture::TABLE,
        object::TABLE,
        kernel::TABLE,
        files::TABLE,
    ]
    .into_iter()
    .flat_map(|table| table.iter().copied())
}

/// The entry with this identifier.
#[must_use]
pub fn find(id: &str) -> Option<&'static Code> {
    all().find(|code| code.id == id)
}
