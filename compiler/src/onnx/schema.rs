//! Rust types of the ONNX container, generated from `onnx.proto` by the build script. Decoding only.

#![expect(unreachable_pub, reason = "the generator writes `pub`; the module itself is private")]
#![expect(clippy::derive_partial_eq_without_eq, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/onnx.rs"));

/// Numbers of `TensorProto.DataType`, as far as this compiler reads them.
pub(crate) mod data_type {
    pub(crate) const FLOAT: i32 = 1;
    pub(crate) const UINT8: i32 = 2;
    pub(crate) const INT8: i32 = 3;
    pub(crate) const UINT16: i32 = 4;
    pub(crate) const INT16: i32 = 5;
    pub(crate) const INT32: i32 = 6;
    pub(crate) const INT64: i32 = 7;
    pub(crate) const STRING: i32 = 8;
    pub(crate) const BOOL: i32 = 9;
    pub(crate) const FLOAT16: i32 = 10;
    pub(crate) const DOUBLE: i32 = 11;
    pub(crate) const UINT32: i32 = 12;
    pub(crate) const UINT64: i32 = 13;
    pub(crate) const BFLOAT16: i32 = 16;
    pub(crate) const UINT4: i32 = 21;
    pub(crate) const INT4: i32 = 22;
    pub(crate) const UINT2: i32 = 25;
    pub(crate) const INT2: i32 = 26;

    /// The format's name for a number, for messages.
    pub(crate) fn name(number: i32) -> String {
        let name = match number {
            FLOAT => "float",
            UINT8 => "uint8",
            INT8 => "int8",
            UINT16 => "uint16",
            INT16 => "int16",
            INT32 => "int32",
            INT64 => "int64",
            STRING => "string",
            BOOL => "bool",
            FLOAT16 => "float16",
            DOUBLE => "double",
            UINT32 => "uint32",
            UINT64 => "uint64",
            14 => "complex64",
            15 => "complex128",
            BFLOAT16 => "bfloat16",
            17..=20 | 24 => "float8",
            UINT4 => "uint4",
            INT4 => "int4",
            23 => "float4",
            UINT2 => "uint2",
            INT2 => "int2",
            other => return format!("type {other}"),
        };
        name.to_owned()
    }
}
