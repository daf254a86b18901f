//! Evaluates the float model in double and single precision.
