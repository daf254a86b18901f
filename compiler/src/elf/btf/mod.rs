//! BTF: the types of maps, data and functions by name, as the kernel and bpftool read them.
//!
//! [`encode`] knows the format, [`types`] the C types, [`maps`], [`data`] and [`functions`] what stands for
//! each part of a module. Positions of functions and lines are [`super::btf_ext`].

mod data;
mod encode;
mod functions;
mod maps;
mod types;

pub(super) use encode::{Btf, TypeId, common_header};
pub(super) use maps::{definition_size, kernel_type, values_offset};

use super::error::ElfError;
use super::layout::CodeSection;
use crate::bpf::module::Module;

/// The type table and what other sections need from it.
pub(super) struct Types {
    pub(super) btf: Btf,
    /// FUNC types, in the order programs then subprograms.
    pub(super) functions: Vec<TypeId>,
}

/// Describes the whole module.
pub(super) fn describe(module: &Module, _layout: &[CodeSection]) -> Result<Types, ElfError> {
    let mut builder = types::CTypes::new();
    let functions = functions::declare(&mut builder, module)?;
    maps::declare(&mut builder, module)?;
    data::declare(&mut builder, module)?;
    Ok(Types { btf: builder.into_btf(), functions })
}
