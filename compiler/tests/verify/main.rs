//! Objects that are verified from their bytes alone: all shipped ones hold, and none that was changed.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

mod cases;
mod changed;
mod shipped;
